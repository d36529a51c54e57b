"""Class knowledge that comes with the library: for each data set a file of sentences about its classes.

The sentences are drafts by a language model that no specialist has checked; each file states it, and every report that
uses one repeats it until a person signs (``actprompt knowledge review``).

>>> from actprompt.knowledge import load_knowledge
>>> load_knowledge("ucf101").texts("Archery")[0]
'An archer stands sideways to the target, draws a bow and shoots an arrow.'
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from icube_common.errors import InputError, unknown

if TYPE_CHECKING:
    from icube_common.knowledge.class_knowledge import ClassKnowledge

SHIPPED: dict[str, str] = {
    "ucf101": "ucf101.yaml",
    "hmdb51": "hmdb51.yaml",
    "ntu-rgbd": "ntu_rgbd.yaml",
    "smarthome": "smarthome.yaml",
    "etri": "etri.yaml",
    "florence3d": "florence3d.yaml",
}
"""Format of a data set, as `actprompt.data.readers.FORMATS` names it -> its file in this folder."""

_SUFFIXES = (".yaml", ".yml", ".json")


def load_knowledge(name: str = "", *, format: str = "") -> ClassKnowledge:
    """Sentences about classes: those of a file, or those that the library has for a data set.

    Args:
        name: a knowledge file (``.yaml``, ``.yml`` or ``.json``), a key of `SHIPPED`, or empty for the data set's own.
        format: the data set's format, which counts where ``name`` is empty.

    Raises:
        InputError: no such name, no knowledge for the format, or a file that is missing, malformed or changed after it
            was frozen; the message contains the remedy.
    """
    from icube_common.knowledge.class_knowledge import ClassKnowledge

    if name.lower().endswith(_SUFFIXES):
        return ClassKnowledge.load(name)
    remedy = "give a file that `actprompt knowledge generate` or `knowledge import` has made"
    if name and name not in SHIPPED:
        raise InputError(f"{unknown('class knowledge', name, SHIPPED)}, or {remedy}")
    key = name or format
    if key not in SHIPPED:
        source = f"the format {format!r}" if format else "data without a format"
        raise InputError(f"class knowledge: none comes with the library for {source}: {remedy}, or one of {_names()}")
    return ClassKnowledge.load(Path(__file__).with_name(SHIPPED[key]))


def _names() -> str:
    return ", ".join(sorted(SHIPPED))
