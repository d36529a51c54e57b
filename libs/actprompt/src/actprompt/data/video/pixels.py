"""Preprocessed frames of a clip as the image tower or a clip encoder takes them.

Shapes: T frames of a view, W width of a feature.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from actprompt.data.frame_sampling import Sampling
from actprompt.data.manifest import Clip
from actprompt.data.video.reader import read_clip
from icube_common.errors import InputError
from icube_common.vlm import FrozenVLM


def check_encoder(vlm: FrozenVLM, frames: int) -> None:
    """Check that the image tower, or its encoder, takes frames or clips of as many frames.

    Raises:
        InputError: an encoder of volumes, or of clips of another number of frames.
    """
    if vlm.kind == "volume":
        raise InputError(f"{vlm.encoder}: is an encoder of volumes; videos take encoders of images or clips")
    if vlm.encoder is not None:
        vlm.encoder.check_frames(frames)


def read_pixels(
    path: Path, clip: Clip, sampling: Sampling, vlm: FrozenVLM
) -> Float[Tensor, "views frames 3 height width"]:
    """The sampled frames of a clip as the image tower takes them, float32.

    Raises:
        VideoError: the file cannot be used.
    """
    video = read_clip(
        path,
        sampling,
        n_frames=clip.n_frames,
        variable_rate=clip.variable_rate,
        keep_damaged=bool(clip.damage),
    )
    return preprocess(video.frames, vlm)


def preprocess(
    frames: UInt8[np.ndarray, "views frames h w 3"], vlm: FrozenVLM
) -> Float[Tensor, "views frames 3 height width"]:
    """Decoded frames (RGB) as the image tower takes them, float32."""
    pictures = [Image.fromarray(picture) for picture in rearrange(frames, "views t h w c -> (views t) h w c")]
    pixels = torch.stack([vlm.preprocess(picture) for picture in pictures])
    return rearrange(pixels, "(views t) c h w -> views t c h w", views=len(frames))


def tower_inputs(pixels: Float[Tensor, "views t 3 h w"], vlm: FrozenVLM) -> Float[Tensor, "n ..."]:
    """Inputs of the tower: every frame of every view (N, 3, H, W), or the views themselves for a clip encoder."""
    return pixels if vlm.kind == "clip" else rearrange(pixels, "views t c h w -> (views t) c h w")


def by_view(features: Float[Tensor, "n d"], views: int) -> Float[Tensor, "views t d"]:
    """Features of the inputs of all views, by view, in half precision; T = 1 for a clip encoder."""
    return rearrange(features, "(views t) d -> views t d", views=views).half()
