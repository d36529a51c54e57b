"""Heads against closed forms, and the selection of a setting on inner folds."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from icube_common.errors import InputError
from icube_common.experiments.methods import (
    FeatureProblem,
    FittedMethod,
    LinearProbe,
    Method,
    NearestMean,
    ZeroShot,
    tune_and_fit,
)
from icube_common.experiments.methods.base import Setting, ensemble_features
from icube_common.experiments.methods.heads import GENERIC_TEMPLATES
from icube_common.experiments.methods.selection import inner_folds
from icube_common.vlm import FrozenVLM, load_vlm


@pytest.fixture(scope="module")
def vlm() -> FrozenVLM:
    return load_vlm("icube-tiny")


def blobs(rows: int = 12, classes: int = 3, *, seed: int = 0, width: int = 5) -> FeatureProblem:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(rows) % classes
    features = F.one_hot(labels, width).float() * 2 + torch.randn(rows, width, generator=generator)
    names = [f"class {number}" for number in range(classes)]
    return FeatureProblem(
        features=features, labels=labels, class_names=names, groups=[f"s{i % 4}" for i in range(rows)]
    )


def test_nearest_mean_equals_its_closed_form() -> None:
    """Features (3, 0), (1, 0) of a, (0, 2) of b: centre (4/3, 2/3), then length 1, then half squared distances."""
    problem = FeatureProblem(
        features=torch.tensor([[3.0, 0.0], [1.0, 0.0], [0.0, 2.0]]),
        labels=torch.tensor([0, 0, 1]),
        class_names=["a", "b"],
    )
    fitted = NearestMean().fit(problem, {"transform": "CL2N"})
    unit = [
        (5 / math.sqrt(29), -2 / math.sqrt(29)),
        (-1 / math.sqrt(5), -2 / math.sqrt(5)),
        (-1 / math.sqrt(2), 1 / math.sqrt(2)),
    ]
    means = [((unit[0][0] + unit[1][0]) / 2, (unit[0][1] + unit[1][1]) / 2), unit[2]]
    query = (1 - 4 / 3, 1 - 2 / 3)  # of the row (1, 1)
    length = math.hypot(*query)
    x = (query[0] / length, query[1] / length)
    expected = [-((x[0] - m[0]) ** 2 + (x[1] - m[1]) ** 2) / 2 for m in means]
    assert fitted.logits(torch.tensor([[1.0, 1.0]]))[0].tolist() == pytest.approx(expected, abs=1e-6)
    plain = NearestMean().fit(problem, {"transform": "UN"})
    # means (2, 0) and (0, 2): both at a squared distance of 2 from (1, 1)
    scores = plain.logits(torch.tensor([[1.0, 1.0], [2.0, 0.0]]))
    torch.testing.assert_close(scores, torch.tensor([[-1.0, -1.0], [0.0, -4.0]]))


@pytest.mark.parametrize("classes", (2, 3))
def test_linear_probe_has_no_gradient_left(classes: int) -> None:
    """At the optimum of ``sum CE + l2 / 2 |W|^2`` the gradient X^T (p - y) + l2 W vanishes, and so does sum(p - y)."""
    problem = blobs(classes=classes)
    fitted = LinearProbe().fit(problem, {"l2": 0.5})
    bias = fitted.logits(torch.zeros(1, 5))[0]
    weight = (fitted.logits(torch.eye(5)) - bias).T
    x = problem.features
    residual = torch.softmax(x @ weight.T + bias, 1) - F.one_hot(problem.labels, classes)
    if classes == 2:  # one weight vector, of the difference of the logits
        residual, weight = residual[:, 1:], weight[1:]
    assert (residual.T @ x + 0.5 * weight).abs().max() < 2e-3
    assert residual.sum(0).abs().max() < 2e-3
    assert fitted.trained_parameters == (6 if classes == 2 else 18)


def test_zero_shot_ensemble_equals_a_mean_by_hand(vlm: FrozenVLM) -> None:
    names, templates = ["cat", "red car"], ["a photo of a {}.", "{} in snow."]
    problem = FeatureProblem(
        features=torch.zeros(0, 2), joint=torch.zeros(0, 64), labels=torch.zeros(0, dtype=torch.long),
        class_names=names, vlm=vlm, templates=templates, logit_scale=100.0,
    )  # fmt: skip
    image = F.normalize(torch.randn(4, 64, generator=torch.Generator().manual_seed(0)), dim=1)
    rows = []
    for name in names:
        first, second = (
            vlm.encode_ids(vlm.tokenize(text))[0] for text in (f"a photo of a {name}.", f"{name} in snow.")
        )
        mean = (first / first.norm() + second / second.norm()) / 2
        rows.append(mean / mean.norm())
    expected = 100 * image @ torch.stack(rows).T
    fitted = tune_and_fit(ZeroShot(), problem)
    torch.testing.assert_close(fitted.logits(torch.zeros(4, 2), image * 3), expected, atol=2e-4, rtol=0)
    assert fitted.trained_parameters == 0
    wide = ZeroShot(texts="ensemble").fit(problem, {}).logits(torch.zeros(4, 2), image)
    every = ensemble_features(vlm, names, [*templates, *GENERIC_TEMPLATES[1:]])
    torch.testing.assert_close(wide, 100 * image @ every.T)
    assert (wide - expected).abs().max() > 0.01


def test_zero_shot_by_descriptions_averages_their_cosines(vlm: FrozenVLM) -> None:
    sentences = {"cat": ["it has whiskers", "it purrs at night"], "red car": ["it has wheels"]}
    image = F.normalize(torch.randn(4, 64, generator=torch.Generator().manual_seed(0)), dim=1)
    problem = FeatureProblem(
        features=image, joint=image, labels=torch.tensor([0, 1, 0, 1]), class_names=["cat", "red car"], vlm=vlm,
        descriptions=sentences, logit_scale=10.0,
    )  # fmt: skip
    cosines = image @ vlm.encode_text([*sentences["cat"], *sentences["red car"]]).T
    expected = 10 * torch.stack([(cosines[:, 0] + cosines[:, 1]) / 2, cosines[:, 2]], 1)
    method = ZeroShot(texts="descriptions")
    assert method.name == "zero-shot descriptions" and method.reason(problem) == ""
    torch.testing.assert_close(tune_and_fit(method, problem).logits(image, image), expected)
    without = dataclasses.replace(problem, descriptions={"cat": ["it purrs"]})
    assert method.reason(without) == "no description of 'red car'"
    assert ZeroShot().reason(without) == ""


def test_reasons_of_methods_that_do_not_apply(vlm: FrozenVLM) -> None:
    problem = blobs()
    assert ZeroShot().reason(problem) == "no features in the space of the texts"
    assert NearestMean().reason(problem) == ""
    joint = FeatureProblem(
        features=problem.features,
        joint=problem.features,
        labels=problem.labels,
        class_names=[*problem.class_names, "d"],
    )
    assert ZeroShot().reason(joint) == "no text tower"
    assert NearestMean().reason(joint) == "learns weights of each class, and 'd' has no training row"
    empty = problem.select(torch.zeros(0, dtype=torch.long))
    assert LinearProbe().reason(empty) == "no training rows"
    with pytest.raises(InputError, match="nearest mean: not applicable: no training rows"):
        tune_and_fit(NearestMean(), empty)


def test_faults_of_a_problem() -> None:
    x, y = torch.zeros(3, 2), torch.tensor([0, 1, 1])
    with pytest.raises(InputError, match="need equally many"):
        FeatureProblem(features=x[:2], labels=y, class_names=["a", "b"])
    with pytest.raises(InputError, match="none twice"):
        FeatureProblem(features=x, labels=y, class_names=["a", "a"])
    with pytest.raises(InputError, match="need 0 to 0"):
        FeatureProblem(features=x, labels=y, class_names=["a"])
    with pytest.raises(InputError, match="need finite"):
        FeatureProblem(features=x / 0, labels=y, class_names=["a", "b"])


def test_inner_folds_keep_subjects_whole_and_every_class() -> None:
    problem = blobs(rows=24)
    splits, note = inner_folds(problem)
    assert note == "" and len(splits) == 3
    assert sorted(torch.cat([part for _, part in splits]).tolist()) == list(range(24))
    groups = np.array(problem.groups)
    for rest, part in splits:
        assert not set(groups[rest]) & set(groups[part])
        assert set(problem.labels[rest].tolist()) == {0, 1, 2}
    # each class has one subject: rows are divided, with a line for the report
    alone = FeatureProblem(
        features=problem.features, labels=problem.labels, class_names=problem.class_names,
        groups=[f"s{label}" for label in problem.labels.tolist()],
    )  # fmt: skip
    splits, note = inner_folds(alone)
    assert len(splits) == 3 and note.startswith("inner folds share subjects")
    splits, note = inner_folds(problem.select(torch.tensor([0, 1, 2])))
    assert splits == [] and note.startswith("setting of the paper")


@dataclass(frozen=True)
class Biased(Method):
    """A method whose setting is the class that it predicts, but for rows of the class ``right``."""

    fits: list[tuple[int, str]]
    name: str = "biased"
    citation: ClassVar[str] = "none"

    def grid(self, problem: FeatureProblem) -> list[Setting]:
        return [{"predicts": "wrong"}, {"predicts": "right"}, {"predicts": "right too"}]

    def fit(self, problem: FeatureProblem, setting: Setting) -> FittedMethod:
        self.fits.append((len(problem), setting["predicts"]))
        sign = -1 if setting["predicts"] == "wrong" else 1
        return FittedMethod(
            name=self.name, setting=setting, forward=lambda x, joint: sign * x[:, :3], trained_parameters=0
        )


def test_selection_takes_the_best_setting_and_refits_on_all_rows() -> None:
    problem, method = blobs(rows=24), Biased([])
    fitted = tune_and_fit(method, problem)
    assert fitted.setting == {"predicts": "right"}  # the earlier of two equal ones
    assert [setting["predicts"] for setting, _ in fitted.inner_scores] == ["wrong", "right", "right too"]
    assert fitted.inner_scores[0][1] < 0.5 < fitted.inner_scores[1][1]
    assert method.fits[-1] == (24, "right") and all(count < 24 for count, _ in method.fits[:-1])
    assert len(method.fits) == 3 * 3 + 1
    assert tune_and_fit(method, problem, budget=1).setting == {"predicts": "wrong"}
    # one row of each class: the first setting, and a line that states it
    few = tune_and_fit(method, problem.select(torch.tensor([0, 1, 2])))
    assert few.setting == {"predicts": "wrong"} and "setting of the paper" in few.warnings[0]
