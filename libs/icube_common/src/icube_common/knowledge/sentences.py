"""One sentence about a class: its text, where it comes from, and what a reviewer has decided."""

from __future__ import annotations

import dataclasses
import math
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from icube_common.errors import InputError, unknown

# kind of source -> what it must say; each may also carry the other fields
REQUIRED = {"model": "model", "citation": "reference", "person": "person"}
STATUSES = ("proposed", "accepted", "edited", "rejected")
IN_USE = ("accepted", "edited")


@dataclass(frozen=True)
class Source:
    """Source of a sentence.

    Attributes:
        kind: ``model`` (written by a language model), ``citation`` (from a publication) or ``person``.
        model: name of the language model; required for ``model``.
        prompt: what it was asked, ``{name}`` standing for the class name.
        date: when it was written or imported, ISO (``2025-03-31``).
        reference: the publication or file; required for ``citation``.
        person: who wrote it; required for ``person``.

    Raises:
        InputError: an unknown kind, a missing required field, an empty or multi-line value.
    """

    kind: str
    model: str | None = None
    prompt: str | None = None
    date: str | None = None
    reference: str | None = None
    person: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.kind, str) or self.kind not in REQUIRED:
            raise unknown("kind of source", str(self.kind), REQUIRED)
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is not None:
                check_text(value, field.name)
        needed = REQUIRED[self.kind]
        if getattr(self, needed) is None:
            raise InputError(f"source of kind {self.kind!r}: needs {needed!r}")

    def to_dict(self) -> dict[str, str]:
        """The fields that are set, in a fixed order."""
        return {name: value for name, value in dataclasses.asdict(self).items() if value is not None}

    def label(self) -> str:
        """The source in a few words: ``model gpt-4 (2024-01-02)``."""
        named = f"{self.kind} {getattr(self, REQUIRED[self.kind])}"
        return f"{named} ({self.date})" if self.date else named


@dataclass(frozen=True)
class Sentence:
    """A sentence about a class.

    Attributes:
        text: one line, single spaces.
        source: where it comes from.
        status: ``proposed``, ``accepted``, ``edited`` or ``rejected``.
        reason: why it was rejected; required then, and only then.
        original: what the text was before a person edited it; required for ``edited``, and only then.
        meta: what else a library keeps with a sentence (``requires: [T1]``, ``sure: false``): text, numbers,
            booleans, or lists of them.

    Raises:
        InputError: a text that is empty or has line breaks, an unknown status, a reason or an original that is
            missing or out of place, ``meta`` of another form.
    """

    text: str
    source: Source
    status: str = "proposed"
    reason: str | None = None
    original: str | None = None
    meta: Mapping[str, Any] = dataclasses.field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        check_text(self.text, "text")
        if self.status not in STATUSES:
            raise unknown("status", str(self.status), STATUSES)
        for name, status in (("reason", "rejected"), ("original", "edited")):
            value = getattr(self, name)
            if (value is not None) != (self.status == status):
                raise InputError(f"{self.text!r}: {name!r} belongs to status {status!r}, and to no other")
            if value is not None:
                check_text(value, name)
        _check_meta(self.meta)

    @property
    def in_use(self) -> bool:
        """True for a sentence in use: accepted, as it was or edited."""
        return self.status in IN_USE

    def accept(self) -> Sentence:
        """The sentence, accepted as it stands (an edited one stays edited)."""
        if self.status == "edited":
            return self
        return dataclasses.replace(self, status="accepted", reason=None)

    def reject(self, reason: str) -> Sentence:
        """The sentence, rejected; it goes back to its original text."""
        return dataclasses.replace(
            self, text=self.original or self.text, status="rejected", reason=reason, original=None
        )

    def edit(self, text: str) -> Sentence:
        """The sentence with another text, keeping the first one.

        Raises:
            InputError: the text is the same, or no valid text.
        """
        if text == self.text:
            raise InputError(f"{text!r}: is unchanged, accept it instead")
        original = self.original or self.text
        if text == original:
            return dataclasses.replace(self, text=text, status="accepted", reason=None, original=None)
        return dataclasses.replace(self, text=text, status="edited", reason=None, original=original)


def one_line(text: str) -> str:
    """The text with every run of white space, line breaks included, as one space, and no other control character."""
    return " ".join("".join(c if unicodedata.category(c) not in ("Cc", "Cs") else " " for c in text).split())


def check_text(value: Any, what: str) -> None:
    """Hold a value against what a text in a knowledge file has to be: one non-empty line, single spaces.

    Raises:
        InputError: it is something else.
    """
    if not isinstance(value, str):
        raise InputError(f"{what} {value!r}: must be text (quote it)")
    if not value.strip():
        raise InputError(f"{what}: is empty")
    if value != one_line(value):
        raise InputError(f"{what} {value!r}: must be one line without doubled, leading or trailing spaces")


def _check_meta(meta: Mapping[str, Any]) -> None:
    if not isinstance(meta, Mapping):
        raise InputError(f"meta {meta!r}: must be a mapping")
    for key, value in meta.items():
        check_text(key, "key of meta")
        items = value if isinstance(value, (list, tuple)) else [value]
        for item in items:
            if not isinstance(item, (str, bool, int, float)) or (isinstance(item, float) and not math.isfinite(item)):
                raise InputError(f"meta {key}: must be text, a finite number, true or false, or a list of these")
            if isinstance(item, str):
                check_text(item, f"meta {key}")
