"""Readers of motion data: each turns one published format into `Motion`, in metres, y-up, right-handed.

``get_reader(name)`` gives a module with ``find_clips(folder)`` and ``read_clips(ref, fps)``, imported on demand;
`read_or_reject` calls the second for any reference and returns a rejection with a reason for what cannot be read.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, cast

from icube_common.errors import InputError, unknown
from motiondiff.data.readers.base import Clip, ClipRef, Reader, ReaderInfo, Rejection, make_rejection

_SINGLE_FILE = ("bvh", "bandai-namco", "humanml3d", "amass", "npy", "npz")
FORMATS: dict[str, ReaderInfo] = {
    name: ReaderInfo(name, module, description, single_file=name in _SINGLE_FILE)
    for name, module, description in (
        ("bvh", "bvh.reader", "any BVH files: skeleton as found, no labels"),
        (
            "bandai-namco", "bvh.bandai_namco",
            "Bandai-Namco-Research-Motiondataset 1 and 2: BVH named dataset-<set>_<content>_<style>_<take>.bvh",
        ),
        (
            "utkinect", "kinect.utkinect",
            "UTKinect-Action3D: joints_sXX_eYY.txt and actionLabel.txt, Kinect v1 positions",
        ),
        ("msr-action3d", "kinect.msr_action3d", "MSR-Action3D: aXX_sYY_eZZ_skeleton3D.txt, Kinect v1 positions"),
        (
            "ntu-rgbd", "kinect.ntu_rgbd",
            "NTU RGB+D 60 and 120: SsssCcccPpppRrrrAaaa.skeleton, Kinect v2 positions of one or two bodies",
        ),
        ("etri", "kinect.etri", "ETRI-Activity3D: Aaaa_Pppp_Gggg_Cccc.csv, Kinect v2 positions"),
        (
            "pku-mmd", "kinect.pku_mmd",
            "PKU-MMD 1 and 2: skeleton files and label files with ranges of frames, Kinect v2 positions",
        ),
        ("uestc", "kinect.uestc", "UESTC RGB-D: aA_dD_pPPP_cC_skeleton.txt or .mat, Kinect v2 positions"),
        ("humanact12", "smpl.humanact12", "HumanAct12: humanact12poses.pkl, SMPL rotations"),
        ("humanml3d", "smpl.humanml3d", "HumanML3D: new_joints or new_joint_vecs, and texts; SMPL positions"),
        ("amass", "smpl.amass", "AMASS: *_poses.npz, and BABEL's JSON labels; SMPL rotations"),
        (
            "florence3d", "kinect.florence3d",
            "Florence 3D Actions: Florence_dataset_WorldCoordinates.txt, Kinect positions",
        ),
        (
            "npy", "smpl.npy",
            "joints or vectors of text-to-motion models and sets (HumanML3D, KIT-ML, MoMask), results.npy of MDM",
        ),
        ("npz", "npz", "motiondiff's own .npz: rotations, or positions to be fitted"),
    )
}  # fmt: skip


def get_reader(name: str) -> Reader:
    """Import the reader of a format.

    Raises:
        InputError: no such format; the nearest name is given.
    """
    if name not in FORMATS:
        raise unknown("format", name, FORMATS)
    return cast(Reader, importlib.import_module(f"{__name__}.{FORMATS[name].module}"))


def check_conventions(name: str, conventions: Mapping[str, Any]) -> None:
    """Raise InputError for an up axis, unit or frame rate of a format that fixes them.

    Args:
        name: the format.
        conventions: ``up``, ``unit`` and ``source_fps``; ``auto`` and None are unset.
    """
    if hasattr(get_reader(name), "choose_conventions"):
        return
    for option, value in conventions.items():
        if value not in ("auto", None):
            raise InputError(
                f"--{option.replace('_', '-')} {value}: the format {name} fixes up axis, unit and frame rate"
            )


def read_or_reject(ref: ClipRef, fps: float | None = None, **options: Any) -> list[Clip | Rejection]:
    """Clips of a reference, or one `Rejection` of an unreadable unit; for use in a process pool."""
    try:
        return get_reader(ref.format).read_clips(ref, fps, **{**ref.options, **options})
    except Exception as error:  # one bad file does not stop the folder
        return [make_rejection(ref.clip_id, error, ref.files[0])]
