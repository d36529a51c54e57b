"""Editing a motion file, composing a timeline, distilling a run: good paths through the command, and wrong input."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import Command, as_json, command_fixture

from icube_common.errors import InputError
from icube_common.training import StepRandom
from icube_common.training.sampler import SampleRef
from motiondiff.cli import main
from motiondiff.config import MotionDiffConfig
from motiondiff.data.dataset import MotionDataset, collate
from motiondiff.data.readers.motion_file import read_motion
from motiondiff.data.store import MotionStore
from motiondiff.data.synthetic import simulate_motion
from motiondiff.export import export
from motiondiff.models.representation import MotionRepresentation
from motiondiff.pipelines.editing import EditOptions, conditioned_mask, load_source, parse_ranges, seams
from motiondiff.pipelines.long_motion import plan, real_fastest
from motiondiff.pipelines.motion_diffusion import MotionDiffusionPipeline
from motiondiff.pipelines.sampling import SampleOptions, is_distilled, load_pipeline, resolve
from motiondiff.pipelines.timeline import Timeline, TimelineEntry, load_timeline
from motiondiff.schedulers import make_scheduler
from motiondiff.skeleton.kinematics import joint_speeds
from motiondiff.skeleton.motion import Motion, RigidTransform, apply_transform
from motiondiff.skeleton.skeleton import Skeleton
from motiondiff.training.diffusion import make_denoiser, train
from motiondiff.training.diffusion_loss import make_noise_schedule
from motiondiff.training.distillation import ConsistencyLoss

ConfigMaker = Callable[..., MotionDiffConfig]
FRAMES = 24


command = command_fixture(main, "motiondiff")


def recorded(frames: int = FRAMES) -> Motion:
    """A walk at 10 fps, somewhere in a room, on a taller body than the model's."""
    motion = simulate_motion("walk", 4, fps=10)
    motion = replace(motion.cut(0, min(frames, len(motion))), action=None)
    tall = Skeleton(motion.skeleton.names, motion.skeleton.parents, motion.skeleton.offsets * np.float32(1.1))
    return apply_transform(replace(motion, skeleton=tall), RigidTransform(0.8, (2.0, 0.0, -1.0)))


@pytest.fixture
def walk(tmp_path: Path) -> Path:
    path = tmp_path / "walk.npz"
    export(recorded(), path, "npz", clip_id="walk")
    return path


@pytest.fixture(scope="session")
def editing_run(store_path: Path, tmp_path_factory: pytest.TempPathFactory, tiny_config: ConfigMaker) -> Path:
    """A short run with held parts as an input; never written to."""
    path = tmp_path_factory.mktemp("editing") / "run"
    train(
        None,
        store_path,
        out=path,
        config=tiny_config(train={"max_steps": 6}, diffusion={"inpainting_probability": 0.8}),
    )
    return path


@pytest.mark.parametrize("kind", ["run_path", "editing_run"])
def test_held_frames_come_out_exact(
    command: Command, walk: Path, tmp_path: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    out = tmp_path / "out"
    run = request.getfixturevalue(kind)
    result = as_json(
        command("edit", run, walk, "--keep-frames", "0:8,16:24", "--count", 2, "--action", "walk", "--out", out,
                "--steps", 3, "--formats", "npz,bvh", "--json")
    )  # fmt: skip
    assert result["conditioned_frames"] == 16 and result["frames"] == FRAMES and not result["retargeted"]
    assert result["trained_for_editing"] is (kind == "editing_run")
    assert json.loads((out / "edit.json").read_text()) == result
    # reading takes the nearest rotations, which may differ in the last bit from what was read: both are read back once
    original = read_motion(out / "original.npz")
    assert np.abs(original.positions - read_motion(walk).positions).max() < 1e-5
    made = [read_motion(row["files"]["npz"]) for row in result["results"]]
    kept = [*range(8), *range(16, 24)]
    for motion in made:
        assert np.array_equal(motion.rotations[kept], original.rotations[kept])
        assert np.array_equal(motion.root[kept], original.root[kept])
        assert np.allclose(motion.skeleton.offsets, original.skeleton.offsets)
    assert all(row["conditioning_error_m"] == 0 and row["seam_speed"] > 0 for row in result["results"])
    assert np.abs(made[0].positions - made[1].positions)[8:16].max() > 1e-4
    assert np.abs(made[0].positions - original.positions)[8:16].max() > 1e-4
    bvh = read_motion(out / "walk-000.bvh")
    assert np.abs(bvh.positions - made[0].positions).max() < 1e-3


def test_held_joints_keep_their_rotations(command: Command, run_path: Path, walk: Path, tmp_path: Path) -> None:
    names = recorded().skeleton.names
    conditioned = [names[0], "left_shoulder", "left_elbow"]
    result = as_json(
        command(
            "edit",
            run_path,
            walk,
            "--keep-joints",
            ",".join(conditioned),
            "--out",
            tmp_path / "out",
            "--steps",
            2,
            "--json",
        )
    )
    original, made = read_motion(tmp_path / "out" / "original.npz"), read_motion(tmp_path / "out" / "walk-000.npz")
    assert np.abs(original.rotations - read_motion(walk).rotations).max() < 1e-6
    kept = [names.index(name) for name in conditioned]
    assert np.array_equal(made.rotations[:, kept], original.rotations[:, kept])
    assert np.array_equal(made.root, original.root)
    assert np.abs(made.rotations - original.rotations).max() > 1e-3 and result["conditioned_frames"] == 0


def test_prefix_continues_after_the_file(command: Command, run_path: Path, walk: Path, tmp_path: Path) -> None:
    result = as_json(
        command("edit", run_path, walk, "--keep-frames", "0:24", "--seconds", 3, "--out", tmp_path / "out", "--json")
    )
    original, made = read_motion(tmp_path / "out" / "original.npz"), read_motion(tmp_path / "out" / "walk-000.npz")
    assert result["frames"] == len(made) == 30 and np.array_equal(made.rotations[:24], original.rotations)
    # the place that the last held frame has is where it goes on
    assert np.linalg.norm(made.root[24] - original.root[23]) < 0.5


def test_another_rate_and_another_body(editing_run: Path, tmp_path: Path) -> None:
    """A file at 20 fps: frames count at its own rate; a file with other joints is put on the model's body."""
    pipeline = load_pipeline(editing_run)
    fast = tmp_path / "fast.npz"
    export(simulate_motion("walk", 4, fps=20).cut(0, 41), fast, "npz", clip_id="fast")
    source = load_source(fast, pipeline, (4, 41))
    assert source.motion.fps == 10 and len(source.motion) == 19 and source.file_frames == 41
    mask = conditioned_mask(source, EditOptions(keep_frames=((0, 10), (30, 41))))
    # model frame n is the file's frame 4 + 2 n
    assert np.flatnonzero(mask.all(1)).tolist() == [0, 1, 2, *range(13, 19)]
    with pytest.raises(InputError, match="0:4: none of these frames"):
        conditioned_mask(source, EditOptions(keep_frames=((0, 4),)))
    kinect = tmp_path / "kinect.npz"
    from motiondiff.data.readers.body_shape import target_skeleton
    from motiondiff.skeleton.retarget import retarget

    export(retarget(recorded(), target_skeleton("kinect-v1")), kinect, "npz", clip_id="kinect")
    source = load_source(kinect, pipeline)
    assert source.retargeted and source.motion.skeleton.same_topology(pipeline.representation.skeleton)


def test_an_in_between_takes_one_step_where_the_model_was_trained_for_it(
    command: Command, editing_run: Path, run_path: Path, walk: Path, tmp_path: Path
) -> None:
    def settings(name: str, run: Path, *options: object) -> tuple[str, int]:
        found = as_json(command("edit", run, walk, "--out", tmp_path / name, *options, "--json"))
        return found["scheduler"], found["steps"]

    assert settings("a", editing_run, "--keep-frames", "0:8,16:24") == ("ddim", 1)
    assert settings("b", editing_run, "--keep-frames", "0:8,16:24", "--steps", 3) == ("dpmsolver++", 3)
    assert settings("c", editing_run, "--keep-frames", "0:8,16:24", "--count", 2) == ("dpmsolver++", 20)
    assert settings("d", editing_run, "--keep-frames", "0:8") == ("dpmsolver++", 20)
    assert settings("e", run_path, "--keep-frames", "0:8,16:24") == ("dpmsolver++", 20)


def test_ranges_and_seams() -> None:
    assert parse_ranges("0:20, 40:60") == ((0, 20), (40, 60))
    mask = np.ones((20, 2), dtype=bool)
    mask[8:12] = False
    assert seams(mask).tolist() == [5, 6, 7, 8, 9, 10, 11, 12, 13]
    assert seams(np.ones((20, 2), dtype=bool)).size == 0


def test_plan_splits_segments_beyond_the_model_length() -> None:
    timeline = Timeline([TimelineEntry("walk", 2.0), TimelineEntry("run", 7.1)], transition=0.5)
    segments = plan(timeline, 10, 5, 32)
    assert [segment.part for segment in segments] == [0, 1, 1, 1]
    assert [segment.frames for segment in segments] == [20, 24, 23, 24]
    with pytest.raises(InputError, match=r"entry 1 \(walk\): 0.3 s is shorter than the transition \(0.50 s\)"):
        plan(Timeline([TimelineEntry("walk", 0.3)]), 10, 5, 32)
    with pytest.raises(InputError, match="at most half"):
        plan(timeline, 10, 20, 32)


def test_compose_has_the_reported_transitions(
    command: Command, editing_run: Path, store: MotionStore, tmp_path: Path
) -> None:
    timeline = tmp_path / "timeline.yaml"
    timeline.write_text("transition: 0.4\ntimeline:\n- {action: walk, seconds: 2}\n- {action: wave, seconds: 4}\n")
    out = tmp_path / "out"
    result = as_json(command("compose", editing_run, timeline, "--out", out, "--steps", 2, "--json"))
    motion = read_motion(out / "motion.npz")
    assert len(motion) == result["frames"] == 60 and result["seconds"] == 6.0
    assert [row["seconds"] for row in result["transitions"]] == [2.0, 4.0]
    assert [(row["from"], row["to"]) for row in result["transitions"]] == [("walk", "wave"), ("wave", "wave")]
    speeds = joint_speeds(motion).max(1)
    # the file was read back: its rotations are rounded
    expected = [float(speeds[17:23].max()), float(speeds[37:43].max())]
    assert [row["fastest_joint"] for row in result["transitions"]] == pytest.approx(expected, rel=1e-4)
    for row, names in zip(result["transitions"], (("walk", "wave"), ("wave",)), strict=True):
        clips = [
            store[int(clip)] for clip in store.select("train") if store.actions[store.columns["action"][clip]] in names
        ]
        limit = float(np.quantile(np.concatenate([joint_speeds(clip).max(1) for clip in clips]), 0.99))
        assert row["real_p99"] == pytest.approx(limit) and row["within_real"] is (row["fastest_joint"] <= limit)
    assert result["within_real"] is all(row["within_real"] for row in result["transitions"])
    again = as_json(command("compose", editing_run, timeline, "--out", out, "--steps", 2, "--json", "--overwrite"))
    assert again["transitions"] == result["transitions"]
    assert np.array_equal(read_motion(out / "motion.npz").rotations, motion.rotations)


def test_speeds_by_hand() -> None:
    body = Skeleton(("root", "tip"), (-1, 0), np.array([[0, 0, 0], [0, 1, 0]], dtype=np.float32))
    root = np.array([[0, 0, 0], [0.3, 0, 0.4], [0.3, 0, 0.4]])
    motion = Motion(root, np.tile(np.eye(3), (3, 2, 1, 1)), body, 20)
    np.testing.assert_allclose(joint_speeds(motion), [[10, 10], [0, 0]], atol=1e-5)


def test_actions_that_a_store_lacks_take_all_its_clips(store: MotionStore) -> None:
    assert real_fastest(store, actions=["swim"]) == real_fastest(store)
    assert real_fastest(store, actions=["wave"])[1] < real_fastest(store)[1]


def test_a_distilled_run_samples_in_four_steps(
    command: Command, editing_run: Path, store_path: Path, walk: Path, tmp_path: Path
) -> None:
    run = tmp_path / "fast"
    options = "train.max_steps=3 train.batch_size=4 train.report_to=none train.logging_steps=1 train.device=cpu"
    result = as_json(command("distill", editing_run, "--out", run, *options.split(), "--json"))
    assert result["steps"] == 3 and np.isfinite(result["last"]["loss"]) and result["guidance"] == 2.5
    assert is_distilled(run) and not is_distilled(editing_run)
    sampled = as_json(command("sample", run, "--action", "walk", "--seconds", 1, "--out", tmp_path / "s", "--json"))
    assert (sampled["scheduler"], sampled["steps"], sampled["guidance"]) == ("lcm", 4, 1)
    one = as_json(
        command("sample", run, "--action", "walk", "--steps", 1, "--seconds", 1, "--out", tmp_path / "one", "--json")
    )
    assert (one["scheduler"], one["steps"]) == ("lcm", 1)
    edited = as_json(command("edit", run, walk, "--keep-frames", "0:8,16:24", "--out", tmp_path / "e", "--json"))
    assert edited["scheduler"] == "lcm" and edited["results"][0]["conditioning_error_m"] == 0
    for wrong, message in {
        f"distill {run} --out {tmp_path / 'new'}": "is distilled already",
        f"sample {run} --action walk --guidance 2 --out {tmp_path / 'new'}": "distilled with its guidance folded in",
        f"sample {run} --action walk --steps 11 --out {tmp_path / 'new'}": "11 denoising steps",
    }.items():
        status, stdout, lines = command(*wrong.split())
        assert status == 2 and not stdout and len(lines) == 1 and message in lines[0]
        assert not (tmp_path / "new").exists()


def test_a_run_with_texts_keeps_them_when_distilled(command: Command, text_run_path: Path, tmp_path: Path) -> None:
    options = "train.max_steps=1 train.batch_size=4 train.report_to=none train.device=cpu"
    assert (
        as_json(command("distill", text_run_path, "--out", tmp_path / "fast", *options.split(), "--json"))["steps"] == 1
    )
    sampled = as_json(
        command(
            "sample", tmp_path / "fast", "--text", "a person walks", "--seconds", 1, "--out", tmp_path / "s", "--json"
        )
    )
    assert sampled["scheduler"] == "lcm" and sampled["samples"][0]["text"] == "a person walks"


def test_a_plain_runs_own_defaults(run_path: Path) -> None:
    found = resolve(run_path, SampleOptions())
    assert (found.steps, found.scheduler, found.guidance) == (20, "dpmsolver++", 2.5)
    found = resolve(run_path, SampleOptions(steps=3, guidance=0.0), steps=10)
    assert (found.steps, found.scheduler, found.guidance) == (3, "dpmsolver++", 0)


def test_a_consistent_student_has_no_loss(
    store: MotionStore, representation: MotionRepresentation, tiny_config: ConfigMaker
) -> None:
    """Teacher and student that always give one clip: its own DDIM step leads to the same clip, whatever the noise."""
    config = tiny_config()
    denoiser = make_denoiser(None, MotionDataset(store, config=config.data), config).eval()
    scheduler = make_scheduler("lcm", make_noise_schedule(config.diffusion).config)
    step = ConsistencyLoss(denoiser, representation, scheduler, config, guidance=2.5)
    windows = MotionDataset(store, store.select("train"), config.data, augment=True)
    batch = collate([windows[SampleRef(row, row)] for row in range(6)])
    clip = torch.zeros(1, 1, representation.feature_size)
    clip[..., :3] = 0.5
    constant = torch.nn.Module()
    constant.forward = lambda sample, *_, **__: clip.expand_as(sample)  # type: ignore[method-assign]
    step.teacher.forward = lambda sample, *_, **__: clip.expand_as(sample)  # type: ignore[method-assign]
    losses = step(constant, batch, StepRandom(0, 0, 0, rows=slice(0, 6), total=6))
    # LCM lets a share 0.25 / (100 t^2 + 0.25) of the noisy motion through: next to nothing but at the first timesteps
    assert float(losses["simple"]) < 0.05
    drift = torch.nn.Module()
    drift.forward = lambda sample, time, *_, **__: clip + 0.02 * time[:, None, None]  # type: ignore[method-assign]
    assert float(step(drift, batch, StepRandom(0, 0, 0, rows=slice(0, 6), total=6))["simple"]) > 1e-4


EDIT = "edit {run} {walk} --out {new} "
COMPOSE = "compose {run} {timeline} --out {new} "
BAD = {
    "edit: nothing held": (EDIT, "nothing is kept"),
    "edit: no range": (EDIT + "--keep-frames 5", "'5': wanted FIRST:STOP"),
    "edit: empty range": (EDIT + "--keep-frames 5:5", "'5:5': holds no frame"),
    "edit: no frames": (EDIT + "--keep-frames ,", "names no frames"),
    "edit: outside": (EDIT + "--keep-frames 0:8,20:25", "20:25: the file has frames 0 to 23"),
    "edit: all": (EDIT + "--keep-frames 0:24", "everything is kept"),
    "edit: joint": (EDIT + "--keep-joints left_elbw", "unknown joint 'left_elbw': did you mean 'left_elbow'"),
    "edit: cut": (EDIT + "--keep-frames 0:8 --cut 10:40", "--cut 10:40: .*frames 0 to 23"),
    "edit: cuts": (EDIT + "--keep-frames 0:8 --cut 1:4,5:9", "takes one range"),
    "edit: action": (EDIT + "--keep-frames 0:8 --action wak", "unknown action 'wak': did you mean 'walk'"),
    "edit: style": (EDIT + "--keep-frames 0:8 --style happy", "unknown style 'happy'"),
    "edit: count": (EDIT + "--keep-frames 0:8 --count 0", "--count 0: must be at least 1"),
    "edit: steps": (EDIT + "--keep-frames 0:8 --steps 0", "--steps 0: must be at least 1"),
    "edit: seconds": (EDIT + "--keep-frames 0:8 --seconds nan", "--seconds nan: must be a finite number"),
    "edit: too long": (EDIT + "--keep-frames 0:8 --seconds 9", "90 frames"),
    "edit: device": (EDIT + "--keep-frames 0:8 --device gpu", "--device gpu: "),
    "edit: format": (EDIT + "--keep-frames 0:8 --formats bhv", "unknown format 'bhv'"),
    "edit: absent": ("edit {run} {absent} --keep-frames 0:8 --out {new}", "no such file"),
    "edit: damaged": ("edit {run} {damaged} --keep-frames 0:8 --out {new}", "damaged.npz: not a readable"),
    "edit: damaged bvh": ("edit {run} {text}.bvh --keep-frames 0:8 --out {new}", "text.bvh: "),
    "edit: other file": ("edit {run} {timeline} --keep-frames 0:8 --out {new}", r"only \.npz, \.bvh and \.npy"),
    "edit: long file": ("edit {run} {long} --keep-frames 0:8 --out {new}", "this model takes 2 to 32"),
    "edit: other body": ("edit {run} {snake} --keep-frames 0:8 --out {new}", "its 3 joints cannot be put on"),
    "edit: no run": ("edit {absent} {walk} --keep-frames 0:8 --out {new}", "no trained model in it"),
    "edit: existing": ("edit {run} {walk} --keep-frames 0:8 --out {old}", "exists already"),
    "compose: absent": ("compose {run} {absent} --out {new}", "absent"),
    "compose: no yaml": ("compose {run} {walk} --out {new}", r"walk\.npz"),
    "compose: store": (COMPOSE + "--data {absent}", "absent: does not exist"),
    "compose: shape": (COMPOSE + "--shape {absent}", "no such file"),
    "compose: existing": ("compose {run} {timeline} --out {old}", "exists already"),
    "distill: untrained": ("distill {old} --out {new}", "no trained model in it"),
    "distill: store": ("distill {run} --out {new} --data {absent}", "--data STORE"),
    "distill: key": ("distill {run} --out {new} guidence=2", "'guidence': did you mean 'guidance'"),
    "distill: existing": ("distill {run} --out {old}", "exists already"),
}  # fmt: skip


@pytest.fixture
def places(tmp_path: Path, run_path: Path, walk: Path) -> dict[str, Path]:
    made = {name: tmp_path / name for name in ("old", "new", "absent", "text")}
    made["old"].mkdir()
    (made["old"] / "precious.txt").write_text("years of work")
    (tmp_path / "text.bvh").write_text("HIERARCHY\nROOT Hips\n{\n")
    made["timeline"] = tmp_path / "timeline.yaml"
    made["timeline"].write_text("timeline: [{action: walk, seconds: 1}]")
    made["damaged"] = tmp_path / "damaged.npz"
    made["damaged"].write_bytes(walk.read_bytes()[:-200])
    made["long"] = tmp_path / "long.npz"
    motion = recorded()
    export(replace(motion, root=np.tile(motion.root, (3, 1)), rotations=np.tile(motion.rotations, (3, 1, 1, 1))),
          made["long"], "npz", clip_id="long")  # fmt: skip
    snake = Skeleton(("a", "b", "c"), (-1, 0, 1), np.array([[0, 0, 0], [0, 0.5, 0], [0, 0.5, 0]], dtype=np.float32))
    made["snake"] = tmp_path / "snake.npz"
    export(Motion(np.zeros((20, 3)), np.tile(np.eye(3), (20, 3, 1, 1)), snake, 10), made["snake"], "npz", clip_id="s")
    return made | {"run": run_path, "walk": walk}


@pytest.mark.parametrize("case", BAD)
def test_wrong_input_is_one_line_and_nothing_written(command: Command, places: dict[str, Path], case: str) -> None:
    line, message = BAD[case]
    status, out, lines = command(*line.format(**places).split())
    assert status == 2 and not out
    assert len(lines) == 1 and re.search(message, lines[0]), lines
    assert not places["new"].exists() and [path.name for path in places["old"].iterdir()] == ["precious.txt"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("timeline: []", "must be a list"),
        ("timeline: walk", "must be a list"),
        ("{}", "must be a list"),
        ("timelin: [{action: walk, seconds: 1}]", "unknown key 'timelin'"),
        ("timeline: [walk]", "entry 1: 'walk' is not"),
        ("timeline: [{action: walk}]", "entry 1: seconds: None must be a positive number"),
        ("timeline: [{action: walk, seconds: 2}, {action: walk, seconds: -2}]", "entry 2: seconds: -2"),
        ("timeline: [{action: walk, seconds: .nan}]", "entry 1: seconds: nan"),
        ("timeline: [{action: walk, seconds: true}]", "entry 1: seconds: True"),
        ("timeline: [{action: 3, seconds: 1}]", "entry 1: action: 3 must be a name"),
        ("timeline: [{action: walk, second: 1}]", "entry 1: unknown key 'second'"),
        ("timeline: [{action: walk, seconds: 1}]\ntransition: 0", "transition: 0 must be seconds"),
        ("timeline: [{action: walk, seconds: 1e6}]", "1e.06 s in all"),
        ("timeline: [{action: wak, seconds: 1}]", "entry 1: unknown action 'wak': did you mean 'walk'"),
        ("timeline: [{action: walk, seconds: 1, style: x}]", "entry 1: unknown style 'x'"),
        ("timeline: [{action: walk, seconds: 0.1}]", "shorter than the transition"),
        ("timeline: [{action: walk, seconds: 9}]\ntransition: 3", "at most half"),
        ("timeline: [", "timeline.yaml"),
    ],
)
def test_bad_timelines(command: Command, run_path: Path, tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "timeline.yaml"
    path.write_text(text)
    status, out, lines = command("compose", run_path, path, "--out", tmp_path / "new")
    assert status == 2 and not out and len(lines) == 1 and re.search(message, lines[0]), lines
    assert "timeline.yaml" in lines[0] and not (tmp_path / "new").exists()


def test_a_timeline_as_written(tmp_path: Path) -> None:
    path = tmp_path / "t.yaml"
    path.write_text("timeline:\n- {action: walk, seconds: 3}\n- {seconds: 2.5, style: old}\n")
    assert load_timeline(path) == Timeline([TimelineEntry("walk", 3.0), TimelineEntry(None, 2.5, "old")], 0.6)


def test_a_pipeline_of_before_has_no_held_input(pipeline: MotionDiffusionPipeline) -> None:
    assert pipeline.denoiser.config.inpainting_input is False
