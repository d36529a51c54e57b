"""BABEL (Punnakkal et al., CVPR 2021): labels with times for AMASS (``train.json``, ``val.json``, ``extra_*.json``).

Each file maps a number to a sequence: ``feat_p`` (``KIT/KIT/3/kick_high_left02_poses.npz``), ``dur`` (s), ``seq_ann``
and ``frame_ann`` (in the extra files ``seq_anns`` and ``frame_anns``, lists of them), with ``labels`` of ``raw_label``,
``proc_label``, ``act_cat`` (categories), and for frames ``start_t`` and ``end_t`` (s). Frame labels have
precedence over the sequence's. Labels of one sequence may overlap, since people do several things at once, and the
lengths of one category differ a hundredfold: neither is an error.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from icube_common.errors import InputError
from icube_common.io.csv import read_text
from motiondiff.data.labels.label_map import NAME_SEPARATOR

_RENAMED = {"biomotionlab_ntroje": "bmlrub", "dfaust_67": "dfaust", "mpi_hdm05": "hdm05", "mpi_limits": "poseprior"}
"""Older names of AMASS's folders, in lower case."""
_ENDINGS = ("_poses", "_stageii", "_stagei")


@dataclass(frozen=True)
class Segment:
    """A labelled part of a sequence.

    Attributes:
        action: the category, several joined by `motiondiff.data.labels.label_map.NAME_SEPARATOR`; None where none is
            given.
        text: raw label of the annotator.
        start: seconds.
        end: seconds; None for the whole sequence.
    """

    action: str | None
    text: str
    start: float = 0.0
    end: float | None = None


def sequence_key(path: str | PurePosixPath) -> tuple[str, ...]:
    """Key of a sequence in AMASS and in BABEL: data set, subject and recording, in normalised spelling."""
    parts = [part.lower().replace(" ", "_") for part in PurePosixPath(path).parts[-3:]]
    stem = parts[-1].removesuffix(".npz").removesuffix(".npy")
    for ending in _ENDINGS:
        stem = stem.removesuffix(ending)
    folders = [_RENAMED.get(part, part) for part in parts[:-1]]
    return (*folders, stem)


def read_labels(paths: tuple[Path, ...]) -> dict[tuple[str, ...], list[Segment]]:
    """Labels of all sequences by `sequence_key`; of a sequence in several files the dense one (no list) counts.

    Raises:
        InputError: no JSON, or not BABEL's; the sequence is named.
    """
    labels: dict[tuple[str, ...], list[Segment]] = {}
    for path in sorted(paths, key=lambda path: ("extra" in path.name.lower(), path.name)):
        for number, sequence in _load(path).items():
            try:
                segments = list(_segments(sequence))
                labels.setdefault(sequence_key(sequence["feat_p"]), segments)
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise InputError(
                    f"{path}: sequence {number!r}: not BABEL's ({type(error).__name__}: {error})"
                ) from error
    return labels


def is_label_file(path: Path) -> bool:
    """True for a .json file of BABEL: ``babel_sid`` or ``feat_p`` near its beginning."""
    try:
        with path.open("rb") as handle:
            start = handle.read(100_000)
    except OSError:
        return False
    return b'"babel_sid"' in start or b'"feat_p"' in start


def _load(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: is no JSON: {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: BABEL's files map numbers to sequences; found a {type(content).__name__}")
    return content


def _segments(sequence: Mapping[str, Any]) -> Iterator[Segment]:
    """The labelled parts of one sequence, in the file's order."""
    for frames in (True, False):
        name = "frame_ann" if frames else "seq_ann"
        sets = [sequence.get(name), *(sequence.get(f"{name}s") or [])]
        sets = [one for one in sets if one and one.get("labels")]
        for one in sets[:1]:  # further annotators label the same frames again
            for label in one["labels"]:
                categories = label.get("act_cat") or []
                yield Segment(
                    action=NAME_SEPARATOR.join(str(category) for category in categories) or None,
                    text=str(label.get("raw_label") or label.get("proc_label") or "").strip(),
                    start=float(label["start_t"]) if frames else 0.0,
                    end=float(label["end_t"]) if frames else None,
                )
        if sets:
            return
