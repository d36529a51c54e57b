"""The ``.npz`` that CTR-GCN (Chen et al., ICCV 2021) reads, as its ``data/ntu/seq_transformation.py`` writes it.

``x_train`` and ``x_test`` (N, T, 2 * J * 3) float32: two persons one after the other, the second of zeros where there
is one; metres from the first frame's joint 1 (the middle of the spine in the Kinect's orders); frames after a clip's
end are zeros. ``y_train`` and ``y_test`` (N, C) one-hot. T is the longest clip's length (300 in NTU's own files).
CTR-GCN's feeder has NTU's 25 joints written into its reshape: for another skeleton put its number of joints there.
A validation split, which the format does not have, becomes ``x_val`` and ``y_val``. The ids are in ``id_*``.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
from einops import rearrange

from icube_common.errors import InputError
from icube_common.io.runs import atomic_file
from motiondiff.data.store import SPLITS
from motiondiff.export.datasets.labelled_clips import (
    Array,
    LabelledClips,
    class_names_file,
    read_class_names,
    write_class_names,
)

CENTER_JOINT = 1
SPLIT_KEYS = {"train": "train", "validation": "val", "test": "test"}


def center_on_joint(positions: Array) -> Array:
    """(T, J, 3) metres from where joint `CENTER_JOINT` is in the first frame; the root, for a skeleton of one joint."""
    return np.asarray(positions - positions[0, min(CENTER_JOINT, positions.shape[1] - 1)], dtype=np.float32)


def write_ctr_gcn(clips: LabelledClips, path: str | Path) -> None:
    """Write ``set.npz`` and ``set.npz.classes.txt``."""
    longest = max(map(len, clips.positions))
    arrays: dict[str, np.ndarray] = {}
    for split in SPLITS:
        rows = [row for row, own in enumerate(clips.splits) if own == split]
        if split == "validation" and not rows:
            continue
        x = np.zeros((len(rows), longest, 2 * clips.joints * 3), dtype=np.float32)
        y = np.zeros((len(rows), len(clips.class_names)), dtype=np.float32)
        for number, row in enumerate(rows):
            flat = rearrange(center_on_joint(clips.positions[row]), "frames joints axes -> frames (joints axes)")
            x[number, : len(flat), : clips.joints * 3] = flat
            y[number, clips.labels[row]] = 1
        key = SPLIT_KEYS[split]
        arrays |= {f"x_{key}": x, f"y_{key}": y, f"id_{key}": np.array([clips.ids[row] for row in rows], dtype=np.str_)}
    with atomic_file(path) as temporary, temporary.open("wb") as handle:
        np.savez(handle, **arrays)  # type: ignore[arg-type]  # NumPy's stub takes them for allow_pickle
    write_class_names(class_names_file(path), clips.class_names)


def read_ctr_gcn(path: str | Path) -> LabelledClips:
    """Read a file of `write_ctr_gcn`: centred positions, a clip ends with its last frame that is not zero.

    Raises:
        InputError: not readable, or not of this format.
    """
    try:
        # a handle of our own: given a name, NumPy leaves a broken archive open
        with Path(path).open("rb") as handle, np.load(handle, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        ids, positions, labels, splits = [], [], [], []
        for split, key in SPLIT_KEYS.items():
            if split == "validation" and f"x_{key}" not in arrays:
                continue
            x, y = arrays[f"x_{key}"], arrays[f"y_{key}"]
            if x.ndim != 3 or x.shape[2] % 6 or y.ndim != 2 or len(x) != len(y):
                raise InputError(f"{path}: x_{key} {x.shape} and y_{key} {y.shape}: (N, T, 2 J 3) and (N, C) wanted")
            if not (y.sum(axis=1) == 1).all():
                raise InputError(f"{path}: y_{key}: a row is not one-hot")
            for name, frames, label in zip(arrays[f"id_{key}"].tolist(), x, y.argmax(axis=1).tolist(), strict=True):
                first = rearrange(frames, "t (persons joints axes) -> persons t joints axes", persons=2, axes=3)[0]
                used = np.flatnonzero(first.any(axis=(1, 2)))
                ids.append(str(name))
                positions.append(first[: used[-1] + 1] if len(used) else first[:0])
                labels.append(int(label))
                splits.append(split)
    except InputError:
        raise
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: is not a readable set of CTR-GCN ({error})") from error
    return LabelledClips(
        ids=tuple(ids),
        positions=tuple(positions),
        labels=tuple(labels),
        class_names=read_class_names(class_names_file(path)),
        splits=tuple(splits),
        subjects=(None,) * len(ids),
    )
