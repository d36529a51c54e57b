"""Class knowledge: sentences about classes with their sources, reviewed by people, frozen with a hash.

>>> from icube_common.knowledge import ClassKnowledge
>>> knowledge = ClassKnowledge.load("actions.yaml")  # doctest: +SKIP
>>> knowledge.descriptions(["walk", "run"])  # doctest: +SKIP
"""

from icube_common.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "ClassKnowledge": "bank",
        "LocalGenerator": "generators",
        "OpenAIGenerator": "generators",
        "Scores": "score",
        "Sentence": "sentences",
        "Source": "sentences",
        "UNREVIEWED": "bank",
        "apply_decisions": "review",
        "describe_command": "describe",
        "generate_sentences": "generate",
        "import_published": "published",
        "match_classes": "names",
        "read_class_names": "names",
        "review_in_terminal": "review",
        "review_page": "page",
        "score_sentences": "score",
        "sign": "review",
    },
)
