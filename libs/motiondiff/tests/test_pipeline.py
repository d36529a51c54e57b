"""The pipeline: reproducible, every motion on its own, any scheduler, the requested body."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from icube_common.errors import InputError
from motiondiff.augmentation.config import FilterConfig
from motiondiff.augmentation.generators import DiffusionGenerator
from motiondiff.data.readers.body_shape import load_body_shape
from motiondiff.data.store import MotionStore
from motiondiff.data.synthetic import simulate_motion
from motiondiff.export.npz import write_npz
from motiondiff.pipelines.motion_diffusion import MotionDiffusionPipeline
from motiondiff.pipelines.sampling import SampleOptions, clip_generator, generate, load_pipeline, sample_style
from motiondiff.schedulers import SCHEDULERS, make_scheduler
from motiondiff.skeleton.mirror import mirror
from motiondiff.skeleton.motion import Motion, canonicalise
from motiondiff.skeleton.skeleton import Skeleton

Pipeline = MotionDiffusionPipeline


def with_scheduler(pipeline: Pipeline, name: str) -> Pipeline:
    pipeline.scheduler = make_scheduler(name, pipeline.scheduler.config)
    return pipeline


def same(first: Motion, second: Motion) -> bool:
    return np.array_equal(first.root, second.root) and np.array_equal(first.rotations, second.rotations)


def farthest(first: Motion, second: Motion) -> float:
    """Largest distance between the joints of two motions, metres."""
    return float(np.linalg.norm(first.positions - second.positions, axis=-1).max())


def test_the_same_seed_gives_the_same_motion_bit_for_bit(pipeline: Pipeline) -> None:
    def call(seed: int) -> Motion:
        generator = torch.Generator().manual_seed(seed)
        return pipeline(["walk"], num_frames=20, num_inference_steps=4, generator=generator).motions[0]

    first = call(0)
    torch.rand(9)  # the global generator has no say
    assert same(first, call(0))
    assert farthest(first, call(1)) > 0.01
    assert first.action == "walk" and first.fps == 10 and len(first) == 20


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_motion_does_not_depend_on_its_neighbours(pipeline: Pipeline, scheduler: str) -> None:
    with_scheduler(pipeline, scheduler)
    lengths, actions = [20, 7, 32, 13], ["walk", None, "run", "wave"]
    settings: dict[str, Any] = {"num_inference_steps": 6, "guidance_scale": 2.0}
    together = pipeline(
        actions, num_frames=lengths, generator=[clip_generator(5, number) for number in range(4)], **settings
    ).motions
    for number in range(4):
        alone = pipeline(
            [actions[number]], num_frames=lengths[number], generator=[clip_generator(5, number)], **settings
        ).motions[0]
        assert len(together[number]) == lengths[number]
        assert farthest(alone, together[number]) < 1e-4
    assert farthest(together[0].cut(0, 7), together[1]) > 0.01


def test_drawn_lengths_do_not_depend_on_the_neighbours_either(pipeline: Pipeline) -> None:
    def lengths(numbers: list[int]) -> list[int]:
        generators = [clip_generator(1, number) for number in numbers]
        drawn = pipeline(["walk"] * len(numbers), generator=generators, num_inference_steps=1).motions
        return [len(motion) for motion in drawn]

    together = lengths(list(range(6)))
    assert together == [lengths([number])[0] for number in range(6)]
    low, high = (pipeline.representation.config.action_frames["walk"][place] for place in (0, -1))
    assert all(low <= length <= high for length in together) and len(set(together)) > 1


@pytest.mark.parametrize(("scale", "rows"), [(1.0, 3), (2.5, 6), (0.0, 6)])
def test_no_guidance_sends_half_as_many_rows(pipeline: Pipeline, scale: float, rows: int) -> None:
    seen: list[int] = []
    hook = pipeline.denoiser.register_forward_pre_hook(lambda module, args: seen.append(len(args[0])))
    pipeline(["walk"] * 3, num_frames=8, num_inference_steps=5, guidance_scale=scale)
    hook.remove()
    assert seen == [rows] * 5


@pytest.mark.parametrize(("steps", "guided"), [(1, 1), (9, 9), (10, 9), (20, 18), (25, 23)])
def test_the_last_tenth_of_the_steps_is_not_guided(pipeline: Pipeline, steps: int, guided: int) -> None:
    rows: list[int] = []
    hook = pipeline.denoiser.register_forward_pre_hook(lambda module, args: rows.append(len(args[0])))
    with_scheduler(pipeline, "ddim")(["walk"] * 3, num_frames=8, num_inference_steps=steps, guidance_scale=2.0)
    hook.remove()
    assert rows == [6] * guided + [3] * (steps - guided)


def test_guidance_moves_from_the_null_to_the_given(pipeline: Pipeline) -> None:
    def call(action: str | None, scale: float) -> np.ndarray:
        generator = torch.Generator().manual_seed(0)
        settings = {"num_frames": 8, "num_inference_steps": 1, "guidance_scale": scale, "generator": generator}
        # the height of the root follows from the legs, whose rotations are not linear
        return pipeline([action], **settings).motions[0].root[:, [0, 2]]

    # one step of the scheduler gives the prediction itself, in which guidance is linear
    with_scheduler(pipeline, "ddim")
    null, given = call(None, 1.0), call("walk", 1.0)
    assert np.abs(given - null).max() > 1e-3
    np.testing.assert_allclose(call("walk", 0.0), null, atol=1e-5)
    np.testing.assert_allclose(call("walk", 3.0), null + 3 * (given - null), atol=1e-5)


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("steps", [1, 2, 20, 40])
def test_any_scheduler_makes_finite_motions(run_path: Path, name: str, steps: int) -> None:
    pipeline = load_pipeline(run_path, name)
    assert type(pipeline.scheduler).__name__ == SCHEDULERS[name][0]
    assert pipeline.scheduler.config.num_train_timesteps == 50
    assert pipeline.scheduler.config.prediction_type == "sample"
    pipeline.set_progress_bar_config(disable=True)
    for motion in pipeline(["walk", None], num_frames=12, num_inference_steps=steps).motions:
        assert np.isfinite(motion.positions).all() and np.abs(motion.positions).max() < 100


def test_more_steps_than_the_scheduler_has_are_refused(pipeline: Pipeline) -> None:
    for name in ("dpmsolver++", "ddpm", "ddim", "unipc"):
        assert with_scheduler(pipeline, name)(["walk"], num_frames=8, num_inference_steps=50).motions
        with pytest.raises(InputError, match="51 denoising steps: must be 1 to 50"):
            pipeline(["walk"], num_frames=8, num_inference_steps=51)
    # its own spacing rounds to the same timestep twice
    with_scheduler(pipeline, "dpmsolver++").scheduler.register_to_config(algorithm_type="sde-dpmsolver++")
    with pytest.raises(
        InputError, match=r"50 denoising steps: DPMSolverMultistepScheduler has 4\d that differ: take fewer"
    ):
        pipeline(["walk"], num_frames=8, num_inference_steps=50)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_scheduler_returns_a_perfect_denoisers_motion(pipeline: Pipeline, name: str) -> None:
    """A denoiser that always predicts one clip must give that clip, whatever the noise."""
    clean = 0.5 * torch.randn(1, 16, pipeline.denoiser.config.feature_size, generator=torch.Generator().manual_seed(3))
    pipeline.denoiser.forward = lambda sample, *_: clean.expand(len(sample), -1, -1)
    motion = with_scheduler(pipeline, name)(["walk"], num_frames=16, num_inference_steps=10, guidance_scale=1).motions[
        0
    ]
    expected = pipeline.representation.decode(clean[0], pipeline.representation.skeleton)
    assert farthest(motion, expected) < 0.02


def test_save_and_load_gives_bit_identical_samples(pipeline: Pipeline, tmp_path: Path) -> None:
    pipeline.save_pretrained(tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    assert index["_class_name"] == "MotionDiffusionPipeline"
    assert index["denoiser"] == ["motiondiff.models.denoiser", "MotionDenoiser"]
    again = MotionDiffusionPipeline.from_pretrained(tmp_path)
    again.set_progress_bar_config(disable=True)
    settings: dict[str, Any] = {"actions": ["run", "walk"], "styles": ["tired", None], "num_inference_steps": 4}
    first, second = (
        model(generator=torch.Generator().manual_seed(2), **settings).motions for model in (pipeline, again)
    )
    assert [len(motion) for motion in first] == [len(motion) for motion in second]
    assert all(same(one, other) for one, other in zip(first, second, strict=True))


def test_the_saved_run_is_a_pipeline(run_path: Path) -> None:
    first, second = load_pipeline(run_path), load_pipeline(run_path / "model")
    for name in ("denoiser", "representation"):
        mine, theirs = getattr(first, name).state_dict(), getattr(second, name).state_dict()
        assert mine.keys() == theirs.keys() and all(torch.equal(mine[key], theirs[key]) for key in mine)


def bones(motion: Motion) -> np.ndarray:
    """(T, J) measured on the motion itself."""
    parents = np.maximum(motion.skeleton.parents, 0)
    return np.linalg.norm(motion.positions - motion.positions[:, parents], axis=-1)


def test_sampled_body_is_the_requested_one(pipeline: Pipeline) -> None:
    mean = pipeline.representation.skeleton
    wanted = mean.with_bone_lengths(mean.bone_lengths * np.linspace(0.8, 1.3, len(mean)))
    generators = [clip_generator(0, 0), clip_generator(0, 0)]
    plain, changed = pipeline(
        ["walk"] * 2, shapes=[None, wanted], num_frames=12, num_inference_steps=3, generator=generators
    ).motions
    np.testing.assert_allclose(bones(plain), np.tile(mean.bone_lengths, (12, 1)), atol=1e-3)
    np.testing.assert_allclose(bones(changed), np.tile(wanted.bone_lengths, (12, 1)), atol=1e-3)
    # and the denoiser knows of it: it does not only hang other bones on the same motion
    assert np.abs(plain.rotations - changed.rotations).max() > 1e-3


@pytest.mark.parametrize(
    "content",
    [
        {"scale": 1.1},
        {"bone_lengths": {"left_knee": 0.5, "head": 0.2}},
        {"scale": 0.9, "bone_lengths": {"head": 0.2}},
    ],
    ids=["scale", "bones", "both"],
)
def test_a_shape_file_sets_the_bones(pipeline: Pipeline, tmp_path: Path, content: dict[str, Any]) -> None:
    mean = pipeline.representation.skeleton
    path = tmp_path / "body.yaml"
    path.write_text(yaml.safe_dump(content))
    expected = mean.bone_lengths * content.get("scale", 1)
    for name, length in content.get("bone_lengths", {}).items():
        expected[mean.index(name)] = length
    options = SampleOptions(actions=("walk",), shape=path, seconds=1.2, steps=2, guidance=1.0)
    [motion] = generate(pipeline, options)
    assert len(motion) == 12
    np.testing.assert_allclose(bones(motion), np.tile(expected, (12, 1)), atol=1e-3)


def test_a_motion_file_sets_the_body(pipeline: Pipeline, tmp_path: Path) -> None:
    recorded = simulate_motion("walk", 0, subject=4)
    write_npz(recorded, tmp_path / "somebody.npz")
    shape = load_body_shape(tmp_path / "somebody.npz", pipeline.representation.skeleton)
    np.testing.assert_allclose(shape.bone_lengths, recorded.skeleton.bone_lengths, atol=1e-6)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("bone_lengths: {left_kneee: 0.4}", "unknown joint 'left_kneee': did you mean 'left_knee'"),
        ("bone_lengths: {pelvis: 0.4}", "pelvis is the root"),
        ("bone_lengths: {head: -1}", "head: -1 must be a positive number"),
        ("bone_lengths: {head: true}", "head: True must be"),
        ("bone_lengths: [1, 2]", "must map joint names to metres"),
        ("scale: 0", "scale: 0 must be"),
        ("scale: .nan", "scale: nan must be"),
        ("size: 2", "`scale:` and/or `bone_lengths:`"),
        ("", "`scale:`"),
        ("scale: [", "not readable as YAML"),
    ],
)
def test_a_bad_shape_file_is_refused(pipeline: Pipeline, tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "body.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=words):
        load_body_shape(path, pipeline.representation.skeleton)
    with pytest.raises(InputError, match="no such file"):
        load_body_shape(tmp_path / "absent.yaml", pipeline.representation.skeleton)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"actions": ["wlak"]}, "unknown action 'wlak': did you mean 'walk'"),
        ({"styles": ["hapy"]}, "unknown style 'hapy': did you mean 'happy'"),
        ({"num_frames": 1}, r"1 frames \(0\.10 s\): this model makes 2 to 32 frames \(up to 3\.2 s\)"),
        ({"num_frames": [20, 33]}, "33 frames"),
        ({"actions": ["walk"], "styles": ["happy", "tired"]}, "disagree on the number of motions"),
        ({"actions": ["walk"] * 2, "num_frames": [9, 9, 9]}, "disagree"),
        ({"num_motions": 3, "generator": [torch.Generator()]}, "disagree"),
        ({"num_motions": 0}, "at least one motion"),
        ({"actions": []}, "at least one motion"),
        ({"actions": "walk"}, r"'walk': must be a list, one entry for each motion: \['walk'\]"),
        ({"num_inference_steps": 0}, "0 denoising steps: must be 1 to 50"),
        ({"num_inference_steps": 51}, "51 denoising steps: must be 1 to 50"),
        ({"shapes": [Skeleton(("a",), (-1,), np.zeros((1, 3)))]}, "its 1 joints are not the 18 joints"),
        (
            {"init_motions": [simulate_motion("walk", 0, fps=10)], "noise_strength": 0},
            "noise_strength 0: must be above 0",
        ),
        ({"init_motions": [simulate_motion("walk", 0, fps=20)]}, "20 fps, this model makes 10"),
        ({"init_motions": [simulate_motion("walk", 0, fps=10)], "actions": ["run", "walk"]}, "disagree"),
    ],
)
def test_impossible_requests_are_refused(pipeline: Pipeline, arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        pipeline(**arguments)


def test_without_arguments_one_motion_of_drawn_length(pipeline: Pipeline) -> None:
    [motion] = pipeline(num_inference_steps=2).motions
    assert motion.action is None and 20 <= len(motion) <= 32
    (motions,) = pipeline(num_motions=2, num_frames=5, num_inference_steps=2, return_dict=False)
    assert [len(motion) for motion in motions] == [5, 5]


def test_callback_runs_at_every_step(pipeline: Pipeline) -> None:
    seen: list[tuple[int, int, torch.Size]] = []
    pipeline(
        ["run"],
        num_frames=9,
        num_inference_steps=5,
        callback_on_step_end=lambda *step: seen.append((*step[:2], step[2].shape)),
    )
    assert [step for step, _, _ in seen] == list(range(5))
    assert [time for _, time, _ in seen] == sorted((time for _, time, _ in seen), reverse=True)
    assert all(shape == (1, 32, 111) for _, _, shape in seen)


def test_generated_motions_do_not_depend_on_the_batch_size(pipeline: Pipeline) -> None:
    options = SampleOptions(per_action=1, seed=4, steps=3, batch_size=5)
    together = list(generate(pipeline, options))
    apart = list(generate(pipeline, replace(options, batch_size=2)))
    assert [motion.action for motion in together] == list(pipeline.denoiser.config.actions)
    for one, other in zip(together, apart, strict=True):
        assert len(one) == len(other) and farthest(one, other) < 1e-4


def test_a_folder_without_a_model_is_refused(tmp_path: Path, run_path: Path) -> None:
    with pytest.raises(InputError, match="no trained model in it"):
        load_pipeline(tmp_path)
    with pytest.raises(InputError, match="no trained model in it"):
        load_pipeline(tmp_path / "absent")
    with pytest.raises(InputError, match=r"unknown scheduler 'dpm': did you mean 'd"):
        load_pipeline(run_path, "dpm")


@pytest.mark.parametrize("damage", ["weights", "config", "scheduler"])
def test_a_broken_model_is_refused(run_path: Path, tmp_path: Path, damage: str) -> None:
    model = Path(shutil.copytree(run_path / "model", tmp_path / "model"))
    if damage == "weights":
        path = model / "denoiser" / "diffusion_pytorch_model.safetensors"
        path.write_bytes(path.read_bytes()[:1000])
    elif damage == "config":
        (model / "denoiser" / "config.json").write_text("{")
    else:
        shutil.rmtree(model / "scheduler")
    with pytest.raises(InputError, match="model: cannot be loaded"):
        load_pipeline(model)


def test_tags_are_mixed(pipeline: MotionDiffusionPipeline) -> None:
    options = SampleOptions(actions=("walk",), count=12, steps=2, guidance=1.0, seed=5, batch_size=5)
    motions = list(generate(pipeline, replace(options, mix_styles=True)))
    styles = [motion.style for motion in motions]
    assert set(styles) == {"happy", "tired"}
    # a motion's style depends on seed and number alone, and its noise is what it is without
    again = list(generate(pipeline, replace(options, mix_styles=True, batch_size=12, count=6)))
    assert [motion.style for motion in again] == styles[:6]
    np.testing.assert_allclose(again[4].root, motions[4].root, atol=1e-5)
    happy = list(generate(pipeline, replace(options, style="happy")))
    for one, other in zip(motions, happy, strict=True):
        assert (one.style == "happy") == np.allclose(one.rotations, other.rotations, atol=1e-5)
    assert {motion.style for motion in generate(pipeline, options)} == {None}
    assert sample_style([], 0, 0) is None


def test_a_filtered_set_may_mix_styles(pipeline: MotionDiffusionPipeline) -> None:
    for mixed, found in ((True, {"happy", "tired"}), (False, {None})):
        generator = DiffusionGenerator(pipeline, FilterConfig(steps=2, mix_styles=mixed))
        assert {motion.style for motion in generator.generate(["walk"] * 12, range(12), 5)} == found


@pytest.mark.parametrize("name", ["ddpm", "ddim", "dpmsolver++", "unipc"])
def test_variations_begin_from_a_motion(pipeline: Pipeline, name: str) -> None:
    """A denoiser that predicts what it is shown keeps the motion; the more noise, the less of it is left."""
    source = simulate_motion("walk", 3, fps=10)
    frames = min(len(source), 32)
    expected = canonicalise(source, floor=0.0)[0].cut(0, frames)
    shown: list[torch.Tensor] = []

    def keep(sample: torch.Tensor, *_: object) -> torch.Tensor:
        shown.append(sample)
        return pipeline.representation.encode(expected).expand(len(sample), -1, -1)

    pipeline.denoiser.forward = keep
    distances = []
    for noise_strength, steps in ((0.2, 2), (0.5, 5), (1.0, 10)):
        shown.clear()
        [made] = with_scheduler(pipeline, name)(
            ["walk"], init_motions=[source], noise_strength=noise_strength, num_inference_steps=10, guidance_scale=1,
            generator=[clip_generator(0, 0)],
        ).motions  # fmt: skip
        assert len(shown) == steps
        assert len(made) == frames and farthest(made, expected) < 0.02
        np.testing.assert_allclose(made.skeleton.offsets, source.skeleton.offsets)
        distances.append(float((shown[0][0] - pipeline.representation.encode(expected)).std()))
    assert distances == sorted(distances) and distances[0] < 0.7 * distances[2]


def test_a_filtered_set_of_variations(pipeline: Pipeline, store: MotionStore) -> None:
    config = FilterConfig(steps=4, noise_strength=0.5)
    made = list(DiffusionGenerator(pipeline, config, store).generate(["walk"] * 6, range(6), 0))
    training = [store[clip] for clip in store.select("train").tolist() if store[clip].action == "walk"]
    bodies = {clip.skeleton.offsets.tobytes() for clip in training}
    assert {motion.skeleton.offsets.tobytes() for motion in made} <= bodies and len(bodies) > 1
    assert {len(motion) for motion in made} <= {min(len(clip), 32) for clip in training}
    again = list(DiffusionGenerator(pipeline, config, store).generate(["walk"] * 2, [4, 1], 0))
    assert farthest(again[0], made[4]) < 1e-4 and farthest(again[1], made[1]) < 1e-4
    mirrored = list(
        DiffusionGenerator(pipeline, replace(config, mirror=1.0), store).generate(["walk"] * 6, range(6), 0)
    )
    bodies = {mirror(clip).skeleton.offsets.tobytes() for clip in training}
    assert {motion.skeleton.offsets.tobytes() for motion in mirrored} <= bodies
    with pytest.raises(InputError, match="variations need the clips"):
        DiffusionGenerator(pipeline, config)
