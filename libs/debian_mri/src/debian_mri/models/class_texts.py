"""Class texts: sentences for the prompts, and the expected direction of each biomarker.

Only what can be seen on the sequences at hand is used: sentences and concepts that need another one are left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from debian_mri.biomarkers.concepts import ConceptSet, load_concepts
from debian_mri.biomarkers.knowledge import load_knowledge, restrict
from debian_mri.config import MriConfig
from debian_mri.data.manifest import Manifest
from icube_common.errors import InputError
from icube_common.knowledge.names import readable_name
from icube_common.prompts import ClassTexts, PromptConfig, PromptLearner
from icube_common.vlm import FrozenVLM


@dataclass(frozen=True)
class MriTexts:
    """Names, sentences and directions of classes.

    Attributes:
        classes: names in words and sentences, shuffled for the control.
        concepts: the signs' directions; None where no sign enters.
        stands_for: label -> the label whose directions it has; itself but for the control.
        warnings: warnings for every report: unreviewed texts, shuffled texts.
        provenance: of sentences and concepts, for the record of a run.
        made: prompts that nothing trains, with their features: all folds share them, so the text tower runs once.
    """

    classes: ClassTexts
    concepts: ConceptSet | None
    direction_label: Mapping[str, str]
    warnings: tuple[str, ...] = ()
    provenance: Mapping[str, object] = field(default_factory=dict)
    made: dict[Any, tuple[PromptLearner, Tensor]] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def of(cls, manifest: Manifest, config: MriConfig) -> MriTexts:
        """The texts of a set's classes under a configuration.

        Raises:
            InputError: a knowledge file that is missing or malformed, or a class without a sentence that can be seen
                on the set's sequences.
        """
        sequences = sorted({scan.sequence for scan in manifest.scans})
        return cls.make(manifest.class_names, config, sequences)

    @classmethod
    def make(cls, labels: Sequence[str], config: MriConfig, sequences: Sequence[str] = ("T1w",)) -> MriTexts:
        """The texts of classes; raises as `of`."""
        names = {label: readable_name(label) for label in labels}
        classes, warnings, provenance = ClassTexts(names, None, {}), [], {}
        if config.visual.enabled and config.prompt.init in ("descriptions", "knowledge"):
            knowledge, _ = restrict(load_knowledge(config.knowledge), sequences)
            if note := knowledge.review_warning():
                warnings.append(note)
            provenance["descriptions"] = knowledge.provenance()
            classes = ClassTexts(names, knowledge.descriptions(labels), knowledge.provenance(), tuple(warnings))
        concepts = None
        if config.concepts.enabled:
            concepts = load_concepts(config.concept_file or None)
            provenance["concepts"] = {"title": concepts.title, "hash": concepts.hash, "reviewer": concepts.reviewer}
            if not concepts.signed:
                warnings.append(f"Image concepts {concepts.title!r}: drafts, not checked by a specialist.")
        direction_label = {label: label for label in labels}
        if config.shuffle_class_texts:
            exchanged = ClassTexts(direction_label, None, {}).exchanged(config.shuffle_class_texts)
            direction_label, classes = dict(exchanged.names), classes.exchanged(config.shuffle_class_texts)
            warnings += [note for note in exchanged.warnings if note not in warnings]
        return cls(classes, concepts, direction_label, tuple(warnings), provenance)

    def directions(self, biomarkers: Sequence[str], labels: Sequence[str]) -> list[list[float]]:
        """(C, K) what publications expect of each class: 1 the sign belongs to it, -1 its opposite, 0 neither.

        Raises:
            InputError: the concepts do not hold one of the signs.
        """
        if self.concepts is None:
            raise InputError("concepts.enabled=true, and the texts were made without concepts")
        concepts = [self.concepts[sign] for sign in biomarkers]
        return [[float(concept.direction(self.direction_label[label])) for concept in concepts] for label in labels]

    def prompts(
        self, vlm: FrozenVLM, labels: Sequence[str], config: PromptConfig
    ) -> tuple[PromptLearner, Tensor | None]:
        """Prompts of some of the classes, untrained; and their features (N, D) where nothing about them is learned.

        Raises:
            InputError: two classes are called the same, or what `PromptLearner` refuses.
        """
        key = (vlm.fingerprint, tuple(labels), config)
        if key in self.made:
            return self.made[key]
        prompts = self.classes.prompts(vlm, labels, config)
        if any(value.requires_grad for value in prompts.parameters()):
            return prompts, None
        with torch.no_grad():
            self.made[key] = (prompts, prompts(per_description=True))
        return self.made[key]
