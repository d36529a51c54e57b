"""Skeletons of a prepared set by their source: recorded with the set, estimated from the videos, or both side by side.

``actprompt pose`` estimates them. Both sources of one clip are brought to the moments of the longer sequence.

Shapes: T frames, J joints, 3 coordinates; P named parameters.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from actprompt.data.manifest import Clip, Manifest
from actprompt.data.pose.estimate import POSE_JOINTS, PoseFolder
from actprompt.skeleton.features import Parameters, named_parameters, parameter_table
from actprompt.skeleton.trajectory_ops import resample
from icube_common.errors import InputError
from icube_common.tabular import TabularData

Joints = npt.NDArray[np.float32]


@dataclass(frozen=True)
class SkeletonSource:
    """Skeletons and named parameters of a set from one source.

    Attributes:
        manifest: the set.
        name: "recorded", "pose" or "both".
    """

    manifest: Manifest
    name: str

    @classmethod
    def choose(cls, manifest: Manifest, name: str) -> SkeletonSource:
        """A source by name; "auto" is the recorded skeletons where the set has some, else the estimated ones.

        Raises:
            InputError: the set has no skeletons of this source.
        """
        recorded = "skeleton" in manifest.description or "parameters" in manifest.description
        estimated = PoseFolder(manifest).exists
        if name == "auto":
            name = "recorded" if recorded or not estimated else "pose"
        if name in ("recorded", "both") and not recorded:
            remedy = "set skeleton.source=pose" if estimated else f"run `actprompt pose --data {manifest.folder}`"
            raise InputError(f"{manifest.folder}: no recorded skeletons; {remedy}, or set skeleton.enabled=false")
        if name in ("pose", "both") and not estimated:
            raise InputError(f"{manifest.folder}: no poses; run `actprompt pose --data {manifest.folder}`")
        return cls(manifest, name)

    @property
    def joint_names(self) -> tuple[str, ...]:
        """The J joints."""
        recorded = () if self.name == "pose" else self.manifest.joint_names()
        return recorded if self.name == "recorded" else (*recorded, *POSE_JOINTS)

    def skeleton(self, clip: Clip) -> Joints:
        """Joints (T, J, 3), NaN where not tracked; T = 0 for a clip without skeleton.

        Raises:
            InputError: a damaged file, or one of other joints.
        """
        recorded = None if self.name == "pose" else self.manifest.skeleton(clip)
        poses = None if self.name == "recorded" else PoseFolder(self.manifest).skeleton(clip)
        parts = [
            (None if part is None else part[0], len(names))
            for part, names in ((recorded, self._recorded_names), (poses, POSE_JOINTS))
        ]
        if self.name != "both":
            joints, width = parts[0] if self.name == "recorded" else parts[1]
            joints = np.zeros((0, width, 3), dtype=np.float32) if joints is None else joints
            if joints.shape[1] != width:
                folder = self.manifest.folder
                raise InputError(f"{folder}: skeleton of {clip.id}: {joints.shape[1]} joints, {width} named")
            return joints
        return join_skeletons(parts)

    @property
    def _recorded_names(self) -> tuple[str, ...]:
        return () if self.name == "pose" else self.manifest.joint_names()

    def parameters(self) -> TabularData:
        """Named parameters, one row a clip; recorded ones where the set has some, else measured from the poses.

        Raises:
            InputError: the set has none.
        """
        if self.name != "pose":
            return self.manifest.parameters()
        return pose_parameters(self.manifest)


def join_skeletons(parts: list[tuple[Joints | None, int]]) -> Joints:
    """Sequences of one clip side by side (T, J, 3), at the moments of the longest; absent ones (None, J) are NaN."""
    frames = max((len(joints) for joints, _ in parts if joints is not None), default=0)
    if not frames:
        return np.zeros((0, sum(width for _, width in parts), 3), dtype=np.float32)
    columns = [
        np.full((frames, width, 3), np.nan) if joints is None or not len(joints) else resample(joints, frames)
        for joints, width in parts
    ]
    return np.concatenate(columns, axis=1).astype(np.float32)


def pose_parameters(manifest: Manifest) -> TabularData:
    """Named parameters of the poses of a set's clips; NaN for a clip without a person.

    Raises:
        InputError: no clip has a person.
    """
    folder = PoseFolder(manifest)
    rows: list[Parameters | None] = []
    for clip in manifest.clips:
        skeleton = folder.skeleton(clip)
        rows.append(None if skeleton is None else named_parameters(skeleton[0], POSE_JOINTS, clip.duration))
    example = next((row for row in rows if row is not None), None)
    if example is None:
        raise InputError(f"{manifest.folder}: no person was found in any of its videos")
    absent = {name: (float("nan"), unit) for name, (_, unit) in example.items()}
    return parameter_table([clip.id for clip in manifest.clips], [row or absent for row in rows])
