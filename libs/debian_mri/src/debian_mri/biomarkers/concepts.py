"""Image concepts: findings on a brain MRI, each a sourced sentence, its opposite and the direction in each class.

`load_concepts` reads ``concepts.yaml`` of the library or a file of the same form. `usable`
removes concepts that need other sequences than the scan's, so that a T1-weighted image alone never claims the
swallow-tail sign.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from debian_mri.biomarkers.knowledge import check_sequences, missing_sequences
from icube_common.errors import InputError, unknown

REGIONS = ("hippocampus", "lateral_ventricles", "medial_temporal", "parietal", "occipital", "midbrain", "whole_brain")
"""Regions of concepts; `debian_mri.imaging.slices` uses the same names for the regions on a slice."""

_HEAD = ("title", "reviewer", "date", "concepts")


@dataclass(frozen=True, kw_only=True)
class Concept:
    """Image concept with its publication.

    Attributes:
        name: letters, digits and underscores.
        label: name in a text; contains one of ``mentions``.
        regions: regions of `REGIONS`.
        sentence: text of the concept for a text encoder.
        opposite: sentence for the contrary.
        requires: sequences that show it, by their BIDS suffix.
        source: the publication.
        sure: true if source, wording and directions are beyond doubt.
        mentions: wordings that a text may use.
        expected: class name -> 1 (concept expected), -1 (its opposite expected), 0 (neither).

    Raises:
        InputError: a value of another form; the message begins with the concept's name.
    """

    name: str
    label: str
    regions: tuple[str, ...]
    sentence: str
    opposite: str
    requires: tuple[str, ...]
    source: str
    sure: bool
    mentions: tuple[str, ...]
    expected: Mapping[str, int] = dataclasses.field(hash=False)

    def __post_init__(self) -> None:
        try:
            self._check()
        except InputError as error:
            raise InputError(f"concept {self.name!r}: {error}") from None

    def _check(self) -> None:
        from icube_common.knowledge.sentences import check_text

        for key in ("name", "label", "sentence", "opposite", "source"):
            check_text(getattr(self, key), key)
        if not self.name.isidentifier():
            raise InputError("name: must be letters, digits and underscores")
        if self.sentence == self.opposite:
            raise InputError("opposite: is the sentence itself")
        for key in ("regions", "requires", "mentions"):
            values = getattr(self, key)
            if not isinstance(values, (list, tuple)) or not values or len(set(map(str, values))) != len(values):
                raise InputError(f"{key} {values!r}: must be a list without repetition, at least one long")
            for value in values:
                check_text(value, key)
            object.__setattr__(self, key, tuple(values))
        for region in self.regions:
            if region not in REGIONS:
                raise unknown("region", region, REGIONS)
        check_sequences(self.requires)
        if not isinstance(self.sure, bool):
            raise InputError(f"sure {self.sure!r}: must be true or false")
        if not any(plain(mention) in plain(self.label) for mention in self.mentions):
            raise InputError(f"mentions: none of them stands in the label {self.label!r}")
        if not isinstance(self.expected, Mapping) or not self.expected:
            raise InputError("expected: must map class names to 1, 0 or -1")
        for name, direction in self.expected.items():
            check_text(name, "expected")
            if isinstance(direction, bool) or direction not in (-1, 0, 1):
                raise InputError(f"expected {name} {direction!r}: must be 1, 0 or -1")

    def direction(self, class_name: str) -> int:
        """Expected direction in a class; 0 for a class that the source does not cover."""
        return self.expected.get(class_name, 0)


@dataclass(frozen=True)
class ConceptSet:
    """Set of concepts, as read from a file.

    Attributes:
        title: title of the set.
        concepts: concepts with unique names and labels, in the order of the file.
        reviewer: reviewer's name, or a note that there was no review.
        date: date of the file, ISO.
        path: the file.
    """

    title: str
    concepts: tuple[Concept, ...]
    reviewer: str
    date: str
    path: Path | None = dataclasses.field(default=None, compare=False)

    def __post_init__(self) -> None:
        from icube_common.knowledge.sentences import check_text

        for key in ("title", "reviewer", "date"):
            check_text(getattr(self, key), key)
        if not self.concepts:
            raise InputError("concepts: there is none")
        for key in ("name", "label", "sentence"):
            value, count = Counter(getattr(concept, key) for concept in self.concepts).most_common(1)[0]
            if count > 1:
                raise InputError(f"concepts: the {key} {value!r} stands there twice")

    @property
    def names(self) -> tuple[str, ...]:
        """The concepts' names, in the order of the file."""
        return tuple(concept.name for concept in self.concepts)

    @property
    def signed(self) -> bool:
        """True if a named person has reviewed the file."""
        from icube_common.knowledge.class_knowledge import UNREVIEWED

        return self.reviewer != UNREVIEWED

    @property
    def hash(self) -> str:
        """SHA-256 of the concepts; reviewer and date do not count."""
        value = [{**dataclasses.asdict(concept), "expected": dict(concept.expected)} for concept in self.concepts]
        text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(text.encode("utf-8")).hexdigest()

    def __getitem__(self, name: str) -> Concept:
        for concept in self.concepts:
            if concept.name == name:
                return concept
        raise unknown("concept", name, self.names)

    def usable(self, sequences: Collection[str]) -> tuple[tuple[Concept, ...], dict[str, tuple[str, ...]]]:
        """Concepts visible on these sequences, and name -> missing sequences of the others.

        Raises:
            InputError: an unknown sequence.
        """
        check_sequences(sequences)
        missing = {concept.name: missing_sequences(concept.requires, sequences) for concept in self.concepts}
        visible = tuple(concept for concept in self.concepts if not missing[concept.name])
        return visible, {name: absent for name, absent in missing.items() if absent}

    def directions(self, class_names: Sequence[str]) -> tuple[tuple[int, ...], ...]:
        """(concepts, classes) expected directions, in the order of the file and of ``class_names``."""
        return tuple(tuple(concept.direction(name) for name in class_names) for concept in self.concepts)


def load_concepts(path: str | Path | None = None) -> ConceptSet:
    """Read concepts; without a path those of the library.

    Raises:
        InputError: the file is missing or malformed; one line names the file, the concept and the value.
    """
    from icube_common.knowledge.files import read_mapping

    path = Path(path) if path is not None else Path(__file__).with_name("concepts.yaml")
    value = read_mapping(path)
    try:
        _check_keys(value, _HEAD)
        if not isinstance(value["concepts"], list):
            raise InputError("concepts: must be a list")
        concepts = tuple(_concept(item, number) for number, item in enumerate(value["concepts"], start=1))
        return ConceptSet(value["title"], concepts, value["reviewer"], value["date"], path)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _concept(value: Any, number: int) -> Concept:
    if not isinstance(value, Mapping):
        raise InputError(f"concepts[{number}]: must be a mapping (found {value!r:.60})")
    try:
        _check_keys(value, tuple(field.name for field in dataclasses.fields(Concept)))
    except InputError as error:
        raise InputError(f"concepts[{number}]: {error}") from None
    return Concept(**value)


def _check_keys(value: Mapping[str, Any], allowed: tuple[str, ...]) -> None:
    for key in value:
        if key not in allowed:
            raise unknown("key", str(key), allowed)
    for key in allowed:
        if key not in value:
            raise InputError(f"{key!r} is missing")


def plain(text: str) -> str:
    """Text in lower case without punctuation, for the comparison of wordings."""
    return " ".join("".join(char if char.isalnum() else " " for char in text.casefold()).split())
