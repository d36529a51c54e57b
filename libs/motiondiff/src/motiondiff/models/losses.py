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
# a foot slower than this (m/s), and at most so far (m) above the lowest place it has in the clip, stands
CONTACT_SPEED = 0.25
CONTACT_HEIGHT = 0.06


def masked_mean(
    values: Float[Tensor, "B T *rest"], mask: Bool[Tensor, "B T"], weights: Float[Tensor, " B"] | None = None
) -> Float[Tensor, ""]:
    """Mean over a clip's own frames and further dimensions, then over clips: long clips weigh as short ones do.

    With ``weights`` the mean over clips is that of each clip's mean times its weight.
    """
    per_frame = values.flatten(2).mean(-1) if values.ndim > 2 else values
    weight = mask.to(per_frame.dtype)
    per_clip = (per_frame * weight).sum(1) / weight.sum(1).clamp(min=1)
    return per_clip.mean() if weights is None else (per_clip * weights).mean()


def motion_losses(
    predicted: Float[Tensor, "B T D"],
    target: Float[Tensor, "B T D"],
    mask: Bool[Tensor, "B T"],
    offsets: Float[Tensor, "B J 3"],
    representation: MotionRepresentation,
    weights: Float[Tensor, " B"] | None = None,
    target_positions: Float[Tensor, "B T J 3"] | None = None,
) -> dict[str, Float[Tensor, ""]]:
    """The terms of a loss: Tevet et al., "Human Motion Diffusion Model", ICLR 2023, eq. 2 to 5, and the root's place.

    Args:
        predicted: normalised features as the denoiser gives them.
        target: normalised features of the real motion.
        mask: True on a clip's own frames.
        offsets: rest offsets of each clip's body, metres.
        representation: normalisation, topology and feet.
        weights: weight of each clip's errors, such as `min_snr_weights`; None: all weigh 1.
        target_positions: positions of the real motion, metres, where the caller has them.

    Returns:
        ``simple`` on normalised features; ``positions`` on joints relative to the root by forward kinematics and
        ``root`` and ``feet`` on their place in the world, all in `POSE_UNIT`; ``velocity`` on joint velocities and
        ``contact`` on the predicted velocity of feet that stand in the real motion (slower than `CONTACT_SPEED`, no
        higher than `CONTACT_HEIGHT` above their lowest place), both in `SPEED_UNIT`. ``feet`` holds root and legs
        together: with errors of each alone, a body that crouches hangs in the air.
    """
    predicted, target = predicted.float(), target.float()
    predicted_positions = representation.normalised_positions(predicted, offsets, mask)
    if target_positions is None:
        with torch.no_grad():
            target_positions = representation.normalised_positions(target, offsets, mask)
    predicted_pose = predicted_positions - predicted_positions[:, :, :1]
    target_pose = target_positions - target_positions[:, :, :1]
    root_error = predicted_positions[:, :, 0] - target_positions[:, :, 0]
    fps = representation.config.fps
    predicted_velocity = predicted_positions.diff(dim=1) * fps
    target_velocity = target_positions.diff(dim=1) * fps
    step_mask = mask[:, 1:] & mask[:, :-1]
    terms = {
        "simple": masked_mean((predicted - target) ** 2, mask, weights),
        "positions": masked_mean(((predicted_pose - target_pose) / POSE_UNIT) ** 2, mask, weights),
        "root": masked_mean((root_error / POSE_UNIT) ** 2, mask, weights),
        "velocity": masked_mean(((predicted_velocity - target_velocity) / SPEED_UNIT) ** 2, step_mask, weights),
    }
    if representation.feet:
        feet = representation.feet_index
        stands = standing_feet(target_positions, mask, representation)
        slides = ((predicted_velocity.index_select(2, feet) / SPEED_UNIT) ** 2).mean(-1) * stands
        terms["contact"] = masked_mean(slides, step_mask, weights)
        feet_error = (predicted_positions - target_positions).index_select(2, feet)
        terms["feet"] = masked_mean((feet_error / POSE_UNIT) ** 2, mask, weights)
    else:
        terms["contact"] = terms["feet"] = torch.zeros_like(terms["simple"])
    return terms


def standing_feet(
    positions: Float[Tensor, "B T J 3"], mask: Bool[Tensor, "B T"], representation: MotionRepresentation
) -> Bool[Tensor, "B T-1 feet"]:
    """Steps from frame to frame in which a foot stands: slower than `CONTACT_SPEED`, low in both frames."""
    feet = representation.feet_index
    height = positions.index_select(2, feet)[..., 1]
    lowest = height.masked_fill(~mask[..., None], torch.inf).amin(1, keepdim=True)
    low = height < lowest + CONTACT_HEIGHT
    slow = positions.index_select(2, feet).diff(dim=1).norm(dim=-1) * representation.config.fps < CONTACT_SPEED
    return slow & low[:, 1:] & low[:, :-1]


def mdm_losses(
    predicted: Float[Tensor, "B T D"],
    target: Float[Tensor, "B T D"],
    mask: Bool[Tensor, "B T"],
    offsets: Float[Tensor, "B J 3"],
    representation: MotionRepresentation,
) -> dict[str, Float[Tensor, ""]]:
    """The terms of MDM's loss as they stand: Tevet et al., "Human Motion Diffusion Model", ICLR 2023, eq. 2 to 5.

    Arguments as in `motion_losses`; every clip weighs the same.

    Returns:
        ``simple`` (eq. 2): squared error of the normalised features; ``positions`` (eq. 3): squared distance of joints
        by forward kinematics, m^2; ``contact`` (eq. 4): squared step of the feet that stand (`standing_feet`) from
        frame to frame, m^2; ``velocity`` (eq. 5): squared error of the features' steps from frame to frame. Sums over
        features and axes are means here, as over frames.
    """
    predicted, target = predicted.float(), target.float()
    positions = representation.normalised_positions(predicted, offsets, mask)
    with torch.no_grad():
        target_positions = representation.normalised_positions(target, offsets, mask)
    step_mask = mask[:, 1:] & mask[:, :-1]
    terms = {
        "simple": masked_mean((predicted - target) ** 2, mask),
        "positions": masked_mean((positions - target_positions) ** 2, mask),
        "velocity": masked_mean((predicted.diff(dim=1) - target.diff(dim=1)) ** 2, step_mask),
        "contact": torch.zeros_like(predicted[0, 0, 0]),
    }
    if representation.feet:
        steps = positions.index_select(2, representation.feet_index).diff(dim=1)
        stands = standing_feet(target_positions, mask, representation)
        terms["contact"] = masked_mean(steps**2 * stands[..., None], step_mask)
    return terms


def min_snr_weights(cumulative: Float[Tensor, " B"], gamma: float, floor: float = 0.0) -> Float[Tensor, " B"]:
    """Weight of the error of the clean motion at each clip's noise: its signal-to-noise ratio, at most ``gamma``.

    Hang et al., "Efficient Diffusion Training via Min-SNR Weighting Strategy", ICCV 2023, eq. 8 (for a prediction of
    the clean data).

    Args:
        cumulative: cumulative product of alphas at each clip's timestep.
        gamma: largest weight.
        floor: smallest weight, 0 in the paper. Posture and place of a motion are decided at much noise: with weights
            near 0 there, generated bodies lean and float.
    """
    ratio = cumulative / (1 - cumulative).clamp(min=1e-8)
    return ratio.clamp(min=min(floor, gamma), max=gamma)
