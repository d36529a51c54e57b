"""Readers of data sets: formats by name, loaded on demand, and checks of their sources."""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from icube_common.errors import InputError, unknown

Item = TypeVar("Item")


def load_reader(package: str, modules: Mapping[str, str], name: str, *, option: str = "--format") -> Any:
    """Module of a format's reader.

    Args:
        package: the package of the readers.
        modules: format -> its module inside the package.
        name: the wanted format.
        option: the option that named it, for messages.

    Raises:
        InputError: an unknown format; the nearest is named.
    """
    if name not in modules:
        raise unknown(option, name, modules)
    return importlib.import_module(f"{package}.{modules[name]}")


def require_folder(path: Path, expected: str) -> Path:
    """The folder, with links resolved.

    Args:
        path: of the folder.
        expected: description of its content, for messages.

    Raises:
        InputError: missing or empty.
    """
    if not path.is_dir():
        raise InputError(f"{path}: no such folder; expected {expected}")
    if not any(path.iterdir()):
        raise InputError(f"{path}: the folder is empty; expected {expected}")
    return path.resolve()


def require_file(path: Path | None, option: str, expected: str) -> Path:
    """The file that an option names.

    Args:
        path: of the file; None where the option was not given.
        option: its name.
        expected: description of the file, for messages.

    Raises:
        InputError: the option was not given, or there is no such file.
    """
    if path is None:
        raise InputError(f"{option}: is needed; expected {expected}")
    if not path.is_file():
        raise InputError(f"{option} {path}: no such file; expected {expected}")
    return path


def split_duplicates(items: Iterable[Item], name: Callable[[Item], str]) -> tuple[list[Item], list[tuple[Item, str]]]:
    """Items with a name of their own, and all that share one, each with the reason of its rejection.

    Args:
        items: candidates of a reader.
        name: id of an item.
    """
    items = list(items)
    times = Counter(map(name, items))
    unique = [item for item in items if times[name(item)] == 1]
    shared = [(item, f"id {name(item)!r} occurs {times[name(item)]} times") for item in items if times[name(item)] > 1]
    return unique, shared
