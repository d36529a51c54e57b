"""The 33 landmarks of BlazePose: names, connections, and the bones of a body.

Source: Bazarevsky et al. 2020, *BlazePose: On-device Real-time Body Pose tracking* (arXiv:2006.10204), figure 3, and
the model card "BlazePose GHUM 3D" for the order.
"""

from __future__ import annotations

LANDMARKS = (
    "nose", "left_eye_inner", "left_eye", "left_eye_outer", "right_eye_inner", "right_eye", "right_eye_outer",
    "left_ear", "right_ear", "mouth_left", "mouth_right", "left_shoulder", "right_shoulder", "left_elbow",
    "right_elbow", "left_wrist", "right_wrist", "left_pinky", "right_pinky", "left_index", "right_index",
    "left_thumb", "right_thumb", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle",
    "left_heel", "right_heel", "left_foot_index", "right_foot_index",
)  # fmt: skip
"""Names of the 33 landmarks, in the order of the network's output."""

INDEX = {name: index for index, name in enumerate(LANDMARKS)}

CONNECTIONS = tuple(
    (INDEX[first], INDEX[second])
    for first, second in (
        ("left_ear", "left_eye"), ("left_eye", "nose"), ("nose", "right_eye"), ("right_eye", "right_ear"),
        ("mouth_left", "mouth_right"), ("left_shoulder", "right_shoulder"), ("left_shoulder", "left_elbow"),
        ("left_elbow", "left_wrist"), ("left_wrist", "left_index"), ("left_wrist", "left_thumb"),
        ("right_shoulder", "right_elbow"), ("right_elbow", "right_wrist"), ("right_wrist", "right_index"),
        ("right_wrist", "right_thumb"), ("left_shoulder", "left_hip"), ("right_shoulder", "right_hip"),
        ("left_hip", "right_hip"), ("left_hip", "left_knee"), ("left_knee", "left_ankle"),
        ("left_ankle", "left_foot_index"), ("right_hip", "right_knee"), ("right_knee", "right_ankle"),
        ("right_ankle", "right_foot_index"),
    )
)  # fmt: skip
"""Pairs of landmarks to draw a line between."""

BONES = {
    f"{side} {bone}": (INDEX[f"{side}_{start}"], INDEX[f"{side}_{end}"])
    for side in ("left", "right")
    for bone, start, end in (
        ("upper arm", "shoulder", "elbow"),
        ("forearm", "elbow", "wrist"),
        ("thigh", "hip", "knee"),
        ("shin", "knee", "ankle"),
    )
}
"""Bones of the limbs -> their two landmarks."""

SKELETON_JOINTS = {
    "head": "nose",
    **{
        f"{side}_{joint}": f"{side}_{landmark}"
        for side in ("left", "right")
        for joint, landmark in (
            ("shoulder", "shoulder"), ("elbow", "elbow"), ("wrist", "wrist"), ("hand", "index"),
            ("hip", "hip"), ("knee", "knee"), ("ankle", "ankle"), ("foot", "foot_index"),
        )
    },
}  # fmt: skip
"""Joints of a skeleton -> their landmarks."""
