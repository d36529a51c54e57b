"""Arrays of text-to-motion models and sets: joints, vectors, and MDM's dictionary, read without unpickling objects."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from published_formats import moving

from icube_common.errors import InputError
from motiondiff.cli import main
from motiondiff.data.prepare import PrepareOptions, prepare
from motiondiff.data.readers import Clip, Rejection, get_reader, read_or_reject
from motiondiff.data.readers.motion_file import read_motion, read_motions
from motiondiff.data.readers.smpl.npy import KIT_NAMES, KIT_PARENTS, KIT_UNIT
from motiondiff.export.convert import export_files
from motiondiff.skeleton.humanml3d import joints_to_vectors, vectors_to_joints
from motiondiff.skeleton.skeleton import Skeleton
from motiondiff.skeleton.smpl import mean_skeleton

ROOT = Path(__file__).resolve().parents[5]
KIT_OFFSETS = np.array(
    [
        (0, 0, 0), (0, 0.1, 0), (0, 0.25, 0), (0, 0.2, 0), (0, 0.1, 0),
        (0.2, 0, 0), (0.28, 0, 0), (0.25, 0, 0), (-0.2, 0, 0), (-0.28, 0, 0), (-0.25, 0, 0),
        (0.1, -0.05, 0), (0, -0.42, 0), (0, -0.4, 0), (0, -0.05, 0.08), (0, 0, 0.1),
        (-0.1, -0.05, 0), (0, -0.42, 0), (0, -0.4, 0), (0, -0.05, 0.08), (0, 0, 0.1),
    ],
    dtype=np.float32,
)  # fmt: skip


def standing(joints: int = 22, frames: int = 40, seed: int = 0) -> np.ndarray:
    """(T, J, 3) metres, feet near the floor."""
    skeleton = Skeleton(KIT_NAMES, KIT_PARENTS, KIT_OFFSETS) if joints == 21 else mean_skeleton(joints)
    positions = moving(skeleton, frames, seed, amount=0.25).positions.astype(np.float64)
    positions[..., 1] -= positions[..., 1].min()
    return positions


def read(path: Path) -> tuple[dict[str, Clip], dict[str, str]]:
    results = [item for ref in get_reader("npy").find_clips(path) for item in read_or_reject(ref)]
    clips = {item.clip_id: item for item in results if isinstance(item, Clip)}
    return clips, {item.clip_id: item.reason for item in results if isinstance(item, Rejection)}


def one(path: Path, array: np.ndarray):
    np.save(path, array)
    clips, reasons = read(path)
    assert not reasons and list(clips) == [path.stem]
    return clips[path.stem].motion


def test_joints_of_22_24_and_52(tmp_path):
    joints = standing()
    for array in (joints, joints.astype("f4"), np.concatenate([joints, np.zeros((40, 30, 3))], 1)):
        motion = one(tmp_path / "a.npy", array)
        assert motion.fps == 20 and motion.skeleton.names == mean_skeleton(22).names
        np.testing.assert_allclose(motion.positions, joints, atol=1e-3)
    whole = standing(24)
    np.testing.assert_allclose(one(tmp_path / "a.npy", whole).positions, whole, atol=1e-3)
    upside_down = one(tmp_path / "a.npy", whole @ np.diag([1, -1, -1]))
    np.testing.assert_allclose(upside_down.positions, whole, atol=1e-3)
    assert upside_down.source == "a.npy, turned upright"


def test_kit_joints_and_vectors(tmp_path):
    joints = standing(21)
    for array in (joints, joints / KIT_UNIT):
        motion = one(tmp_path / "kit.npy", array)
        assert motion.fps == 12.5 and len(motion.skeleton) == 21 and len(motion.skeleton.left_right_pairs) == 2
        np.testing.assert_allclose(motion.positions, joints, atol=1e-3)
    # vectors: heights and places beside the root, in a body that neither turns nor moves
    still = joints.copy()
    still[:, :, [0, 2]] -= still[:, :1, [0, 2]]
    vectors = np.zeros((40, 251))
    vectors[:, 3] = still[:, 0, 1]
    vectors[:, 4:64] = still[:, 1:].reshape(40, 60)
    np.testing.assert_allclose(vectors_to_joints(vectors, 21), still, atol=1e-6)
    scaled = vectors / KIT_UNIT
    np.testing.assert_allclose(one(tmp_path / "kit.npy", scaled).positions, still, atol=1e-3)


@pytest.mark.parametrize("joints", [21, 22])
def test_a_mirrored_body_is_mirrored_back(tmp_path, joints):
    body = standing(joints)
    motion = one(tmp_path / "m.npy", body * [-1, 1, 1])
    np.testing.assert_allclose(motion.positions, body, atol=1e-3)
    assert motion.source == "m.npy, mirrored back"
    assert one(tmp_path / "m.npy", body).source == "m.npy"


def test_vectors_and_normalised_vectors(tmp_path):
    vectors = joints_to_vectors(standing())
    wanted = one(tmp_path / "v.npy", vectors).positions
    np.testing.assert_allclose(wanted, vectors_to_joints(vectors), atol=1e-3)
    rng = np.random.default_rng(0)
    mean, std = vectors.mean(0) + rng.normal(size=263) * 0.3, rng.uniform(0.05, 0.6, size=263)
    np.save(tmp_path / "v.npy", (vectors - mean) / std)
    assert "normalised ones need their Mean.npy and Std.npy beside the file" in read(tmp_path / "v.npy")[1]["v"]
    np.save(tmp_path / "Mean.npy", mean)
    np.save(tmp_path / "Std.npy", std)
    np.testing.assert_allclose(read(tmp_path / "v.npy")[0]["v"].motion.positions, wanted, atol=1e-3)


def mdm_results(count: int = 4, frames: int = 40) -> tuple[dict, list[np.ndarray]]:
    """MDM's dictionary of two samples, two repetitions; the joints that it holds."""
    joints = [standing(frames=frames, seed=seed) for seed in range(count)]
    lengths = np.array([frames, frames - 10, frames, 12])[:count]
    content = {
        "motion": np.stack([one.transpose(1, 2, 0) for one in joints]).astype(np.float32),
        "text": ["a person walks", "someone sits down", "a person walks", "someone sits down"][:count],
        "lengths": lengths,
        "num_samples": 2,
        "num_repetitions": 2,
    }
    return content, [one[:length] for one, length in zip(joints, lengths, strict=True)]


def test_results_of_mdm(tmp_path):
    content, joints = mdm_results()
    np.save(tmp_path / "results.npy", content, allow_pickle=True)
    clips, reasons = read(tmp_path / "results.npy")
    assert not reasons
    names = ["sample00_rep00", "sample01_rep00", "sample00_rep01", "sample01_rep01"]
    assert list(clips) == [f"results/{name}" for name in names]
    for clip, wanted in zip(clips.values(), joints, strict=True):
        np.testing.assert_allclose(clip.motion.positions, wanted, atol=1e-3)
    assert clips["results/sample01_rep01"].motion.texts == ("someone sits down",)
    store = prepare("npy", tmp_path, tmp_path / "store", PrepareOptions(fps=None))
    assert len(store) == 4 and store.fps == 20


def test_results_as_vectors_lists_and_stacks(tmp_path):
    content, joints = mdm_results(2)
    vectors = [joints_to_vectors(standing(seed=seed)) for seed in range(2)]
    content |= {"motion": np.stack([one.T[:, None] for one in vectors]), "lengths": np.array([39, 20])}
    np.save(tmp_path / "results.npy", content, allow_pickle=True)
    clips = list(read(tmp_path / "results.npy")[0].values())
    assert [len(clip.motion) for clip in clips] == [39, 20]
    np.testing.assert_allclose(clips[0].motion.positions, vectors_to_joints(vectors[0]), atol=1e-3)
    np.save(tmp_path / "results.npy", {"motion": joints}, allow_pickle=True)  # of 40 and 30 frames
    assert list(read(tmp_path / "results.npy")[0]) == ["results/0000", "results/0001"]
    np.save(tmp_path / "stack.npy", np.stack([standing(seed=seed) for seed in range(3)]))  # T2M-GPT: (N, T, 22, 3)
    assert list(read(tmp_path / "stack.npy")[0]) == ["stack/0000", "stack/0001", "stack/0002"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (np.zeros((40, 17, 3)), r"holds an array \(40, 17, 3\)"),
        (np.zeros(263), r"holds an array \(263,\)"),
        (np.full((4, 22, 3), np.nan), "NaN"),
        (np.array(["a"]), "numbers expected"),
        (standing() * 1000, "legs of 7.* m: not a body in metres"),
        ({"vertices": np.zeros(3)}, "a dictionary with vertices; MDM's results have motion"),
        ({"motion": mdm_results()[0]["motion"], "text": ["a"]}, "4 motions, but 1 text"),
        ({"motion": mdm_results()[0]["motion"], "lengths": np.array([1, 2, 3, 41])}, "motion 3 has length 41, and 40"),
    ],
)
def test_other_arrays_are_refused(tmp_path, content, words):
    np.save(tmp_path / "x.npy", content, allow_pickle=True)
    with pytest.raises(InputError, match=words) as caught:
        read_motions(tmp_path / "x.npy")
    assert "x.npy" in str(caught.value) and "\n" not in str(caught.value)


class _Harmful:
    def __reduce__(self):
        return (os.mkdir, ("made-by-a-pickle",))


def test_a_pickle_that_names_a_function_is_refused_and_not_executed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save(tmp_path / "x.npy", {"motion": _Harmful()}, allow_pickle=True)
    with pytest.raises(InputError, match=r"the pickle names posix\.mkdir"):
        read_motions(tmp_path / "x.npy")
    assert not (tmp_path / "made-by-a-pickle").exists()
    data = (tmp_path / "x.npy").read_bytes()
    for damaged in (b"", data[:20], b"\x93NUMPY\x09\x00" + data[8:], data[:-5]):
        (tmp_path / "x.npy").write_bytes(damaged)
        with pytest.raises(InputError, match=r"x\.npy: "):
            read_motions(tmp_path / "x.npy")


def test_export_makes_a_file_of_one_motion_and_a_folder_of_several(tmp_path, capsys):
    content, joints = mdm_results()
    np.save(tmp_path / "results.npy", content, allow_pickle=True)
    assert main(["export", str(tmp_path / "results.npy"), "--to", "bvh", "--out", str(tmp_path / "out")]) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        f"sample0{sample}_rep0{repetition}.bvh" for sample in range(2) for repetition in range(2)
    ]
    back = read_motion(tmp_path / "out" / "sample01_rep01.bvh")
    order = [back.skeleton.names.index(name) for name in mean_skeleton(22).names]
    np.testing.assert_allclose(back.positions[:, order], joints[3], atol=1e-3)
    np.save(tmp_path / "momask.npy", joints[0])
    export_files(tmp_path / "momask.npy", tmp_path / "momask.npz", "npz")
    np.testing.assert_allclose(np.load(tmp_path / "momask.npz")["positions"], joints[0], atol=1e-3)
    export_files(tmp_path / "results.npy", tmp_path / "page.html", "html", more=[tmp_path / "momask.npy"])
    assert "sample01_rep01" in (tmp_path / "page.html").read_text()
    with pytest.raises(InputError, match="holds 4 motions, one expected: `motiondiff export"):
        read_motion(tmp_path / "results.npy")


@pytest.mark.real_data
def test_real_files(tmp_path):
    folder = Path(os.environ.get("ICUBE_DATA", ROOT.parent / "shared" / "data")) / "motion" / "humanml3d_sample"
    if not folder.is_dir():
        pytest.skip(f"no {folder.name} in {folder.parent}")
    joints = np.load(folder / "HumanML3D" / "new_joints" / "012314.npy")
    for name in ("new_joints", "new_joint_vecs"):
        motion = read_motion(folder / "HumanML3D" / name / "012314.npy")
        np.testing.assert_allclose(motion.positions, joints, atol=1e-4)
    momask = np.load(folder / "momask" / "example_data" / "000612.npy")
    motion = read_motion(folder / "momask" / "example_data" / "000612.npy")
    np.testing.assert_allclose(motion.positions, vectors_to_joints(momask), atol=1e-4)
    assert motion.source == "000612.npy"
    normalised = (momask - np.load(folder / "HumanML3D" / "Mean.npy")) / np.load(folder / "HumanML3D" / "Std.npy")
    np.save(tmp_path / "z.npy", normalised)
    with pytest.raises(InputError, match=r"z\.npy.*Mean\.npy and Std\.npy"):
        read_motion(tmp_path / "z.npy")
