from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from icube_common.errors import InputError
from motiondiff.data.readers import Clip, npz, read_or_reject
from motiondiff.skeleton.kinect import KINECT_V1


def sample(frames: int = 5, **changes: object) -> dict[str, object]:
    """Two joints: the second hangs 1 m below the first, which turns about x."""
    turns = np.zeros((frames, 2, 3))
    turns[:, 0, 0] = np.linspace(0, 1, frames)
    rotations = Rotation.from_rotvec(turns.reshape(-1, 3)).as_matrix().reshape(frames, 2, 3, 3)
    root = np.tile([0.0, 1.0, 0.0], (frames, 1))
    offsets = np.array([[0, 0, 0], [0, -1.0, 0]])
    positions = np.stack([root, root + rotations[:, 0] @ offsets[1]], axis=1)
    values: dict[str, object] = {
        "positions": positions.astype(np.float32), "rotations": rotations.astype(np.float32),
        "root": root.astype(np.float32), "joint_names": np.array(["top", "bottom"]), "parents": np.array([-1, 0]),
        "offsets": offsets, "fps": np.array(20.0), "action": np.array("bow"),
    }  # fmt: skip
    values |= changes
    return {key: value for key, value in values.items() if value is not None}


def write(folder: Path, values: dict[str, object], name: str = "clip.npz") -> Path:
    np.savez(folder / name, **values)
    return folder / name


def test_our_own_format(tmp_path):
    write(tmp_path, sample(subject="s01", tag="calm", clip_id="bow-1"))
    (ref,) = npz.find_clips(tmp_path)
    assert ref.clip_id == "clip"
    (clip,) = npz.read_clips(ref, 10)
    assert clip.clip_id == "clip"
    motion = clip.motion
    assert (motion.action, motion.subject, motion.style, motion.fps, len(motion)) == ("bow", "s01", "calm", 10.0, 3)
    assert motion.positions[2, 1] == pytest.approx([0, 1 - np.cos(1), -np.sin(1)], abs=1e-6)


def test_empty_text_is_none_and_integers_will_do(tmp_path):
    motion = npz.read_npz(write(tmp_path, sample(action=np.array(""), fps=np.array([20]))))
    assert motion.action is None
    assert motion.fps == 20


def test_descriptions(tmp_path):
    write(tmp_path, sample(texts=np.array(["a person bows", " "])))
    (clip,) = npz.read_clips(npz.find_clips(tmp_path)[0], 10)
    assert clip.motion.texts == ("a person bows",)


@pytest.mark.parametrize("texts", [np.array("one"), np.array([1.0]), np.array([["a", "b"]])])
def test_descriptions_that_are_no_list_of_texts(tmp_path, texts):
    with pytest.raises(InputError, match="texts must be a list of texts"):
        npz.read_npz(write(tmp_path, sample(texts=texts)))


def test_positions_alone_are_fitted(tmp_path, moving_kinect):
    positions = moving_kinect(amount=0.2)
    path = write(
        tmp_path, {"positions": positions, "joint_names": KINECT_V1.names, "parents": KINECT_V1.parents, "fps": 30}
    )
    motion = npz.read_npz(path)
    np.testing.assert_allclose(motion.positions, positions, atol=1e-4)
    assert motion.residual < 1e-4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fps": None}, "no 'fps' in it"),
        ({"joint_names": None}, "no 'joint_names'"),
        ({"offsets": None}, "rotations without 'offsets'"),
        ({"rotations": None, "positions": None}, "neither"),
        ({"fps": np.array(0)}, "fps 0.0 must be positive"),
        ({"fps": np.array([1, 2])}, "fps holds 2 values"),
        ({"fps": np.array("fast")}, "fps holds"),
        ({"parents": np.array([0, 1])}, "parents come first"),
        ({"root": np.zeros((4, 3))}, "do not fit"),
        ({"root": np.full((5, 3), np.nan)}, "frame 0"),
        ({"rotations": np.ones((5, 2, 3, 3))}, "frame 0: a matrix in rotations is not a rotation"),
        ({"rotations": np.tile(np.diag([1.0, 1, -1]), (5, 2, 1, 1))}, "is not a rotation"),
        ({"positions": np.zeros((5, 2, 3))}, "m apart on average"),
        ({"positions": np.zeros((5, 3, 3))}, "do not fit together"),
        ({"action": np.array(["a", "b"])}, "action must be one text"),
        ({"action": np.array({"a": 1}, dtype=object)}, "without object arrays"),
        ({"joint_names": np.array(["a", None], dtype=object)}, "without object arrays"),
    ],
)
def test_faults_are_named(tmp_path, changes, message):
    with pytest.raises(InputError, match=message) as caught:
        npz.read_npz(write(tmp_path, sample(**changes)))
    assert "clip.npz" in str(caught.value)


def test_no_pickle_is_ever_loaded(tmp_path):
    class Trap:
        def __reduce__(self):
            return (Path(tmp_path / "sprung").touch, ())

    path = write(tmp_path, sample(action=np.array([Trap()], dtype=object)))
    with pytest.raises(InputError):
        npz.read_npz(path)
    assert not (tmp_path / "sprung").exists()


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(npz, "MAX_FILE_BYTES", 1000)
    with pytest.raises(InputError, match="bytes unpacked"):
        npz.read_npz(write(tmp_path, sample()))


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 10**6), st.booleans())
def test_a_damaged_file_is_read_or_rejected(tmp_path_factory, seed, cut):
    folder = tmp_path_factory.mktemp("damaged")
    data, rng = bytearray(write(folder, sample()).read_bytes()), random.Random(seed)
    place = rng.randrange(len(data))
    if cut:
        del data[place:]
    else:
        data[place] = rng.randrange(256)
    (folder / "clip.npz").write_bytes(bytes(data))
    (ref,) = npz.find_clips(folder)
    (result,) = read_or_reject(ref, 30)
    if isinstance(result, Clip):
        assert np.isfinite(result.motion.positions).all()
    else:
        assert "clip.npz" in result.reason
