"""Class texts: names and descriptions of a set's classes for the prompts."""

from __future__ import annotations

from actprompt.config import ActConfig
from actprompt.data.manifest import Manifest
from actprompt.knowledge import load_knowledge
from icube_common.prompts.texts import ClassTexts


def class_texts(manifest: Manifest, config: ActConfig) -> ClassTexts:
    """The texts of a set's classes under a configuration.

    Raises:
        InputError: prompts need descriptions and there is no file of them, or it misses a class (all that it misses
            are listed).
    """
    labels = manifest.class_names
    names = {label: manifest.class_texts.get(label, label) for label in labels}
    texts = ClassTexts(names, None, {})
    if config.prompt.init in ("descriptions", "knowledge"):
        knowledge = load_knowledge(config.knowledge, format=str(manifest.description["format"]))
        descriptions = knowledge.descriptions(labels)
        note = knowledge.review_warning()
        texts = ClassTexts(names, descriptions, knowledge.provenance(), (note,) if note else ())
    return texts.exchanged(config.shuffle_class_texts) if config.shuffle_class_texts else texts
