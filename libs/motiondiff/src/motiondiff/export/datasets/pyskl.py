"""The pickle of PYSKL (Duan et al., ACM MM 2022), as its ``tools/data/README.md`` defines it.

A dictionary of ``split`` (name -> identifiers) and ``annotations``; each annotation has ``frame_dir`` (identifier),
``total_frames``, ``label`` and ``keypoint`` (persons, frames, joints, 3). ``img_shape``, ``original_shape`` and
``keypoint_score`` belong to 2D skeletons of images and are absent in 3D.

Reading executes nothing: only plain containers and numeric NumPy arrays are built, anything else is refused.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from pathlib import Path

import numpy as np

from icube_common.errors import InputError
from icube_common.io.runs import atomic_file
from motiondiff.data.readers.pickles import load_restricted
from motiondiff.data.store import SPLITS
from motiondiff.export.datasets.labelled_clips import (
    LabelledClips,
    class_names_file,
    read_class_names,
    write_class_names,
)

# the splits under the names that PYSKL's configurations use
SPLIT_NAMES = {"train": "train", "validation": "val", "test": "test"}


def write_pyskl(clips: LabelledClips, path: str | Path) -> None:
    """Write ``set.pkl`` and ``set.pkl.classes.txt``; keypoints are float32 metres in the common frame, one person."""
    content = {
        "split": {
            SPLIT_NAMES[split]: [name for name, own in zip(clips.ids, clips.splits, strict=True) if own == split]
            for split in SPLITS
        },
        "annotations": [
            {
                "frame_dir": name,
                "total_frames": len(positions),
                "label": label,
                "keypoint": np.ascontiguousarray(positions, dtype=np.float32)[None],
            }
            for name, positions, label in zip(clips.ids, clips.positions, clips.labels, strict=True)
        ],
    }
    with atomic_file(path) as temporary:
        temporary.write_bytes(_for_old_numpy(pickle.dumps(content, protocol=3)))
    write_class_names(class_names_file(path), clips.class_names)


def read_pyskl(path: str | Path) -> LabelledClips:
    """Read a file of `write_pyskl`; subjects are not part of the format.

    Raises:
        InputError: not readable, not of this format, or a pickle of other objects than data.
    """
    content = load_restricted(path)
    names = {short: split for split, short in SPLIT_NAMES.items()}
    try:
        split_of = {name: names[short] for short, ids in content["split"].items() for name in ids}
        annotations = content["annotations"]
        for one in annotations:
            keypoint = one["keypoint"]
            if not isinstance(keypoint, np.ndarray) or keypoint.dtype.kind != "f" or keypoint.ndim != 4:
                raise InputError(f"{path}: {one['frame_dir']!r}: keypoint is no array (persons, frames, joints, 3)")
            if len(keypoint) != 1 or keypoint.shape[1] != one["total_frames"]:
                raise InputError(f"{path}: {one['frame_dir']!r}: keypoint {keypoint.shape}, total_frames differs")
        return LabelledClips(
            ids=tuple(one["frame_dir"] for one in annotations),
            positions=tuple(one["keypoint"][0] for one in annotations),
            labels=tuple(int(one["label"]) for one in annotations),
            class_names=read_class_names(class_names_file(path)),
            splits=tuple(split_of[one["frame_dir"]] for one in annotations),
            subjects=(None,) * len(annotations),
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: is not a PYSKL set ({type(error).__name__}: {error})") from error


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
