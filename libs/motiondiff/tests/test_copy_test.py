"""The copy test: figures of a perfect denoiser, of one that blurs and of one that does nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from icube_common.io.reports import Report
from icube_common.io.runs import read_json
from motiondiff.config import DataConfig, DiffusionConfig
from motiondiff.data.prepare import PrepareOptions, write_store
from motiondiff.data.store import MotionStore
from motiondiff.data.synthetic import simulate_clips
from motiondiff.evaluation.movement import Limbs
from motiondiff.models.representation import MotionRepresentation
from motiondiff.models.spectrum import Components, cosine_transform, fit_spectrum
from motiondiff.training.copy_test import FIGURES, FILTER, NOISE, compare, copy_test, wiener_filter
from motiondiff.training.diffusion_loss import make_noise_schedule
from motiondiff.training.report import add_copy_test

DATA = DataConfig(max_frames=32, min_frames=8)


class Stub(nn.Module):
    """A denoiser that answers with a function of the clean motion, which it is shown as noise of deviation 0."""

    def __init__(self, answer: Callable[[Tensor], Tensor], schedule: Any) -> None:
        super().__init__()
        self.answer, self.schedule = answer, schedule
        self.noisy: list[tuple[Tensor, Tensor]] = []

    def forward(self, noisy: Tensor, timesteps: Tensor, conditions: Any, mask: Tensor) -> Tensor:
        self.noisy.append((noisy, timesteps))
        assert (conditions.action >= 0).all()
        return self.answer(noisy)


def measure(
    store: MotionStore,
    representation: MotionRepresentation,
    monkeypatch: pytest.MonkeyPatch,
    answer: Callable[[Tensor], Tensor],
    *,
    noise: bool = False,
) -> dict[str, Any]:
    schedule = make_noise_schedule(DiffusionConfig())
    if not noise:
        monkeypatch.setattr(schedule, "add_noise", lambda clean, noise, timesteps: clean)
    return copy_test(Stub(answer, schedule), representation, schedule, store, DATA)


def blur(motion: Tensor) -> Tensor:
    """Mean of five frames."""
    padded = torch.nn.functional.pad(motion.mT, (2, 2), mode="replicate")
    return torch.nn.functional.avg_pool1d(padded, 5, stride=1).mT


def test_a_perfect_denoiser_copies(
    store: MotionStore, representation: MotionRepresentation, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = measure(store, representation, monkeypatch, lambda clean: clean)
    assert result["split"] == "validation" and result["clips"] == len(store.select("validation"))
    assert result["noise"] == pytest.approx(NOISE, rel=0.25) and result["timesteps"] == sorted(result["timesteps"])
    for name, expected in zip(FIGURES, (1, 1, 0), strict=True):
        assert result[name] == pytest.approx([expected] * len(NOISE), abs=1e-4)


def test_a_denoiser_that_blurs_loses_movement(
    store: MotionStore, representation: MotionRepresentation, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = measure(store, representation, monkeypatch, blur)
    assert all(0.1 < value < 0.8 for value in result["movement"])
    assert all(value < 0.9 for value in result["velocity_r2"])
    moved = measure(store, representation, monkeypatch, lambda clean: shift(clean, representation, 0.03))
    assert moved["root_cm"] == pytest.approx([3.0] * len(NOISE), abs=1e-3)
    assert moved["movement"] == pytest.approx([1] * len(NOISE), abs=1e-4)


def shift(motion: Tensor, representation: MotionRepresentation, metres: float) -> Tensor:
    moved = motion.clone()
    moved[..., 0] += metres / representation.std[0]
    return moved


def test_a_denoiser_that_returns_the_noise_trembles_the_more_the_more_noise(
    store: MotionStore, representation: MotionRepresentation, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = measure(store, representation, monkeypatch, lambda noisy: noisy, noise=True)
    again = measure(store, representation, monkeypatch, lambda noisy: noisy, noise=True)
    assert result == again
    assert result["movement"][0] == pytest.approx(1, abs=0.05) and result["movement"][-1] > 1.5
    assert result["velocity_r2"][0] > 0.9 and result["velocity_r2"][-1] < 0
    assert result["root_cm"][0] < 1 < result["root_cm"][-1]


def test_figures_by_hand() -> None:
    """Half the swing of a hand: half the movement, and three quarters of the velocity explained."""
    fps, time = 20.0, np.arange(41) / 20.0
    clean = np.zeros((41, 4, 3))
    clean[:, 1, 0] = 0.1 * np.sin(2 * np.pi * 2 * time)
    denoised = clean * 0.5
    denoised[:, :, 1] += 0.02
    limbs = Limbs(chest=0, hands=(1, 2), feet=(3, 3))
    gain, explained, root = compare(denoised, clean, fps, limbs)
    assert (gain, explained, root) == pytest.approx((0.5, 0.75, 2.0), abs=1e-6)
    assert np.isnan(compare(denoised, clean, fps, None)[0])
    still = compare(np.zeros((41, 4, 3)), np.zeros((41, 4, 3)), fps, limbs)
    assert np.isnan(still[0]) and np.isnan(still[1]) and still[2] == 0


def test_a_store_without_validation_is_measured_on_training_clips(
    representation: MotionRepresentation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    description = {"format": "simulated", "source": "tests", "simulated": True}
    store = write_store(
        simulate_clips(10, fps=10, subjects=2), tmp_path / "store", PrepareOptions(), description=description
    )
    assert measure(store, representation, monkeypatch, lambda clean: clean)["split"] == "train"


def test_a_figure_that_no_clip_has_is_left_out_of_the_report() -> None:
    report = Report("title")
    numbers = {"split": "train", "clips": 2, "noise": [0.1, 1.0], "timesteps": [3, 9]}
    figures = {"movement": [None, None], "velocity_r2": [0.5, None], "root_cm": [1.0, 2.0], FILTER: [0.6, 0.1]}
    add_copy_test(report, {**numbers, **figures})
    add_copy_test(report, {**numbers, **{name: [None, None] for name in (*FIGURES, FILTER)}})
    page = report.html()
    assert "2 clips of the train split, which the model was trained on" in page and page.count("<svg") <= 2


def test_a_training_leaves_its_copy_test(run_path: Path, text_run_path: Path) -> None:
    for run in (run_path, text_run_path):
        result = read_json(run / "copy_test.json")
        assert len(result["noise"]) == len(result["movement"]) > 3
        assert all(np.isfinite(result["root_cm"]))
        page = (run / "report.html").read_text()
        assert "Copy test" in page and "clips of the validation split" in page and "velocity_r2" in page


def test_filter_with_the_spectrum_of_the_clip() -> None:
    """A component far above the noise stays, one far below it goes, one as strong as it is halved; the mean stays."""
    frames = 64
    rows = cosine_transform(frames)
    strong, equal, weak = 1, 3, 40
    amplitude = torch.zeros(frames, 1)
    amplitude[0], amplitude[strong], amplitude[equal], amplitude[weak] = 5.0, 100.0, 1.0, 1e-3
    clean = rows.T @ amplitude
    spectrum = Components.of(fit_spectrum([clean]), torch.ones(1, frames, dtype=torch.bool)).deviation[0, :, 0]
    filtered = rows @ wiener_filter(clean, clean, noise=float(spectrum[equal]))
    assert filtered[0].item() == pytest.approx(5.0, rel=1e-4)
    assert filtered[strong].item() == pytest.approx(100.0, rel=0.05)
    assert filtered[equal].item() == pytest.approx(0.5, rel=1e-3)
    assert abs(filtered[weak].item()) < 1e-4


def test_the_filter_is_better_than_no_denoiser_and_no_perfect_one(
    store: MotionStore, representation: MotionRepresentation, monkeypatch: pytest.MonkeyPatch
) -> None:
    schedule = make_noise_schedule(DiffusionConfig())
    scale = schedule.alphas_cumprod.sqrt()
    nothing = Stub(lambda noisy: noisy, schedule)
    nothing.forward = lambda noisy, times, *_: noisy / scale[times][:, None, None]  # type: ignore[method-assign]
    result = copy_test(nothing, representation, schedule, store, DATA)
    for best, plain in zip(result[FILTER][2:], result["velocity_r2"][2:], strict=True):
        assert plain < best < 1
