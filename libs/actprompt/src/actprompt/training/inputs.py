"""Loading of model inputs: frame features or pixels, skeletons and named parameters of a set's clips."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from actprompt.config import ActConfig
from actprompt.data.dataset import Inputs
from actprompt.data.extract import video_features
from actprompt.data.manifest import Clip, Manifest
from actprompt.data.pose.sources import SkeletonSource
from actprompt.data.video.pixels import read_pixels
from icube_common.vlm import FrozenVLM

logger = logging.getLogger(__name__)


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
        self._cached: dict[str, Tensor] = {}

    def __getitem__(self, name: str) -> Float[Tensor, "views t 3 h w"]:
        if name not in self._cached:
            clip = self._clips[name]
            pixels = read_pixels(self._manifest.video(clip), clip, self._sampling, self._vlm)
            self._cached[name] = pixels.to(torch.float16)
        return self._cached[name].float()

    def __iter__(self) -> Iterator[str]:
        return iter(self._clips)

    def __len__(self) -> int:
        return len(self._clips)


def load_inputs(manifest: Manifest, config: ActConfig, vlm: FrozenVLM, *, features: str | Path | None = None) -> Inputs:
    """Load the inputs of a set's clips that a configuration uses.

    Args:
        manifest: the set.
        config: sections ``visual`` and ``skeleton``.
        vlm: the backbone of frame features.
        features: folder of features; missing ones are computed and stored there. None: nothing is stored.

    Raises:
        InputError: numbers are needed and the set has none, a video cannot be used, or the features are of another
            backbone or other frames.
    """
    frames = pixels = skeletons = parameters = None
    joint_names: tuple[str, ...] = ()
    warnings = []
    if config.visual.enabled:
        if vlm.weights_warning:
            warnings.append(f"Backbone: {vlm.weights_warning}.")
        if config.needs_pixels:
            logger.info("Frames enter as pixels, and no features are cached: the image tower is trained in part")
            pixels = Pixels(manifest, manifest.clips, vlm, config)
        else:
            frames = video_features(manifest, manifest.clips, vlm, config.video.sampling, folder=features)
    if config.skeleton.enabled:
        source = SkeletonSource.choose(manifest, config.skeleton.source)
        parameters = source.parameters()
        if config.skeleton.trajectory:
            joint_names = source.joint_names
            skeletons = {clip.id: source.skeleton(clip) for clip in manifest.clips}
    ids = tuple(clip.id for clip in manifest.clips)
    return Inputs(ids, frames, pixels, skeletons, joint_names, parameters, warnings)
