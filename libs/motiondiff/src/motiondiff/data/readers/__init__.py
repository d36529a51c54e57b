"""Readers of motion data: each turns one published format into `Motion`, in metres, y-up, right-handed.

``get_reader(name)`` gives a module with ``find_clips(folder)`` and ``read_clips(ref, fps)``; `read_or_reject` does the
second for any reference and never loses a clip without a reason. Nothing is imported before it is asked for.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, cast

from icube_common.errors import InputError, unknown
from motiondiff.data.readers.base import Clip, ClipRef, Reader, ReaderInfo, Rejection, make_rejection

FORMATS: dict[str, ReaderInfo] = {
    info.name: info
    for info in (
        ReaderInfo(
            "bvh", "motiondiff.data.readers.bvh.reader", "any BVH files: skeleton as found, no labels", single_file=True
        ),
        ReaderInfo(
            "bandai-namco",
            "motiondiff.data.readers.bvh.bandai_namco",
            "Bandai-Namco-Research-Motiondataset 1 and 2: BVH named dataset-<set>_<content>_<style>_<take>.bvh",
            single_file=True,
        ),
        ReaderInfo(
            "utkinect",
            "motiondiff.data.readers.kinect.utkinect",
            "UTKinect-Action3D: joints_sXX_eYY.txt and actionLabel.txt, Kinect v1 positions",
        ),
        ReaderInfo(
            "msr-action3d",
            "motiondiff.data.readers.kinect.msr_action3d",
            "MSR-Action3D: aXX_sYY_eZZ_skeleton3D.txt, Kinect v1 positions",
        ),
        ReaderInfo(
            "ntu-rgbd",
            "motiondiff.data.readers.kinect.ntu_rgbd",
            "NTU RGB+D 60 and 120: SsssCcccPpppRrrrAaaa.skeleton, Kinect v2 positions of one or two bodies",
        ),
        ReaderInfo(
            "etri",
            "motiondiff.data.readers.kinect.etri",
            "ETRI-Activity3D: Aaaa_Pppp_Gggg_Cccc.csv, Kinect v2 positions",
        ),
        ReaderInfo(
            "pku-mmd",
            "motiondiff.data.readers.kinect.pku_mmd",
            "PKU-MMD 1 and 2: skeleton files and label files with ranges of frames, Kinect v2 positions",
        ),
        ReaderInfo(
            "uestc",
            "motiondiff.data.readers.kinect.uestc",
            "UESTC RGB-D: aA_dD_pPPP_cC_skeleton.txt or .mat, Kinect v2 positions",
        ),
        ReaderInfo(
            "humanact12", "motiondiff.data.readers.smpl.humanact12", "HumanAct12: humanact12poses.pkl, SMPL rotations"
        ),
        ReaderInfo(
            "humanml3d",
            "motiondiff.data.readers.smpl.humanml3d",
            "HumanML3D: new_joints or new_joint_vecs, and texts; SMPL positions",
            single_file=True,
        ),
        ReaderInfo(
            "amass",
            "motiondiff.data.readers.smpl.amass",
            "AMASS: *_poses.npz, and BABEL's JSON labels; SMPL rotations",
            single_file=True,
        ),
        ReaderInfo(
            "florence3d",
            "motiondiff.data.readers.kinect.florence3d",
            "Florence 3D Actions: Florence_dataset_WorldCoordinates.txt, Kinect positions",
        ),
        ReaderInfo(
            "npy",
            "motiondiff.data.readers.smpl.npy",
            "joints or vectors of text-to-motion models and sets (HumanML3D, KIT-ML, MoMask), results.npy of MDM",
            single_file=True,
        ),
        ReaderInfo(
            "npz",
            "motiondiff.data.readers.npz",
            "motiondiff's own .npz: rotations, or positions to be fitted",
            single_file=True,
        ),
    )
}


def get_reader(name: str) -> Reader:
    """The reader of a format, imported now.

    Raises:
        InputError: no such format; the nearest name is given.
    """
    if name not in FORMATS:
        raise unknown("format", name, FORMATS)
    return cast(Reader, importlib.import_module(FORMATS[name].module))


def check_conventions(name: str, given: Mapping[str, Any]) -> None:
    """InputError where up axis, unit or frame rate are given for a format that fixes them.

    Args:
        name: of the format.
        given: ``up``, ``unit`` and ``source_fps``; ``auto`` and None are not given.
    """
    if hasattr(get_reader(name), "choose_conventions"):
        return
    for option, value in given.items():
        if value not in ("auto", None):
            raise InputError(
                f"--{option.replace('_', '-')} {value}: the format {name} fixes up axis, unit and frame rate"
            )


def read_or_reject(ref: ClipRef, fps: float | None = None, **options: Any) -> list[Clip | Rejection]:
    """The clips of a reference; a unit that cannot be read at all becomes one `Rejection`. Fit for a process pool."""
    try:
        return get_reader(ref.format).read_clips(ref, fps, **{**ref.options, **options})
    except Exception as error:  # one bad file must not end the folder, whatever it raises
        return [make_rejection(ref.clip_id, error, ref.files[0])]


__all__ = [
    "FORMATS",
    "Clip",
    "ClipRef",
    "Reader",
    "ReaderInfo",
    "Rejection",
    "check_conventions",
    "get_reader",
    "make_rejection",
    "read_or_reject",
]
