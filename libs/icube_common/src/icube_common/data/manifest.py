"""Prepared data sets: ``manifest.csv`` with one row a sample, ``dataset.json`` with classes and source.

A library derives its manifest from `PreparedSet`, with its own row type and its own checks.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from icube_common.errors import InputError, unknown
from icube_common.io.csv import file_digest, read_table
from icube_common.io.runs import read_json

if TYPE_CHECKING:
    from icube_common.evaluation.samples import Samples

MANIFEST, DESCRIPTION, REJECTED = "manifest.csv", "dataset.json", "rejected.csv"


class SampleRow(Protocol):
    """Row of a manifest: id and class."""

    @property
    def id(self) -> str:
        """Unique name of the sample."""

    @property
    def label(self) -> str:
        """Its class."""


Row = TypeVar("Row", bound=SampleRow)


class PreparedSet(Generic[Row]):
    """Prepared set of samples.

    Args:
        folder: the prepared folder.
        description: the content of ``dataset.json``.
        rows: one for each sample, in the order of ``manifest.csv``.
        root: base of relative paths, where the files have moved; by default ``root`` of ``dataset.json``, itself
            relative to the folder.
    """

    def __init__(
        self, folder: str | Path, description: Mapping[str, Any], rows: Sequence[Row], *, root: str | Path | None = None
    ) -> None:
        self.folder = Path(folder)
        self.description = dict(description)
        self.rows = tuple(rows)
        self.root = Path(root) if root is not None else self.folder / str(description["root"])

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Classes in the set's own order."""
        return tuple(self.description["class_names"])

    @property
    def simulated(self) -> bool:
        """True for simulated samples."""
        return bool(self.description.get("simulated", False))

    @cached_property
    def index(self) -> dict[str, int]:
        """Id -> row number."""
        return {row.id: number for number, row in enumerate(self.rows)}

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of ``manifest.csv``, recorded with each run."""
        return file_digest(self.folder / MANIFEST)

    def row(self, name: str) -> Row:
        """Row by id.

        Raises:
            InputError: an unknown id; the nearest is named.
        """
        if name not in self.index:
            raise unknown("id", name, self.index)
        return self.rows[self.index[name]]

    def targets(self) -> npt.NDArray[np.int64]:
        """Class numbers (N,), in the order of `class_names`."""
        number = {name: place for place, name in enumerate(self.class_names)}
        return np.array([number[row.label] for row in self.rows], dtype=np.int64)

    def check_classes(self) -> None:
        """Check that there are two classes to choose from.

        Raises:
            InputError: fewer than two classes.
        """
        if len(self.class_names) < 2:
            names = " and ".join(map(repr, self.class_names)) or "none"
            raise InputError(f"{self.folder}: one class ({names}): at least two are needed; prepare a set with more")

    def make_samples(self, groups: Sequence[str], sites: Sequence[str] | None = None) -> Samples:
        """Samples of an evaluation.

        Args:
            groups: subject of each row.
            sites: scanner or camera of each row, where all are known.
        """
        from icube_common.evaluation.samples import Samples

        return Samples(
            ids=[row.id for row in self.rows],
            labels=self.targets(),
            class_names=self.class_names,
            groups=groups,
            sites=sites,
        )


def read_description(folder: str | Path, kinds: Mapping[str, type], *, command: str) -> dict[str, Any]:
    """``dataset.json`` of a prepared folder, with the types of its values checked.

    Args:
        folder: the prepared folder.
        kinds: key -> type, of all required keys.
        command: the command that makes such folders, for messages.

    Raises:
        InputError: no such folder, or a key is missing or of another type.
    """
    path = Path(folder) / DESCRIPTION
    if not path.is_file():
        raise InputError(f"{folder}: not a prepared set (no {DESCRIPTION} in it): make one with {command}")
    description = read_json(path)
    if not isinstance(description, dict):
        raise InputError(f"{path}: must hold an object")
    for key, kind in kinds.items():
        if not isinstance(description.get(key), kind):
            raise InputError(f"{path}: {key}: {description.get(key)!r} is not a {kind.__name__}: prepare the set again")
    return description


def read_manifest_rows(
    folder: str | Path, columns: Iterable[str], *, filled: Iterable[str], classes: Iterable[str], strip: bool = True
) -> Iterator[tuple[str, dict[str, str]]]:
    """Rows of ``manifest.csv`` as (place for messages, column -> text), with ids, classes and empty cells checked.

    Args:
        folder: the prepared folder.
        columns: required columns.
        filled: columns that may not be empty.
        classes: known classes.
        strip: take spaces around values away.

    Raises:
        InputError: an empty cell, a repeated id or an unknown class; file and line are named.
    """
    path, filled, classes = Path(folder) / MANIFEST, list(filled), set(classes)
    seen_ids: set[str] = set()
    for line, row in read_table(path, columns, strip=strip):
        place = f"{path}: line {line}"
        for name in filled:
            if not row[name]:
                raise InputError(f"{place}: {name} is empty")
        if row["id"] in seen_ids:
            raise InputError(f"{place}: id {row['id']!r} occurs twice")
        seen_ids.add(row["id"])
        if row["label"] not in classes:
            raise InputError(f"{place}: label: {unknown('class', row['label'], classes)}")
        yield place, row


def write_description(folder: Path, about: Mapping[str, Any]) -> None:
    """Write ``dataset.json`` with the digest of the ``manifest.csv`` beside it."""
    text = json.dumps({**about, "manifest_sha256": file_digest(folder / MANIFEST)}, indent=2, ensure_ascii=False)
    (folder / DESCRIPTION).write_text(f"{text}\n", encoding="utf-8")


def write_rows(path: Path, head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV table with a head line; inside `icube_common.io.runs.atomic_folder`."""
    with path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(head)
        writer.writerows(rows)
