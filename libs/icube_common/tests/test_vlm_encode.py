"""Frames of several items in the batches of a frozen image tower: rows, order, failures, precision."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from icube_common.errors import InputError
from icube_common.vlm import FrozenVLM, encode_frames, encode_items, feature_fingerprint, load_vlm
from icube_common.vlm.features import check_same_backbone, describe_backbone


@pytest.fixture(scope="module")
def tiny() -> FrozenVLM:
    return load_vlm("icube-tiny")


@pytest.fixture
def rows(tiny: FrozenVLM) -> Iterator[list[int]]:
    """Rows of each forward pass of the image tower."""
    found: list[int] = []
    hook = tiny.model.visual.register_forward_pre_hook(lambda _, inputs: found.append(len(inputs[0])))  # type: ignore[union-attr,operator]
    yield found
    hook.remove()


def frames(number: int, *, size: int = 96, seed: int = 0) -> Tensor:
    return torch.rand(number, 3, size, size, generator=torch.Generator().manual_seed(seed))


def failing(number: int) -> Iterator[Tensor]:
    yield from frames(number)
    raise InputError("clip.avi: cut off")


def test_batches_join_items(tiny: FrozenVLM, rows: list[int]) -> None:
    clips = {f"clip {number}": frames(8, seed=number) for number in range(5)}
    found = {result.item: result.features for result in encode_items(tiny, clips.items(), batch_size=16)}
    assert rows == [16, 16, 8]
    assert list(found) == list(clips)
    for name, pixels in clips.items():
        with torch.no_grad():
            alone = tiny.encode_image(pixels)
        features = found[name]
        assert features is not None and features.dtype == torch.float32 and features.device.type == "cpu"
        torch.testing.assert_close(features, alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [([3, 1, 20, 2], [7, 7, 7, 5]), ([7, 7], [7, 7]), ([30], [7, 7, 7, 7, 2]), ([1, 1, 1], [3]), ([], [])],
)
def test_long_and_short_items(tiny: FrozenVLM, rows: list[int], lengths: list[int], expected: list[int]) -> None:
    items = [(number, frames(length, seed=number)) for number, length in enumerate(lengths)]
    found = list(encode_items(tiny, items, batch_size=7))
    assert rows == expected
    assert [len(result.features) for result in found if result.features is not None] == lengths
    for (_, pixels), result in zip(items, found, strict=True):
        assert result.features is not None
        with torch.no_grad():
            torch.testing.assert_close(result.features, tiny.encode_image(pixels), atol=1e-5, rtol=0)


def test_a_failing_item_keeps_its_neighbours(tiny: FrozenVLM, rows: list[int]) -> None:
    items: list[tuple[str, Any]] = [
        ("first", frames(3, seed=1)),
        ("cut off", failing(6)),
        ("known already", None),
        ("empty", []),
        ("last", frames(2, seed=2)),
    ]
    found = {result.item: result for result in encode_items(tiny, items, batch_size=8)}
    assert list(found) == [name for name, _ in items]
    assert str(found["cut off"].error) == "clip.avi: cut off" and found["cut off"].features is None
    assert isinstance(found["empty"].error, InputError) and "no frame" in str(found["empty"].error)
    assert found["known already"].error is None and found["known already"].features is None
    for name in ("first", "last"):
        with torch.no_grad():
            alone = tiny.encode_image(dict(items)[name])
        features = found[name].features
        assert found[name].error is None and features is not None
        torch.testing.assert_close(features, alone, atol=1e-5, rtol=0)


def test_not_a_number_stays_in_its_item(tiny: FrozenVLM) -> None:
    items = [("good", frames(2)), ("bad", torch.full((2, 3, 96, 96), torch.nan)), ("also good", frames(2, seed=3))]
    found = {result.item: result.features for result in encode_items(tiny, items, batch_size=64)}
    assert all(features is not None for features in found.values())
    assert [bool(features.isfinite().all()) for features in found.values() if features is not None] == [
        True,
        False,
        True,
    ]


def test_frames_of_another_size_are_not_joined(tiny: FrozenVLM, rows: list[int]) -> None:
    results = encode_items(tiny, [("good", frames(3)), ("small", frames(2, size=64))], batch_size=64)
    assert next(results).features is not None and rows == [3]


def test_items_are_read_no_further_than_a_batch_needs(tiny: FrozenVLM) -> None:
    read: list[int] = []

    def items() -> Iterator[tuple[int, Tensor]]:
        for number in range(100):
            read.append(number)
            yield number, frames(2)

    results = encode_items(tiny, items(), batch_size=8)
    assert next(results).item == 0 and len(read) == 4
    for _ in range(3):
        next(results)
    assert len(read) == 4
    next(results)
    assert len(read) == 8


def test_frames_of_a_batch(tiny: FrozenVLM, rows: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiny, "batch_size", 4)
    encode_frames(tiny, frames(9))
    assert rows == [4, 4, 1]


def test_time_of_the_tower_is_shared_by_frames(tiny: FrozenVLM) -> None:
    one, three, none = encode_items(tiny, [(1, frames(1)), (3, frames(3)), (0, None)], batch_size=8)
    assert three.seconds == pytest.approx(3 * one.seconds) and one.seconds > 0 and none.seconds == 0


def test_mixed_precision_has_features_and_a_fingerprint_of_its_own(
    tiny: FrozenVLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, own = encode_frames(tiny, frames(4)), feature_fingerprint(tiny)
    assert own == tiny.fingerprint
    kinds: list[torch.dtype] = []
    layer = tiny.model.visual.transformer.resblocks[0].mlp.c_fc  # type: ignore[union-attr,index]
    hook = layer.register_forward_hook(lambda _, inputs, out: kinds.append(out.dtype))
    monkeypatch.setattr(tiny, "mixed_precision", "bf16")
    half = encode_frames(tiny, frames(4))
    hook.remove()
    assert kinds == [torch.bfloat16]
    assert half.dtype == torch.float32 and not torch.equal(half, whole)
    assert torch.nn.functional.cosine_similarity(half, whole).min() > 0.99
    assert tiny.fingerprint == own and feature_fingerprint(tiny) != own
    check_same_backbone("features", describe_backbone(tiny), tiny)
    with pytest.raises(InputError, match=r"features: .*mixed_precision=no, .*mixed_precision=bf16 on cpu; set train"):
        check_same_backbone("features", {}, tiny)


class CudaTower:
    """Answers as a tower on a GPU would, and keeps what was copied there."""

    device = torch.device("cuda", 1)

    def encode_image(self, pixels: Tensor) -> Tensor:
        return pixels.mean((2, 3))


def test_frames_go_to_a_gpu_through_pinned_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    pinned: list[int] = []
    copied: list[tuple[torch.device, bool]] = []

    def pin(self: Tensor) -> Tensor:
        pinned.append(len(self))
        return self

    def to(self: Tensor, device: torch.device, *, non_blocking: bool = False) -> Tensor:
        copied.append((device, non_blocking))
        return self

    monkeypatch.setattr(Tensor, "pin_memory", pin)
    monkeypatch.setattr(Tensor, "to", to)
    results = list(encode_items(CudaTower(), [("a", frames(3, size=4)), ("b", frames(2, size=4))], batch_size=4))
    assert pinned == [4, 1] and copied == [(torch.device("cuda", 1), True)] * 2
    assert [len(result.features) for result in results if result.features is not None] == [3, 2]
