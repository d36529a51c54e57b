"""Random variations of a training clip: tempo, and posture.

A few people do not cover how others stand and how fast they move. Shapes: T frames, J joints, D = 3 + 6 J.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from einops import rearrange
from scipy.spatial.transform import Rotation

from icube_common.data.skeleton_roles import ancestors
from motiondiff.skeleton.kinematics import matrix_to_rotation_6d, rotation_6d_to_matrix
from motiondiff.skeleton.skeleton import Skeleton

Array = npt.NDArray[np.float32]

CYCLES = (0.5, 1.5)
"""Range of how often the tempo rises and falls within a clip."""
LEG_SHARE = 0.3
"""Legs are turned by this share of the other joints' angle: feet should stay on the floor."""


def vary_tempo(features: Array, amount: float, rng: np.random.Generator, *, shortest: int, longest: int) -> Array:
    """The clip faster or slower, by a constant factor and a smooth change within it.

    Args:
        features: (T, D), linear in time between frames.
        amount: largest relative change of the tempo.
        rng: of the factors.
        shortest: frames that are left at least.
        longest: frames that come out at most.
    """
    frames = len(features)
    if frames < 2:
        return features
    factor = float(np.exp(rng.uniform(-1, 1) * np.log1p(amount)))
    depth, phase, cycles = rng.uniform(0, amount / 2), rng.uniform(0, 2 * np.pi), rng.uniform(*CYCLES)
    count = int(np.clip(round(frames / factor), min(shortest, frames), longest))
    time = np.linspace(0, 1, count)
    angle = 2 * np.pi * cycles
    # the derivative is 1 + depth cos(...): time never runs backwards
    warped = time + depth / angle * (np.sin(angle * time + phase) - np.sin(phase))
    place = warped / warped[-1] * (frames - 1)
    below = np.clip(np.floor(place).astype(int), 0, max(frames - 2, 0))
    share = (place - below)[:, None].astype(np.float32)
    return features[below] * (1 - share) + features[np.minimum(below + 1, frames - 1)] * share


def vary_posture(features: Array, skeleton: Skeleton, degrees: float, rng: np.random.Generator) -> Array:
    """The clip in another posture: every joint but the root and the ends of limbs turned by a constant angle.

    Args:
        features: (T, D).
        skeleton: joints and feet.
        degrees: standard deviation of each of the three components of the rotation vectors, degrees.
        rng: of the rotations.
    """
    joints = len(skeleton)
    deviation = np.full(joints, np.deg2rad(degrees))
    deviation[legs(skeleton)] *= LEG_SHARE
    deviation[[0, *sorted(set(range(joints)) - set(skeleton.parents))]] = 0
    turns = Rotation.from_rotvec(rng.normal(size=(joints, 3)) * deviation[:, None]).as_matrix().astype(np.float32)
    columns = rearrange(torch.from_numpy(features[:, 3:]), "t (joints six) -> t joints six", six=6)
    turned = matrix_to_rotation_6d(rotation_6d_to_matrix(columns) @ torch.from_numpy(turns))
    return np.concatenate([features[:, :3], rearrange(turned, "t joints six -> t (joints six)").numpy()], axis=1)


def legs(skeleton: Skeleton) -> list[int]:
    """Joints between the root and the feet, with the feet."""
    above = {joint for foot in skeleton.feet for joint in ancestors(skeleton.parents, foot)}
    return sorted((above | set(skeleton.feet)) - {0})
