"""Training windows: clips of a store cut, turned to the common frame and scaled, one reproducible draw each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from icube_common.errors import InputError
from icube_common.training import SampleRef
from motiondiff.config import DataConfig
from motiondiff.data.captions import EmbeddedCaptions
from motiondiff.data.store import MotionStore
from motiondiff.mirror_labels import mirrored_labels


class MotionWindows(torch.utils.data.Dataset[dict[str, Any]]):
    """Windows of the clips of a store.

    Args:
        store: the prepared data.
        clips: indices into the store.
        config: window lengths, cropping, scaling.
        augment: False shows whole clips (cut at the end), unscaled: for validation.
        captions: embedded captions of all clips of the store; None for a model without text.
    """

    def __init__(
        self,
        store: MotionStore,
        clips: npt.NDArray[np.int64],
        config: DataConfig,
        *,
        augment: bool,
        captions: EmbeddedCaptions | None = None,
    ) -> None:
        self.store = store
        self.clips = clips
        self.config = config
        self.augment = augment
        self.captions = captions
        self.mirrored = mirrored_classes(store, clips, config) if augment else {}
        if self.mirrored and captions is not None and captions.captions.mirrored is None:
            raise InputError("data.mirror: the captions were made without their mirrored texts")

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, draw: SampleRef) -> dict[str, Any]:
        """One window: features (T, D) unnormalised, offsets (J, 3) metres, action and tag indices (-1: none).

        With captions also the embedding ``text`` (S,) of one of the clip's, and ``has_text``.
        """
        clip = int(self.clips[draw.index])
        columns = self.store.columns
        length = int(columns["length"][clip])
        start, stop, scale, mirror = 0, min(length, self.config.max_frames), 1.0, False
        if self.augment:
            rng = np.random.default_rng(draw.seed)
            if length > self.config.min_frames and rng.random() < self.config.crop_probability:
                stop = int(rng.integers(self.config.min_frames, stop + 1))
            start = int(rng.integers(0, length - stop + 1))
            stop += start
            scale = float(rng.uniform(1 - self.config.stature_range, 1 + self.config.stature_range))
            mirror = self.config.mirror > 0 and rng.random() < self.config.mirror
        rows = self.store.rows(clip, start, stop)
        features = to_common_frame(rows)
        features[:, :3] *= scale
        offsets = self.store.offsets[columns["skeleton"][clip]] * np.float32(scale)
        if mirror:
            features, offsets = in_a_mirror(features, offsets, self.store.skeleton(clip).mirrored)
        window = {"features": features, "offsets": offsets}
        for kind in ("action", "tag"):
            code = int(columns[kind][clip])
            window[kind] = int(self.mirrored[kind][code]) if mirror and code >= 0 else code
        if self.captions is not None:
            text = self.captions.draw(clip, rng if self.augment else None, mirrored=mirror)
            window |= {"text": np.zeros(self.captions.size, np.float32) if text is None else text}
            window |= {"has_text": text is not None}
        return window


def mirrored_classes(
    store: MotionStore, clips: npt.NDArray[np.int64], config: DataConfig
) -> dict[str, npt.NDArray[np.int64]]:
    """Action and tag -> the class of each class's mirrored motion; empty where ``data.mirror`` is 0.

    Raises:
        InputError: a label of the clips names a side, and there is no class of the other side.
    """
    if not config.mirror:
        return {}
    setting = f"data.mirror={config.mirror:g}"
    return {
        kind: mirrored_labels(names, store.columns[kind][clips], kind, setting)
        for kind, names in (("action", store.actions), ("tag", store.tags))
    }


def to_common_frame(rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Rows of a store (root, rotations, heading) to (T, D) features that start above the origin and face +z."""
    features = rows[:, :-1].copy()
    yaw = -float(rows[0, -1])
    turn = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]], dtype=np.float32)
    features[:, [0, 2]] -= features[0, [0, 2]]
    # root translation and both columns of the root's rotation are vectors in the world: all turn alike
    for first in (0, 3, 6):
        features[:, first : first + 3] = features[:, first : first + 3] @ turn.T
    return features


def in_a_mirror(
    features: npt.NDArray[np.float32], offsets: npt.NDArray[np.float32], order: Sequence[int]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Features (T, D) of the common frame and offsets (J, 3) m of the same motion seen in the mirror x = 0.

    Positions ``M p`` with M = diag(-1, 1, 1) of the joint on the other side; so rotations are ``M R M``.

    Args:
        features: root translation and six numbers a joint: the first two columns of its rotation.
        offsets: of its body.
        order: for each joint the one on the other side.
    """
    across = np.array([-1, 1, 1], dtype=np.float32)
    columns = np.concatenate([across * across[0], across * across[1]])
    order = list(order)  # a tuple would index dimensions
    joints = features[:, 3:].reshape(len(features), -1, 6)[:, order] * columns
    mirrored = np.concatenate([features[:, :3] * across, joints.reshape(len(features), -1)], axis=1)
    return mirrored, offsets[order] * across


def collate(windows: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
    """Pad to the longest window: features (B, T, D), mask (B, T), offsets (B, J, 3), action (B,), tag (B,).

    With texts also text (B, S) and has_text (B,).
    """
    lengths = [len(window["features"]) for window in windows]
    features = torch.zeros(len(windows), max(lengths), windows[0]["features"].shape[1])
    mask = torch.zeros(len(windows), max(lengths), dtype=torch.bool)
    for row, (window, length) in enumerate(zip(windows, lengths, strict=True)):
        features[row, :length] = torch.from_numpy(window["features"])
        mask[row, :length] = True
    batch = {
        "features": features,
        "mask": mask,
        "offsets": torch.from_numpy(np.stack([window["offsets"] for window in windows])),
        "action": torch.tensor([window["action"] for window in windows]),
        "tag": torch.tensor([window["tag"] for window in windows]),
    }
    if "text" in windows[0]:
        batch["text"] = torch.from_numpy(np.stack([window["text"] for window in windows]))
        batch["has_text"] = torch.tensor([window["has_text"] for window in windows])
    return batch


def balanced_weights(actions: npt.NDArray[np.int32], strength: float) -> npt.NDArray[np.float64]:
    """Sampling weights ``count(action) ** -strength``: 0 leaves clips as frequent as they come, 1 evens actions out."""
    _, codes, counts = np.unique(actions, return_inverse=True, return_counts=True)
    return np.asarray(counts[codes] ** -float(strength))
