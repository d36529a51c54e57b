"""Image concepts: signs that a brain MRI may show, each a sourced sentence, its opposite and what the source expects.

`load_concepts` reads ``concepts.yaml`` of the library or a file of the same form. A sign needs its sequences: `usable`
takes out what cannot be seen on the scan at hand, so that a T1-weighted image alone never claims the swallow-tail sign.
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

from debian_mri.knowledge import check_sequences, missing_sequences
from icube_common.errors import InputError, unknown

REGIONS = ("hippocampus", "lateral_ventricles", "medial_temporal", "parietal", "occipital", "midbrain", "whole_brain")
"""Where a concept is seen; `debian_mri.imaging.slices` names the regions that a slice passes in the same words."""

_HEAD = ("title", "reviewer", "date", "concepts")


@dataclass(frozen=True, kw_only=True)
class Concept:
    """A sign, and what a publication says of it.

    Attributes:
        name: letters, digits and underscores.
        label: how a text names it; holds one of ``mentions``.
        sentence: what a text tower reads for the sign.
        opposite: the sentence for its contrary.
        regions: where it is seen, of `REGIONS`.
        requires: sequences without which it cannot be seen, in the words of BIDS.
        source: the publication.
        sure: whether source, wording and directions are beyond doubt.
        mentions: wordings by which a text names the sign.
        expected: class name -> 1 (the sign belongs to the class), -1 (its opposite does), 0 (neither).

    Raises:
        InputError: a value of another form; the message begins with the concept's name.
    """

    name: str
    label: str
    sentence: str
    opposite: str
    regions: tuple[str, ...]
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
        """What the source expects of a class; 0 for a class that it does not speak of."""
        return self.expected.get(class_name, 0)


@dataclass(frozen=True)
class ConceptSet:
    """The concepts of a file.

    Attributes:
        title: what they are about.
        concepts: in the order of the file; names and labels differ.
        reviewer: the person who has checked them, or that nobody has.
        date: when the file was written, ISO.
        path: where it lies.
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
        """Whether a person stands for the file."""
        from icube_common.knowledge.bank import UNREVIEWED

        return self.reviewer != UNREVIEWED

    @property
    def hash(self) -> str:
        """SHA-256 over all that is said of the concepts; reviewer and date do not count."""
        value = [{**dataclasses.asdict(concept), "expected": dict(concept.expected)} for concept in self.concepts]
        text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(text.encode("utf-8")).hexdigest()

    def __getitem__(self, name: str) -> Concept:
        for concept in self.concepts:
            if concept.name == name:
                return concept
        raise unknown("concept", name, self.names)

    def usable(self, sequences: Collection[str]) -> tuple[tuple[Concept, ...], dict[str, tuple[str, ...]]]:
        """The concepts that can be seen on these sequences, and name -> missing sequences of the others.

        Raises:
            InputError: an unknown sequence.
        """
        check_sequences(sequences)
        missing = {concept.name: missing_sequences(concept.requires, sequences) for concept in self.concepts}
        kept = tuple(concept for concept in self.concepts if not missing[concept.name])
        return kept, {name: absent for name, absent in missing.items() if absent}

    def directions(self, class_names: Sequence[str]) -> tuple[tuple[int, ...], ...]:
        """(concepts, classes) what the sources expect, in the order of the file and of ``class_names``."""
        return tuple(tuple(concept.direction(name) for name in class_names) for concept in self.concepts)


def load_concepts(path: str | Path | None = None) -> ConceptSet:
    """Read concepts; without a path those that come with the library.

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
        found = tuple(_concept(item, number) for number, item in enumerate(value["concepts"], start=1))
        return ConceptSet(value["title"], found, value["reviewer"], value["date"], path)
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


def _check_keys(value: Mapping[str, Any], known: tuple[str, ...]) -> None:
    for key in value:
        if key not in known:
            raise unknown("key", str(key), known)
    for key in known:
        if key not in value:
            raise InputError(f"{key!r} is missing")


def plain(text: str) -> str:
    """The text in small letters, words apart by single spaces and by nothing else: what wordings are compared in."""
    return " ".join("".join(char if char.isalnum() else " " for char in text.casefold()).split())
