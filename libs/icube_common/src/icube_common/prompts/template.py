"""Prompt templates: sentences with ``{}`` as the place of the class name, one or an ensemble of several.

A template without ``{}`` is the words before the name, as in CoOp (Zhou et al., IJCV 2022). Several templates are a
prompt ensemble (Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021,
section 3.1.4): the normalised text features of a class are averaged and the mean is normalised.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from typing import Any

from icube_common.errors import InputError

PLACE = "{}"
_REMEDY = "write {} once, where the class name belongs"


def check_templates(value: Any) -> str | tuple[str, ...]:
    """A template, or a list of them as a tuple, each with at most one ``{}`` and no other brace.

    Raises:
        InputError: no text or list of texts, an empty one, a brace out of place.
    """
    if isinstance(value, str):
        _check(value)
        return value
    if not isinstance(value, Sequence) or not value or not all(isinstance(one, str) for one in value):
        raise InputError(
            f"template={value!r}: must be a text or a list of texts, such as 'a video of a person who {{}}'"
        )
    for one in value:
        _check(one)
    return tuple(value)


def _check(template: str) -> None:
    try:
        fields = [
            (name, spec, conversion)
            for _, name, spec, conversion in string.Formatter().parse(template)
            if name is not None
        ]
    except ValueError as error:
        raise InputError(f"template={template!r}: has an unbalanced brace; {_REMEDY}") from error
    if "{{" in template or "}}" in template or any(field != ("", "", None) for field in fields):
        raise InputError(f"template={template!r}: has braces that are not {{}}; {_REMEDY}")
    if len(fields) > 1:
        raise InputError(f"template={template!r}: has {len(fields)} places for the class name; {_REMEDY}")
    if not fields and not any(character.isalnum() for character in template):
        raise InputError(f"template={template!r}: holds no word")


def fill(template: str, name: str) -> str:
    """The sentence of a class; a template without ``{}`` is continued by the name and a full stop."""
    return template.replace(PLACE, name) if PLACE in template else f"{template} {name}."
