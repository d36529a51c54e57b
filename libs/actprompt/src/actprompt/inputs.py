"""What a model is given of each clip: frame features or pixels, skeleton, named parameters. No label is here.

Tables are mappings from a clip's id, so that a fold of `icube_common.evaluation` can hand out its own rows of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from actprompt.config import ActConfig
from actprompt.extract import read_pixels, video_features
from actprompt.manifest import Clip, Manifest
from icube_common.errors import InputError
from icube_common.tabular import NumericTable
from icube_common.vlm import FrozenVLM


@dataclass(frozen=True, eq=False)
class Inputs:
    """The tables of a set's clips; what a configuration does not use is None.

    Attributes:
        ids: in the manifest's order.
        frames: clip id -> features ``(views, T, D)`` of a frozen tower.
        pixels: clip id -> preprocessed frames ``(views, T, 3, H, W)``, for visual prompts.
        skeletons: clip id -> joints ``(T, J, 3)``, NaN where not tracked; no frame where there is no skeleton.
        joint_names: J names.
        parameters: the named parameters, NaN where missing.
        notes: what a report has to say about them.
    """

    ids: tuple[str, ...]
    frames: Mapping[str, Tensor] | None = None
    pixels: Mapping[str, Tensor] | None = None
    skeletons: Mapping[str, npt.NDArray[np.float32]] | None = None
    joint_names: tuple[str, ...] = ()
    parameters: NumericTable | None = None
    notes: list[str] = field(default_factory=list)


class Pixels(Mapping[str, Tensor]):
    """Preprocessed frames of clips, decoded when first asked for and kept in half precision.

    Args:
        manifest: the set.
        clips: those that can be asked for.
        vlm: gives the preprocessing.
        config: gives the sampling.

    Raises:
        VideoError: (on access) a video that cannot be used.
    """

    def __init__(self, manifest: Manifest, clips: Sequence[Clip], vlm: FrozenVLM, config: ActConfig) -> None:
        self._manifest, self._vlm, self._sampling = manifest, vlm, config.video.sampling
        self._clips = {clip.id: clip for clip in clips}
        self._kept: dict[str, Tensor] = {}

    def __getitem__(self, name: str) -> Float[Tensor, "views t 3 h w"]:
        if name not in self._kept:
            clip = self._clips[name]
            pixels = read_pixels(self._manifest.video(clip), clip, self._sampling, self._vlm)
            self._kept[name] = pixels.to(torch.float16)
        return self._kept[name].float()

    def __iter__(self) -> Iterator[str]:
        return iter(self._clips)

    def __len__(self) -> int:
        return len(self._clips)


def load_inputs(manifest: Manifest, config: ActConfig, vlm: FrozenVLM, *, features: str | Path | None = None) -> Inputs:
    """What a configuration uses of a set's clips.

    Args:
        manifest: the set.
        config: visual and numeric sections.
        vlm: the backbone of frame features.
        features: folder of features; what is missing in it is computed and stored there. None: nothing is stored.

    Raises:
        InputError: numbers are wanted and the set has none, a video cannot be used, or the features are of another
            backbone or other frames.
    """
    frames = pixels = skeletons = parameters = None
    joint_names: tuple[str, ...] = ()
    notes = []
    if config.visual.enabled:
        if vlm.untrained_warning:
            notes.append(f"Backbone: {vlm.untrained_warning}.")
        if config.visual.prompts:
            pixels = Pixels(manifest, manifest.clips, vlm, config)
        else:
            frames = video_features(manifest, manifest.clips, vlm, config.video.sampling, folder=features)
    if config.numeric.enabled:
        table = manifest.numeric()
        parameters = NumericTable(ids=table.ids, names=table.names, values=table.values, units=table.units)
        if config.numeric.course:
            skeletons, joint_names = read_skeletons(manifest)
    ids = tuple(clip.id for clip in manifest.clips)
    return Inputs(ids, frames, pixels, skeletons, joint_names, parameters, notes)


def read_skeletons(manifest: Manifest) -> tuple[dict[str, npt.NDArray[np.float32]], tuple[str, ...]]:
    """Clip id -> joints (T, J, 3), with no frame where a clip has no skeleton, and the joints' names.

    Raises:
        InputError: the set has no skeletons, or a file is damaged.
    """
    if "skeleton" not in manifest.about:
        raise InputError(f"{manifest.folder}: numeric.course=true: this set has no skeletons; set numeric.course=false")
    names = tuple(manifest.about["skeleton"]["joints"])
    found = {}
    for clip in manifest.clips:
        skeleton = manifest.skeleton(clip)
        joints = np.zeros((0, len(names), 3), dtype=np.float32) if skeleton is None else skeleton[0]
        if joints.shape[1] != len(names):
            raise InputError(f"{manifest.folder}: skeleton of {clip.id}: {joints.shape[1]} joints, {len(names)} named")
        found[clip.id] = joints
    return found, names
