"""The keys of learnable prompts; imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from icube_common.config import Config, option
from icube_common.errors import InputError
from icube_common.prompts.template import PLACE, check_templates

INITIALISATIONS = ("template", "descriptions", "knowledge", "random")
CLASS_TOKEN_PLACES = ("auto", "end", "middle", "front", "none")
META_NETS = ("bounded", "free")


@dataclass(frozen=True, kw_only=True)
class PromptConfig(Config):
    """Class prompts: layout, initialisation of their vectors, and sharing between classes."""

    init: str = option("template", "initialisation of the context vectors", choices=INITIALISATIONS)
    template: Any = option(
        "a photo of a",
        "words around the class name, whose place is {} (none: the end); a list is an ensemble (init=template)",
        type_name="str or list",
    )
    num_context: str = option("auto", "context vectors, a number or auto: as long as the text that they start as")
    class_token: str = option(
        "auto", "position of the class name (auto: end, and none for descriptions)", choices=CLASS_TOKEN_PLACES
    )
    class_specific: bool = option(False, "each class has its own context (descriptions always do)")
    max_descriptions: int = option(0, "sentences used of each class, 0 = all", ge=0)
    conditional: bool = option(False, "a meta-net shifts the context by the image's feature (CoCoOp)")
    meta_net: str = option(
        "bounded",
        "length of its shifts: bounded (learned apart from the direction) or free (CoCoOp)",
        choices=META_NETS,
    )
    learn: bool = option(True, "train the context vectors; false: they stay what they started as")
    chunk: int = option(
        0, "prompts run through the text tower at once, recomputed in backward; 0 = by the memory that they take", ge=0
    )
    cut_padding: bool = option(True, "leave trailing padding away where the tower's features allow it")
    compact: bool = option(
        False,
        "run words shared by all prompts once, where the tower is causal, and no column of padding alone; figures "
        "differ by rounding",
    )
    seed: int = option(0, "seed of random vectors and of the small networks", ge=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        # a tuple, so that a configuration with an ensemble can be hashed as any other
        object.__setattr__(self, "template", check_templates(self.template))
        if self.num_context != "auto" and not (str(self.num_context).isdigit() and int(self.num_context) > 0):
            raise InputError(f"num_context={self.num_context}: must be auto or a positive number")
        if self.init == "knowledge" and len(self.templates) > 1:
            raise InputError("template: a list of templates is an ensemble of init=template; init=knowledge takes one")
        if self.init in ("template", "knowledge") and self.class_token != "auto":
            placed = next((one for one in self.templates if PLACE in one), None)
            if placed is not None:
                raise InputError(
                    f"class_token={self.class_token}: the place of the class name is the {{}} of the template "
                    f"{placed!r}; leave class_token at auto, or take the {{}} out"
                )

    def unused_keys(self) -> dict[str, str]:
        """Keys that have no effect with the others -> why."""
        why = f"prompt.init={self.init}"
        unused = {} if self.conditional else {"meta_net": "prompt.conditional=false"}
        if self.init in ("random", "descriptions"):
            unused["template"] = why
        if self.init in ("random", "template"):
            unused["max_descriptions"] = why
        return unused

    @property
    def templates(self) -> tuple[str, ...]:
        """The template, or those of the ensemble."""
        return (self.template,) if isinstance(self.template, str) else self.template

    @property
    def place(self) -> str:
        """Position of the class name, ``auto`` resolved."""
        if self.class_token != "auto":
            return self.class_token
        return "none" if self.init == "descriptions" else "end"

    @property
    def length(self) -> int | None:
        """The wanted number of context vectors, None for as many as the text has tokens."""
        return None if self.num_context == "auto" else int(self.num_context)
