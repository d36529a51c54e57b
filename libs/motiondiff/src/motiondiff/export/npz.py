"""NumPy export: archives for training scripts, without a motion capture library."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from motiondiff.export.output import output_file
from motiondiff.skeleton.motion import Motion


def write_npz(motion: Motion, path: str | Path, *, clip_id: str | None = None) -> Path:
    """Write a motion as a compressed ``.npz`` that ``numpy.load(..., allow_pickle=False)`` opens.

    Arrays (T frames, J joints; metres, y-up, right-handed; unknown text is ``""``):

    - ``positions`` (T, J, 3) float32: world positions of the joints;
    - ``rotations`` (T, J, 3, 3) float32: each joint in its parent's frame, the root in the world;
    - ``root`` (T, 3) float32: position of joint 0;
    - ``joint_names`` (J,) text, ``parents`` (J,) int64 (-1 for the root), ``offsets`` (J, 3) float32: the skeleton;
    - ``fps`` float64; ``action``, ``tag`` (the style), ``subject``, ``clip_id``: text; ``texts`` (N,) where there are
    some.

    Args:
        motion: the clip.
        path: the file to write, and the result; replaced where it exists.
        clip_id: id of the clip.

    Raises:
        InputError: the file cannot be written.
    """
    texts: dict[str, Any] = {"texts": np.array(motion.texts, dtype=np.str_)} if motion.texts else {}
    with output_file(path) as temporary, temporary.open("wb") as handle:
        # a handle, since NumPy adds ".npz" to names with another suffix
        np.savez_compressed(
            handle,
            positions=motion.positions,
            rotations=motion.rotations,
            root=motion.root,
            joint_names=np.array(motion.skeleton.names, dtype=np.str_),
            parents=np.array(motion.skeleton.parents, dtype=np.int64),
            offsets=motion.skeleton.offsets,
            fps=np.float64(motion.fps),
            action=np.str_(motion.action or ""),
            tag=np.str_(motion.style or ""),
            subject=np.str_(motion.subject or ""),
            clip_id=np.str_(clip_id or ""),
            **texts,
        )
    return Path(path)
