"""Kinect skeletons: joints, landmarks and an adult body of Kinect v1 (20 joints) and v2 (25 joints)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from motiondiff.skeleton.skeleton import Skeleton


@dataclass(frozen=True)
class KinectJoints:
    """Joints of one sensor.

    Attributes:
        names: in order, a parent before its children.
        parents: index of each joint's parent, -1 for the root.
        shoulders: name of the joint between the shoulders.
        feet: names of the joints that touch the ground.
    """

    names: tuple[str, ...]
    parents: tuple[int, ...]
    shoulders: str
    feet: tuple[str, ...] = ("AnkleLeft", "AnkleRight", "FootLeft", "FootRight")

    @cached_property
    def ankles(self) -> list[int]:
        """Indices of both ankles."""
        return [self.names.index("AnkleLeft"), self.names.index("AnkleRight")]

    @cached_property
    def lowest(self) -> list[int]:
        """Indices of `feet`."""
        return [self.names.index(name) for name in self.feet]


KINECT_V1 = KinectJoints(
    (
        "HipCenter", "Spine", "ShoulderCenter", "Head",
        "ShoulderLeft", "ElbowLeft", "WristLeft", "HandLeft",
        "ShoulderRight", "ElbowRight", "WristRight", "HandRight",
        "HipLeft", "KneeLeft", "AnkleLeft", "FootLeft",
        "HipRight", "KneeRight", "AnkleRight", "FootRight",
    ),
    (-1, 0, 1, 2, 2, 4, 5, 6, 2, 8, 9, 10, 0, 12, 13, 14, 0, 16, 17, 18),
    "ShoulderCenter",
)  # fmt: skip
"""The 20 joints of the Kinect SDK 1.x, in its order."""
KINECT_V2_SENSOR_NAMES = (
    "SpineBase", "SpineMid", "Neck", "Head", *KINECT_V1.names[4:], "SpineShoulder",
    "HandTipLeft", "ThumbLeft", "HandTipRight", "ThumbRight",
)  # fmt: skip
"""The 25 joints of the Kinect SDK 2, in its order, which is the files' order."""
KINECT_V2_SENSOR_PARENTS = (-1, 0, 20, 2, 20, 4, 5, 6, 20, 8, 9, 10, 0, 12, 13, 14, 0, 16, 17, 18, 1, 7, 6, 11, 10)
"""Bone hierarchy of the SDK: thumbs leave the wrists, finger tips the hands."""
KINECT_V2_ORDER = (0, 1, 20, *range(2, 20), 21, 22, 23, 24)
"""Sensor index of each joint of `KINECT_V2`: `SpineShoulder` comes before its child, the neck."""
KINECT_V2 = KinectJoints(
    tuple(KINECT_V2_SENSOR_NAMES[joint] for joint in KINECT_V2_ORDER),
    tuple(
        -1 if KINECT_V2_SENSOR_PARENTS[joint] < 0 else KINECT_V2_ORDER.index(KINECT_V2_SENSOR_PARENTS[joint])
        for joint in KINECT_V2_ORDER
    ),
    "SpineShoulder",
)

# a standing adult of about 1.7 m: offset from the parent, metres, x left, y up, z front
_OFFSETS = {
    "Spine": (0.0, 0.07, 0.0), "ShoulderCenter": (0.0, 0.40, 0.0), "SpineMid": (0.0, 0.30, 0.0),
    "SpineShoulder": (0.0, 0.21, 0.0), "Neck": (0.0, 0.07, 0.0), "Shoulder": (0.17, -0.06, 0.0),
    "Elbow": (0.26, 0.0, 0.0), "Wrist": (0.24, 0.0, 0.0), "Hand": (0.08, 0.0, 0.0), "HandTip": (0.08, 0.0, 0.0),
    "Thumb": (0.04, 0.0, 0.04), "Knee": (0.0, -0.40, 0.0), "Ankle": (0.0, -0.38, 0.0), "Foot": (0.0, -0.05, 0.12),
}  # fmt: skip
_OFFSETS_V1 = {**_OFFSETS, "Head": (0.0, 0.20, 0.0), "Hip": (0.08, -0.07, 0.0)}
_OFFSETS_V2 = {**_OFFSETS, "Head": (0.0, 0.14, 0.0), "Hip": (0.08, -0.03, 0.0)}


def kinect_skeleton(joints: KinectJoints) -> Skeleton:
    """A standing adult of about 1.7 m with the joints of `KINECT_V1` or `KINECT_V2`."""
    table = _OFFSETS_V1 if joints is KINECT_V1 else _OFFSETS_V2
    offsets = [(0.0, 0.0, 0.0)]
    for name in joints.names[1:]:
        x, y, z = table[name.removesuffix("Left").removesuffix("Right")]
        offsets.append((-x if name.endswith("Right") else x, y, z))
    return Skeleton(joints.names, joints.parents, np.array(offsets, dtype=np.float32))
