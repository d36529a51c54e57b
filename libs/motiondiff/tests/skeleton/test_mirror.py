"""Labels and captions of mirrored motions: sides exchanged as whole words, or refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from icube_common.errors import InputError
from icube_common.training import SampleRef
from motiondiff.augmentation.config import FilterConfig
from motiondiff.augmentation.generators import DiffusionGenerator
from motiondiff.config import DataConfig
from motiondiff.data.dataset import MotionDataset
from motiondiff.data.labels.captions import EmbeddedCaptions, store_captions
from motiondiff.data.prepare import Clip, PrepareOptions, write_store
from motiondiff.data.store import MotionStore
from motiondiff.data.synthetic import simulate_motion
from motiondiff.pipelines.motion_diffusion import MotionDiffusionPipeline
from motiondiff.skeleton.mirror import mirror, mirror_labels, mirror_text

CONFIG = DataConfig(max_frames=24, min_frames=8, mirror=1.0)


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("walk-turn-left", "walk-turn-right"), ("wave left hand", "wave right hand"), ("Right_Kick", "Left_Kick"),
        ("turnLeft", "turnRight"), ("KICK RIGHT", "KICK LEFT"), ("one-hand-left", "one-hand-right"),
        ("a person waves his left hand, then the right", "a person waves his right hand, then the left"),
        ("left-handed throw", "right-handed throw"), ("steps leftwards", "steps rightwards"),
        ("turn clockwise", "turn counterclockwise"), ("turns counter-clockwise", "turns clockwise"),
        ("anticlockwise", "clockwise"), ("righthand wave", "lefthand wave"), ("left", "right"),
        ("stand upright", "stand upright"), ("bright leftovers", "bright leftovers"), ("walk", "walk"),
        ("copyright", "copyright"),
    ],
)  # fmt: skip
def test_texts_in_a_mirror(text: str, other: str) -> None:
    assert mirror_text(text) == other


def test_labels_in_a_mirror() -> None:
    names = [
        "walk",
        "turn left",
        "turn right",
        "kick_L",
        "kick_R",
        "plan L",
        "clockwise",
        "anticlockwise",
        "wave right",
    ]
    assert mirror_labels(names, range(8), "action", "data.mirror=1").tolist() == [0, 2, 1, 4, 3, 5, 7, 6, 8]
    with pytest.raises(
        InputError, match=r"data.mirror=1: the action 'wave right' names a side, and 'wave left' is none of the actions"
    ):
        mirror_labels(names, range(9), "action", "data.mirror=1")


def sided_store(path: Path, labels: list[tuple[str, str]], texts: tuple[str, ...] = ()) -> MotionStore:
    clips = []
    for number, (action, style) in enumerate(labels):
        motion = replace(simulate_motion("wave", number, fps=10), action=action, style=style, texts=texts)
        clips.append(Clip(f"c{number}", replace(motion, subject=f"s{number}")))
    options = PrepareOptions(fps=10, split_by="subject", test_groups=("s0",))
    return write_store(clips, path, options, description={"format": "npz", "source": "x", "simulated": True})


def test_mirrored_windows_have_the_labels_of_the_other_side(tmp_path: Path) -> None:
    labels = [("wave-left-hand", "one-hand-left"), ("wave-right-hand", "one-hand-right")] * 3
    store = sided_store(tmp_path / "s", labels)
    clips = np.arange(len(labels))
    windows = MotionDataset(store, clips, CONFIG, augment=True)
    plain = MotionDataset(store, clips, replace(CONFIG, mirror=0.0), augment=True)
    half = MotionDataset(store, clips, replace(CONFIG, mirror=0.5), augment=True)
    for index in range(len(clips)):
        draw = SampleRef(index, index)
        for kind, names in (("action", store.actions), ("style", store.styles)):
            assert names[windows[draw][kind]] == mirror_text(names[plain[draw][kind]])
        for seed in range(10):  # with the motion, never without it
            one, other = half[SampleRef(index, seed)], windows[SampleRef(index, seed)]
            mirrored = np.array_equal(one["features"], other["features"])
            assert (one["action"] == other["action"]) == mirrored


def test_labels_without_their_other_side_are_refused(tmp_path: Path) -> None:
    store = sided_store(tmp_path / "s", [("wave-left-hand", "calm"), ("walk", "calm"), ("walk", "calm")])
    clips = np.arange(3)
    with pytest.raises(InputError, match=r"data.mirror=1: the action 'wave-left-hand' names a side"):
        MotionDataset(store, clips, CONFIG, augment=True)
    assert len(MotionDataset(store, clips, CONFIG, augment=False)) == 3  # not mirrored in validation
    assert len(MotionDataset(store, np.array([1, 2]), CONFIG, augment=True)) == 2  # no clip of it is mirrored
    tagged = sided_store(tmp_path / "t", [("walk", "one-hand-left"), ("walk", "calm")])
    with pytest.raises(InputError, match="the style 'one-hand-left' names a side"):
        MotionDataset(tagged, np.arange(2), CONFIG, augment=True)


def test_captions_of_mirrored_windows(tmp_path: Path) -> None:
    store = sided_store(tmp_path / "s", [("wave", "calm")] * 3, texts=("a person waves the left hand",))
    captions = store_captions(store, mirror=True)
    count = len(captions.texts)
    embedded = EmbeddedCaptions(captions, np.eye(count, dtype=np.float32))
    for chance, expected in ((1.0, "a person waves the right hand"), (0.0, "a person waves the left hand")):
        windows = MotionDataset(store, np.arange(3), replace(CONFIG, mirror=chance), augment=True, captions=embedded)
        assert captions.texts[windows[SampleRef(0, 3)]["text"].argmax()] == expected
    plain = EmbeddedCaptions(store_captions(store), np.eye(count - 1, dtype=np.float32))
    with pytest.raises(InputError, match="have no mirrored texts"):
        MotionDataset(store, np.arange(3), CONFIG, augment=True, captions=plain)


def test_a_mirrored_motion_has_the_other_sides_labels() -> None:
    motion = replace(simulate_motion("wave", 0), action="wave left", style="Left", texts=("the left hand",))
    seen = mirror(motion)
    assert (seen.action, seen.style, seen.texts) == ("wave right", "Right", ("the right hand",))


def test_variations_in_a_mirror_begin_from_the_other_side(tmp_path: Path, pipeline: MotionDiffusionPipeline) -> None:
    config = FilterConfig(noise_strength=0.5, mirror=1.0)
    store = sided_store(tmp_path / "s", [("wave left", "a"), ("wave right", "a")] * 3)
    generator = DiffusionGenerator(pipeline, config, store)
    rights = {clip.positions.tobytes() for clip in generator.sources["wave right"]}
    for number in range(6):
        source = generator._source("wave left", number, 0)
        assert source.action == "wave left" and mirror(source).positions.tobytes() in rights
    store = sided_store(tmp_path / "t", [("wave left", "a"), ("walk", "a"), ("wave left", "a")])
    with pytest.raises(InputError, match="mirror=1: the action 'wave left' names a side"):
        DiffusionGenerator(pipeline, config, store)
