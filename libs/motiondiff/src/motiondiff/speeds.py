"""How fast joints move, in a motion and in a store of real ones."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from motiondiff.data.store import MotionStore
from motiondiff.skeleton.motion import Motion


def joint_speeds(motion: Motion) -> npt.NDArray[np.float32]:
    """(T - 1, J) metres per second, from each frame to the next."""
    return np.asarray(np.linalg.norm(np.diff(motion.positions, axis=0), axis=-1) * motion.fps, dtype=np.float32)


def real_fastest(store: MotionStore, *, actions: list[str] | None = None, quantile: float = 0.99) -> tuple[float, int]:
    """A quantile, over the frames of a store's training clips, of the fastest joint's speed (m/s); and how many frames.

    Args:
        store: real motion.
        actions: only clips of these; None, or none of them in the store: all clips.
        quantile: within 0 to 1.
    """
    clips = store.select("train")
    if actions:
        codes = [store.actions.index(action) for action in actions if action in store.actions]
        own = clips[np.isin(store.columns["action"][clips], codes)]
        clips = own if len(own) else clips
    fastest = np.concatenate([joint_speeds(store[int(clip)]).max(1) for clip in clips])
    return float(np.quantile(fastest, quantile)), len(fastest)
