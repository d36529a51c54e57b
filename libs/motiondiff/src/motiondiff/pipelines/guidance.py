"""Classifier-free guidance, with a scale for each condition where they differ.

Shapes: B motions, R rows of each in the denoiser, T frames, D features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from jaxtyping import Float
from torch import Tensor

from icube_common.errors import InputError, unknown
from motiondiff.models.conditioning import Conditions

GUIDED_SHARE = 0.9
"""Share of the steps that guidance is applied in: in the last ones it only enlarges fine detail (Kynkaanniemi et al.,
"Applying Guidance in a Limited Interval", NeurIPS 2024)."""
GUIDED_CONDITIONS = ("style", "action", "text")
"""Conditions that guidance extrapolates, in the order in which they are added. The body is given to every row."""


@dataclass(frozen=True, eq=False)
class Guidance:
    """Rows for the denoiser and how their predictions are put together.

    Attributes:
        conditions: R B rows of conditions: without any, then with more and more of them.
        scales: scale of the difference of each row from the row before it; empty: R = 1.
    """

    conditions: Conditions
    scales: tuple[float | Float[Tensor, "B 1 1"], ...]

    @property
    def rows(self) -> int:
        """R."""
        return 1 + len(self.scales)

    def combine(self, predicted: Float[Tensor, "R*B T D"]) -> Float[Tensor, "B T D"]:
        """One prediction for each motion: ``e_0 + sum_k scale_k (e_k - e_(k-1))``."""
        parts = predicted.chunk(self.rows)
        result = parts[0]
        for scale, before, after in zip(self.scales, parts, parts[1:], strict=False):
            result = result + scale * (after - before)
        return result


def make_guidance(conditions: Conditions, scale: float | Sequence[float] | Mapping[str, float]) -> Guidance:
    """Guidance of a batch.

    Ho and Salimans, "Classifier-Free Diffusion Guidance", 2022, eq. 6, for one scale; Brooks et al., "InstructPix2Pix",
    CVPR 2023, eq. 3, for a scale of each condition. Conditions of one scale share a row.

    Args:
        conditions: of the motions.
        scale: of all conditions, the same for all motions or one for each, or by name (`GUIDED_CONDITIONS`), 1 where
            it is not named; 1 is no guidance.

    Raises:
        InputError: an unknown name, a scale that is no number or below 0, or not one for each motion.
    """
    if isinstance(scale, Mapping):
        for name in scale:
            if name not in GUIDED_CONDITIONS:
                raise unknown("condition of guidance_scale", name, GUIDED_CONDITIONS)
        scales = {name: float(scale.get(name, 1.0)) for name in GUIDED_CONDITIONS}
    elif isinstance(scale, Sequence):
        return _guidance_by_motion(conditions, [float(value) for value in scale])
    else:
        scales = dict.fromkeys(GUIDED_CONDITIONS, float(scale))
    for name, value in scales.items():
        _check_scale(value, name)
    if all(value == 1.0 for value in scales.values()):
        return Guidance(conditions, ())
    rows, steps = [conditions.without_semantics()], []
    dropped = set(GUIDED_CONDITIONS)
    every = torch.ones_like(conditions.has_shape)
    for value, names in groupby(GUIDED_CONDITIONS, key=scales.__getitem__):
        dropped -= set(names)
        rows.append(conditions.drop(**dict.fromkeys(dropped, every)))
        steps.append(value)
    return Guidance(Conditions.cat(rows), tuple(steps))


def _guidance_by_motion(conditions: Conditions, scales: Sequence[float]) -> Guidance:
    count = len(conditions.has_shape)
    if len(scales) != count:
        raise InputError(f"guidance_scale: {len(scales)} scales for {count} motions")
    for number, value in enumerate(scales):
        _check_scale(value, f"motion {number}")
    if len(set(scales)) == 1:
        return make_guidance(conditions, scales[0])
    rows = Conditions.cat([conditions.without_semantics(), conditions])
    return Guidance(rows, (torch.tensor(scales, device=conditions.has_shape.device)[:, None, None],))


def _check_scale(value: float, where: str) -> None:
    if not value >= 0:
        raise InputError(f"guidance_scale {value:g} of {where}: must be at least 0")
