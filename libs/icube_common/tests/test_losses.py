"""Losses against numbers worked out by hand, and at extremes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from math import exp, log

import pytest
import torch
from torch import Tensor

from icube_common.config import load_config
from icube_common.errors import InputError
from icube_common.losses import (
    LossConfig,
    class_balanced_weights,
    cross_entropy,
    focal,
    focal_distance,
    focal_ordinal,
    info_nce,
    kgcoop,
    make_loss,
    supervised_contrastive,
)

# the logits log 1, log 3 are the probabilities 1/4, 3/4
QUARTERS = [[0.0, log(3.0)]]
# three classes with the probabilities 1/8, 2/8, 5/8
EIGHTHS = [[0.0, log(2.0), log(5.0)]]
EVEN = [[0.0, 0.0]]


def test_configuration_needs_no_torch() -> None:
    code = "import sys; from icube_common.losses import LossConfig; LossConfig(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("logits", "labels", "options", "expected"),
    [
        (QUARTERS, [1], {}, -log(3 / 4)),
        (QUARTERS, [0], {}, -log(1 / 4)),
        # the target is (.95, .05)
        (QUARTERS, [0], {"label_smoothing": 0.1}, -0.95 * log(1 / 4) - 0.05 * log(3 / 4)),
        # weights .5 and 1.5; the mean is over two samples, whatever their weights
        (QUARTERS * 2, [0, 1], {"class_weights": [0.5, 1.5]}, (-0.5 * log(1 / 4) - 1.5 * log(3 / 4)) / 2),
        (QUARTERS * 2, [1, 1], {"class_weights": [0.5, 1.5]}, -1.5 * log(3 / 4)),
        (EIGHTHS, [2], {}, -log(5 / 8)),
    ],
)
def test_cross_entropy(
    logits: list[list[float]], labels: list[int], options: dict[str, object], expected: float
) -> None:
    if "class_weights" in options:
        options = {**options, "class_weights": torch.tensor(options["class_weights"])}
    found = cross_entropy(torch.tensor(logits), torch.tensor(labels), **options)  # type: ignore[arg-type]
    assert found.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("logits", "labels", "gamma", "expected"),
    [
        (QUARTERS, [1], 0.0, -log(3 / 4)),
        (QUARTERS, [1], 2.0, -log(3 / 4) / 16),
        (QUARTERS, [0], 2.0, -log(1 / 4) * 9 / 16),
        (QUARTERS, [0], 0.5, -log(1 / 4) * (3 / 4) ** 0.5),
        (QUARTERS * 2, [0, 1], 1.0, (-log(1 / 4) * 3 / 4 - log(3 / 4) / 4) / 2),
        (EIGHTHS, [1], 2.0, -log(2 / 8) * 36 / 64),
    ],
)
def test_focal(logits: list[list[float]], labels: list[int], gamma: float, expected: float) -> None:
    assert focal(torch.tensor(logits), torch.tensor(labels), gamma=gamma).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("logits", "label", "gamma", "expected"),
    [
        # two classes: the focal loss
        (QUARTERS, 0, 2.0, -log(1 / 4) * 9 / 16),
        (QUARTERS, 1, 2.0, -log(3 / 4) / 16),
        # P(above 0) = 7/8, P(above 1) = 5/8
        (EIGHTHS, 0, 0.0, (-log(1 / 8) - log(3 / 8)) / 2),
        (EIGHTHS, 1, 0.0, (-log(7 / 8) - log(3 / 8)) / 2),
        (EIGHTHS, 2, 0.0, (-log(7 / 8) - log(5 / 8)) / 2),
        (EIGHTHS, 0, 2.0, (-log(1 / 8) * 49 / 64 - log(3 / 8) * 25 / 64) / 2),
        (EIGHTHS, 1, 1.0, (-log(7 / 8) / 8 - log(3 / 8) * 5 / 8) / 2),
    ],
)
def test_focal_ordinal(logits: list[list[float]], label: int, gamma: float, expected: float) -> None:
    found = focal_ordinal(torch.tensor(logits), torch.tensor([label]), gamma=gamma)
    assert found.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("logits", "label", "options", "expected"),
    [
        # the most probable grade is 2: distances 2/2, 1/2 and 0
        (EIGHTHS, 0, {}, -log(1 / 8) * (0.25 * 49 / 64 + 0.2)),
        (EIGHTHS, 1, {}, -log(2 / 8) * (0.25 * 36 / 64 + 0.1)),
        (EIGHTHS, 2, {}, -log(5 / 8) * 0.25 * 9 / 64),
        (EIGHTHS, 0, {"gamma": 0.0, "alpha": 1.0, "beta": 0.0}, -log(1 / 8)),
        (QUARTERS, 0, {"gamma": 1.0, "beta": 1.0}, -log(1 / 4) * (0.25 * 3 / 4 + 1)),
    ],
)
def test_focal_distance(logits: list[list[float]], label: int, options: dict[str, float], expected: float) -> None:
    loss = focal_distance(torch.tensor(logits), torch.tensor([label]), **options)
    assert loss.item() == pytest.approx(expected, rel=1e-6)
    named = make_loss(LossConfig(name="focal_distance", gamma=options.get("gamma", 2.0)), [1] * len(logits[0]))
    if "alpha" not in options and "beta" not in options:
        assert named(torch.tensor(logits), torch.tensor([label]))["loss"].item() == loss.item()


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_each_grade_of_distance_costs_as_much_again(gamma: float) -> None:
    sure_of = 12.0 * torch.eye(4)
    costs = [focal_ordinal(sure_of[[grade]], torch.tensor([0]), gamma=gamma).item() for grade in range(4)]
    assert costs[0] < 1e-4
    assert costs[2] == pytest.approx(2 * costs[1], rel=0.1)
    assert costs[3] == pytest.approx(3 * costs[1], rel=0.15)
    # the cross-entropy sees no difference
    plain = [cross_entropy(sure_of[[grade]], torch.tensor([0])).item() for grade in (1, 2, 3)]
    assert plain == pytest.approx([plain[0]] * 3)


@pytest.mark.parametrize(
    ("counts", "beta", "expected"),
    [
        ([3, 30], 0.0, [1.0, 1.0]),
        # effective numbers 1 and 1.5
        ([1, 2], 0.5, [2 * 1.5 / 2.5, 2 * 1.0 / 2.5]),
        # 1 - .9^1 = .1, 1 - .9^2 = .19: weights as 1/.1 to 1/.19
        ([1, 2], 0.9, [2 * 0.19 / 0.29, 2 * 0.1 / 0.29]),
        # near 1 the weights go as 1 / n
        ([100, 300], 1 - 1e-12, [1.5, 0.5]),
    ],
)
def test_class_balanced_weights(counts: list[int], beta: float, expected: list[float]) -> None:
    assert class_balanced_weights(counts, beta).tolist() == pytest.approx(expected, rel=1e-6)


E1, E2 = [1.0, 0.0], [0.0, 1.0]


@pytest.mark.parametrize(
    ("left", "right", "scale", "labels", "expected"),
    [
        ([E1, E2], [E1, E2], 1.0, None, -log(exp(1) / (exp(1) + 1))),
        # lengths do not count
        ([[3.0, 0.0], [0.0, 0.5]], [E1, [0.0, 7.0]], 1.0, None, -log(exp(1) / (exp(1) + 1))),
        ([E1, E2], [E2, E1], 2.0, None, -log(1 / (exp(2) + 1))),
        # left to right: log 2 for both rows; right to left: cosines (1, 1) for both, log 2 as well
        ([E1, E1], [E1, E1], 5.0, None, log(2)),
        # left rows e1, e1, right rows e1, e2. Left to right: -log(e/(e+1)) and -log(1/(e+1));
        # right to left: log 2 for both
        ([E1, E1], [E1, E2], 1.0, None, ((2 * log(exp(1) + 1) - 1) / 2 + log(2)) / 2),
        # one class: the mean of -log(e/(e+1)) and -log(1/(e+1)) for every anchor
        ([E1, E2], [E1, E2], 1.0, [4, 4], log(exp(1) + 1) - 0.5),
        ([E1, E2], [E1, E2], 1.0, [4, 7], -log(exp(1) / (exp(1) + 1))),
        ([E1], [E2], 10.0, None, 0.0),
    ],
)
def test_info_nce(
    left: list[list[float]], right: list[list[float]], scale: float, labels: list[int] | None, expected: float
) -> None:
    classes = None if labels is None else torch.tensor(labels)
    found = info_nce(torch.tensor(left), torch.tensor(right), scale=scale, labels=classes)
    assert found.item() == pytest.approx(expected, rel=1e-6, abs=1e-7)


@pytest.mark.parametrize(
    ("features", "labels", "expected"),
    [
        # anchors 0 and 1: candidates 1 or 0 (cosine 1) and 2 (cosine 0); anchor 2 is alone and does not count
        ([E1, E1, E2], [0, 0, 1], -log(exp(1) / (exp(1) + 1))),
        ([E1, E2, E1], [0, 0, 1], -(log(1 / (exp(1) + 1)) + log(1 / 2)) / 2),
        # all of one class: each anchor's mean over its two positives
        ([E1, E1, E2], [0, 0, 0], (2 * (log(exp(1) + 1) - 0.5) + log(2)) / 3),
        ([E1, E2], [0, 1], 0.0),
        ([E1], [0], 0.0),
    ],
)
def test_supervised_contrastive(features: list[list[float]], labels: list[int], expected: float) -> None:
    found = supervised_contrastive(torch.tensor(features), torch.tensor(labels), temperature=1.0)
    assert found.item() == pytest.approx(expected, rel=1e-6, abs=1e-7)


def test_kgcoop() -> None:
    learned = torch.tensor([[2.0, 0.0], [1.0, 1.0], [0.0, -1.0]], requires_grad=True)
    frozen = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 3.0]], requires_grad=True)
    found = kgcoop(learned, frozen)
    assert found.item() == pytest.approx(1 - (1 + 0.5**0.5 - 1) / 3, rel=1e-6)
    found.backward()
    assert learned.grad is not None and learned.grad[1].abs().sum() > 0
    assert frozen.grad is None
    # several descriptions per class
    assert kgcoop(learned[:, None], frozen[:, None]).item() == pytest.approx(found.item())


LOGIT_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cross-entropy": lambda x, y: cross_entropy(x, y, label_smoothing=0.1),
    "focal 2": focal,
    "focal 0.5": lambda x, y: focal(x, y, gamma=0.5),
    "focal 0": lambda x, y: focal(x, y, gamma=0.0),
    "focal ordinal 2": focal_ordinal,
    "focal distance 2": focal_distance,
    "focal ordinal 0.5": lambda x, y: focal_ordinal(x, y, gamma=0.5),
    "focal ordinal 0": lambda x, y: focal_ordinal(x, y, gamma=0.0),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", LOGIT_LOSSES)
def test_extreme_logits_stay_finite(name: str, dtype: torch.dtype) -> None:
    rows = [[1e4, -1e4, 0.0], [-1e4, 1e4, 1e4], [0.0, 0.0, 0.0], [-1e4, -1e4, -1e4], [1e-4, 0.0, 0.0]]
    for label in range(3):
        logits = torch.tensor(rows, dtype=dtype, requires_grad=True)
        loss = LOGIT_LOSSES[name](logits, torch.full((5,), label))
        loss.backward()
        assert loss.dtype == torch.float32
        assert torch.isfinite(loss) and loss >= 0
        assert logits.grad is not None and torch.isfinite(logits.grad).all()
        assert logits.grad.abs().sum() > 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_extreme_features_stay_finite(dtype: torch.dtype) -> None:
    values = torch.tensor([[1e4, -1e4], [1e4, -1e4], [1e-4, 0.0], [0.0, 0.0]], dtype=dtype)
    labels = torch.tensor([0, 0, 1, 2])
    for compute in (
        lambda x: info_nce(x, x.flip(0), scale=100.0),
        lambda x: info_nce(x, x.flip(0), scale=100.0, labels=labels),
        lambda x: supervised_contrastive(x, labels, temperature=0.01),
        lambda x: kgcoop(x, values.flip(0)),
    ):
        features = values.clone().requires_grad_()
        loss = compute(features)
        loss.backward()
        assert loss.dtype == torch.float32 and torch.isfinite(loss)
        assert features.grad is not None and torch.isfinite(features.grad).all()


@pytest.mark.parametrize("name", LOGIT_LOSSES)
def test_gradients_against_differences(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 3, generator=generator, dtype=torch.float64)
    labels = torch.tensor([0, 2, 1, 1])
    moved = logits.clone().requires_grad_()
    LOGIT_LOSSES[name](moved, labels).backward()
    assert moved.grad is not None
    direction = torch.randn(4, 3, generator=generator, dtype=torch.float64)
    ends = [LOGIT_LOSSES[name](logits + sign * 1e-2 * direction, labels).item() for sign in (1, -1)]
    assert (ends[0] - ends[1]) / 2e-2 == pytest.approx((moved.grad * direction).sum().item(), rel=1e-3, abs=1e-4)


def test_cosines_keep_their_digits_under_autocast() -> None:
    generator = torch.Generator().manual_seed(0)
    left, right = torch.randn(2, 8, 64, generator=generator)
    plain = info_nce(left, right, scale=100.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert info_nce(left, right, scale=100.0).item() == pytest.approx(plain.item(), rel=1e-6)


def test_make_loss_puts_the_parts_together() -> None:
    logits, labels = torch.tensor(QUARTERS * 2), torch.tensor([0, 1])
    config = load_config(LossConfig, overrides=["name=focal", "gamma=1", "class_balanced_beta=0.9", "kgcoop=8"])
    learned, frozen = torch.tensor([E1, E2]), torch.tensor([E1, E1])
    terms = make_loss(config, [1, 2])(logits, labels, learned=learned, frozen=frozen)
    weights = [2 * 0.19 / 0.29, 2 * 0.1 / 0.29]
    classification = (-weights[0] * 3 / 4 * log(1 / 4) - weights[1] / 4 * log(3 / 4)) / 2
    assert terms["classification"].item() == pytest.approx(classification, rel=1e-6)
    assert terms["kgcoop"].item() == pytest.approx(0.5, rel=1e-6)
    assert terms["loss"].item() == pytest.approx(classification + 4, rel=1e-6)
    plain = make_loss(LossConfig(label_smoothing=0.2), [5, 0])(logits, labels)
    assert plain["loss"].item() == pytest.approx(cross_entropy(logits, labels, label_smoothing=0.2).item())
    assert "kgcoop" not in plain
    graded = make_loss(LossConfig(name="focal_ordinal", gamma=3.0), [1, 1])(logits, labels)
    assert graded["loss"].item() == focal_ordinal(logits, labels, gamma=3.0).item()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "hinge"}, "unknown value of name 'hinge'"),
        ({"name": "focal", "label_smoothing": 0.1}, "label_smoothing=0.1: name=focal has none"),
        ({"class_balanced_beta": 1.0}, "class_balanced_beta=1.0: must be less than 1"),
        ({"gamma": -1.0}, "gamma=-1.0: must be at least 0"),
    ],
)
def test_configuration_refuses(values: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        LossConfig(**values)


def test_refusals() -> None:
    with pytest.raises(InputError, match=r"class counts \[3, 0\]: class \[1\] has no training sample"):
        make_loss(LossConfig(class_balanced_beta=0.9), [3, 0])
    with pytest.raises(InputError, match="graded classes are at least two"):
        focal_ordinal(torch.zeros(2, 1), torch.zeros(2, dtype=torch.long))
    with pytest.raises(InputError, match="at least two"):
        focal_distance(torch.zeros(2, 1), torch.zeros(2, dtype=torch.long))
    with pytest.raises(InputError, match=r"kgcoop=1\.0: needs learned and frozen class features"):
        make_loss(LossConfig(kgcoop=1.0), [1, 1])(torch.tensor(QUARTERS), torch.tensor([0]))
    with pytest.raises(InputError, match=r"\(N, C\) and \(N,\)"):
        cross_entropy(torch.zeros(2, 3), torch.zeros(3, dtype=torch.long))
    with pytest.raises(InputError, match=r"\(N, C\) and \(N,\), N > 0"):
        focal(torch.zeros(0, 3), torch.zeros(0, dtype=torch.long))
    with pytest.raises(InputError, match="both must be"):
        info_nce(torch.zeros(2, 3), torch.zeros(3, 3), scale=1.0)
    with pytest.raises(InputError, match="must match"):
        kgcoop(torch.zeros(2, 3), torch.zeros(1, 3))
    with pytest.raises(InputError, match=r"\(N, D\) and \(N,\)"):
        supervised_contrastive(torch.zeros(2, 3), torch.zeros(3))
