"""Names of classes and sentences about them, in the form that prompts take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from icube_common.config import as_list
from icube_common.errors import InputError
from icube_common.prompts.config import PromptConfig
from icube_common.prompts.learner import PromptLearner
from icube_common.vlm.backbone import FrozenVLM


def check_class_names(names: Mapping[str, str]) -> None:
    """Check that prompts can distinguish the classes, before a backbone is loaded for them.

    Args:
        names: label -> name in words; text towers do not see its case or spaces.

    Raises:
        InputError: two labels have the same name; both are named.
    """
    labels: dict[str, str] = {}
    for label, name in names.items():
        key = " ".join(name.casefold().split())
        if key in labels:
            raise InputError(
                f"classes {labels[key]!r} and {label!r}: both are called {key!r} in a prompt; give them one label in "
                "the data, or names that differ in more than case"
            )
        labels[key] = label


@dataclass(frozen=True)
class ClassTexts:
    """Names and sentences of classes.

    Attributes:
        names: label -> name in words.
        sentences: label -> its sentences in use (a string is one); None where prompts need none.
        provenance: of the sentences, for the record of a run.
        warnings: lines of every report: sentences without review, exchanged sentences.

    Raises:
        InputError: two classes have the same name, as `check_class_names`.
    """

    names: Mapping[str, str]
    sentences: Mapping[str, str | Sequence[str]] | None
    provenance: Mapping[str, object]
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_class_names(self.names)
        if self.sentences is not None:
            result = {label: [text] if isinstance(text, str) else text for label, text in self.sentences.items()}
            object.__setattr__(self, "sentences", result)

    def exchanged(self, number: int) -> ClassTexts:
        """The control: each class gets name and sentences of another, none keeps its own.

        Args:
            number: what the exchange is drawn from.

        Raises:
            InputError: there is one class only.
        """
        labels = list(self.names)
        if len(labels) < 2:
            raise InputError("exchange_texts: one class cannot exchange its texts with another")
        # a random cycle through all classes: Sattolo's algorithm gives each of them with the same chance
        generator = np.random.default_rng(number)
        order = list(labels)
        for last in range(len(order) - 1, 0, -1):
            other = int(generator.integers(last))
            order[last], order[other] = order[other], order[last]
        source = dict(zip(labels, order, strict=True))
        return replace(
            self,
            names={label: self.names[source[label]] for label in labels},
            sentences=None if self.sentences is None else {label: self.sentences[source[label]] for label in labels},
            warnings=(*self.warnings, f"Control: class texts exchanged among the classes (draw {number})."),
        )

    def prompts(self, vlm: FrozenVLM, labels: Sequence[str], config: PromptConfig) -> PromptLearner:
        """Prompts of some of the classes, untrained.

        Raises:
            InputError: two classes are called the same, or what `PromptLearner` refuses.
        """
        names = [self.names[label] for label in labels]
        knowledge = None
        if self.sentences is not None:
            knowledge = {self.names[label]: as_list(self.sentences[label]) for label in labels}
        return PromptLearner.from_config(vlm, names, config, knowledge=knowledge)
