"""Pose sequence: the landmarks of one person over a video, and the gates against false detections."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from icube_common.errors import InputError
from icube_common.io.arrays import open_arrays
from icube_common.pose.landmarks import BONES, INDEX, LANDMARKS, SKELETON_JOINTS

if TYPE_CHECKING:
    from icube_common.pose.networks import Landmarks

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class PoseGates:
    """Thresholds below which a frame or a video counts as one without a person.

    Attributes:
        min_hip_visibility: of a frame's more visible hip.
        max_bone_variation: of a video: median over the limbs' bones of standard deviation / mean of the length.
    """

    min_hip_visibility: float = 0.5
    max_bone_variation: float = 0.25


@dataclass(frozen=True)
class PoseSequence:
    """Landmarks of one person over T frames; NaN without a detection.

    Attributes:
        pixels: (T, 33, 3) as `Landmarks.pixels`.
        metres: (T, 33, 3) as `Landmarks.metres`.
        visibility: (T, 33), 0 without a person.
        times: (T,) in s.
    """

    pixels: Array
    metres: Array
    visibility: Array
    times: Array

    @classmethod
    def from_landmarks(cls, landmarks: Sequence[Landmarks | None], times: Sequence[float]) -> PoseSequence:
        """Stack the landmarks of a video's frames."""
        shape = (len(landmarks), len(LANDMARKS), 3)
        pixels, metres, visibility = np.full(shape, np.nan), np.full(shape, np.nan), np.zeros(shape[:2])
        for index, frame in enumerate(landmarks):
            if frame is not None:
                pixels[index], metres[index], visibility[index] = frame.pixels, frame.metres, frame.visibility
        return cls(pixels, metres, visibility, np.asarray(times, dtype=np.float64))

    @property
    def skeleton(self) -> npt.NDArray[np.float32]:
        """Joints (T, J, 3) named `SKELETON_JOINTS`, in metres: x to the right of the image, y up, z to the camera.

        The networks give positions from the hips; the path of the hips in the image plane is added, by one scale of
        metres a pixel for the video (the ratio of the trunk's median lengths in the image plane). NaN without a person.
        """
        hips, shoulders = ([INDEX[f"{side}_{joint}"] for side in ("left", "right")] for joint in ("hip", "shoulder"))
        centred = self.metres - self.metres[:, hips].mean(axis=1, keepdims=True)
        middle = self.pixels[:, hips].mean(axis=1)
        present = self.detected
        if not present.any():
            return np.full((len(self.times), len(SKELETON_JOINTS), 3), np.nan, dtype=np.float32)
        metres = np.linalg.norm(centred[present][:, shoulders, :2].mean(axis=1), axis=1)
        pixels = np.linalg.norm((self.pixels[:, shoulders].mean(axis=1) - middle)[present, :2], axis=1)
        path = (middle - middle[present][0]) * float(np.median(metres) / max(np.median(pixels), 1e-9))
        path[:, 2] = 0.0  # the distance to the camera is unknown
        joints = (centred + path[:, None])[:, [INDEX[name] for name in SKELETON_JOINTS.values()]]
        return (joints * [1.0, -1.0, -1.0]).astype(np.float32)

    def save(self, path: str | Path, **extra: str) -> None:
        """Write an ``.npz`` of the four arrays, float32, with further texts by name."""
        arrays: dict[str, Any] = {name: values.astype(np.float32) for name, values in vars(self).items()}
        arrays.update({name: np.array(text) for name, text in extra.items()})
        np.savez(path, **arrays)

    @classmethod
    def load(cls, path: str | Path) -> PoseSequence:
        """Read what `save` wrote.

        Raises:
            InputError: missing, damaged, or of other arrays.
        """
        return read_poses(path)[0]

    @property
    def detected(self) -> npt.NDArray[np.bool_]:
        """(T,) frames with a person."""
        return np.isfinite(self.pixels[:, 0, 0])

    def part(self, first: int, last: int) -> PoseSequence:
        """Frames ``first`` to ``last - 1`` as a sequence of its own, with times from its first frame."""
        pixels, metres, visibility, times = (values[first:last] for values in vars(self).values())
        return PoseSequence(pixels, metres, visibility, times - times[0])

    def bone_variation(self) -> dict[str, float]:
        """Standard deviation / mean of each bone's length in metres over the frames with a person; NaN without any."""
        metres = self.metres[self.detected]
        if not len(metres):
            return dict.fromkeys(BONES, float("nan"))
        lengths = {
            bone: np.linalg.norm(metres[:, end] - metres[:, start], axis=1) for bone, (start, end) in BONES.items()
        }
        return {bone: float(length.std() / max(length.mean(), 1e-9)) for bone, length in lengths.items()}

    def gated(self, gates: PoseGates | None = None) -> PoseSequence:
        """The sequence with NaN in each frame (or in all) that does not pass the gates."""
        gates = gates or PoseGates()
        hips = self.visibility[:, [INDEX["left_hip"], INDEX["right_hip"]]].max(axis=1)
        valid = self.detected & (hips >= gates.min_hip_visibility)
        accepted = self._select(valid)
        if valid.any() and np.median(list(accepted.bone_variation().values())) > gates.max_bone_variation:
            return self._select(np.zeros_like(valid))
        return accepted

    def _select(self, frames: npt.NDArray[np.bool_]) -> PoseSequence:
        mask = frames[:, None, None]
        return PoseSequence(
            np.where(mask, self.pixels, np.nan),
            np.where(mask, self.metres, np.nan),
            np.where(mask[:, 0], self.visibility, 0.0),
            self.times,
        )


def read_poses(path: str | Path) -> tuple[PoseSequence, dict[str, str]]:
    """A sequence that `PoseSequence.save` wrote, and the texts beside it.

    Raises:
        InputError: missing, damaged, or of other arrays.
    """
    names = [field.name for field in fields(PoseSequence)]
    with open_arrays(path, "not a file of poses") as arrays:
        values = {name: arrays[name].astype(np.float64) for name in names}
        texts = {name: str(arrays[name]) for name in arrays if name not in names}
    frames = len(values["times"])
    shapes = [(frames, len(LANDMARKS), 3)] * 2 + [(frames, len(LANDMARKS)), (frames,)]
    if [array.shape for array in values.values()] != shapes:
        raise InputError(f"{path}: not a file of poses (arrays of other shapes)")
    return PoseSequence(**values), texts
