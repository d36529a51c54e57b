"""The keys of fine-tuning; imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, fields

from icube_common.config import Config, option

MODES = ("none", "lora", "last_blocks")


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig(Config):
    """Fine-tuning of the image tower; by default it is frozen."""

    mode: str = option(
        "none",
        "none: frozen tower; lora: low-rank adapters; last_blocks: its last blocks. The tower then takes pixels, "
        "and no features are cached",
        choices=MODES,
    )
    rank: int = option(4, "lora: rank of the adapters", ge=1)
    alpha: float = option(8.0, "lora: the adapters' output is scaled by alpha / rank", gt=0)
    dropout: float = option(0.0, "lora: dropout on the input of the adapters", ge=0, lt=1)
    targets: list[str] = option(
        [], "lora: layers, by the ends of their names; empty: attention and MLP of transformers, convolutions of others"
    )
    blocks: int = option(1, "last_blocks: number of trained blocks", ge=1)
    learning_rate: float = option(1e-4, "peak learning rate of the tower's trained part", gt=0)

    @property
    def enabled(self) -> bool:
        """True where a part of the tower is trained."""
        return self.mode != "none"

    def unused_keys(self) -> dict[str, str]:
        """Keys without effect in this mode -> the reason."""
        lora, blocks = ("rank", "alpha", "dropout", "targets"), ("blocks",)
        names = {field.name for field in fields(self)} - {"mode"}
        used = {"none": (), "lora": (*lora, "learning_rate"), "last_blocks": (*blocks, "learning_rate")}[self.mode]
        return {name: f"finetune.mode={self.mode}" for name in sorted(names - set(used))}
