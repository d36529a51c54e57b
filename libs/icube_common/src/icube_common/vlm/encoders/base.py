"""Encoders: networks that map an image, a clip or a volume to one feature, with their preprocessing and fingerprint.

Shapes: N inputs, T frames of a clip, H and W pixels, X, Y and Z voxels, D width of a feature, L tokens of an input.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from icube_common.errors import InputError, unknown
from icube_common.vlm.checkpoints.fingerprint import as_json, describe_transform, digest_tensors
from icube_common.vlm.checkpoints.pretrained import one_line, preprocess_config

IMAGE, CLIP, VOLUME = "image", "clip", "volume"
KINDS = (IMAGE, CLIP, VOLUME)
IMAGE_SIZE, VOLUME_SIZE, CLIP_FRAMES = 224, 96, 8
_IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
# packages whose code a version identifies, which is no part of a fingerprint
_LIBRARIES = ("torch", "torchvision", "timm", "transformers", "monai", "open_clip", "icube_common", "peft")

EncoderLike: TypeAlias = "str | type[nn.Module] | nn.Module"
"""An encoder by name (see `icube_common.vlm.encoders.sources.make_encoder`), a class (called without arguments), or an
instance: an `Encoder`, or a network that becomes one."""


class CubePreprocess:
    """Volume (X, Y, Z) to (1, S, S, S): padded with its smallest value to a cube, then resampled trilinearly.

    Args:
        size: S, voxels of a side.
    """

    def __init__(self, size: int = VOLUME_SIZE) -> None:
        self.size = size

    def __call__(self, volume: Float[np.ndarray, "x y z"] | Float[Tensor, "x y z"]) -> Float[Tensor, "1 s s s"]:
        """The volume as a network takes it, float32."""
        data = torch.as_tensor(np.ascontiguousarray(volume), dtype=torch.float32)
        side = max(data.shape)
        margins = []
        for length in reversed(data.shape):
            before = (side - length) // 2
            margins += [before, side - length - before]
        cube = F.pad(data, margins, value=float(data.min()))
        return F.interpolate(cube[None, None], size=(self.size,) * 3, mode="trilinear", align_corners=False)[0]

    def __repr__(self) -> str:
        return f"CubePreprocess(size={self.size})"


class Encoder(nn.Module):
    """Frozen network from preprocessed images, clips or volumes to features (N, D).

    ``module`` takes images ``(N, 3, H, W)``, clips ``(N, T, 3, H, W)`` or volumes ``(N, 1, X, Y, Z)`` by ``kind``.
    What is not given is taken from attributes of the module of the same name, where it has them.

    Args:
        module: the network; frozen, in eval mode. It is copied where it is a user's instance (`make_encoder`).
        kind: ``"image"`` (the default), ``"clip"`` or ``"volume"``.
        preprocess: PIL image -> ``(3, H, W)``, for each frame of a clip too; volume ``(X, Y, Z)`` -> ``(1, X, Y, Z)``.
            By default resized to ``image_size`` of the module (224) with ImageNet's mean and deviation, and a cube of
            ``volume_size`` (96) voxels.
        name: for outputs; by default the class of the module.
        trained_on: weight file, or data of the training; None for random weights, of which every output warns.
        frames: T of a clip that the network is bound to; None for any number.
        width: D, compared with the features; None to take theirs.
        config: what decides the computation beside weights, JSON-ready; by default structure and source text.
        preprocess_config: what decides ``preprocess``; by default its text.
        tokens: preprocessed inputs -> tokens ``(N, L, D)``; None where there are none.
        seed: of random weights.

    Raises:
        InputError: an unknown kind, an input that the network does not take, features that are not (N, D), or of
            another width than stated.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        kind: str | None = None,
        preprocess: Callable[[Any], Tensor] | None = None,
        name: str | None = None,
        trained_on: str | None = None,
        frames: int | None = None,
        width: int | None = None,
        config: Mapping[str, Any] | None = None,
        preprocess_config: Mapping[str, Any] | None = None,
        tokens: Callable[[Tensor], Tensor] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.module = module.eval().requires_grad_(False)
        self.name = name or str(getattr(module, "name", type(module).__name__))
        self.kind = str(kind or getattr(module, "kind", IMAGE))
        if self.kind not in KINDS:
            raise unknown(f"kind of encoder {self.name}", self.kind, KINDS)
        self.trained_on = trained_on or getattr(module, "trained_on", None)
        self.frames = frames or getattr(module, "frames", None)
        self.seed = seed
        self.preprocess = preprocess or getattr(module, "preprocess", None) or _default_preprocess(module, self.kind)
        self.config = {"kind": self.kind, **(_describe_module(module) if config is None else config)}
        self.preprocess_config = dict(preprocess_config or {"transform": _describe_callable(self.preprocess)})
        self._tokens = tokens or getattr(module, "tokens", None)
        self.width = self._measure(width or getattr(module, "width", None))

    @property
    def trained(self) -> bool:
        """True where the weights are those of a training."""
        return self.trained_on is not None

    def __str__(self) -> str:
        trained = self.trained_on or f"untrained encoder: random weights of seed {self.seed}"
        return f"{self.name} ({trained})"

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 over weights, configuration and preprocessing; library versions are not in it."""
        digest = hashlib.sha256(as_json({"encoder": self.config, "preprocess": self.preprocess_config}))
        digest_tensors(digest, self.module.state_dict())
        return digest.hexdigest()

    def forward(self, pixels: Float[Tensor, "n ..."]) -> Float[Tensor, "n d"]:
        """Features of preprocessed inputs, as the network gives them."""
        result: Tensor = self.module(pixels)
        return result

    def tokens(self, pixels: Float[Tensor, "n ..."]) -> Float[Tensor, "n l d"]:
        """Tokens of preprocessed inputs.

        Raises:
            InputError: the network has none.
        """
        if self._tokens is None:
            raise InputError(f"encoder {self.name}: has no tokens, only one feature of each {self.kind}")
        return self._tokens(pixels)

    def check_frames(self, frames: int) -> None:
        """Check the number of frames of a clip against that of the network.

        Raises:
            InputError: they differ; both are named.
        """
        if self.kind == CLIP and self.frames not in (None, frames):
            raise InputError(
                f"video.frames={frames}: encoder {self.name} takes clips of {self.frames} frames; "
                f"set video.frames={self.frames}"
            )

    @torch.no_grad()
    def _measure(self, stated: int | None) -> int:
        """Width of the features of an empty input."""
        if self.kind == VOLUME:
            inputs = torch.as_tensor(self.preprocess(np.zeros((32, 32, 32), np.float32)))[None]
        else:
            image = torch.as_tensor(self.preprocess(Image.new("RGB", (IMAGE_SIZE, IMAGE_SIZE))))
            inputs = torch.stack([image, image])
            if self.kind == CLIP:
                inputs = inputs[:, None].expand(-1, self.frames or CLIP_FRAMES, -1, -1, -1)
        parameter = next((value for value in self.module.parameters() if value.is_floating_point()), torch.zeros(()))
        shape = tuple(inputs.shape)
        try:
            features = self.module(inputs.to(parameter))
        except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as error:
            raise InputError(
                f"encoder {self.name}: does not take {self.kind}s {shape} ({one_line(error)}); set kind or preprocess"
            ) from error
        if not isinstance(features, Tensor) or features.ndim != 2 or len(features) != len(inputs):
            result = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
            raise InputError(f"encoder {self.name}: returns {result} for {self.kind}s {shape}, need ({len(inputs)}, D)")
        width = int(features.shape[1])
        if stated is not None and stated != width:
            raise InputError(f"encoder {self.name}: states width {stated}, its features have {width}")
        return width


def _default_preprocess(module: nn.Module, kind: str) -> Callable[[Any], Tensor]:
    if kind == VOLUME:
        return CubePreprocess(int(getattr(module, "volume_size", VOLUME_SIZE)))
    from open_clip.transform import PreprocessCfg, image_transform_v2

    size = int(getattr(module, "image_size", IMAGE_SIZE))
    config = preprocess_config({"vision_cfg": {"image_size": size}}, _IMAGENET)
    transform: Callable[[Any], Tensor] = image_transform_v2(PreprocessCfg(**config), is_train=False)
    return transform


def _describe_callable(function: Any) -> str:
    """Text of a transform: its printed form, and the source of a user's function or class."""
    user = function if inspect.isroutine(function) else type(function)
    return describe_transform(function) + _source(user)


def _describe_module(module: nn.Module) -> dict[str, Any]:
    """Structure of a user's network and the source text of its classes, by which a changed forward pass differs."""
    classes = {f"{type(part).__module__}.{type(part).__qualname__}": type(part) for part in module.modules()}
    digest = hashlib.sha256("".join(_source(kind) for _, kind in sorted(classes.items())).encode())
    return {"class": type(module).__qualname__, "structure": repr(module), "code": digest.hexdigest()}


def _source(kind: Any) -> str:
    """Source text of a class or function outside the libraries; empty where there is none to read."""
    if str(getattr(kind, "__module__", "")).partition(".")[0] in _LIBRARIES:
        return ""
    try:
        return inspect.getsource(kind)
    except (OSError, TypeError):
        return ""
