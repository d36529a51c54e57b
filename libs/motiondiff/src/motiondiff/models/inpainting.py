"""Conditioned parts of a motion: their masks, the denoiser's input, and the correction of a prediction.

Shapes: B batch, T frames, J joints, D = 3 + 6 J features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from icube_common.training import StepRandom

# the longest gap that is shown in training, as a share of the window
MAX_GAP = 0.8
# how long the speed at the ends of a gap carries into it, seconds (chosen on Bandai-Namco's training clips)
CARRY_SECONDS = 0.9
# how long the correction at the last conditioned frame fades out, seconds
FADE_SECONDS = 0.75


@dataclass(frozen=True, eq=False)
class InpaintingCondition:
    """Conditioned parts of a batch of motions.

    Attributes:
        values: (B, T, D) normalised features; arbitrary where ``mask`` is False.
        mask: (B, T, D) True on conditioned features.
    """

    values: Float[Tensor, "B T D"]
    mask: Bool[Tensor, "B T D"]


def hermite_interpolate(
    values: Float[Tensor, "B T D"], conditioned: Bool[Tensor, "B T D"], carry: float = 0.0
) -> Float[Tensor, "B T D"]:
    """Cubic Hermite interpolation of conditioned values over the other frames.

    For each feature a curve whose end speeds are a share ``exp(-(n / carry)^4)`` of the motion's own, the rest those
    of the straight line (n: steps across the gap): short gaps keep the speed of the motion, long ones are straight.
    Before the first and after the last conditioned frame a feature is constant; without any conditioned frame it is 0
    (the training mean, in normalised features).

    Args:
        values: conditioned features; arbitrary elsewhere.
        conditioned: True on conditioned features.
        carry: how long speeds carry, frames; 0 gives straight lines.
    """
    frames = values.shape[1]
    values = torch.where(conditioned, values, torch.zeros_like(values))
    number = torch.arange(frames, device=values.device)[None, :, None].expand_as(values)
    before = torch.where(conditioned, number, -1).cummax(1).values
    after = torch.where(conditioned, number, frames).flip(1).cummin(1).values.flip(1)
    start = torch.where(before >= 0, before, after).clamp(max=frames - 1)
    stop = torch.where(after < frames, after, before).clamp(min=0)
    span = (stop - start).clamp(min=1).to(values.dtype)
    way = (number - start).to(values.dtype) / span
    first, last = values.gather(1, start), values.gather(1, stop)
    filled = first + way * (last - first)
    if carry > 0:
        chord = (last - first) / span
        share = torch.exp(-((span / carry) ** 4))
        steps = values.diff(dim=1, prepend=values[:, :1])  # from the frame before
        pair = conditioned & torch.cat([torch.zeros_like(conditioned[:, :1]), conditioned[:, :-1]], dim=1)
        following = (stop + 1).clamp(max=frames - 1)
        has_start, has_stop = pair.gather(1, start), pair.gather(1, following) & (following > stop)
        leave = torch.where(has_start, share * (steps.gather(1, start) - chord), torch.zeros_like(chord))
        arrive = torch.where(has_stop, share * (steps.gather(1, following) - chord), torch.zeros_like(chord))
        # Hermite's curve, written as what the ends' speeds add to the straight line
        curve = filled + span * way * (1 - way) * ((1 - way) * leave - way * arrive)
        filled = torch.where((before >= 0) & (after < frames), curve, filled)
    filled = torch.where(conditioned, values, filled)
    return torch.where(conditioned.any(1, keepdim=True), filled, torch.zeros_like(filled))


def inpainting_input(
    values: Float[Tensor, "B T D"], conditioned: Bool[Tensor, "B T D"], fps: float
) -> Float[Tensor, "B T 2*D"]:
    """Input of `MotionDenoiser` for conditioned parts: their interpolation, and the mask.

    The network then predicts the difference to the interpolation: Oreshkin et al., "Motion In-Betweening via Deep
    Delta-Interpolator", IEEE TVCG 2023; as a condition of diffusion, with random masks: Cohan et al., "Flexible Motion
    In-betweening with Diffusion Models", SIGGRAPH 2024.
    """
    return torch.cat(
        [hermite_interpolate(values, conditioned, CARRY_SECONDS * fps), conditioned.to(values.dtype)], dim=-1
    )


def joint_features(joints: Bool[Tensor, "*B J"]) -> Bool[Tensor, "*B D"]:
    """The features of joints: six of each one's rotation, and the root's three of translation."""
    rotations = joints[..., None].expand(*joints.shape, 6).flatten(-2)
    return torch.cat([joints[..., :1].expand(*joints.shape[:-1], 3), rotations], dim=-1)


def subtrees(parents: Sequence[int]) -> Bool[Tensor, "J J"]:
    """Row j: joint j and all below it."""
    below = torch.eye(len(parents), dtype=torch.bool)
    for joint in range(len(parents) - 1, 0, -1):  # parents come first
        below[parents[joint]] |= below[joint]
    return below


def sample_inpainting_mask(
    random: StepRandom, mask: Bool[Tensor, "B T"], parents: Sequence[int], share: float
) -> Bool[Tensor, "B T D"]:
    """Random conditioned parts for training: a gap's surroundings, a prefix, a limb or all but a limb, or both kinds.

    Args:
        random: makes the same calls whatever the batch.
        mask: True on a clip's own frames.
        parents: of the J joints.
        share: share of the rows with any conditioned part.
    """
    shown, kind, size, place, joint, inverse = random.uniform(6).unbind(1)
    length = mask.sum(1)
    frame = torch.arange(mask.shape[1], device=mask.device)
    # short gaps more often: half are within a third of the longest
    gap = 1 + (size**1.5 * MAX_GAP * (length - 2).clamp(min=0)).long()
    start = 1 + (place * (length - 1 - gap).clamp(min=1)).long()
    open_ended = (kind > 0.6) & (kind < 0.75)  # a beginning: the gap reaches to the end
    stop = torch.where(open_ended, length, start + gap)
    conditioned_frames = (frame < start[:, None]) | (frame >= stop[:, None])
    conditioned_frames &= (kind < 0.85)[:, None]
    limb = subtrees(parents).to(mask.device)[(joint * len(parents)).long()]
    limb = (limb ^ (inverse < 0.5)[:, None]) & (kind > 0.75)[:, None]
    conditioned = conditioned_frames[:, :, None] | joint_features(limb)[:, None]
    return conditioned & mask[:, :, None] & (shown < share)[:, None, None]


def loss_frames(mask: Bool[Tensor, "B T"], conditioned: Bool[Tensor, "B T D"]) -> Bool[Tensor, "B T"]:
    """Frames that are not wholly conditioned, and one at each side: the others carry no loss."""
    free = ~conditioned.all(-1)
    beside = free.clone()
    beside[:, 1:] |= free[:, :-1]
    beside[:, :-1] |= free[:, 1:]
    return mask & beside


def spread_correction(
    predicted: Float[Tensor, "B T D"],
    values: Float[Tensor, "B T D"],
    conditioned: Bool[Tensor, "B T D"],
    *,
    fade: int,
) -> Float[Tensor, "B T D"]:
    """A prediction made exact on conditioned features, without a discontinuity beside them.

    The correction at conditioned frames is spread over the frames between by `hermite_interpolate`. Beyond the last (or
    before the first) conditioned frame it fades out over ``fade`` frames; for the root's position on the floor it is
    constant.
    """
    missing = hermite_interpolate(values - predicted, conditioned)
    frames = predicted.shape[1]
    number = torch.arange(frames, device=predicted.device)[None, :, None].expand_as(predicted)
    last = torch.where(conditioned, number, -1).amax(1, keepdim=True)
    first = torch.where(conditioned, number, frames).amin(1, keepdim=True)
    outside = torch.maximum((number - last).clamp(min=0), (first - number).clamp(min=0)).to(predicted.dtype)
    weight = 0.5 + 0.5 * torch.cos(torch.pi * (outside / fade).clamp(max=1))
    weight[..., [0, 2]] = 1.0
    return torch.where(conditioned, values, predicted + weight * missing)
