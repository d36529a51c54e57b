"""Features of frames by a frozen image tower: full batches, on the tower's device, in the run's mixed precision.

A batch joins the frames of several items (clips, scans), so that short items keep the device busy. Rows of a batch do
not depend on each other: an item's features are those that it has alone, up to the rounding of sums.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from icube_common.errors import InputError
from icube_common.vlm.backbone import ImageOutput, ImageOutputs
from icube_common.vlm.features import FeatureCache

BATCH_SIZE = 64
"""Frames in a forward pass of the tower, where nothing else is set."""

Item = TypeVar("Item")
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class ImageEncoder(Protocol):
    """Interface of a backbone.

    Where it has them, ``batch_size`` and ``mixed_precision`` are read too, and both features of
    ``encode_image_outputs`` where ``separate_features`` is true.
    """

    @property
    def device(self) -> torch.device:
        """Device of the weights."""

    def encode_image(self, pixels: Tensor, /) -> Tensor:
        """Features ``(N, D)`` of preprocessed images ``(N, 3, H, W)``."""


@dataclass
class Encoded(Generic[Item]):
    """An item with its features.

    Attributes:
        item: as it was given.
        features: ``(N, W)`` float32 on the CPU, for learned heads; None where it has no frames to encode, or an error.
        joint: ``(N, D)`` in the space of the texts, where the tower has separate features; else ``features`` are.
        error: of reading its frames.
        seconds: of the tower, shared among the items of a batch by their frames.
    """

    item: Item
    features: Tensor | None = None
    joint: Tensor | None = None
    error: Exception | None = None
    seconds: float = 0.0

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Features by name, as a cache stores them; see `select_output`."""
        named = {"features": self.features, "joint": self.joint}
        return {name: value for name, value in named.items() if value is not None}


def select_output(stored: Mapping[str, Tensor], output: ImageOutput) -> Tensor:
    """The features of `Encoded.tensors` that compare with texts (``"joint"``), or those for learned heads."""
    return stored.get(output, stored["features"])


@dataclass(eq=False)
class _Pending(Generic[Item]):
    """An item whose frames are not all encoded yet."""

    result: Encoded[Item]
    parts: list[dict[str, Tensor]] = field(default_factory=list)
    waiting: int = 0
    read: bool = False

    @property
    def done(self) -> bool:
        return self.read and not self.waiting

    def finish(self) -> Encoded[Item]:
        if self.result.error is None and self.parts:
            for name in self.parts[0]:
                setattr(self.result, name, torch.cat([part[name] for part in self.parts]))
        return self.result


def encode_items(
    vlm: ImageEncoder,
    items: Iterable[tuple[Item, Iterable[Float[Tensor, "3 h w"]] | None]],
    *,
    batch_size: int | None = None,
) -> Generator[Encoded[Item]]:
    """Features of items' frames, item by item in their order; batches are filled across items.

    Items are read as far ahead as a batch needs, and no further. An item whose frames cannot be read comes with its
    error, the others with their features.

    Args:
        vlm: the frozen backbone.
        items: each with its preprocessed frames, read once and in order; None for an item that only keeps its place,
            since its features are known already.
        batch_size: frames in a forward pass; by default the backbone's ``vlm.batch_size``.
    """
    batches = _Batches(vlm, batch_size)
    queue: deque[_Pending[Item]] = deque()
    for item, frames in items:
        pending = _Pending(Encoded(item))
        queue.append(pending)
        if frames is not None:
            for frame in _read(frames, pending):
                batches.add(frame, pending)
            if pending.result.error is not None:
                batches.drop(pending)
        pending.read = True
        while queue and queue[0].done:
            yield queue.popleft().finish()
    batches.run()
    while queue:
        yield queue.popleft().finish()


def encode_frames(
    vlm: ImageEncoder,
    frames: Iterable[Float[Tensor, "3 h w"]],
    *,
    batch_size: int | None = None,
    cache: FeatureCache | None = None,
    key: str | None = None,
    output: ImageOutput = "joint",
) -> Float[Tensor, "n d"] | Float[Tensor, "n w"]:
    """Features of preprocessed frames or slices, in their order, on the CPU; from the cache where they are there.

    Args:
        vlm: the frozen backbone.
        frames: read only where the features are not cached, as many as a batch holds at a time: give a generator.
        batch_size: as `encode_items`.
        cache: where to look and to store; None computes always.
        key: of `icube_common.vlm.feature_key`; needed with a cache, which holds both outputs.
        output: ``"joint"`` features compare with texts, ``"features"`` are for learned heads.

    Raises:
        InputError: there is no frame, a cache is given without a key, or the tower's features are not finite.
    """

    def compute() -> dict[str, Tensor]:
        (result,) = encode_items(vlm, [(None, frames)], batch_size=batch_size)
        if result.error is not None:
            raise result.error
        return result.tensors

    if cache is None:
        return select_output(compute(), output)
    if key is None:
        raise InputError("a cache of features needs a key (feature_key)")
    return select_output(cache.get_or_compute(key, compute), output)


def _read(frames: Iterable[Tensor], pending: _Pending[Any]) -> Iterator[Tensor]:
    """The frames, until reading one fails; that error is the item's."""
    count = 0
    try:
        for frame in frames:
            yield frame
            count += 1
    except Exception as error:
        pending.result.error = error
        return
    if not count:
        pending.result.error = InputError("no frame to encode: the source gave none")


def _images_of(item: Tensor) -> int:
    """Images that an input counts for in a batch: frames of a clip (T, 3, H, W), slices of a volume (1, X, Y, Z)."""
    return max(item.shape[0], item.shape[-1] if item.shape[0] == 1 else 1) if item.ndim == 4 else 1


class _Batches:
    """Frames that wait for a full batch, and the items that they are of."""

    def __init__(self, vlm: ImageEncoder, batch_size: int | None) -> None:
        self._vlm = vlm
        self._size: int = getattr(vlm, "batch_size", BATCH_SIZE) if batch_size is None else batch_size
        self._dtype = _DTYPES.get(getattr(vlm, "mixed_precision", "no"))
        self._frames: list[tuple[Tensor, _Pending[Any]]] = []

    def add(self, frame: Tensor, owner: _Pending[Any]) -> None:
        # frames of another size make a batch of their own: whether the tower takes them concerns their item alone
        if self._frames and frame.shape != self._frames[0][0].shape:
            self.run()
        self._frames.append((frame, owner))
        owner.waiting += 1
        if len(self._frames) >= max(1, self._size // _images_of(frame)):
            self.run()

    def drop(self, owner: _Pending[Any]) -> None:
        """Leave out the frames of an item that has failed."""
        self._frames = [(frame, pending) for frame, pending in self._frames if pending is not owner]
        owner.waiting = 0

    def _autocast(self, device_type: str) -> AbstractContextManager[object]:
        return nullcontext() if self._dtype is None else torch.autocast(device_type, self._dtype)

    def _encode(self, pixels: Tensor) -> dict[str, Tensor]:
        if getattr(self._vlm, "encoder", None) is not None:
            return {"features": self._vlm.encode_image(pixels, output="features")}  # type: ignore[call-arg]
        if getattr(self._vlm, "separate_features", False):
            outputs: ImageOutputs = self._vlm.encode_image_outputs(pixels)  # type: ignore[attr-defined]
            return outputs._asdict()
        return {"features": self._vlm.encode_image(pixels)}

    def run(self) -> None:
        """Encode what waits."""
        if not self._frames:
            return
        start, device = time.perf_counter(), self._vlm.device
        pixels = torch.stack([frame for frame, _ in self._frames])
        if device.type == "cuda":
            pixels = pixels.pin_memory()
        with torch.no_grad(), self._autocast(device.type):
            result = self._encode(pixels.to(device, non_blocking=True))
        features = {name: value.float().cpu() for name, value in result.items()}
        share = (time.perf_counter() - start) / len(self._frames)
        owners = [owner for _, owner in self._frames]
        self._frames = []
        first = 0
        while first < len(owners):
            owner, last = owners[first], first
            while last < len(owners) and owners[last] is owner:
                last += 1
            owner.parts.append({name: value[first:last] for name, value in features.items()})
            owner.waiting -= last - first
            owner.result.seconds += share * (last - first)
            first = last
