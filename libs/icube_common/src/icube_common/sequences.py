"""Arguments that take several texts: one string is one text, not a sequence of letters."""

from __future__ import annotations

from collections.abc import Iterable


def as_list(texts: str | Iterable[str]) -> list[str]:
    """The texts as a list; a single string becomes a list of one."""
    return [texts] if isinstance(texts, str) else list(texts)
