"""Tip-Adapter, Tip-Adapter-F and TaskRes against their formulas, written out."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from method_problems import NAMES, text_problem

from icube_common.experiments.methods import TaskRes, TipAdapter, TipAdapterF, tune_and_fit
from icube_common.experiments.methods.adapters import cache_logits
from icube_common.experiments.methods.training import Schedule
from icube_common.vlm import FrozenVLM, load_vlm


@pytest.fixture(scope="module")
def vlm() -> FrozenVLM:
    return load_vlm("icube-tiny")


def test_cache_logits_of_three_rows() -> None:
    """Cosines of (1, 0) with the keys: 1, 0 and .6; classes 0, 1, 0; beta 2."""
    keys = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    values = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    result = cache_logits(torch.tensor([[1.0, 0.0]]), keys, values, beta=2.0)
    assert result[0].tolist() == pytest.approx([1 + math.exp(-0.8), math.exp(-2.0)])


def test_tip_adapter_adds_the_cache_to_the_zero_shot_logits(vlm: FrozenVLM) -> None:
    problem = text_problem(vlm, logit_scale=100.0)
    query = F.normalize(torch.randn(2, 64, generator=torch.Generator().manual_seed(5)), dim=1)
    fitted = TipAdapter().fit(problem, {"alpha": 3.0, "beta": 1.5})
    keys = F.normalize(problem.features, dim=1)
    for number, x in enumerate(query):
        expected = 100 * problem.text_features @ x
        for row, key in enumerate(keys):
            expected[row % 3] += 3.0 * math.exp(-1.5 * (1 - float(x @ key)))
        torch.testing.assert_close(fitted.logits(query, query)[number], expected)
    assert fitted.trained_parameters == 0


def test_one_step_of_tip_adapter_f(vlm: FrozenVLM) -> None:
    """AdamW's first step: key (1 - lr wd) - lr g / (|g| + eps), at alpha 1 and beta 5.5; no normalisation after it."""
    problem = text_problem(vlm, logit_scale=10.0)
    keys = F.normalize(problem.features, dim=1)
    trained = keys.clone().requires_grad_()
    onehot = F.one_hot(problem.labels, 3).float()
    logits = 10 * keys @ problem.text_features.T + torch.exp(-5.5 * (1 - keys @ trained.T)) @ onehot
    loss = -torch.log_softmax(logits, 1)[range(6), problem.labels].mean()
    (g,) = torch.autograd.grad(loss, trained)
    after = keys * (1 - 1e-3 * 0.01) - 1e-3 * g / (g.abs() + 1e-4)
    expected = 10 * keys @ problem.text_features.T + 3.0 * torch.exp(-1.0 * (1 - keys @ after.T)) @ onehot
    fitted = TipAdapterF(epochs=1).fit(problem, {"alpha": 3.0, "beta": 1.0})
    torch.testing.assert_close(fitted.logits(keys, keys), expected, atol=2e-5, rtol=0)
    assert (after - keys).abs().max() > 5e-4 and fitted.trained_parameters == 6 * 64 and fitted.steps == 1
    # the keys carry the change: the untrained cache differs by more than the tolerance above
    assert (TipAdapter().fit(problem, {"alpha": 3.0, "beta": 1.0}).logits(keys, keys) - expected).abs().max() > 1e-3


def test_two_steps_of_task_residual(vlm: FrozenVLM) -> None:
    """Adam on x of t + alpha x, t not normalised: 1e-5 in the first epoch, then the whole rate; weight decay 5e-4."""
    problem = text_problem(vlm, logit_scale=100.0)
    raw = vlm.encode_ids(vlm.tokenize([f"a photo of a {name}." for name in NAMES]))
    z = F.normalize(problem.features, dim=1)
    x, m, v = torch.zeros(3, 64), torch.zeros(3, 64), torch.zeros(3, 64)

    def logits(x: torch.Tensor) -> torch.Tensor:
        moved = raw + 0.5 * x
        return 100 * z @ (moved / moved.norm(dim=1, keepdim=True)).T

    for step, rate in ((1, 1e-5), (2, 0.05)):
        x.requires_grad_()
        (g,) = torch.autograd.grad(-torch.log_softmax(logits(x), 1)[range(6), problem.labels].mean(), x)
        x = x.detach()
        g = g + 5e-4 * x
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        x = x - rate * (m / (1 - 0.9**step)) / ((v / (1 - 0.999**step)).sqrt() + 1e-8)
    fitted = TaskRes(epochs=2).fit(problem, {"alpha": 0.5, "lr": 0.05})
    torch.testing.assert_close(fitted.logits(z, z), logits(x), atol=5e-3, rtol=0)
    assert (logits(x) - logits(torch.zeros(3, 64))).abs().max() > 0.3
    assert fitted.trained_parameters == 3 * 64 and fitted.steps == 2


def test_task_residual_starts_as_zero_shot(vlm: FrozenVLM) -> None:
    """The first step has a rate of 1e-5: the logits are those of the class texts, of one template exactly."""
    problem = text_problem(vlm, logit_scale=1.0)
    assert problem.joint is not None
    fitted = TaskRes(epochs=2, max_steps=1).fit(problem, {"alpha": 0.5, "lr": 1.0})
    torch.testing.assert_close(
        fitted.logits(problem.features, problem.joint), problem.joint @ problem.text_features.T, atol=1e-5, rtol=0
    )
    assert fitted.warnings == ("1 steps of 2 (2 epochs): schedule compressed",)


def test_learning_rates_of_a_schedule() -> None:
    """Four epochs of two steps: 1e-5, then the cosine of epochs 0, 1, 2 of 4; compressed to four steps likewise."""
    schedule = Schedule(lr=0.2, epochs=4, batch_size=8)
    assert schedule.steps(16) == 8 and schedule.note(16) == ()
    cosine = [0.1 * (1 + math.cos(math.pi * epoch / 4)) for epoch in (0, 1, 2)]
    epochs = [1e-5, *cosine]
    assert [schedule.rate(step, 8) for step in range(8)] == pytest.approx([rate for rate in epochs for _ in range(2)])
    short = Schedule(lr=0.2, epochs=4, batch_size=8, max_steps=4)
    assert short.steps(16) == 4 and short.note(16)
    assert [short.rate(step, 4) for step in range(4)] == pytest.approx(epochs)
    each = Schedule(lr=0.2, epochs=1, batch_size=8, warmup=False)
    assert [each.rate(step, 4) for step in range(3)] == pytest.approx([0.2, 0.1 * (1 + math.sqrt(0.5)), 0.1])


def test_adapters_do_not_predict_new_classes(vlm: FrozenVLM) -> None:
    problem = text_problem(vlm, names=(*NAMES, "bridge"))
    for method in (TipAdapter(), TipAdapterF(), TaskRes()):
        assert method.reason(problem) == "learns weights of each class, and 'bridge' has no training row"
        assert method.reason(text_problem(vlm)) == ""


def test_adapters_learn_classes_that_texts_alone_confuse(vlm: FrozenVLM) -> None:
    """Clusters that the class texts do not name: each adapter, tuned, fits most rows."""
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(48) % 3
    joint = F.normalize(
        torch.randn(3, 64, generator=generator)[labels] + 0.5 * torch.randn(48, 64, generator=generator), dim=1
    )
    problem = text_problem(vlm, rows=48, logit_scale=10.0)
    object.__setattr__(problem, "joint", joint)
    before = (joint @ problem.text_features.T).argmax(1).eq(labels).float().mean()
    assert before < 0.7
    for method in (TipAdapter(), TipAdapterF(), TaskRes()):
        fitted = tune_and_fit(method, problem, folds=2)
        assert fitted.logits(joint, joint).argmax(1).eq(labels).float().mean() > 0.9, method.name
        assert len(fitted.inner_scores) == 8
