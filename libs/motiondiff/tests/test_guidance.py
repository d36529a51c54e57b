"""Guidance with one scale, and with a scale for each condition."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from icube_common.errors import InputError
from motiondiff.augmentation.calibration import ACCURACY, FIGURES, MARGIN, SEED, _choose, calibrate_guidance
from motiondiff.cli import main
from motiondiff.data.clips import ClipSet
from motiondiff.data.store import MotionStore
from motiondiff.evaluation.movement import action_medians
from motiondiff.models.conditioning import NULL, Conditions
from motiondiff.pipelines.guidance import make_guidance
from motiondiff.pipelines.motion_diffusion import MotionDiffusionPipeline
from motiondiff.pipelines.sampling import GUIDANCE, SampleOptions, generate, load_pipeline, resolve


@pytest.fixture
def conditions() -> Conditions:
    return Conditions(
        action=torch.tensor([0, 1]),
        style=torch.tensor([2, NULL]),
        shape=torch.zeros(2, 3),
        has_shape=torch.ones(2, dtype=torch.bool),
        text=torch.ones(2, 4),
        has_text=torch.tensor([True, False]),
    )


def values(*rows: float) -> torch.Tensor:
    """(2 R, 1, 1) predictions: both motions alike in each row."""
    return torch.tensor([[[row]] for row in rows for _ in range(2)])


def test_one_scale_extrapolates_from_null(conditions: Conditions) -> None:
    guidance = make_guidance(conditions, 2.5)
    assert guidance.rows == 2
    assert guidance.conditions.action.tolist() == [NULL, NULL, 0, 1]
    assert guidance.conditions.has_shape.all()
    assert guidance.combine(values(1.0, 3.0)).flatten().tolist() == [6.0, 6.0]  # 1 + 2.5 * 2


@pytest.mark.parametrize("scale", [1.0, {"action": 1.0}])
def test_without_guidance_there_is_one_row(conditions: Conditions, scale: float | dict[str, float]) -> None:
    guidance = make_guidance(conditions, scale)
    assert guidance.rows == 1
    assert guidance.conditions is conditions
    assert guidance.combine(values(3.0)).flatten().tolist() == [3.0, 3.0]


def test_conditions_are_added_one_after_the_other(conditions: Conditions) -> None:
    guidance = make_guidance(conditions, {"style": 1.5, "action": 2.0, "text": 3.0})
    assert guidance.rows == 4
    assert guidance.conditions.style.tolist() == [NULL, NULL, 2, NULL, 2, NULL, 2, NULL]
    assert guidance.conditions.action.tolist() == [NULL, NULL, NULL, NULL, 0, 1, 0, 1]
    assert guidance.conditions.has_text is not None
    assert guidance.conditions.has_text.tolist() == [False] * 6 + [True, False]
    # 1 + 1.5 (2 - 1) + 2 (4 - 2) + 3 (5 - 4)
    assert guidance.combine(values(1.0, 2.0, 4.0, 5.0)).flatten().tolist() == [9.5, 9.5]


def test_conditions_of_one_scale_share_a_row(conditions: Conditions) -> None:
    guidance = make_guidance(conditions, {"action": 2.0, "text": 2.0})
    assert guidance.scales == (1.0, 2.0)
    assert guidance.rows == 3


def test_a_scale_for_each_motion(conditions: Conditions) -> None:
    guidance = make_guidance(conditions, [2.5, 1.0])
    assert guidance.rows == 2
    assert guidance.conditions.action.tolist() == [NULL, NULL, 0, 1]
    assert guidance.combine(values(1.0, 3.0)).flatten().tolist() == [6.0, 3.0]
    assert make_guidance(conditions, [2.5, 2.5]).scales == (2.5,)
    assert make_guidance(conditions, [1.0, 1.0]).rows == 1


@pytest.mark.parametrize(
    ("scale", "words"),
    [
        ({"acton": 2.0}, "acton"),
        ({"text": -1.0}, "-1 of text"),
        (float("nan"), "nan"),
        ([1.0], "1 scales for 2 motions"),
        ([1.0, -2.0], "-2 of motion 1"),
    ],
)
def test_impossible_scales_are_refused(
    conditions: Conditions, scale: float | list[float] | dict[str, float], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        make_guidance(conditions, scale)


def test_scales_of_the_model(pipeline: MotionDiffusionPipeline) -> None:
    """Without ``guidance_scale`` every motion has the scale of its action, whatever is beside it."""

    def motions(actions: list[str], **options: float) -> list[np.ndarray]:
        generators = [torch.Generator().manual_seed(number) for number in range(len(actions))]
        made = pipeline(actions, num_frames=20, num_inference_steps=3, generator=generators, **options)
        return [motion.positions for motion in made.motions]

    default = motions(["walk", "wave"])
    np.testing.assert_array_equal(default, motions(["walk", "wave"], guidance_scale=GUIDANCE))
    pipeline.representation.register_to_config(guidance={"walk": 4.0, "wave": 1.0})
    walk, wave = motions(["walk", "wave"])
    np.testing.assert_allclose(walk, motions(["walk", "wave"], guidance_scale=4.0)[0], atol=1e-5)
    np.testing.assert_allclose(wave, motions(["walk", "wave"], guidance_scale=1.0)[1], atol=1e-5)
    assert np.abs(walk - default[0]).max() > 1e-3


def test_calibrate(run_path: Path, store_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    shutil.copytree(run_path, run)
    assert resolve(run, SampleOptions()).guidance == GUIDANCE
    words = ["calibrate", str(run), "--data", str(store_path), "--scales", "3", "1", "--count", "2", "--steps", "2"]
    assert main([*words, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    store = MotionStore(store_path)
    assert set(result["guidance"]) == set(store.actions)
    assert set(result["guidance"].values()) <= {1.0, 3.0}
    # the reference is the training clips, the criterion the sum of absolute logarithms
    options = SampleOptions(actions=store.actions, count=2, steps=2, guidance=3.0, seed=SEED, batch_size=64)
    motions = list(generate(load_pipeline(run, "dpmsolver++"), options))
    made = action_medians(ClipSet.from_motions(motions, tuple(store.actions)))
    training = action_medians(ClipSet.from_store(store, split="train"))
    for action in store.actions:
        errors, shares = {}, {}
        for scale in ("1", "3"):
            ratios = result["ratios"][action][scale]
            errors[float(scale)] = sum(abs(np.log(ratios[figure])) for figure in FIGURES)
            shares[float(scale)] = ratios.pop(ACCURACY)
            if scale == "3":
                expected = {figure: made[action][figure] / training[action][figure] for figure in FIGURES}
                assert ratios == pytest.approx(expected, rel=1e-4)
        assert set(shares.values()) <= {0.0, 0.5, 1.0}
        recognised = [scale for scale in errors if shares[scale] >= max(shares.values()) - MARGIN]
        assert result["guidance"][action] == min(recognised, key=errors.__getitem__)
    # from now on the model's own
    assert resolve(run, SampleOptions()).guidance is None
    assert resolve(run, SampleOptions(guidance=2.0)).guidance == 2.0
    assert load_pipeline(run).guidance_of([store.actions[0], None]) == [result["guidance"][store.actions[0]], GUIDANCE]
    assert main(["sample", str(run), "--out", str(tmp_path / "out"), "--per-action", "1", "--steps", "2"]) == 0
    assert "guidance by action" in capsys.readouterr().out


def test_choice_of_a_scale() -> None:
    errors = {1.0: 0.1, 2.0: 0.5, 3.0: 0.4}
    assert _choose(errors, {1.0: 0.9, 2.0: 0.95, 3.0: 0.9}) == 1.0
    # motions that are hardly recognised do not count, however well they move
    assert _choose(errors, {1.0: 0.5, 2.0: 0.95, 3.0: 0.9}) == 3.0
    assert _choose({2.0: 0.1, 1.0: 0.1}, {1.0: 1.0, 2.0: 1.0}) == 1.0


def test_calibration_refuses(run_path: Path, store_path: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least one number"):
        calibrate_guidance(run_path, store_path, scales=())
    with pytest.raises(InputError, match="none below 0"):
        calibrate_guidance(run_path, store_path, scales=(1.0, -1.0))
