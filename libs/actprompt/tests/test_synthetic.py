"""Simulated videos: skeletons that are the drawn figure's, sets marked as simulated."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import actprompt.data.synthetic as simulate_module
from actprompt.data.synthetic import ACTIONS, PEOPLE, SIZE, draw, limb_directions, simulate, write_simulated
from actprompt.data.video import probe
from actprompt.skeleton.joint_angles import LIMB_JOINTS, active_side_first, limb_angles, torso_directions
from icube_common.errors import InputError

FIRST, *_, LEFT_HANDED = PEOPLE


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("person", [FIRST, LEFT_HANDED], ids=lambda person: person.name)
def test_skeletons_are_those_of_the_figure(action: str, person: simulate_module.Person) -> None:
    pose = simulate(action, person, seed=3)
    written = limb_directions(pose)
    assert written.shape == (len(pose.lean), 8, 3) and written.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(written, axis=2), 1, atol=1e-5)
    np.testing.assert_allclose(torso_directions(written), pose.limbs, atol=1e-5)


def angles(action: str, person: simulate_module.Person = FIRST) -> np.ndarray:
    return limb_angles(active_side_first(limb_directions(simulate(action, person, seed=2))))


@pytest.mark.parametrize("person", PEOPLE, ids=lambda person: person.name)
def test_movements_match_their_names(person: simulate_module.Person) -> None:
    raised, other, hips, knees = (slice(0, 1), slice(2, 3), [4, 6], [5, 7])
    wave = angles("wave", person)
    assert wave[:, raised].max() > 100 and wave[:, other].max() < 25 and wave[:, hips].max() < 20
    both = angles("raise both arms", person)
    assert both[0, [0, 2]].max() < 25 and both[-1, [0, 2]].min() > 130
    sit = angles("sit down", person)
    assert sit[0, [4, 5, 6, 7]].max() < 20 and sit[-1, knees].min() > 60 and sit[-1, hips].min() > 60
    bow = angles("bow", person)
    assert bow[len(bow) // 2, hips].min() > 45 and bow[-1, hips].max() < 20 and bow[:, knees].max() < 20
    clap = angles("clap", person)
    assert clap[len(clap) // 2, [1, 3]].min() > 50 and clap[:, hips].max() < 20


def test_seeds_and_people_differ() -> None:
    first = simulate("wave", FIRST, seed=1)
    np.testing.assert_array_equal(first.limbs, simulate("wave", FIRST, seed=1).limbs)
    other = simulate("wave", FIRST, seed=2)
    assert first.limbs.shape != other.limbs.shape or np.abs(first.limbs - other.limbs).max() > 0.05
    slow, fast = (next(p for p in PEOPLE if p.name == name) for name in ("figure-3", "figure-2"))
    assert len(simulate("bow", slow, seed=1).lean) > 1.3 * len(simulate("bow", fast, seed=1).lean)


def test_images_show_the_moving_figure() -> None:
    pose = simulate("raise both arms", FIRST, seed=1)
    frames = draw(pose, FIRST)
    assert frames.shape == (len(pose.lean), SIZE, SIZE, 3) and frames.dtype == np.uint8
    # the colour of the clothes is in every picture, and reaches higher when the arms are up
    there = np.abs(frames.astype(int) - np.array(FIRST.clothes)).sum(-1) < 40
    assert there.any((1, 2)).all()
    top = [int(np.argmax(rows.any(1))) for rows in there]
    assert top[-1] < top[0] - 3
    assert (frames[:, 0, 0] == FIRST.background).all()
    taller = draw(pose, simulate_module.Person(**{**vars(FIRST), "stature": 1.1}))
    assert int(np.argmax((np.abs(taller[0].astype(int) - np.array(FIRST.clothes)).sum(-1) < 40).any(1))) < top[0]


def test_a_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulate_module, "PEOPLE", PEOPLE[:2])
    made = write_simulated(tmp_path / "data", takes=1)
    assert len(made.clips) == 10 and made.class_names == tuple(ACTIONS)
    assert made.description["simulated"] is True and made.description["format"] == "simulated"
    assert "Simulated" in made.description["title"]
    assert {clip.subject for clip in made.clips} == {
        "figure-1",
        "figure-2",
    }
    table = made.parameters()
    assert table.values.shape == (10, len(table.names)) and not np.isnan(table.values).any()
    for clip in made.clips:
        info = probe(made.video(clip))
        assert (info.n_frames, info.fps) == (clip.n_frames, pytest.approx(clip.fps))
        skeleton = made.skeleton(clip)
        assert skeleton is not None and skeleton[0].shape == (clip.n_frames, len(LIMB_JOINTS), 3)
        assert skeleton[1][-1] == pytest.approx((clip.n_frames - 1) / simulate_module.FPS, abs=1e-3)
    again = write_simulated(tmp_path / "again", takes=1)
    assert (tmp_path / "again" / "parameters.csv").read_bytes() == (tmp_path / "data" / "parameters.csv").read_bytes()
    assert again.fingerprint == made.fingerprint
    with pytest.raises(InputError, match="exists already"):
        write_simulated(tmp_path / "data")
    with pytest.raises(InputError, match="takes 0"):
        write_simulated(tmp_path / "none", takes=0)
