"""What an evaluation does; nothing here imports torch."""

from __future__ import annotations

from dataclasses import dataclass, field

from icube_common.errors import InputError
from motiondiff.recognition.config import RecogniserConfig

HELD_OUT = ("test", "validation")
FEWEST_CLIPS = 2
"""Clips a class needs on each side: distances within it are taken."""


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """How motions are made and judged.

    Attributes:
        seeds: sets of motions, of seeds 0, 1, ...; figures are means over them.
        per_action: motions of each action in a set.
        steps: denoising steps; None, here and in the next two, is the run's own: 10 of DPM-Solver++, or, of a distilled
            run, 4 of LCM.
        scheduler: a key of `motiondiff.schedulers.SCHEDULERS`.
        guidance: classifier-free guidance scale; 1 is none.
        split: the held-out clips: ``test`` or ``validation``.
        min_clips: leave out classes with fewer training clips; None refuses those with fewer than two.
        recogniser: the evaluator's network and training.
        evaluator_seed: seed of that training.
        batch_size: motions denoised together.
        mix_styles: each motion with a style of its own, any of the model's; else the style is left open.
        device: torch device of the generator.
    """

    seeds: int = 20
    per_action: int = 10
    steps: int | None = None
    scheduler: str | None = None
    guidance: float | None = None
    split: str = "test"
    min_clips: int | None = None
    recogniser: RecogniserConfig = field(default_factory=RecogniserConfig)
    evaluator_seed: int = 0
    batch_size: int = 32
    mix_styles: bool = False
    device: str = "cpu"

    def __post_init__(self) -> None:
        least = {"seeds": 1, "per_action": FEWEST_CLIPS, "min_clips": FEWEST_CLIPS, "evaluator_seed": 0}
        for name, bound in least.items():
            value = getattr(self, name)
            if value is not None and value < bound:
                raise InputError(f"--{name.replace('_', '-')} {value}: must be at least {bound}")
        if self.split not in HELD_OUT:
            raise InputError(f"--split {self.split}: motions are held against clips that were held out: {HELD_OUT}")
