"""`MotionDataset`: clips of a store as training samples, cropped, in the common frame, scaled and mirrored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from icube_common.errors import InputError
from icube_common.training.sampler import SampleRef
from motiondiff.config import DataConfig
from motiondiff.data.captions import EmbeddedCaptions
from motiondiff.data.store import MotionStore
from motiondiff.skeleton.mirror import mirror_features, mirror_labels


class MotionDataset(torch.utils.data.Dataset[dict[str, Any]]):
    """Clips of a store as training samples.

    Args:
        store: the prepared data.
        clips: indices into the store.
        config: window lengths, cropping, scaling.
        augment: random crop, scale and mirroring; False gives whole clips (cut at the end), for validation.
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
        self.mirrored = mirror_class_indices(store, clips, config) if augment else {}
        if self.mirrored and captions is not None and captions.captions.mirrored is None:
            raise InputError("data.mirror: the captions have no mirrored texts")

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, draw: SampleRef) -> dict[str, Any]:
        """One sample: features (T, D) unnormalised, offsets (J, 3) metres, action and style indices (-1: none).

        With captions also ``text`` (S,), the embedding of one caption of the clip, and ``has_text``.
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
        rows = self.store.frames(clip, start, stop)
        features = to_common_frame(rows)
        features[:, :3] *= scale
        offsets = self.store.offsets[columns["skeleton"][clip]] * np.float32(scale)
        if mirror:
            features, offsets = mirror_features(features, offsets, self.store.skeleton(clip).mirror_indices)
        window = {"features": features, "offsets": offsets}
        for kind in ("action", "style"):
            code = int(columns[kind][clip])
            window[kind] = int(self.mirrored[kind][code]) if mirror and code >= 0 else code
        if self.captions is not None:
            text = self.captions.sample(clip, rng if self.augment else None, mirrored=mirror)
            window |= {"text": np.zeros(self.captions.size, np.float32) if text is None else text}
            window |= {"has_text": text is not None}
        return window


def mirror_class_indices(
    store: MotionStore, clips: npt.NDArray[np.int64], config: DataConfig
) -> dict[str, npt.NDArray[np.int64]]:
    """Action and style -> class index of each class's mirrored motion; empty where ``data.mirror`` is 0.

    Raises:
        InputError: a label of the clips names a side, and there is no class of the other side.
    """
    if not config.mirror:
        return {}
    setting = f"data.mirror={config.mirror:g}"
    return {
        kind: mirror_labels(names, store.columns[kind][clips], kind, setting)
        for kind, names in (("action", store.actions), ("style", store.styles))
    }


def to_common_frame(rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """(T, D) features from frames of a store (root, rotations, heading): start above the origin and facing +z."""
    features = rows[:, :-1].copy()
    yaw = -float(rows[0, -1])
    turn = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]], dtype=np.float32)
    features[:, [0, 2]] -= features[0, [0, 2]]
    # root translation and both columns of the root's rotation are vectors in the world: all turn alike
    for first in (0, 3, 6):
        features[:, first : first + 3] = features[:, first : first + 3] @ turn.T
    return features


def collate(windows: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
    """Pad to the longest window: features (B, T, D), mask (B, T), offsets (B, J, 3), action (B,), style (B,).

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
        "style": torch.tensor([window["style"] for window in windows]),
    }
    if "text" in windows[0]:
        batch["text"] = torch.from_numpy(np.stack([window["text"] for window in windows]))
        batch["has_text"] = torch.tensor([window["has_text"] for window in windows])
    return batch


def class_balanced_weights(actions: npt.NDArray[np.int32], strength: float) -> npt.NDArray[np.float64]:
    """Sampling weights ``count(action) ** -strength``: 0 for uniform clips, 1 for uniform actions."""
    _, codes, counts = np.unique(actions, return_inverse=True, return_counts=True)
    return np.asarray(counts[codes] ** -float(strength))
