"""One bad file is one line in ``rejected.csv``, whatever reading it raises, in this process and in others."""

from __future__ import annotations

import csv
import os
import signal
from pathlib import Path

import pytest
from bvh_rigs import body

from icube_common.errors import InputError
from motiondiff.data import prepare as prepare_module
from motiondiff.data.prepare import PrepareOptions, prepare
from motiondiff.data.readers import npz, read_or_reject
from motiondiff.data.readers.base import ClipRef, Rejection
from motiondiff.skeleton.motion import Motion


class Unforeseen(Exception):
    """An exception that no process can hand to another: its arguments are not those it is made of."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(f"{one}\n{two}")


def lines(store: Path) -> list[list[str]]:
    with (store / "rejected.csv").open(newline="") as handle:
        return list(csv.reader(handle))[1:]


@pytest.mark.parametrize(
    "error",
    [ValueError("two\nlines"), KeyError("Hips"), ZeroDivisionError(), RecursionError("deep"), MemoryError(),
     AssertionError(), OSError(5, "Input/output error"), UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
     Unforeseen("a", "b")],
)  # fmt: skip
def test_any_exception_of_one_file_is_one_rejection(tmp_path, monkeypatch, error):
    def fail(*_: object, **__: object) -> None:
        raise error

    (tmp_path / "a.npz").write_bytes(b"")
    monkeypatch.setattr(npz, "read_npz", fail)
    (one,) = read_or_reject(ClipRef("npz", "a", (tmp_path / "a.npz",)), 20)
    assert one.clip_id == "a" and "a.npz" in one.reason and type(error).__name__ in one.reason
    assert "\n" not in one.reason


@pytest.mark.parametrize("step", ["_select", "canonicalise"])
def test_so_is_one_after_reading(tmp_path, monkeypatch, step):
    whole = getattr(prepare_module, step)

    def fail(motion: Motion, *others: object) -> object:
        if motion.source == "b.bvh":
            raise ZeroDivisionError("by\nzero")
        return whole(motion, *others)

    folder = tmp_path / "folder"
    folder.mkdir()
    for name in "abc":
        (folder / f"{name}.bvh").write_text(body())
    monkeypatch.setattr(prepare_module, step, fail)
    store = prepare("bvh", folder, tmp_path / "store", PrepareOptions())
    assert store.clip_ids == ["a", "c"]
    assert lines(store.path) == [["b", "cannot be read (ZeroDivisionError: by zero)"]]
    with pytest.raises(InputError, match=r"^b: cannot be read \(ZeroDivisionError: by zero\)$"):
        prepare("bvh", folder, tmp_path / "strict", PrepareOptions(strict=True))


class Kill:
    """A reader that ends its process on one file."""

    def __init__(self, name):
        self.name = name

    def __call__(self, reference):
        if reference == self.name:
            os.kill(os.getpid(), signal.SIGKILL)
        return [Rejection(reference, "read")]


def test_a_killed_reader_is_rejected_alone(monkeypatch):
    monkeypatch.setattr(prepare_module, "MIN_CLIPS_FOR_POOL", 1)
    monkeypatch.setattr(prepare_module, "available_cores", lambda: 2)
    with prepare_module.worker_pool(4) as pool:
        items = list(prepare_module.read_all(["a", "b", "c", "d"], Kill("b"), pool, str))
    assert [(item.clip_id, item.reason) for item in items] == [
        ("a", "read"),
        ("b", "its worker process was killed twice, usually for lack of memory"),
        ("c", "read"),
        ("d", "read"),
    ]


def test_so_is_one_in_another_process(tmp_path, monkeypatch):
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in "abc":
        (folder / f"{name}.bvh").write_text(body())
    os.mkfifo(folder / "pipe.bvh")  # no regular file: not even looked at
    (folder / "d.bvh").write_text(body().replace("CHANNELS 3 Zrotation Xrotation Yrotation", "CHANNELS 0"))
    (folder / "e.bvh").write_bytes(bytes(range(256)) * 20)
    monkeypatch.setattr(prepare_module, "MIN_CLIPS_FOR_POOL", 1)
    monkeypatch.setattr(prepare_module, "available_cores", lambda: 2)
    store = prepare("bvh", folder, tmp_path / "store", PrepareOptions())
    assert store.clip_ids == ["a", "b", "c"]
    rejected = dict(lines(store.path))
    assert set(rejected) == {"d", "e"} and all(f"{name}.bvh" in reason for name, reason in rejected.items())
