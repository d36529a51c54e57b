from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from motiondiff.data.readers import kinect
from motiondiff.geometry.fitting import swing
from motiondiff.geometry.skeleton import Skeleton

KINECT_OFFSETS = np.array(
    [
        [0, 0, 0], [0, 0.07, 0], [0, 0.34, 0.02], [0, 0.2, 0.03],
        [0.17, -0.1, 0], [0.27, 0, 0], [0.24, 0, 0], [0.08, 0, 0],
        [-0.17, -0.1, 0], [-0.27, 0, 0], [-0.24, 0, 0], [-0.08, 0, 0],
        [0.08, -0.07, 0], [0, -0.42, 0], [0, -0.38, 0], [0, 0, 0.1],
        [-0.08, -0.07, 0], [0, -0.42, 0], [0, -0.38, 0], [0, 0, 0.1],
    ]
)  # fmt: skip


@pytest.fixture(scope="session")
def moving_kinect() -> Callable[..., np.ndarray]:
    """(T, 20, 3) positions of a stick person with bones of constant length who stands and moves smoothly."""

    def positions(frames: int = 40, seed: int = 0, amount: float = 0.4) -> np.ndarray:
        rng = np.random.default_rng(seed)
        time = np.linspace(0, 2 * np.pi, frames)[:, None, None]
        vectors = amount * rng.normal(size=(20, 3)) * np.sin(time + rng.uniform(0, 6, size=(20, 3)))
        vectors[:, 0] *= 0.2
        local = Rotation.from_rotvec(vectors.reshape(-1, 3)).as_matrix().reshape(frames, 20, 3, 3)
        out = np.zeros((frames, 20, 3))
        world = local.copy()
        out[:, 0] = np.array([0.1, 0.95, 0.2])
        for joint, parent in enumerate(kinect.PARENTS[1:], start=1):
            world[:, joint] = world[:, parent] @ local[:, joint]
            out[:, joint] = out[:, parent] + world[:, parent] @ KINECT_OFFSETS[joint]
        return out

    return positions


@pytest.fixture(scope="session")
def kinect_rest() -> Skeleton:
    return Skeleton(kinect.NAMES, kinect.PARENTS, KINECT_OFFSETS.astype(np.float32))


@pytest.fixture(scope="session")
def to_camera() -> Callable[..., np.ndarray]:
    """World positions as a Kinect sees them: 2.5 m in front of a camera 1.1 m up that looks down by some degrees."""

    def seen(positions: np.ndarray, tilt: float = 8.0) -> np.ndarray:
        facing = positions * [-1, 1, -1]
        up = np.array([[0, np.cos(np.radians(tilt)), -np.sin(np.radians(tilt))]])
        return (facing - [0, 1.1, 0]) @ swing(np.array([[0.0, 1.0, 0.0]]), up)[0].T + [0, 0, 2.5]

    return seen
