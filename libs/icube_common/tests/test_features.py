"""The cache of features: keys, atomic writing, damage, precision, pruning."""

from __future__ import annotations

import json
import logging
import os
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from torch import Tensor

from icube_common.errors import InputError
from icube_common.io.csv import file_digest
from icube_common.vlm import FeatureCache, encode_frames, feature_key
from icube_common.vlm.features import read_head

KEY = feature_key("backbone", "source", {"frames": 8})


def some_features() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {"features": torch.randn(4, 6, generator=generator), "frames": torch.tensor([0, 3, 6, 9])}


class CountingTower:
    """Replacement of a backbone: the mean and the largest value of each frame's channels."""

    device = torch.device("cpu")

    def __init__(self) -> None:
        self.batches: list[int] = []

    def encode_image(self, pixels: Tensor) -> Tensor:
        assert not torch.is_grad_enabled()
        self.batches.append(len(pixels))
        return torch.cat([pixels.mean((2, 3)), pixels.amax((2, 3))], dim=1)


def test_file_digest_is_of_the_content(tmp_path: Path) -> None:
    first, second = tmp_path / "a.mp4", tmp_path / "b.mp4"
    first.write_bytes(b"abc")
    second.write_bytes(b"abc")
    # the published digest of "abc" (FIPS 180-2, appendix B.1)
    assert file_digest(first) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert file_digest(second) == file_digest(first)
    # same size, same date, other content
    status = first.stat()
    first.write_bytes(b"abd")
    os.utime(first, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert file_digest(first) != file_digest(second)
    # longer than one block
    first.write_bytes(bytes(range(256)) * 8192 + b"x")
    second.write_bytes(bytes(range(256)) * 8192 + b"y")
    assert file_digest(first) != file_digest(second)
    with pytest.raises(InputError, match=r"absent\.mp4: cannot be read"):
        file_digest(tmp_path / "absent.mp4")
    with pytest.raises(InputError, match="cannot be read"):
        file_digest(tmp_path)


def test_a_key_changes_with_each_of_its_parts_and_with_nothing_else() -> None:
    sampling = {"frames": 8, "views": [1, 2], "size": 224.0}
    keys = {
        feature_key("b", "s", sampling),
        feature_key("c", "s", sampling),
        feature_key("b", "t", sampling),
        feature_key("b", "s", {**sampling, "frames": 16}),
        feature_key("b", "s", {**sampling, "frames": "8"}),
        feature_key("b", "s", {**sampling, "views": [2, 1]}),
        feature_key("b", "s", {**sampling, "views": None}),
        feature_key("b", "s", sampling, {"decoder": "av 14"}),
        feature_key("b", "s", {**sampling, "decoder": "av 14"}),
        feature_key("bs", "", sampling),
    }
    assert len(keys) == 10
    assert feature_key("b", "s", dict(reversed(sampling.items()))) == feature_key("b", "s", sampling)
    assert feature_key("b", "s", {"views": (1, 2)}) == feature_key("b", "s", {"views": [1, 2]})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), Path("x"), np.int64(3), {1: 2}, {"a", "b"}, b"x"])
def test_key_refuses_ambiguous_values(value: object) -> None:
    with pytest.raises(InputError, match="sampling"):
        feature_key("b", "s", {"value": value})


def test_put_and_get_round_trip(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path / "cache")
    assert cache.get(KEY) is None
    tensors = some_features() | {
        "bf16": torch.ones(2, dtype=torch.bfloat16),
        "empty": torch.zeros(0, 3),
        "scalar": torch.tensor(2.5),
        "flags": torch.tensor([True, False]),
        "view": torch.arange(6.0).reshape(2, 3).T,
    }
    cache.put(KEY, tensors)
    found = cache.get(KEY)
    assert found is not None and found.keys() == tensors.keys()
    for name, value in tensors.items():
        torch.testing.assert_close(found[name], value, atol=0, rtol=0)
    assert cache.path(KEY) == tmp_path / "cache" / KEY[:2] / f"{KEY}.safetensors"
    with safe_open(cache.path(KEY), "pt") as handle:
        assert handle.metadata() == {"format": "pt"}
    stats = cache.stats()
    assert (stats.files, stats.hits, stats.misses, stats.damaged) == (1, 1, 1, 0)
    assert stats.bytes == cache.path(KEY).stat().st_size


def test_the_same_features_make_the_same_file(tmp_path: Path) -> None:
    files = []
    for name in ("a", "b"):
        cache = FeatureCache(tmp_path / name)
        cache.put(KEY, dict(sorted(some_features().items(), reverse=name == "b")))
        files.append(cache.path(KEY).read_bytes())
    assert files[0] == files[1]


def test_half_precision_is_the_same_the_first_time_and_later(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path, half=True)
    first = cache.get_or_compute(KEY, some_features)
    second = cache.get_or_compute(KEY, lambda: pytest.fail("is cached"))
    for found in (first, second):
        torch.testing.assert_close(found["features"], some_features()["features"].half(), atol=0, rtol=0)
        assert found["frames"].dtype == torch.int64
    # one folder may hold both, and neither is taken for the other
    whole = FeatureCache(tmp_path)
    assert whole.get(KEY) is None
    assert whole.get_or_compute(KEY, some_features)["features"].dtype == torch.float32
    assert cache.get_or_compute(KEY, lambda: pytest.fail("is cached"))["features"].dtype == torch.float16
    assert whole.stats().files == 2


def test_32_slices_of_512_halves_are_32_kilobytes(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path, half=True)
    cache.put(KEY, {"features": torch.zeros(32, 512)})
    assert 32 * 1024 <= cache.stats().bytes < 33 * 1024


def test_computed_features_are_detached(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path)
    weight = torch.ones(1000, 2, requires_grad=True)
    found = cache.get_or_compute(KEY, lambda: {"features": (weight * 2)[:1]})
    assert not found["features"].requires_grad
    assert found["features"].untyped_storage().nbytes() == 8
    assert cache.stats().bytes < 500


@pytest.mark.parametrize("damage", ["truncated", "empty", "flipped", "renamed", "foreign", "huge header"])
def test_a_damaged_file_is_noticed_loudly_and_replaced(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    cache = FeatureCache(tmp_path)
    cache.put(KEY, some_features())
    path = cache.path(KEY)
    content = path.read_bytes()
    path.write_bytes(
        {
            "truncated": content[:-1],
            "empty": b"",
            "flipped": content[:-3] + bytes([content[-3] ^ 1]) + content[-2:],
            "renamed": content.replace(b'"frames"', b'"framez"'),
            "foreign": b"PK\x03\x04" + b"\0" * 200,
            "huge header": struct.pack("<Q", 1 << 60) + content[8:],
        }[damage]
    )
    with caplog.at_level(logging.WARNING, logger="icube_common"):
        found = cache.get_or_compute(KEY, some_features)
    assert "damaged" in caplog.text and str(path) in caplog.text
    torch.testing.assert_close(found["features"], some_features()["features"], atol=0, rtol=0)
    assert path.read_bytes() == content
    assert cache.stats().damaged == 1


@given(position=st.integers(min_value=0), flip=st.integers(1, 255))
@settings(max_examples=150, deadline=None)
def test_no_altered_byte_passes(tmp_path_factory: pytest.TempPathFactory, position: int, flip: int) -> None:
    cache = FeatureCache(tmp_path_factory.getbasetemp() / "altered")
    cache.put(KEY, some_features())
    content = bytearray(cache.path(KEY).read_bytes())
    content[position % len(content)] ^= flip
    cache.path(KEY).write_bytes(content)
    found = cache.get(KEY)
    # a byte of the header's padding or metadata may change without a tensor changing
    for name, value in some_features().items():
        if found is not None:
            torch.testing.assert_close(found[name], value, atol=0, rtol=0)


def test_a_file_with_its_own_checksum_taken_out_is_damaged(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path)
    cache.put(KEY, some_features())
    path = cache.path(KEY)
    content = path.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + length])
    header["other"] = header.pop("sha256")
    text = json.dumps(header, separators=(",", ":")).encode().ljust(length)
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])
    assert cache.get(KEY) is None
    assert cache.stats().damaged == 1


WRITER = """
import sys, torch
from icube_common.vlm.features import FeatureCache
cache = FeatureCache(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
for _ in range(150):
    cache.put(sys.argv[2], {"features": torch.arange(20000.0)})
"""


def test_two_processes_write_one_key_while_a_third_reads(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path)
    expected = torch.arange(20000.0)
    cache.put(KEY, {"features": expected})
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), KEY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    for writer in writers:
        assert writer.stdout is not None and writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("\n")
        writer.stdin.flush()
    reads = 0
    while any(writer.poll() is None for writer in writers):
        found = cache.get(KEY)
        assert found is not None and torch.equal(found["features"], expected)
        reads += 1
    for writer in writers:
        writer.communicate()
        assert writer.returncode == 0
    assert reads > 20
    assert [path.name for path in cache.path(KEY).parent.iterdir()] == [f"{KEY}.safetensors"]


def test_failed_write_keeps_the_existing_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = FeatureCache(tmp_path)
    cache.put(KEY, some_features())

    def half_a_file(tensors: object, path: Path, metadata: object) -> None:
        path.write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr("icube_common.vlm.features.save_file", half_a_file)
    with pytest.raises(OSError, match="no space"):
        cache.put(KEY, {"features": torch.zeros(1)})
    found = cache.get(KEY)
    assert found is not None and torch.equal(found["features"], some_features()["features"])
    assert len(list(cache.path(KEY).parent.iterdir())) == 1


def test_pruning_removes_the_least_recently_used(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path)
    keys = [feature_key("b", str(number), {}) for number in range(4)]
    for age, key in enumerate(keys):
        cache.put(key, {"features": torch.zeros(100)})
        os.utime(cache.path(key), (1e9 + age, 1e9 + age))
    size = cache.path(keys[0]).stat().st_size
    assert cache.get(keys[0]) is not None  # the oldest, now used
    abandoned = cache.path(keys[3]).with_name(f".{keys[3]}.x.safetensors")
    abandoned.write_bytes(b"half")
    fresh = cache.path(keys[3]).with_name(f".{keys[3]}.y.safetensors")
    fresh.write_bytes(b"half")
    os.utime(abandoned, (time.time() - 7200,) * 2)
    assert cache.prune(2 * size) == 2 * size
    assert [cache.path(key).exists() for key in keys] == [True, False, False, True]
    assert (abandoned.exists(), fresh.exists()) == (False, True)
    assert cache.prune(2 * size) == 0
    assert cache.prune(0) == 2 * size
    assert cache.stats().files == 0
    assert FeatureCache(tmp_path / "absent").prune(0) == 0


def test_refusals(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path / "cache")
    for key in ("../../etc", "AB" * 32, "ab"):
        with pytest.raises(InputError, match="is no key of features"):
            cache.get(key)
    with pytest.raises(InputError, match="not finite"):
        cache.put(KEY, {"features": torch.tensor([1.0, float("nan")])})
    with pytest.raises(InputError, match="not finite in float16"):
        FeatureCache(tmp_path, half=True).put(KEY, {"features": torch.tensor([1e5])})
    for tensors in ({}, {"sha256": torch.zeros(1)}):
        with pytest.raises(InputError, match="at least one tensor"):
            cache.put(KEY, tensors)
    assert not (tmp_path / "cache").exists()
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(InputError, match="cannot be written"):
        cache.put(KEY, some_features())
    with pytest.raises(InputError, match="cannot be read"):
        cache.get(KEY)


def frames_of(number: int) -> Tensor:
    return torch.rand(number, 3, 4, 5, generator=torch.Generator().manual_seed(number))


def test_frames_are_read_once_and_in_order(tmp_path: Path) -> None:
    pixels, tower, cache = frames_of(7), CountingTower(), FeatureCache(tmp_path)
    read: list[int] = []

    def frames() -> Iterator[Tensor]:
        for number, frame in enumerate(pixels):
            read.append(number)
            yield frame

    expected = torch.cat([pixels.mean((2, 3)), pixels.amax((2, 3))], dim=1)
    for _ in range(2):
        found = encode_frames(tower, frames(), batch_size=3, cache=cache, key=KEY)
        torch.testing.assert_close(found, expected)
    assert tower.batches == [3, 3, 1]
    assert read == list(range(7))
    # without a cache: computed each time
    torch.testing.assert_close(encode_frames(tower, frames(), batch_size=7), expected)
    assert tower.batches == [3, 3, 1, 7]


def test_frames_refusals(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path)
    with pytest.raises(InputError, match="no frame to encode"):
        encode_frames(CountingTower(), [], cache=cache, key=KEY)
    with pytest.raises(InputError, match="needs a key"):
        encode_frames(CountingTower(), frames_of(1), cache=cache)
    with pytest.raises(InputError, match="not finite"):
        encode_frames(CountingTower(), frames_of(1) / 0, cache=cache, key=KEY)
    assert cache.stats().files == 0


def test_jobs_that_begin_together_do_not_take_each_other_for_strangers(tmp_path: Path) -> None:
    (tmp_path / ".features.abc.json").touch()  # as `atomic_file` names the head that it writes
    assert read_head(tmp_path, ("backbone",)) is None
    (tmp_path / "other").touch()
    with pytest.raises(InputError, match="exists already and is no folder of features"):
        read_head(tmp_path, ("backbone",))
