"""Class knowledge: sentences about classes with their sources, reviewed by people, frozen with a hash.

>>> from icube_common.knowledge import ClassKnowledge
>>> knowledge = ClassKnowledge.load("actions.yaml")  # doctest: +SKIP
>>> knowledge.descriptions(["walk", "run"])  # doctest: +SKIP
"""

from icube_common import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "ClassKnowledge": "class_knowledge",
        "LocalGenerator": "generators",
        "OpenAIGenerator": "generators",
        "Scores": "score",
        "Sentence": "sentences",
        "Source": "sentences",
        "UNREVIEWED": "class_knowledge",
        "apply_decisions": "review",
        "knowledge_command": "commands",
        "generate_sentences": "generate",
        "import_descriptions": "importers",
        "match_classes": "names",
        "read_class_names": "names",
        "review_in_terminal": "review",
        "review_page": "review",
        "score_sentences": "score",
        "sign": "review",
    },
)
