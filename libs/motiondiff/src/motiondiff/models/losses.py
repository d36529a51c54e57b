"""Training losses on the predicted clean motion: MDM's, masked so that padding never counts.

Shapes: B batch, T frames, J joints, D features.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from motiondiff.models.representation import MotionRepresentation

# units that bring the terms to the size of the simple one: m for poses, m/s for velocities
POSE_UNIT = 0.1
SPEED_UNIT = 0.4
# a foot slower than this in the real motion is meant to stand: m/s
CONTACT_SPEED = 0.25


def masked_mean(values: Float[Tensor, "B T *rest"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, ""]:
    """Mean over a clip's own frames and further dimensions, then over clips: long clips weigh as short ones do."""
    per_frame = values.flatten(2).mean(-1) if values.ndim > 2 else values
    weight = mask.to(per_frame.dtype)
    return ((per_frame * weight).sum(1) / weight.sum(1).clamp(min=1)).mean()


def motion_losses(
    predicted: Float[Tensor, "B T D"],
    target: Float[Tensor, "B T D"],
    mask: Bool[Tensor, "B T"],
    offsets: Float[Tensor, "B J 3"],
    representation: MotionRepresentation,
) -> dict[str, Float[Tensor, ""]]:
    """The four terms, unweighted: Tevet et al., "Human Motion Diffusion Model", ICLR 2023, eq. 2 to 5.

    Args:
        predicted: normalised features as the denoiser gives them.
        target: normalised features of the real motion.
        mask: True on a clip's own frames.
        offsets: rest offsets of each clip's body, metres.
        representation: normalisation, topology and feet.

    Returns:
        ``simple`` on normalised features; ``positions`` on joints relative to the root by forward kinematics (the
        root itself is a feature), in `POSE_UNIT`; ``velocity`` on joint velocities and ``contact`` on the predicted
        velocity of feet that stand in the real motion, both in `SPEED_UNIT`.
    """
    predicted, target = predicted.float(), target.float()
    predicted_positions = representation.positions(representation.denormalise(predicted), offsets)
    target_positions = representation.positions(representation.denormalise(target), offsets)
    predicted_pose = predicted_positions - predicted_positions[:, :, :1]
    target_pose = target_positions - target_positions[:, :, :1]
    fps = representation.config.fps
    predicted_velocity = predicted_positions.diff(dim=1) * fps
    target_velocity = target_positions.diff(dim=1) * fps
    step_mask = mask[:, 1:] & mask[:, :-1]
    terms = {
        "simple": masked_mean((predicted - target) ** 2, mask),
        "positions": masked_mean(((predicted_pose - target_pose) / POSE_UNIT) ** 2, mask),
        "velocity": masked_mean(((predicted_velocity - target_velocity) / SPEED_UNIT) ** 2, step_mask),
    }
    if representation.feet:
        feet = representation.feet_index
        stands = target_velocity.index_select(2, feet).norm(dim=-1) < CONTACT_SPEED
        slides = ((predicted_velocity.index_select(2, feet) / SPEED_UNIT) ** 2).mean(-1) * stands
        terms["contact"] = masked_mean(slides, step_mask)
    else:
        terms["contact"] = torch.zeros_like(terms["simple"])
    return terms
