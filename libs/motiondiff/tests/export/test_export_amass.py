"""AMASS out and back, and centimetres in BVH out and back."""

from __future__ import annotations

import numpy as np
import pytest
from published_formats import moving

from icube_common.errors import InputError
from motiondiff.cli import main
from motiondiff.data.prepare import PrepareOptions, prepare
from motiondiff.data.readers.motion_file import read_motion
from motiondiff.data.synthetic import simulate_motion
from motiondiff.export import export
from motiondiff.export.bvh import write_bvh
from motiondiff.export.convert import export_files
from motiondiff.export.npz import write_npz
from motiondiff.skeleton.motion import RigidTransform, apply_transform
from motiondiff.skeleton.skeleton import Skeleton
from motiondiff.skeleton.smpl import mean_skeleton


@pytest.mark.parametrize(("joints", "numbers"), [(22, 156), (24, 72)])
def test_amass_out_and_back(tmp_path, joints, numbers):
    motion = apply_transform(moving(mean_skeleton(joints), 30, amount=0.8), RigidTransform(0.7, (1.0, 0.9, -2.0)))
    export(motion, tmp_path / "a_poses.npz", "amass")
    arrays = np.load(tmp_path / "a_poses.npz", allow_pickle=False)
    assert arrays["poses"].shape == (30, numbers) and arrays["trans"].shape == (30, 3)
    assert float(arrays["mocap_framerate"]) == motion.fps and str(arrays["gender"]) == "neutral"
    assert not arrays["betas"].any() and not arrays["poses"][:, 3 * joints :].any()
    # z is up; the model adds its rest pelvis (-0.002, -0.223, 0.028) to the translation as it is, unturned
    np.testing.assert_allclose(arrays["trans"][:, 2], motion.root[:, 1] - 0.028, atol=1e-6)
    np.testing.assert_allclose(arrays["trans"][:, 1], -motion.root[:, 2] + 0.223, atol=1e-6)
    back = read_motion(tmp_path / "a_poses.npz")
    assert np.abs(back.positions - motion.positions).max() < 1e-4
    assert np.abs(back.rotations - motion.rotations).max() < 1e-4
    store = prepare("amass", tmp_path, tmp_path / "store", PrepareOptions(fps=None))
    again = apply_transform(store[0], store.world_transform(0))
    assert np.abs(again.positions - motion.positions).max() < 1e-4


def test_a_store_as_amass_recordings(tmp_path):
    motion = moving(mean_skeleton(22), 30)
    (tmp_path / "in").mkdir()
    write_npz(motion, tmp_path / "in" / "walk.npz")
    prepare("npz", tmp_path / "in", tmp_path / "store", PrepareOptions(fps=None))
    export_files(tmp_path / "store", tmp_path / "out", "amass", world=True)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["walk_poses.npz"]
    assert np.abs(read_motion(tmp_path / "out" / "walk_poses.npz").positions - motion.positions).max() < 1e-4


def test_other_bodies_are_refused_with_the_command_that_helps(tmp_path, capsys):
    write_npz(simulate_motion("walk", 0, fps=10), tmp_path / "other.npz")
    mean, factors = mean_skeleton(22), np.ones((22, 1), dtype=np.float32)
    factors[4] = 1.1
    tall = moving(Skeleton(mean.names, mean.parents, mean.offsets * factors), 10)
    write_npz(tall, tmp_path / "tall.npz")
    for name, words in (("other", "joints that are not SMPL's"), ("tall", "left_knee is 0.038 m off")):
        status = main(["export", str(tmp_path / f"{name}.npz"), "--to", "amass", "--out", str(tmp_path / "x.npz")])
        error = capsys.readouterr().err.strip()
        assert status == 2 and "\n" not in error and f"{name}.npz" in error, error
        assert words in error and "motiondiff retarget FILE --to smpl-22" in error
        assert not (tmp_path / "x.npz").exists()


def test_centimetres_out_and_back(tmp_path):
    motion = simulate_motion("walk", 0, fps=30)
    write_npz(motion, tmp_path / "m.npz")
    words = ["export", str(tmp_path / "m.npz"), "--to", "bvh", "--out", str(tmp_path / "cm.bvh"), "--scale", "100"]
    assert main(words) == 0
    write_bvh(motion, tmp_path / "m.bvh")
    lengths = [
        np.array(
            [[float(word) for word in line.split()[1:]] for line in path.read_text().splitlines() if "OFFSET" in line]
        )
        for path in (tmp_path / "cm.bvh", tmp_path / "m.bvh")
    ]
    np.testing.assert_allclose(lengths[0], 100 * lengths[1], atol=1e-4)
    assert np.abs(read_motion(tmp_path / "cm.bvh").positions - motion.positions).max() < 1e-4


@pytest.mark.parametrize(
    ("format", "scale", "words"),
    [
        ("glb", "100", "glb files are in metres, which programs convert; only bvh is scaled"),
        ("npz", "100", "npz files are in metres"),
        ("html", "2", "html files are in metres"),
        ("bvh", "0", "--scale 0: must be a positive number"),
        ("bvh", "nan", "--scale nan: must be a positive number"),
    ],
)
def test_scales_that_are_refused(tmp_path, capsys, format, scale, words):
    write_npz(simulate_motion("walk", 0, fps=10), tmp_path / "m.npz")
    out = tmp_path / "x"
    assert main(["export", str(tmp_path / "m.npz"), "--to", format, "--out", str(out), "--scale", scale]) == 2
    assert words in capsys.readouterr().err and not out.exists()
    with pytest.raises(InputError, match="scale"):
        export(simulate_motion("walk", 0, fps=10), out, format, scale=float(scale))
