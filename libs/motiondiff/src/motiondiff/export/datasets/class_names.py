"""Class names beside a data set, one a line, and the names of splits in recognition code."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from icube_common.errors import InputError
from icube_common.io.runs import atomic_file

SPLIT_NAMES = {"train": "train", "validation": "val", "test": "test"}


def class_names_file(path: str | Path) -> Path:
    """Path of the class names of a file: ``set.pkl`` -> ``set.pkl.classes.txt``."""
    return Path(path).with_name(f"{Path(path).name}.classes.txt")


def write_class_names(path: str | Path, names: Sequence[str]) -> None:
    """Write one class name a line, in index order, as in pyskl's label maps.

    Raises:
        InputError: a name of several lines.
    """
    for name in names:
        if len(name.splitlines()) != 1:
            raise InputError(f"class name {name!r}: must be one line of text")
    with atomic_file(path) as temporary:
        temporary.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
