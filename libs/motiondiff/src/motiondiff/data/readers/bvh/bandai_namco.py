"""Bandai-Namco-Research-Motiondataset 1 and 2 (CC BY-NC 4.0): BVH in centimetres, labels in the file name.

``dataset-1_walk-back_feminine_001.bvh`` is set, content (the action), style and take. The
set has no subjects.
"""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from pathlib import Path

from icube_common.errors import InputError
from motiondiff.data.readers.base import Clip, ClipRef, Rejection, file_references, resample
from motiondiff.data.readers.bvh.coordinates import Coordinates, fps_warning
from motiondiff.data.readers.bvh.parse import parse_bvh
from motiondiff.data.readers.bvh.reader import RigConventions, to_motion

logger = logging.getLogger(__name__)

_RIG = RigConventions("Hips", Coordinates("y", 0.01))
_NAME = re.compile(r"dataset-(?P<set>\d+)_(?P<content>[^_]+)_(?P<style>[^_]+)_(?P<take>\d+)\.bvh", re.IGNORECASE)


def find_clips(folder: Path) -> list[ClipRef]:
    """One reference per .bvh file below a folder, also with other names, which reading rejects."""
    return file_references("bandai-namco", folder, ".bvh", "motion files (dataset-<set>_<content>_<style>_<take>.bvh)")


def read_clips(ref: ClipRef, fps: float | None = None) -> list[Clip | Rejection]:
    """The one clip of a file: `joint_Root`, a world frame, is left out: 21 joints from `Hips`."""
    path = ref.files[0]
    name = _NAME.fullmatch(path.name)
    if name is None:
        raise InputError(
            f"{path}: the name contains no action; expected dataset-<set>_<content>_<style>_<take>.bvh "
            "(read it as format bvh, or rename it)"
        )
    table = parse_bvh(path)
    for warning in (*table.warnings, fps_warning(1 / table.frame_time)):
        if warning:
            logger.warning("%s: %s", path, warning)
    motion = replace(to_motion(table, _RIG, path), action=name["content"], style=name["style"])
    return [Clip(ref.clip_id, resample(motion, fps))]
