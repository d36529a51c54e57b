"""The one exception that means "what the user gave is wrong", and helpers that phrase it with a remedy."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable
from types import ModuleType


class InputError(ValueError):
    """The user's input is wrong: the message names the file or key, the value, and the remedy, in one line.

    Command lines print it without a traceback and exit with status 2.
    """


def nearest(name: str, candidates: Iterable[str]) -> str | None:
    """The candidate spelt most like ``name``, or None where nothing comes close."""
    by_lower = {candidate.lower(): candidate for candidate in candidates}
    result = difflib.get_close_matches(name.lower(), list(by_lower), n=1, cutoff=0.4)
    return by_lower[result[0]] if result else None


def unknown(kind: str, name: str, candidates: Iterable[str]) -> InputError:
    """An `InputError` for an unknown name that suggests the nearest known one and lists what there is."""
    names = sorted(candidates)
    close = nearest(name, names)
    hint = f"did you mean {close!r}? " if close else ""
    listed = ", ".join(names[:30]) + (", ..." if len(names) > 30 else "")
    return InputError(f"unknown {kind} {name!r}: {hint}(known: {listed or 'none'})")


def require(module: str, *, package: str, extra: str | None = None) -> ModuleType:
    """Import an optional dependency late.

    Args:
        module: what to import, e.g. ``"bpy"``.
        package: the library that needs it, e.g. ``"motiondiff"``.
        extra: the extra of ``package`` that brings it; without one the module is named for pip directly.

    Raises:
        InputError: the module is not installed; the message carries the pip command.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        target = f"'{package}[{extra}]'" if extra else module
        raise InputError(f"{module} is needed here and not installed ({error}): pip install {target}") from error
