"""Class knowledge that comes with the library: sentences about diagnoses, each of one publication.

The sentences put what the publication reports into the words of a language model, and no clinician has checked them;
the file says so, and every report repeats it until a person signs (``debian-mri knowledge review``). The ``meta`` of a
sentence says which sequences it can be seen on (``requires``), and ``sure: false`` where source or wording is in doubt.

>>> from debian_mri.knowledge import load_knowledge, usable
>>> found = usable(load_knowledge().usable("PD"), ["T1w"])
>>> any("swallow tail" in sentence.text for sentence in found.kept)
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
"""What a sentence or a concept may require, in the words of BIDS."""

_SUFFIXES = (".yaml", ".yml", ".json")


@dataclass(frozen=True)
class Usable:
    """Sentences after those have been taken out that cannot be seen on the sequences at hand.

    Attributes:
        kept: in their order.
        dropped: the others, each with the sequences that are missing for it.
    """

    kept: tuple[Sentence, ...]
    dropped: tuple[tuple[Sentence, tuple[str, ...]], ...]


def load_knowledge(name: str = "diagnoses") -> ClassKnowledge:
    """Sentences about classes: those of a file, or those that the library has.

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


def usable(sentences: Iterable[Sentence], sequences: Collection[str]) -> Usable:
    """Take out the sentences that need a sequence which is not there.

    Args:
        sentences: each with a list ``requires`` in its ``meta``.
        sequences: those of the scan, in the words of BIDS (``T1w``, ``SWI``).

    Raises:
        InputError: a sentence that does not say what it requires (it would be claimed of any image), or an unknown
            sequence among those that are required or given.
    """
    check_sequences(sequences)
    kept, dropped = [], []
    for sentence in sentences:
        if "requires" not in sentence.meta:
            raise InputError(f"{sentence.text!r}: its meta does not say which sequences it requires (requires: [T1w])")
        try:
            missing = missing_sequences(sentence.meta["requires"], sequences)
        except InputError as error:
            raise InputError(f"{sentence.text!r}: {error}") from None
        if missing:
            dropped.append((sentence, missing))
        else:
            kept.append(sentence)
    return Usable(tuple(kept), tuple(dropped))


def restrict(knowledge: ClassKnowledge, sequences: Collection[str]) -> tuple[ClassKnowledge, Usable]:
    """The knowledge with nothing in it that needs an absent sequence, and what was kept and dropped.

    Sentences that are not in use are left out as well. Frozen knowledge stays frozen, under a hash of its own.

    Raises:
        InputError: as `usable`, or a class is left without a sentence.
    """
    kept: dict[str, Sequence[Sentence]] = {}
    found = []
    for name in knowledge.class_names:
        part = usable(knowledge.usable(name), sequences)
        if not part.kept:
            listed = ", ".join(sorted({sequence for _, missing in part.dropped for sequence in missing}))
            raise InputError(f"class {name!r}: each of its sentences needs a sequence that is absent ({listed})")
        kept[name] = part.kept
        found.append(part)
    left = knowledge.with_classes(kept)
    whole = Usable(
        tuple(sentence for part in found for sentence in part.kept),
        tuple(pair for part in found for pair in part.dropped),
    )
    return (left.freeze(knowledge.frozen.date) if knowledge.frozen else left), whole


def missing_sequences(requires: object, sequences: Collection[str]) -> tuple[str, ...]:
    """Those of the required sequences that are not there.

    Raises:
        InputError: ``requires`` is no list of known sequences, or is empty.
    """
    if not isinstance(requires, (list, tuple)) or not requires:
        raise InputError(f"requires {requires!r}: must be a list of sequences, such as [T1w]")
    check_sequences(requires)
    return tuple(name for name in requires if name not in sequences)


def check_sequences(names: Iterable[object]) -> None:
    """Hold names against `SEQUENCES`.

    Raises:
        InputError: an unknown one; the nearest is named.
    """
    if isinstance(names, str):
        raise InputError(f"sequences {names!r}: must be a list, such as [T1w]")
    for name in names:
        if name not in SEQUENCES:
            raise unknown("sequence", str(name), SEQUENCES)
