"""The keys of learnable prompts; imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

from icube_common.config import Config, option
from icube_common.errors import InputError

INITIALISATIONS = ("template", "descriptions", "knowledge", "random")
CLASS_TOKEN_PLACES = ("auto", "end", "middle", "front", "none")


@dataclass(frozen=True, kw_only=True)
class PromptConfig(Config):
    """How class prompts are laid out, what their vectors start as, and which of them are shared."""

    init: str = option("template", "what the context vectors start as", choices=INITIALISATIONS)
    template: str = option("a photo of a", "words before the class name (init=template, knowledge)")
    num_context: str = option("auto", "context vectors, a number or auto: as long as the text that they start as")
    class_token: str = option(
        "auto", "where the class name stands (auto: end, and none for descriptions)", choices=CLASS_TOKEN_PLACES
    )
    class_specific: bool = option(False, "each class has its own context (descriptions always do)")
    max_descriptions: int = option(0, "sentences used of each class, 0 = all", ge=0)
    conditional: bool = option(False, "a meta-net shifts the context by the image's feature (CoCoOp)")
    learn: bool = option(True, "train the context vectors; false: they stay what they started as")
    chunk: int = option(0, "prompts run through the text tower at once, recomputed in backward; 0 = all", ge=0)
    cut_padding: bool = option(True, "leave trailing padding away where the tower's features allow it")
    seed: int = option(0, "seed of random vectors and of the small networks", ge=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_context != "auto" and not (str(self.num_context).isdigit() and int(self.num_context) > 0):
            raise InputError(f"num_context={self.num_context}: must be auto or a positive number")

    @property
    def place(self) -> str:
        """Where the class name stands, ``auto`` resolved."""
        if self.class_token != "auto":
            return self.class_token
        return "none" if self.init == "descriptions" else "end"

    @property
    def length(self) -> int | None:
        """The wanted number of context vectors, None for as many as the text has tokens."""
        return None if self.num_context == "auto" else int(self.num_context)
