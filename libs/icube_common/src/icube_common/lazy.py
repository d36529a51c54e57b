"""Lazy public names (PEP 562): ``import X`` stays fast, torch comes only with the first name that needs it."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def lazy_exports(package: str, names: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Make a module-level ``__getattr__`` and ``__dir__`` for ``package``.

    Args:
        package: the importing package's ``__name__``.
        names: public name -> the submodule that defines it, relative to ``package`` (``"pipeline"``).

    Returns:
        The pair ``(__getattr__, __dir__)`` to bind in the package's ``__init__``.
    """

    def __getattr__(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{package}.{names[name]}"), name)

    def __dir__() -> list[str]:
        return sorted(names)

    return __getattr__, __dir__
