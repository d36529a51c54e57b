"""`MotionDataset`: clips of a store as training samples, cropped, in the common frame, scaled and mirrored."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from icube_common.errors import InputError
from icube_common.training.sampler import SampleRef
from motiondiff.config import DataConfig
from motiondiff.data.labels.captions import EmbeddedCaptions
from motiondiff.data.store import MotionStore
from motiondiff.data.variation import vary_posture, vary_tempo
from motiondiff.skeleton.mirror import mirror_features, mirror_labels

if TYPE_CHECKING:
    from motiondiff.skeleton.motion import Motion


class MotionDataset(torch.utils.data.Dataset[dict[str, Any]]):
    """Data set of the clips of a store, as windows of up to ``config.max_frames`` frames.

    Args:
        store: a store, or its folder.
        clips: indices into the store; None: the clips of ``split``.
        config: window lengths, cropping, scaling.
        split: ``"train"``, ``"validation"`` or ``"test"``; None: all clips.
        augment: random crops, statures and mirror images; otherwise a clip is cut at ``max_frames``.
        captions: embedded captions of all clips of the store; None for a model without text.

    Raises:
        InputError: not a store, or a split that holds no clip.
    """

    def __init__(
        self,
        store: MotionStore | str | Path,
        clips: npt.NDArray[np.int64] | None = None,
        config: DataConfig | None = None,
        *,
        split: str | None = "train",
        augment: bool = False,
        captions: EmbeddedCaptions | None = None,
    ) -> None:
        self.store = store if isinstance(store, MotionStore) else MotionStore(store)
        self.clips = self.store.select(split) if clips is None else clips
        self.config = config or DataConfig()
        self.augment = augment
        self.captions = captions
        self.mirrored = mirror_class_indices(self.store, self.clips, self.config) if augment else {}
        if self.mirrored and captions is not None and captions.captions.mirrored is None:
            raise InputError("data.mirror: the captions have no mirrored texts")

    @classmethod
    def from_motions(
        cls,
        motions: Iterable[Motion],
        store: str | Path,
        *,
        config: DataConfig | None = None,
        split: str | None = "train",
        overwrite: bool = False,
        **options: Any,
    ) -> MotionDataset:
        """Write motions into a store and open it.

        Args:
            motions: of one skeleton topology and one frame rate, with their ``action``, ``style`` and ``subject``.
            store: the folder to make.
            config: of the data set.
            split: of the data set; splits are by subject, or by style.
            overwrite: replace an existing folder.
            options: any field of `motiondiff.data.prepare.PrepareOptions`.

        Raises:
            InputError: the folder exists, motions of different skeletons or frame rates, or none that can be used.
        """
        from motiondiff.data.prepare import PrepareOptions, write_store
        from motiondiff.data.readers.base import Clip

        clips = (Clip(f"{motion.action or 'motion'}-{n:05d}", motion) for n, motion in enumerate(motions))
        description = {"format": "motions", "source": "motions", "simulated": False}
        made = write_store(clips, store, PrepareOptions(**options), description=description, overwrite=overwrite)
        return cls(made, config=config, split=split)

    @classmethod
    def prepare(
        cls,
        format: str,
        source: str | Path,
        store: str | Path,
        *,
        config: DataConfig | None = None,
        split: str | None = "train",
        overwrite: bool = False,
        **options: Any,
    ) -> MotionDataset:
        """Read a folder of recordings into a store and open it.

        Args:
            format: a key of `motiondiff.data.readers.FORMATS`, such as ``"bvh"``.
            source: folder of the recordings.
            store: the folder to make.
            config: of the data set.
            split: of the data set; splits are by subject, or by style.
            overwrite: replace an existing folder.
            options: any field of `motiondiff.data.prepare.PrepareOptions`.

        Raises:
            InputError: as `motiondiff.data.prepare.prepare`.
        """
        from motiondiff.data.prepare import PrepareOptions, prepare

        made = prepare(format, source, store, PrepareOptions(**options), overwrite=overwrite)
        return cls(made, config=config, split=split)

    @property
    def feature_size(self) -> int:
        """Features of a frame: three of the root's translation, six of each joint's rotation."""
        return 3 + 6 * len(self.store.joint_names)

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int | SampleRef) -> dict[str, Any]:
        """One window: features (T, D) unnormalised, offsets (J, 3) metres, action and style indices (-1: none).

        With captions also the embedding ``text`` (S,) of one of the clip's, and ``has_text``. Windows of different
        lengths are batched by `collate`. Augmentation follows the seed of a `SampleRef`, or torch's global generator.
        """
        if isinstance(index, SampleRef):
            draw = index
        else:
            seed = int(torch.randint(2**62, ())) if self.augment else 0
            draw = SampleRef(range(len(self))[index], seed)
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
        if self.augment and self.config.tempo_range:
            limits = {"shortest": self.config.min_frames, "longest": self.config.max_frames}
            features = vary_tempo(features, self.config.tempo_range, rng, **limits)
        if self.augment and self.config.posture_degrees:
            features = vary_posture(features, self.store.skeleton(clip), self.config.posture_degrees, rng)
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
