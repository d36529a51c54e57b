"""`Results`: what a job returns, as attributes and as a dictionary; nothing here imports torch."""

from __future__ import annotations

from typing import Any


class Results(dict[str, Any]):
    """Results of a job: a dictionary whose items are attributes, too."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"results have no {name!r} (there are: {', '.join(self)})") from None

    def to_dict(self) -> dict[str, Any]:
        """Results as a plain dictionary, as ``--json`` prints them."""
        return dict(self)
