"""Residuals of inverse kinematics: distance of a fitted skeleton from the joints recorded by a Kinect.

    python benchmarks/motiondiff_fit_residuals.py utkinect=DIR msr-action3d=DIR

For each set (one of utkinect, msr-action3d; DIR is its folder), over all clips, frames and joints, at the reader's own
frame rate (15 fps; UTKinect's recordings are interpolated in time to get there, MSR-Action3D's only where frames are
lost):

- ``distance_mm``: between a recorded joint and forward kinematics of the clip's rotations on the subject's skeleton,
  one for all of the subject's clips;
- ``recorded_bones_mm``: how far recorded bone lengths are from the subject's median: what constant bones cannot follow;
- ``fitted_bones_drift_mm``: the largest change of any bone's length within one clip, taken from the fitted positions:
  0 but for rounding.
"""

from __future__ import annotations

import argparse
import json
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from icube_common.errors import unknown
from motiondiff.data.readers import FORMATS
from motiondiff.data.readers.kinect.positions import fit_subject
from motiondiff.skeleton.kinect import KINECT_V1

SETS = ("utkinect", "msr-action3d")
WORST_JOINTS = 4


def bone_lengths(positions: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """(T, J - 1) metres of (T, J, 3) positions."""
    return np.asarray(np.linalg.norm(positions[:, 1:] - positions[:, KINECT_V1.parents[1:]], axis=-1), dtype=np.float64)


def spread(metres: npt.NDArray[np.float64]) -> dict[str, float]:
    """Mean and 95th percentile in millimetres."""
    return {"mean": round(float(metres.mean()) * 1000, 1), "p95": round(float(np.percentile(metres, 95)) * 1000, 1)}


def measure(name: str, folder: Path) -> dict[str, Any]:
    """Residuals of one data set."""
    reader = import_module(FORMATS[name].module)
    distances, noise, drift, clip_means, rejected = [], [], [], [], 0
    for reference in reader.find_clips(folder):
        recorded, refused = reader.read_recorded(reference)
        rejected += len(refused)
        if not recorded:
            continue
        lengths = np.concatenate([bone_lengths(clip.positions) for clip in recorded])
        noise.append(np.abs(lengths - np.median(lengths, axis=0)))
        for clip, fitted in zip(recorded, fit_subject(recorded), strict=True):
            distance = np.linalg.norm(clip.positions - fitted.motion.positions, axis=-1)
            distances.append(distance)
            clip_means.append(distance.mean())
            drift.append(np.ptp(bone_lengths(fitted.motion.positions), axis=0).max())
    every = np.concatenate(distances)
    joints = reader.kinect.NAMES
    worst = np.argsort(every.mean(axis=0))[::-1][:WORST_JOINTS]
    return {
        "clips": len(distances),
        "rejected": rejected,
        "frames": len(every),
        "distance_mm": spread(every),
        "worst_clip_mean_mm": round(float(max(clip_means)) * 1000, 1),
        "worst_joints_mean_mm": {joints[joint]: round(float(every[:, joint].mean()) * 1000, 1) for joint in worst},
        "recorded_bones_mm": spread(np.concatenate(noise)),
        "fitted_bones_drift_mm": round(float(max(drift)) * 1000, 4),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="+", metavar="SET=DIR", help=f"SET is one of: {', '.join(SETS)}")
    figures = {}
    for word in parser.parse_args().sets:
        chosen, _, place = word.partition("=")
        if chosen not in SETS:
            raise SystemExit(str(unknown("set", chosen, SETS)))
        figures[chosen] = measure(chosen, Path(place))
    print(json.dumps(figures, indent=2))
