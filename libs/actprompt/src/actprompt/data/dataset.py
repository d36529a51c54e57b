"""Data sets of video clips: decoded frames for users, and tensors of cached features for training and prediction.

Shapes: N clips, T frames of a view, D width of a frame feature, F of a trajectory, P named parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.utils.data import Dataset

from actprompt.data.frame_sampling import Sampling
from actprompt.data.manifest import Manifest
from actprompt.data.prepare import prepare
from actprompt.data.video import read_clip
from actprompt.skeleton.captions import Captioner
from actprompt.skeleton.io import Skeleton
from actprompt.skeleton.trajectory import TrajectoryEncoder
from icube_common.tabular import TabularData
from icube_common.training import SampleRef
from icube_common.vlm import FrozenVLM

Batch = Mapping[str, Tensor]
"""``frames (B, T, D)`` or, where the image tower is trained in part, ``pixels (B, T, 3, H, W)`` (or frames that their
tower has encoded); ``trajectory (B, F)``, ``parameters (B, P)`` and ``caption (B, D)``, NaN where missing; ``label
(B,)`` in training."""


class VideoDataset(Dataset[dict[str, Any]]):
    """Clips of a prepared folder by number; a data set for `torch.utils.data.DataLoader`.

    ``data[0]`` is ``{"id", "frames", "label", "subject"}``: the frames (T, 3, H, W) uint8 RGB, with several views
    (views, T, 3, H, W), or what ``transform`` makes of them; the label a class number in the order of ``class_names``;
    the subject's name, empty where the set has none.

    Args:
        folder: a prepared folder (`from_csv` and `prepare` make one).
        root: folder of the videos, where they have moved.
        sampling: frames of a clip.
        transform: applied to the frames of an item.

    Raises:
        InputError: no prepared folder, or a damaged one.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        root: str | Path | None = None,
        sampling: Sampling | None = None,
        transform: Callable[[Tensor], Any] | None = None,
    ) -> None:
        self.manifest = Manifest.load(folder, root=root)
        self.sampling = sampling or Sampling()
        self.transform = transform

    @classmethod
    def prepare(cls, format: str, source: str | Path, out: str | Path, **options: Any) -> VideoDataset:
        """Prepare a folder of videos and open it.

        Args:
            format: a key of `actprompt.data.readers.FORMATS`, such as "folder" or "ntu-rgbd".
            source: the data set's folder.
            out: the folder to make.
            options: of `actprompt.prepare`.

        Raises:
            InputError: as `actprompt.prepare`.
        """
        prepare(format, source, out, **options)
        return cls(out)

    @classmethod
    def from_csv(cls, path: str | Path | Mapping[str, str | Path], out: str | Path, **options: Any) -> VideoDataset:
        """Prepare the clips of a CSV file (columns ``path``, ``label`` and, if known, ``subject``) and open them.

        Args:
            path: the file, or a file for each part of a split ("train", "validation", "test").
            out: the folder to make.
            options: of `actprompt.prepare`, such as ``root`` or ``class_names``.

        Raises:
            InputError: as `actprompt.prepare`.
        """
        prepare("csv", path, out, **options)
        return cls(out)

    @classmethod
    def open(cls, data: VideoDataset | str | Path) -> VideoDataset:
        """A data set as it is, or that of a prepared folder."""
        return data if isinstance(data, VideoDataset) else cls(data)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes in the order of the labels."""
        return self.manifest.class_names

    def __len__(self) -> int:
        return len(self.manifest.clips)

    def __getitem__(self, index: int) -> dict[str, Any]:
        clip = self.manifest.clips[index]
        frames: Any = torch.from_numpy(self.frames(index)).permute(0, 1, 4, 2, 3)
        frames = frames[0] if self.sampling.views == 1 else frames
        return {
            "id": clip.id,
            "frames": frames if self.transform is None else self.transform(frames),
            "label": self.class_names.index(clip.label),
            "subject": clip.subject or "",
        }

    def frames(self, index: int) -> UInt8[np.ndarray, "views t h w 3"]:
        """The sampled frames of a clip, decoded.

        Raises:
            VideoError: the video cannot be used.
        """
        clip = self.manifest.clips[index]
        seed = index if self.sampling.mode == "random" else None
        video = read_clip(
            self.manifest.video(clip),
            self.sampling,
            seed=seed,
            n_frames=clip.n_frames,
            variable_rate=clip.variable_rate,
            keep_damaged=bool(clip.damage),
        )
        return video.frames

    def skeleton(self, index: int) -> Skeleton | None:
        """Joints (T, J, 3) of a clip, NaN where not tracked, and times (T,) in s; None without a skeleton."""
        return self.manifest.skeleton(self.manifest.clips[index])


@dataclass(frozen=True, eq=False)
class Inputs:
    """Model inputs of a set's clips by id, without labels; None where a configuration does not use them.

    Mappings from a clip's id: a fold of `icube_common.evaluation` restricts them to its own rows.

    Attributes:
        ids: in the manifest's order.
        frames: clip id -> features ``(views, T, D)`` of a frozen tower.
        pixels: clip id -> preprocessed frames ``(views, T, 3, H, W)``, for visual prompts and fine-tuning.
        skeletons: clip id -> joints ``(T, J, 3)``, NaN where not tracked; T = 0 for a clip without skeleton.
        joint_names: J names.
        parameters: the named parameters, NaN where missing.
        warnings: for a report.
    """

    ids: tuple[str, ...]
    frames: Mapping[str, Tensor] | None = None
    pixels: Mapping[str, Tensor] | None = None
    skeletons: Mapping[str, npt.NDArray[np.float32]] | None = None
    joint_names: tuple[str, ...] = ()
    parameters: TabularData | None = None
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class ClipTensors:
    """Model inputs of some clips as tensors, in their order.

    Attributes:
        ids: N of them.
        frames: as `Inputs.frames`, or None.
        pixels: as `Inputs.pixels`, or None.
        trajectories: (N, copies, F), NaN for a clip without skeleton, or None; the first copy is the unchanged clip.
        parameters: (N, P), or None.
        captions: (N, D) text features of the parameters' captions, NaN where there are none; or None.
    """

    ids: tuple[str, ...]
    frames: Mapping[str, Tensor] | None
    pixels: Mapping[str, Tensor] | None
    trajectories: Float[Tensor, "n k f"] | None
    parameters: Float[Tensor, "n p"] | None
    captions: Float[Tensor, "n d"] | None = None

    @classmethod
    def of(
        cls,
        ids: Sequence[str],
        inputs: Inputs,
        encoder: TrajectoryEncoder | None,
        captioner: Captioner | None,
        vlm: FrozenVLM,
        *,
        copies: int = 0,
        jitter: float = 0.0,
        seed: int = 0,
    ) -> ClipTensors:
        """Tensors of clips.

        Args:
            ids: the clips, in order.
            inputs: of at least these clips.
            encoder: from skeletons to vectors; None where they do not enter.
            captioner: from parameters to sentences; None where these do not enter.
            vlm: the text tower of the sentences.
            copies: augmented copies of each trajectory.
            jitter: standard deviation of the joints in a copy.
            seed: of the copies, with the clip's number.
        """
        trajectories = None
        if encoder is not None and inputs.skeletons is not None:
            trajectories = _trajectories(ids, inputs.skeletons, encoder, copies, jitter, seed)
        parameters = captions = None
        if inputs.parameters is not None:
            values = inputs.parameters.rows(ids)
            parameters = torch.from_numpy(values).float()
            captions = None if captioner is None else captioner.features(vlm, values)
        return cls(tuple(ids), inputs.frames, inputs.pixels, trajectories, parameters, captions)

    def row(self, index: int, *, view: int = 0, copy: int = 0) -> dict[str, Tensor]:
        """One clip, as a row of a batch."""
        name = self.ids[index]
        item: dict[str, Tensor] = {}
        if self.frames is not None:
            item["frames"] = self.frames[name][view]
        if self.pixels is not None:
            item["pixels"] = self.pixels[name][view]
        if self.trajectories is not None:
            item["trajectory"] = self.trajectories[index, copy]
        if self.parameters is not None:
            item["parameters"] = self.parameters[index]
        if self.captions is not None:
            item["caption"] = self.captions[index]
        return item

    def views(self, index: int) -> int:
        """Number of views of a clip's video."""
        frames = self.frames if self.frames is not None else self.pixels
        return 1 if frames is None else len(frames[self.ids[index]])

    def batches(self, size: int, *, copy: int = 0, view: int = 0) -> Iterator[dict[str, Tensor]]:
        """All clips in their order; the last view of a clip with fewer views."""
        for start in range(0, len(self.ids), size):
            chunk = range(start, min(start + size, len(self.ids)))
            rows = [self.row(index, view=min(view, self.views(index) - 1), copy=copy) for index in chunk]
            yield {key: torch.stack([row[key] for row in rows]) for key in rows[0]}


class ClipDataset:
    """Training clips for the sampler of `icube_common.training`, each with a random view and augmented copy.

    Args:
        tensors: of the training rows.
        labels: (N,) class numbers.
    """

    def __init__(self, tensors: ClipTensors, labels: Sequence[int]) -> None:
        self._tensors = tensors
        self._labels = torch.as_tensor(labels)

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, draw: SampleRef) -> dict[str, Tensor]:
        generator = np.random.default_rng(draw.seed)
        view = int(generator.integers(self._tensors.views(draw.index)))
        trajectories = self._tensors.trajectories
        copy = 0 if trajectories is None else int(generator.integers(trajectories.shape[1]))
        return {**self._tensors.row(draw.index, view=view, copy=copy), "label": self._labels[draw.index]}


def _trajectories(
    ids: Sequence[str],
    skeletons: Mapping[str, object],
    encoder: TrajectoryEncoder,
    copies: int,
    jitter: float,
    seed: int,
) -> Float[Tensor, "n k f"]:
    rows: list[np.ndarray | None] = []
    for index, name in enumerate(ids):
        joints = np.asarray(skeletons[name])
        generator = np.random.default_rng([seed, index])
        rows.append(encoder.augment(joints, copies, generator, jitter=jitter) if len(joints) else None)
    absent = np.full((1 + copies, encoder.width), np.nan, dtype=np.float32)
    return torch.from_numpy(np.stack([absent if row is None else row for row in rows]))
