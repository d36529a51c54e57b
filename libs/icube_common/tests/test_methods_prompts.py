"""CoOp, CoCoOp and KgCoOp: steps and forward passes against a tower by hand."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import torch
import torch.nn.functional as F
from method_problems import NAMES, class_features_by_hand, text_problem
from torch import Tensor

from icube_common.experiments.methods import CoCoOp, CoOp, FeatureProblem, KgCoOp, tune_and_fit
from icube_common.experiments.methods.base import Setting
from icube_common.prompts import PromptLearner
from icube_common.vlm import FrozenVLM, load_vlm


@pytest.fixture(scope="module")
def vlm() -> FrozenVLM:
    return load_vlm("icube-tiny")


@dataclass(frozen=True, kw_only=True)
class WatchedCoOp(CoOp):
    """CoOp that keeps its learner and the first context for the test."""

    learners: list[PromptLearner] = field(default_factory=list)
    contexts: list[Tensor] = field(default_factory=list)

    def learner(self, problem: FeatureProblem, setting: Setting) -> PromptLearner:
        result = super().learner(problem, setting)
        self.learners.append(result)
        self.contexts.append(result.context.detach().clone())
        return result


@pytest.mark.parametrize("specific", (False, True))
def test_two_steps_of_coop_equal_autograd_by_hand(vlm: FrozenVLM, specific: bool) -> None:
    """SGD with momentum .9 and weight decay 5e-4, at 1e-5 in the first epoch and the whole rate in the second."""
    problem = text_problem(vlm, logit_scale=100.0)
    assert problem.joint is not None
    frozen = {name: value.clone() for name, value in vlm.state_dict().items()}
    method = WatchedCoOp(epochs=2, batch_size=8)
    fitted = method.fit(problem, {"context": 4, "class_specific": specific, "lr": 0.02})
    start = method.contexts[0].reshape((3, 4, 64) if specific else (4, 64))
    context, velocity = start.clone(), torch.zeros_like(start)
    for rate in (1e-5, 0.02):
        context.requires_grad_()
        logits = 100 * problem.joint @ class_features_by_hand(vlm, context).T
        loss = -torch.log_softmax(logits, 1)[range(6), problem.labels].mean()
        (gradient,) = torch.autograd.grad(loss, context)
        context = context.detach()
        velocity = 0.9 * velocity + gradient + 5e-4 * context
        context = context - rate * velocity
    assert (context - start).abs().max() > 1e-3
    torch.testing.assert_close(method.learners[0].context.detach().reshape(start.shape), context, atol=1e-5, rtol=0)
    expected = 100 * problem.joint @ class_features_by_hand(vlm, context).T
    torch.testing.assert_close(fitted.logits(problem.features, problem.joint), expected, atol=2e-3, rtol=0)
    # the context alone has changed
    assert all(torch.equal(value, frozen[name]) for name, value in vlm.state_dict().items())
    assert [name for name, value in method.learners[0].named_parameters() if value.requires_grad] == ["context"]
    assert fitted.trained_parameters == start.numel() and fitted.steps == 2


def test_random_start_of_coop(vlm: FrozenVLM) -> None:
    """Sixteen vectors from N(0, .02^2); another seed gives others."""
    first = CoOp().learner(text_problem(vlm), {"context": 16}).context
    assert first.shape == (16, 64) and 0.018 < float(first.detach().std()) < 0.022
    problem = FeatureProblem(**{**vars(text_problem(vlm)), "seed": 1})
    assert not torch.equal(first, CoOp().learner(problem, {"context": 16}).context)
    words = CoOp().learner(text_problem(vlm), {"context": "a photo of a"}).context.detach()
    ids = vlm.tokenizer.encode("a photo of a")
    assert torch.equal(words, vlm.token_embedding.weight[ids].detach())


@pytest.mark.parametrize("batch", (1, 3))
def test_conditional_context_is_context_plus_the_meta_net_of_the_image(vlm: FrozenVLM, batch: int) -> None:
    """Linear 64 -> 4, ReLU, linear 4 -> 64; its output is added to each vector as it is, for one image as for three."""
    problem = text_problem(vlm, logit_scale=100.0)
    assert problem.joint is not None
    learner = CoCoOp().learner(problem, {"context": "a photo of a"})
    assert learner.meta_net is not None
    with torch.no_grad():  # away from torch's small start, so that a normalised shift would differ
        for value in learner.meta_net.parameters():
            value.mul_(3)
    w1, b1, w2, b2 = learner.meta_net.parameters()
    assert w1.shape == (4, 64) and w2.shape == (64, 4)
    images = problem.joint[:batch]
    expected = []
    for image in images:
        shift = w2 @ torch.clamp(w1 @ image + b1, min=0) + b2
        expected.append(100 * class_features_by_hand(vlm, learner.context + shift) @ image)
    torch.testing.assert_close(learner.logits(images, scale=100.0), torch.stack(expected), atol=1e-3, rtol=0)
    shifts = learner.meta_net(problem.joint).norm(dim=1)
    assert shifts.max() / shifts.min() > 1.05  # lengths are free


def test_a_batch_of_cocoop_equals_its_single_images(vlm: FrozenVLM) -> None:
    problem = text_problem(vlm, logit_scale=100.0)
    assert problem.joint is not None
    fitted = CoCoOp(epochs=2).fit(problem, CoCoOp().grid(problem)[0])
    whole = fitted.logits(problem.features, problem.joint)
    single = torch.cat([fitted.logits(row[None], row[None]) for row in problem.joint])
    torch.testing.assert_close(whole, single, atol=1e-3, rtol=0)
    # context, two weights, two biases
    assert fitted.trained_parameters == 4 * 64 + (64 * 4 + 4) + (4 * 64 + 64) and fitted.steps == 12


def test_kgcoop_penalty_by_hand() -> None:
    """Squared distances .4^2 + .8^2 and 0, their mean .4, times lambda 8; no gradient flows into the reference."""
    learned = torch.tensor([[1.0, 0.0], [0.0, 1.0]], requires_grad=True)
    reference = torch.tensor([[0.6, 0.8], [0.0, 1.0]], requires_grad=True)
    penalty = KgCoOp().penalty(learned, reference, {"lambda": 8})
    assert penalty.item() == pytest.approx(3.2)
    penalty.backward()
    assert reference.grad is None and learned.grad is not None


def test_kgcoop_stays_nearer_to_the_hand_crafted_texts_than_coop(vlm: FrozenVLM) -> None:
    problem = text_problem(vlm, logit_scale=100.0, templates="a photo of a {}.")
    assert problem.joint is not None
    setting = {"context": "a photo of a", "lr": 0.05}
    images, eye = problem.features, torch.eye(64)
    distances = []
    for method, more in ((CoOp(epochs=30), {}), (KgCoOp(epochs=30, batch_size=32), {"lambda": 100})):
        fitted = method.fit(problem, {**setting, **more})
        texts = fitted.logits(images.new_zeros(64, 64), eye).T / 100  # the class features, read off the unit vectors
        distances.append(float((texts - problem.text_features).norm(dim=1).mean()))
    assert 0 < distances[1] < 0.7 * distances[0]


def test_new_classes_are_predicted_with_the_learned_context(vlm: FrozenVLM) -> None:
    names = (*NAMES, "bridge")
    problem = text_problem(vlm, names=names, logit_scale=100.0)
    assert problem.joint is not None and problem.new_classes == ["bridge"]
    method = WatchedCoOp(epochs=2)
    assert method.reason(problem) == "" and not any(one.get("class_specific") for one in method.grid(problem))
    fitted = method.fit(problem, method.grid(problem)[0])
    texts = class_features_by_hand(vlm, method.learners[0].context.detach(), names)
    torch.testing.assert_close(
        fitted.logits(problem.features, problem.joint), 100 * problem.joint @ texts.T, atol=2e-3, rtol=0
    )
    # the softmax of the training is over the classes with rows: the same context as without the fourth class
    other = WatchedCoOp(epochs=2)
    other.fit(text_problem(vlm, logit_scale=100.0), method.grid(problem)[0])
    torch.testing.assert_close(other.learners[0].context, method.learners[0].context, atol=1e-5, rtol=0)


def test_grids_stay_in_the_budget_and_begin_with_the_paper(vlm: FrozenVLM) -> None:
    problem = text_problem(vlm, templates="a video of a {}.")
    assert CoOp().grid(problem)[0] == {"context": 16, "lr": 0.002}
    assert CoCoOp().grid(problem)[0] == {"context": "a photo of a", "lr": 0.002}
    assert KgCoOp().grid(problem)[0] == {"context": "a photo of a", "lambda": 8, "lr": 0.002}
    for method in (CoOp(), CoCoOp(), KgCoOp()):
        grid = method.grid(problem)
        assert len(grid) <= 8 and len({str(one) for one in grid}) == len(grid)
        fitted = tune_and_fit(type(method)(epochs=1, max_steps=2), problem, budget=2, folds=2)
        assert len(fitted.inner_scores) == 2
        assert fitted.logits(problem.features, problem.joint).shape == (6, 3)


def test_template_without_words_gives_no_start(vlm: FrozenVLM) -> None:
    grid = CoOp().grid(text_problem(vlm, templates=["{}.", "a photo of {}."]))
    assert {one["context"] for one in grid} == {16, 4, "a photo of a"}


def test_unit_feature_read_off(vlm: FrozenVLM) -> None:
    """Sanity of the tower by hand: token embeddings as context give the feature of the sentence."""
    table = vlm.token_embedding.weight.detach()
    context = table[vlm.tokenizer.encode("a photo of a")]
    features = vlm.encode_text([f"a photo of a {name}." for name in NAMES])
    torch.testing.assert_close(class_features_by_hand(vlm, context), features, atol=1e-5, rtol=0)
    assert F.cosine_similarity(features[0], features[1], dim=0) < 0.99
