"""Bodies by name or from a file: the target of retargeting, and bone lengths for sampling."""

from __future__ import annotations

from pathlib import Path

from icube_common.config import read_yaml
from icube_common.errors import InputError, unknown
from motiondiff.data.readers.motion_file import read_motion
from motiondiff.skeleton.joint_matching import REQUIRED_ROLES
from motiondiff.skeleton.kinect import KINECT_V1, KINECT_V2, kinect_skeleton
from motiondiff.skeleton.skeleton import Skeleton
from motiondiff.skeleton.smpl import mean_skeleton


def load_body_shape(path: str | Path, mean: Skeleton) -> Skeleton:
    """Body shape of a user: the model's skeleton with the bone lengths of a file.

    Args:
        path: YAML or JSON with ``scale: 1.05`` (of all bones) and/or ``bone_lengths: {Spine: 0.16, ...}`` (metres, by
            joint; other bones keep their length), or a motion file (.npz, .bvh) with the same joints.
        mean: mean training body of the model, for topology and directions.

    Raises:
        InputError: missing or unreadable file, an unknown joint (the nearest is given) or the root, a length that is
            not positive.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"--shape {path}: no such file")
    if path.suffix.lower() in (".npz", ".bvh"):
        return _from_motion(path, mean)
    content = read_yaml(path, option="--shape")
    if not content or set(content) - {"scale", "bone_lengths"}:
        raise InputError(f"--shape {path}: `scale:` and/or `bone_lengths:` (metres by joint name) expected")
    lengths = mean.bone_lengths * _positive(path, "scale", content.get("scale", 1.0))
    named = content.get("bone_lengths") or {}
    if not isinstance(named, dict):
        raise InputError(f"--shape {path}: bone_lengths must map joint names to metres")
    for name, length in named.items():
        joint = mean.index(str(name))
        if joint == 0:
            raise InputError(f"--shape {path}: {name} is the root, which has no bone")
        lengths[joint] = _positive(path, str(name), length)
    return mean.with_bone_lengths(lengths)


def _positive(path: Path, name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 100:
        raise InputError(f"--shape {path}: {name}: {value!r} must be a positive number")
    return float(value)


def _from_motion(path: Path, mean: Skeleton) -> Skeleton:
    skeleton = read_motion(path).skeleton
    missing = set(mean.names) - set(skeleton.names)
    if missing:
        raise InputError(f"--shape {path}: has no joint {sorted(missing)[0]!r}, which the model's body has")
    lengths = [skeleton.bone_lengths[skeleton.index(name)] for name in mean.names]
    return mean.with_bone_lengths(lengths)


def target_skeleton(name: str | Path) -> Skeleton:
    """Target skeleton of retargeting.

    Args:
        name: ``kinect-v1``, ``kinect-v2`` (bodies of about 1.7 m), ``smpl-22`` (the mean body), or a motion file (.npz,
            .bvh).

    Raises:
        InputError: another name, or a file that cannot be read.
    """
    bodies = {
        "kinect-v1": lambda: kinect_skeleton(KINECT_V1),
        "kinect-v2": lambda: kinect_skeleton(KINECT_V2),
        "smpl-22": lambda: mean_skeleton(22),
    }
    if str(name) in bodies:
        return bodies[str(name)]()
    path = Path(name)
    if path.suffix.lower() not in (".npz", ".bvh"):
        raise unknown("skeleton", str(name), [*bodies, "a .npz or .bvh file"])
    if not path.is_file():
        raise InputError(f"skeleton {path}: no such file")
    skeleton = read_motion(path).skeleton
    missing = [role for role in REQUIRED_ROLES if role not in skeleton.roles]
    if missing:
        raise InputError(f"skeleton {path}: no joint is its {missing[0]} by name (has {', '.join(skeleton.names)})")
    return skeleton
