from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from icube_common.errors import InputError
from motiondiff.export import export
from motiondiff.export.npz import write_npz


def test_holds_the_motion_without_pickled_objects(tmp_path, random_motion):
    motion = random_motion(2, frames=5, joints=7, fps=29.97)
    path = write_npz(motion, tmp_path / "m.npz", clip_id="clip-9")
    with np.load(path, allow_pickle=False) as archive:
        read = {name: archive[name] for name in archive.files}
    assert not any(array.dtype.hasobject for array in read.values())
    assert {name: (array.shape, array.dtype.kind) for name, array in read.items()} == {
        "positions": ((5, 7, 3), "f"), "rotations": ((5, 7, 3, 3), "f"), "root": ((5, 3), "f"),
        "joint_names": ((7,), "U"), "parents": ((7,), "i"), "offsets": ((7, 3), "f"), "fps": ((), "f"),
        "action": ((), "U"), "tag": ((), "U"), "subject": ((), "U"), "clip_id": ((), "U"),
    }  # fmt: skip
    for name in ("positions", "rotations", "root"):
        assert read[name].dtype == np.float32
        np.testing.assert_array_equal(read[name], getattr(motion, name))
    assert tuple(read["joint_names"]) == motion.skeleton.names
    assert tuple(read["parents"]) == motion.skeleton.parents
    np.testing.assert_array_equal(read["offsets"], motion.skeleton.offsets)
    assert float(read["fps"]) == 29.97
    texts = [str(read[name]) for name in ("action", "tag", "subject", "clip_id")]
    assert texts == ["wave", "calm", "s01", "clip-9"]


def test_unknown_texts_are_empty(tmp_path, random_motion):
    motion = replace(random_motion(2), action=None, style=None, subject=None)
    with np.load(write_npz(motion, tmp_path / "m.npz"), allow_pickle=False) as archive:
        assert [str(archive[name]) for name in ("action", "tag", "subject", "clip_id")] == [""] * 4


def test_the_name_given_is_the_name_written(tmp_path, random_motion):
    export(random_motion(2), tmp_path / "m.data", "npz")
    assert [path.name for path in tmp_path.iterdir()] == ["m.data"]


@pytest.mark.parametrize("format", ["bvh", "npz", "gltf", "glb", "html"])
def test_failed_write_keeps_the_existing_file(tmp_path, random_motion, monkeypatch, format):
    target = tmp_path / f"m.{format}"
    target.write_text("old")

    def fail(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("numpy.savez_compressed", fail)
    monkeypatch.setattr("pathlib.Path.write_text", fail)
    monkeypatch.setattr("pathlib.Path.write_bytes", fail)
    with pytest.raises(InputError, match=rf"m\.{format}: cannot be written \(No space left on device\)"):
        export(random_motion(2), target, format)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_places_that_cannot_be_written(tmp_path, random_motion):
    with pytest.raises(InputError, match="is a folder, a file expected"):
        export(random_motion(2), tmp_path, "bvh")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        export(random_motion(2), tmp_path / "file" / "m.bvh", "bvh")


def test_unknown_formats_are_named_with_the_known_ones(tmp_path, random_motion):
    with pytest.raises(
        InputError, match=r"unknown format 'bhv': did you mean 'bvh'\? \(known: amass, blend, bvh, gif, glb, .*\)"
    ):
        export(random_motion(2), tmp_path / "m.bvh", "bhv")
    with pytest.raises(InputError, match="unknown format ''"):
        export(random_motion(2), tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


def test_the_suffix_names_the_format(tmp_path, random_motion):
    path = export(random_motion(2), tmp_path / "new" / "m.BVH")
    assert path.read_text().startswith("HIERARCHY")
