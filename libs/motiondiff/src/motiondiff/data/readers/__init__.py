"""Readers of motion data: each turns one published format into `Motion`, in metres, y-up, right-handed.

``get_reader(name)`` gives a module with ``find_clips(folder)`` and ``read_clips(ref, fps)``; `read_or_reject` does the
second for any reference and never loses a clip without a reason. Nothing is imported before it is asked for.
"""

from __future__ import annotations

import importlib
from typing import Any, cast

from icube_common.errors import InputError, unknown
from motiondiff.data.readers.base import Clip, ClipRef, Reader, ReaderInfo, Rejection

FORMATS: dict[str, ReaderInfo] = {
    info.name: info
    for info in (
        ReaderInfo("bvh", "motiondiff.data.readers.bvh", "any BVH files: skeleton as found, no labels"),
        ReaderInfo(
            "bandai-namco",
            "motiondiff.data.readers.bandai_namco",
            "Bandai-Namco-Research-Motiondataset 1 and 2: BVH named dataset-<set>_<content>_<style>_<take>.bvh",
        ),
        ReaderInfo(
            "utkinect",
            "motiondiff.data.readers.utkinect",
            "UTKinect-Action3D: joints_sXX_eYY.txt and actionLabel.txt, Kinect v1 positions",
        ),
        ReaderInfo(
            "msr-action3d",
            "motiondiff.data.readers.msr_action3d",
            "MSR-Action3D: aXX_sYY_eZZ_skeleton3D.txt, Kinect v1 positions",
        ),
        ReaderInfo("npz", "motiondiff.data.readers.npz", "motiondiff's own .npz: rotations, or positions to be fitted"),
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


def read_or_reject(ref: ClipRef, fps: float | None = None, **options: Any) -> list[Clip | Rejection]:
    """The clips of a reference; a unit that cannot be read at all becomes one `Rejection`. Fit for a process pool."""
    try:
        return get_reader(ref.format).read_clips(ref, fps, **options)
    except InputError as error:
        return [Rejection(ref.clip_id, str(error))]


__all__ = ["FORMATS", "Clip", "ClipRef", "Reader", "ReaderInfo", "Rejection", "get_reader", "read_or_reject"]
