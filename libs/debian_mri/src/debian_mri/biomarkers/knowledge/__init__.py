"""Class knowledge of the library: sentences about diagnoses, each of one publication.

The sentences are a language model's wording of the publications, without a clinician's review; the file and every
report state this until a named person reviews it (``debian-mri knowledge review``). The ``meta`` of a sentence lists
the sequences that show it (``requires``), and ``sure: false`` marks doubtful sources or wordings.

>>> from debian_mri.biomarkers.knowledge import load_knowledge, usable
>>> selection = usable(load_knowledge().usable("PD"), ["T1w"])
>>> any("swallow tail" in sentence.text for sentence in selection.available)
False
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from icube_common.errors import InputError, unknown

if TYPE_CHECKING:
    from icube_common.knowledge.class_knowledge import ClassKnowledge
    from icube_common.knowledge.sentences import Sentence

SHIPPED: dict[str, str] = {"diagnoses": "diagnoses.yaml"}
"""Name of a knowledge -> its file in this folder."""

SEQUENCES = ("T1w", "T2w", "FLAIR", "PDw", "T2starw", "SWI", "dwi", "bold", "asl")
"""Sequences that a sentence or a concept may require, by their BIDS suffix."""

_SUFFIXES = (".yaml", ".yml", ".json")


@dataclass(frozen=True)
class SentenceSelection:
    """Selection of sentences by the available sequences.

    Attributes:
        available: sentences in their order.
        excluded: other sentences, each with its missing sequences.
    """

    available: tuple[Sentence, ...]
    excluded: tuple[tuple[Sentence, tuple[str, ...]], ...]


def load_knowledge(name: str = "diagnoses") -> ClassKnowledge:
    """Load class knowledge from a file, or that of the library.

    Args:
        name: a knowledge file (``.yaml``, ``.yml`` or ``.json``) or a key of `SHIPPED`.

    Raises:
        InputError: no such name, or a file that is missing, malformed or changed after it was frozen.
    """
    from icube_common.knowledge.class_knowledge import ClassKnowledge

    if name.lower().endswith(_SUFFIXES):
        return ClassKnowledge.load(name)
    if name not in SHIPPED:
        raise InputError(f"{unknown('class knowledge', name, SHIPPED)}, or give a file of `debian-mri knowledge`")
    return ClassKnowledge.load(Path(__file__).with_name(SHIPPED[name]))


def usable(sentences: Iterable[Sentence], sequences: Collection[str]) -> SentenceSelection:
    """Select the sentences whose sequences are available.

    Args:
        sentences: each with a list ``requires`` in its ``meta``.
        sequences: sequences of the scan, by their BIDS suffix (``T1w``, ``SWI``).

    Raises:
        InputError: a sentence without ``requires`` (it would be claimed of any image), or an unknown sequence.
    """
    check_sequences(sequences)
    available, excluded = [], []
    for sentence in sentences:
        if "requires" not in sentence.meta:
            raise InputError(f"{sentence.text!r}: its meta lacks the required sequences (requires: [T1w])")
        try:
            missing = missing_sequences(sentence.meta["requires"], sequences)
        except InputError as error:
            raise InputError(f"{sentence.text!r}: {error}") from None
        if missing:
            excluded.append((sentence, missing))
        else:
            available.append(sentence)
    return SentenceSelection(tuple(available), tuple(excluded))


def restrict(knowledge: ClassKnowledge, sequences: Collection[str]) -> tuple[ClassKnowledge, SentenceSelection]:
    """Knowledge restricted to the available sequences, and the selection.

    Sentences out of use are excluded too. Frozen knowledge stays frozen, with a new hash.

    Raises:
        InputError: as `usable`, or a class is left without a sentence.
    """
    sentences: dict[str, Sequence[Sentence]] = {}
    selections = []
    for name in knowledge.class_names:
        part = usable(knowledge.usable(name), sequences)
        if not part.available:
            listed = ", ".join(sorted({sequence for _, missing in part.excluded for sequence in missing}))
            raise InputError(f"class {name!r}: each of its sentences needs a sequence that is absent ({listed})")
        sentences[name] = part.available
        selections.append(part)
    restricted = knowledge.with_classes(sentences)
    selection = SentenceSelection(
        tuple(sentence for part in selections for sentence in part.available),
        tuple(pair for part in selections for pair in part.excluded),
    )
    return (restricted.freeze(knowledge.frozen.date) if knowledge.frozen else restricted), selection


def missing_sequences(requires: object, sequences: Collection[str]) -> tuple[str, ...]:
    """Required sequences that are not available.

    Raises:
        InputError: ``requires`` is no list of known sequences, or is empty.
    """
    if not isinstance(requires, (list, tuple)) or not requires:
        raise InputError(f"requires {requires!r}: must be a list of sequences, such as [T1w]")
    check_sequences(requires)
    return tuple(name for name in requires if name not in sequences)


def check_sequences(names: Iterable[object], option: str = "") -> None:
    """Check names of sequences.

    Raises:
        InputError: unknown name; the nearest is given.
    """
    if isinstance(names, str):
        raise InputError(f"sequences {names!r}: must be a list, such as [T1w]")
    for name in names:
        if name not in SEQUENCES:
            error = unknown("sequence", str(name), SEQUENCES)
            raise InputError(f"{option}: {error}") if option else error
