"""The pickle of PYSKL (Duan et al., ACM MM 2022), as its ``tools/data/README.md`` defines it.

A dictionary of ``split`` (name -> identifiers) and ``annotations``; each annotation has ``frame_dir`` (identifier),
``total_frames``, ``label`` and ``keypoint`` (persons, frames, joints, 3). ``img_shape``, ``original_shape`` and
``keypoint_score`` belong to 2D skeletons of images and are absent in 3D.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from pathlib import Path

import numpy as np

from icube_common.io.runs import atomic_file
from motiondiff.data.clips import ClipSet
from motiondiff.data.store import SPLITS
from motiondiff.export.datasets.class_names import SPLIT_NAMES, class_names_file, write_class_names


def write_pyskl(clips: ClipSet, path: str | Path) -> None:
    """Write ``set.pkl`` and ``set.pkl.classes.txt``; keypoints are float32 metres in the common frame, one person."""
    content = {
        "split": {
            SPLIT_NAMES[split]: [
                name for name, clip_split in zip(clips.ids, clips.splits, strict=True) if clip_split == split
            ]
            for split in SPLITS
        },
        "annotations": [
            {
                "frame_dir": name,
                "total_frames": len(positions),
                "label": int(label),
                "keypoint": np.ascontiguousarray(positions, dtype=np.float32)[None],
            }
            for name, positions, label in zip(clips.ids, clips.positions, clips.labels, strict=True)
        ],
    }
    with atomic_file(path) as temporary:
        temporary.write_bytes(_for_old_numpy(pickle.dumps(content, protocol=3)))
    write_class_names(class_names_file(path), clips.class_names)


def _for_old_numpy(data: bytes) -> bytes:
    """Replace NumPy 2's module names in a pickle by those of NumPy 1, which PYSKL needs and NumPy 2 also reads."""
    old, new = b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n"
    out, done = io.BytesIO(), 0
    for operation, argument, position in pickletools.genops(data):
        if operation.name == "GLOBAL" and str(argument).startswith("numpy._core.multiarray "):
            assert position is not None and data.startswith(old, position)
            out.write(data[done:position] + new)
            done = position + len(old)
    out.write(data[done:])
    return out.getvalue()
