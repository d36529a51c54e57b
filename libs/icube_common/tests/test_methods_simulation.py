"""Every learned method gains over zero-shot on simulated features with a modality gap, at 16 shots.

The table of `benchmarks/method_simulation.py`, in little: fewer classes, test images, steps and settings.
"""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from icube_common.evaluation import mean_interval
from icube_common.experiments.methods import (
    CoCoOp,
    CoOp,
    KgCoOp,
    LinearProbe,
    Method,
    NearestMean,
    TaskRes,
    TipAdapter,
    TipAdapterF,
    ZeroShot,
    tune_and_fit,
)
from icube_common.experiments.methods.base import Setting

BENCHMARK = Path(__file__).resolve().parents[3] / "benchmarks" / "method_simulation.py"
DRAWS = range(20, 28)
CLASSES = ("cat", "dog", "horse", "house", "tree")
STEPS = 25
WORDS = {"context": "a photo of a", "lr": 0.0002}


@functools.cache
def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("method_simulation", BENCHMARK)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def accuracy(method: Method, draw: int, setting: Setting | None = None) -> float:
    """Of 20 images of each class; tuned where no setting is given."""
    problem, images, labels = benchmark().simulate(draw, 16, test=20, class_names=CLASSES)
    fitted = method.fit(problem, setting) if setting else tune_and_fit(method, problem, folds=2)
    return float(fitted.logits(images, images).argmax(1).eq(labels).float().mean())


@functools.cache
def zero_shot() -> list[float]:
    return [accuracy(ZeroShot(), draw) for draw in DRAWS]


@pytest.mark.parametrize(
    ("method", "setting"),
    [
        (NearestMean(), None),
        (LinearProbe(), {"l2": 0.01}),
        (TipAdapter(), None),
        (TipAdapterF(), None),
        (TaskRes(max_steps=STEPS), {"alpha": 0.5, "lr": 0.02}),
        (CoOp(max_steps=STEPS), WORDS),
        (KgCoOp(max_steps=STEPS), {**WORDS, "lambda": 1}),
        (CoCoOp(max_steps=8 * STEPS), {**WORDS, "lr": 0.002}),
    ],
    ids=lambda value: value.name if isinstance(value, Method) else "",
)
def test_gain_over_zero_shot_at_sixteen_shots(method: Method, setting: Setting | None) -> None:
    """The paired 95 % t-interval over eight draws lies above zero."""
    gains = [accuracy(method, draw, setting) - plain for draw, plain in zip(DRAWS, zero_shot(), strict=True)]
    interval = mean_interval(gains)
    assert interval.low > 0, interval


def test_the_simulation_has_a_modality_gap_and_is_right_in_part() -> None:
    """Images are nearer to each other than to any text, and the plain template is right on a part of them."""
    problem, images, _ = benchmark().simulate(20, 1, test=20, class_names=CLASSES)
    texts = problem.text_features
    assert float((images @ images.T).mean()) > float((images @ texts.T).mean()) + 0.1
    assert float((texts @ texts.T).mean()) > float((images @ texts.T).mean()) + 0.1
    assert 0.3 < sum(zero_shot()) / len(zero_shot()) < 0.8
