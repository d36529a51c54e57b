"""The ``.npz`` that CTR-GCN (Chen et al., ICCV 2021) reads, as its ``data/ntu/seq_transformation.py`` writes it.

``x_train`` and ``x_test`` (N, T, 2 * J * 3) float32: two persons one after the other, the second of zeros where there
is one; metres from the first frame's joint 1 (the middle of the spine in the Kinect's orders); frames after a clip's
end are zeros. ``y_train`` and ``y_test`` (N, C) one-hot. T is the longest clip's length (300 in NTU's own files).
CTR-GCN's feeder has NTU's 25 joints written into its reshape: for another skeleton put its number of joints there.
A validation split, which the format does not have, becomes ``x_val`` and ``y_val``. The ids are in ``id_*``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from einops import rearrange

from icube_common.io.runs import atomic_file
from motiondiff.data.clips import Array, ClipSet
from motiondiff.data.store import SPLITS
from motiondiff.export.datasets.class_names import SPLIT_NAMES, class_names_file, write_class_names

CENTER_JOINT = 1


def center_on_joint(positions: Array) -> Array:
    """(T, J, 3) metres from where joint `CENTER_JOINT` is in the first frame; the root, for a skeleton of one joint."""
    return np.asarray(positions - positions[0, min(CENTER_JOINT, positions.shape[1] - 1)], dtype=np.float32)


def write_ctr_gcn(clips: ClipSet, path: str | Path) -> None:
    """Write ``set.npz`` and ``set.npz.classes.txt``."""
    joints = len(clips.skeleton)
    longest = max(map(len, clips.positions))
    arrays: dict[str, np.ndarray] = {}
    for split in SPLITS:
        rows = [row for row, clip_split in enumerate(clips.splits) if clip_split == split]
        if split == "validation" and not rows:
            continue
        x = np.zeros((len(rows), longest, 2 * joints * 3), dtype=np.float32)
        y = np.zeros((len(rows), len(clips.class_names)), dtype=np.float32)
        for number, row in enumerate(rows):
            flat = rearrange(center_on_joint(clips.positions[row]), "frames joints axes -> frames (joints axes)")
            x[number, : len(flat), : joints * 3] = flat
            y[number, clips.labels[row]] = 1
        key = SPLIT_NAMES[split]
        arrays |= {f"x_{key}": x, f"y_{key}": y, f"id_{key}": np.array([clips.ids[row] for row in rows], dtype=np.str_)}
    with atomic_file(path) as temporary, temporary.open("wb") as handle:
        np.savez(handle, **arrays)  # type: ignore[arg-type]  # NumPy's stub takes them for allow_pickle
    write_class_names(class_names_file(path), clips.class_names)
