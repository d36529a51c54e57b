"""Maps into the space of the texts: the ridge start against a direct solve, scaling, the choice of shrinkage."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from icube_common.prompts.ridge_init import (
    RIDGE_GRID,
    CaptionTerm,
    LinearProjection,
    RidgeBlock,
    RidgeSetting,
    class_targets,
    initialise_late_fusion,
    initialise_ridge,
    leave_groups_out,
    select_by_group_cv,
    select_late_fusion,
    solve_ridge,
    stacking_weights,
)
from icube_common.prompts.ridge_init.selection import select_sources

NAN = math.nan


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("rows", [40, 5], ids=["more rows than numbers", "fewer rows than numbers"])
def test_solution_minimises_the_ridge_objective(rows: int) -> None:
    """Against numpy's least squares of the rows with the shrinkages as further rows below."""
    widths, shrinkages, copies, factor = (3, 7, 1), (0.3, 5.0, 1.0), 2, 3.0
    blocks = [
        RidgeBlock(normal(rows, width, seed=width), shrinkage, LinearProjection(width, 4))
        for width, shrinkage in zip(widths, shrinkages, strict=True)
    ]
    targets, known = normal(rows, 4, seed=20), normal(rows, 4, seed=21)
    initialise_ridge(blocks, targets, known, copies=copies, setting=RidgeSetting(factor))
    whole = np.concatenate([block.rows.double().numpy() for block in blocks], axis=1)
    penalties = np.concatenate([np.full(w, copies * factor * s) for w, s in zip(widths, shrinkages, strict=True)])
    stacked = np.concatenate([whole, np.diag(np.sqrt(penalties))])
    wanted = np.concatenate([(targets - known).double().numpy(), np.zeros((whole.shape[1], 4))])
    expected = np.linalg.lstsq(stacked, wanted, rcond=None)[0]
    found = torch.cat([block.projection.start for block in blocks])
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)
    assert np.abs(expected).max() > 0.05


def test_a_row_that_comes_twice_counts_as_a_sample_with_a_copy() -> None:
    rows, wanted = normal(6, 3), normal(6, 2, seed=1)
    once = solve_ridge([RidgeBlock(rows, 0.7, LinearProjection(3, 2))], wanted, 1.0)[0]
    twice = solve_ridge([RidgeBlock(rows.repeat(2, 1), 0.7, LinearProjection(3, 2))], wanted.repeat(2, 1), 2.0)[0]
    torch.testing.assert_close(once, twice)


def test_scale_of_training_rows() -> None:
    made = LinearProjection(4, 2)
    # a number that is missing once, one that never changes, one that is never there, one with an outlier later
    made.fit_scale(torch.tensor([[1.0, 5, NAN, 0], [3, 5, NAN, 2], [NAN, 5, NAN, 4]]))
    torch.testing.assert_close(made.mean, torch.tensor([2.0, 5, 0, 2]))
    found = made.standardise(torch.tensor([[3.0, 5, 1, 2], [NAN, 7, NAN, NAN], [1, -5, 0, 1e6]])) * 2
    torch.testing.assert_close(found, torch.tensor([[1.0, 0, 0, 0], [0, 0, 0, 0], [-1, 0, 0, 3]]))
    assert made.std[3] == pytest.approx(math.sqrt(8 / 3))


def test_large_numbers_that_hardly_change_keep_their_scale() -> None:
    made = LinearProjection(1, 1)
    made.fit_scale(torch.tensor([[10_000.0], [10_002.0]]))
    torch.testing.assert_close(made.standardise(torch.tensor([[10_002.0]])), torch.ones(1, 1))


def test_start_and_learned_part_add_up() -> None:
    made = LinearProjection(3, 2)
    values, known = normal(4, 3, seed=6), normal(4, 2, seed=5)
    z = values / 3**0.5
    assert (made(values) == 0).all()
    initialise_ridge([RidgeBlock(z, 0.1, made)], normal(4, 2, seed=7), known)
    assert made.start.abs().max() > 0.1
    torch.testing.assert_close(made(values), z @ made.start)
    with torch.no_grad():
        made.learned.copy_(normal(3, 2, seed=8))
    torch.testing.assert_close(made(values), z @ (made.start + 0.005 * made.learned))


def test_caption_term_has_one_length_and_is_centred() -> None:
    made = CaptionTerm(2, weight=0.5)
    captions = torch.tensor([[1.0, 3], [5, 3], [NAN, NAN]])
    made.fit_mean(captions)
    torch.testing.assert_close(made.mean, torch.tensor([3.0, 3]))
    torch.testing.assert_close(made(captions), torch.tensor([[-0.5, 0], [0.5, 0], [0, 0]]))
    # what all training samples say is worth nothing, what one of them alone says is
    torch.testing.assert_close(made(torch.tensor([[3.0, 3], [3, 4]])), torch.tensor([[0.0, 0], [0, 0.5]]))
    nobody = CaptionTerm(2, weight=0.5)
    nobody.fit_mean(captions[2:])
    assert (nobody.mean == 0).all() and (nobody(captions[2:]) == 0).all()


@pytest.mark.parametrize(("ridge", "gain"), [(False, 0.02), (True, 0.005)])
def test_a_step_moves_little_and_from_a_regression_less(ridge: bool, gain: float) -> None:
    made = LinearProjection(3, 2)
    values = normal(4, 3)
    if ridge:
        initialise_ridge([RidgeBlock(made.standardise(values), 1.0, made)], normal(4, 2), torch.zeros(4, 2))
    weights = normal(4, 2, seed=2)
    (made(values) * weights).sum().backward()
    assert made.learned.grad is not None
    torch.testing.assert_close(made.learned.grad, gain * (values / 3**0.5).T @ weights)


def signed_case(signs: Sequence[int], known: float) -> dict[str, object]:
    """Two classes, groups of a clip of each; the sign of a row gives the class, in some groups the other way round."""
    labels = torch.tensor([0, 1] * len(signs))
    side = torch.tensor([1.0, -1.0] * len(signs))
    targets = side[:, None] * torch.tensor([[1.0, -1.0]]) / 2**0.5
    rows = side[:, None] * torch.tensor([float(sign) for sign in signs for _ in range(2)])[:, None]
    groups = [f"g{number}" for number in range(len(signs)) for _ in range(2)]
    return {
        "blocks": [RidgeBlock(rows, 4.0, LinearProjection(1, 2))],
        "targets": targets,
        "prior": known * targets,
        "labels": labels,
        "groups": groups,
        "classes": torch.eye(2),
        "copies": 1,
    }


def best_factor(case: dict[str, object], *factors: float) -> float:
    settings = [RidgeSetting(factor) for factor in factors or (1.0, 1 / 3, 3.0)]
    return select_by_group_cv(**case, settings=settings).factor  # type: ignore[arg-type]


def test_less_shrinkage_with_a_misleading_prior() -> None:
    # 4 rows, shrinkage 4 f: a left-out sample comes out as its target times 2.5 * 4 / (4 + 4 f) - 1.5, above 0 for 1/3
    case = signed_case([1, 1, 1], -1.5)
    assert best_factor(case) == 1 / 3
    assert best_factor(case, 1.0, 3.0) == 1.0


def test_more_shrinkage_where_the_rows_mislead() -> None:
    # the third group is told wrong by the other two unless 0.25 > 0.75 * 4 / (4 + 4 f)
    assert best_factor(signed_case([1, 1, -1], 0.25)) == 3.0


def test_prior_weight_follows_the_quality_of_the_prior() -> None:
    # 4 rows, shrinkage 4: a left-out sample comes out at the target times 0.5 (1 + 1.5 t) - 1.5 t, > 0 for 0.5 alone
    settings = [RidgeSetting(1.0, 1.0), RidgeSetting(1.0, 0.5)]
    assert select_by_group_cv(**signed_case([1, 1, 1], -1.5), settings=settings).prior_weight == 0.5  # type: ignore[arg-type]
    # rows of the third group mislead; only full trust in what is known puts its clips right
    assert select_by_group_cv(**signed_case([1, 1, -1], 0.4), settings=settings[::-1]).prior_weight == 1.0  # type: ignore[arg-type]
    assert RIDGE_GRID[0] == RidgeSetting(1.0, 1.0), "where nothing can be told by trying, what is known counts in full"


def test_prior_weight_centres_the_regression() -> None:
    rows, targets, known = normal(6, 3), normal(6, 2, seed=1), normal(6, 2, seed=2)
    found = []
    for choice, wanted in ((RidgeSetting(1.0, 0.5), targets - 0.5 * known), (RidgeSetting(2.0, 1.0), targets - known)):
        made = LinearProjection(3, 2)
        initialise_ridge([RidgeBlock(rows, 0.7, made)], targets, known, setting=choice)
        gram = rows.T @ rows + 0.7 * choice.factor * torch.eye(3)
        torch.testing.assert_close(made.start, torch.linalg.solve(gram, rows.T @ wanted), atol=1e-5, rtol=1e-5)
        found.append(made.start)
    assert not torch.allclose(found[0], found[1])


def test_of_equals_the_first_and_two_groups_are_too_few() -> None:
    case = signed_case([1, 1, 1], 0.5)
    assert best_factor(case, 3.0, 1.0, 1 / 3) == 3.0
    assert best_factor(signed_case([1, 1], -1.5)) == 1.0


def test_targets_of_classes() -> None:
    classes = torch.tensor([[3.0, 0, 1], [0, 3, 1], [0, 2, 1]])
    centred = classes - classes.mean(0)
    texts, dual = class_targets(classes), class_targets(classes, one_hot=True)
    torch.testing.assert_close(texts.norm(dim=-1), torch.ones(3))
    torch.testing.assert_close(texts[0], centred[0] / centred[0].norm())
    # near texts: the second class is nearly as similar to its target as the third, of the dual basis it is not
    assert (texts @ centred.T)[1, 2] > 0.5 * (texts @ centred.T)[1, 1]
    scores = dual @ centred.T
    torch.testing.assert_close(scores / scores[0, 0], torch.eye(3) * 1.5 - 0.5, atol=1e-5, rtol=0)
    assert dual.norm(dim=-1).mean() == pytest.approx(1)


def grouped_case(seed: int, copies: int, widths: Sequence[int], noise: float = 1.0) -> dict[str, object]:
    """Four classes in five groups of unequal size; the second block differs between the copies of a sample."""
    groups = [
        f"g{number}" for number in torch.randint(5, (36,), generator=torch.Generator().manual_seed(seed)).tolist()
    ]
    labels = torch.arange(36) % 4
    classes = F.normalize(normal(4, 6, seed=seed), dim=-1)
    blocks = []
    for number, width in enumerate(widths):
        rows = (normal(4, width, seed=seed + 1)[labels] + noise * normal(36, width, seed=seed + 2)).repeat(copies, 1)
        if number == 1:
            rows[36:] += 0.5 * normal(len(rows) - 36, width, seed=seed + 3)
        blocks.append(RidgeBlock(rows / width**0.5, (0.5, 0.1, 2.0)[number], LinearProjection(width, 6)))
    targets = F.normalize(classes - classes.mean(0), dim=-1)[labels]
    return {
        "blocks": blocks,
        "targets": targets.repeat(copies, 1),
        "prior": (F.normalize(targets + noise * normal(36, 6, seed=seed + 4), dim=-1)).repeat(copies, 1),
        "labels": labels,
        "groups": groups,
        "classes": classes,
        "copies": copies,
    }


def refitted(case: dict[str, Any], targets: Tensor, factor: float) -> Tensor:
    """Predictions of each sample by a regression without its group, solved in float64."""
    blocks, copies, found = case["blocks"], case["copies"], torch.zeros(36, targets.shape[1], dtype=torch.float64)
    whole = torch.cat([block.rows.double() / (copies * factor * block.ridge_penalty) ** 0.5 for block in blocks], dim=1)
    for name in set(case["groups"]):
        test = torch.tensor([group == name for group in case["groups"]])
        train = (~test).repeat(copies)
        gram = whole[train].T @ whole[train] + torch.eye(whole.shape[1], dtype=torch.float64)
        found[test] = whole[:36][test] @ torch.linalg.solve(gram, whole[train].T @ targets[train].double())
    return found


def members(groups: Sequence[str]) -> list[Tensor]:
    return [torch.tensor([row for row, group in enumerate(groups) if group == name]) for name in sorted(set(groups))]


@pytest.mark.parametrize(
    ("copies", "widths"), [(1, (20,)), (1, (30, 40)), (4, (20, 60, 5)), (3, (90, 300))], ids=lambda value: str(value)
)
def test_closed_form_of_leaving_out_groups_equals_refits(copies: int, widths: tuple[int, ...]) -> None:
    case: dict[str, Any] = grouped_case(1, copies, widths)
    factors = (1.0, 1 / 3, 3.0)
    both = torch.cat([case["targets"], case["prior"]], dim=1)
    found = list(leave_groups_out(case["blocks"], both, members(case["groups"]), factors, copies=copies))
    for factor, values in zip(factors, found, strict=True):
        torch.testing.assert_close(values, refitted(case, both, factor), atol=1e-8, rtol=0)
    assert not torch.allclose(found[0], found[1], atol=1e-2)


def test_targets_of_a_left_out_group_do_not_count() -> None:
    case: dict[str, Any] = grouped_case(1, 4, (20, 60, 5))
    groups, targets = members(case["groups"]), case["targets"].clone()
    before = next(leave_groups_out(case["blocks"], targets, groups, [1.0], copies=4))
    targets[torch.cat([groups[0] + 36 * copy for copy in range(4)])] += 7.0
    after = next(leave_groups_out(case["blocks"], targets, groups, [1.0], copies=4))
    torch.testing.assert_close(after[groups[0]], before[groups[0]], atol=1e-8, rtol=0)
    assert (after - before)[groups[1]].abs().max() > 0.01


def test_selection_equals_that_of_refits() -> None:
    chosen = set()
    for seed in range(12):
        case: dict[str, Any] = grouped_case(10 * seed, 3, (20, 60, 5), noise=3.0)
        accuracies = []
        for setting in RIDGE_GRID:
            feature = refitted(case, case["targets"] - setting.prior_weight * case["prior"], setting.factor)
            feature += setting.prior_weight * case["prior"][:36]
            correct = (feature @ case["classes"].double().T).argmax(1).eq(case["labels"])
            accuracies.append(sum(correct[rows].float().mean().item() for rows in members(case["groups"])))
        best = RIDGE_GRID[accuracies.index(max(accuracies))]
        assert select_by_group_cv(**case) == best
        chosen.add(best)
    assert len(chosen) >= 4


def test_stacking_weights_by_hand() -> None:
    # a source with margin 2 that is right in three of four: log(3) / 2, whose probabilities are 3/4 and 1/4
    right, labels = np.array([[1.0, -1], [1, -1], [1, -1], [-1, 1]]), np.zeros(4, dtype=np.int64)
    weights, loss = stacking_weights([right], labels)
    np.testing.assert_allclose(weights, [math.log(3) / 2], atol=1e-4)
    assert loss == pytest.approx(-0.75 * math.log(0.75) - 0.25 * math.log(0.25), abs=1e-6)
    # a source that is wrong in three of four has no weight, not a negative one
    assert stacking_weights([-right], labels)[0] == [0] and stacking_weights([-right], labels)[1] == math.log(2)
    # of two with the same scores half of the weight each; twice as large scores have half the weight
    np.testing.assert_allclose(stacking_weights([right, right], labels)[0], [math.log(3) / 4] * 2, atol=1e-4)
    np.testing.assert_allclose(stacking_weights([2 * right], labels)[0], [math.log(3) / 4], atol=1e-4)


def late_case(seed: int, noise: Sequence[float], prior_noise: float) -> dict[str, Any]:
    """Sources of one class signal and of noise of their own; three rows for each sample."""
    case: dict[str, Any] = grouped_case(seed, 3, (8,) * len(noise))
    labels, targets = case["labels"], case["targets"]
    rows = [normal(4, 8, seed=seed)[labels] + level * normal(36, 8, seed=seed + k) for k, level in enumerate(noise, 7)]
    case["blocks"] = [RidgeBlock(r.repeat(3, 1) / 8**0.5, 0.1, LinearProjection(8, 6)) for r in rows]
    case["prior"] = targets + prior_noise * normal(36, 6, seed=seed + 5).repeat(3, 1)
    return case


def test_a_late_fusion_weighs_sources_by_their_left_out_groups() -> None:
    found = select_late_fusion(**late_case(1, (0.7, 50.0, 0.7), 50.0))
    assert sum(found.weights) == pytest.approx(1) and min(found.weights) >= 0
    assert found.weights[1] < 0.05 < 0.25 < min(found.weights[0], found.weights[2]) and found.prior_weight < 0.05
    # the prior alone is right
    alone = select_late_fusion(**late_case(1, (50.0, 50.0), 0.3))
    assert alone.weights == (0.0, 0.0) and alone.prior_weight == 1.0
    # a source almost without noise needs the smallest penalty; of noise all penalties are as good
    clear = select_late_fusion(**late_case(1, (0.1, 50.0), 50.0))
    assert clear.factors == (1 / 9, 1.0) and clear.weights == (1.0, 0.0)


def test_sources_that_add_nothing_on_other_groups_are_left_out() -> None:
    generator = np.random.default_rng(5)
    labels, groups = np.arange(80) % 4, np.array([f"g{row // 16}" for row in range(80)])
    signal = [3 * np.eye(4)[labels] + generator.normal(0, 2, (80, 4)) for _ in range(2)]
    noise = [generator.normal(0, 1, (80, 4)) for _ in range(3)]
    # fitted to all rows, weights of noise are above 0; on groups left out they do not help
    assert stacking_weights([*signal, *noise], labels)[0][2:].max() > 0.1
    assert select_sources([*signal, *noise], labels, groups) == [0, 1]
    # twice the same: the first
    assert select_sources([signal[0], signal[0]], labels, groups) == [0]
    assert select_sources(signal, labels, np.array(["g0"] * 80)) == [0, 1]
    many = np.array([f"g{row:02d}" for row in range(80)])
    assert select_sources([*signal, *noise], labels, many) == [0, 1]


def test_a_late_fusion_without_prior_or_with_one_group() -> None:
    case = late_case(1, (0.7, 0.7), 0.0)
    none = select_late_fusion(**{**case, "prior": 0 * case["prior"]})
    assert none.prior_weight == 1.0 and sum(none.weights) == pytest.approx(1)
    single = select_late_fusion(**{**case, "groups": ["a"] * 36})
    assert (single.factors, single.weights, single.prior_weight) == ((1.0, 1.0), (0.5, 0.5), 0.5)
    single = select_late_fusion(**{**case, "prior": 0 * case["prior"], "groups": ["a"] * 36})
    assert single.weights == (0.5, 0.5) and single.prior_weight == 1.0


def test_a_late_fusion_leaves_out_samples_whose_class_no_other_group_has() -> None:
    case = late_case(1, (0.7, 0.7), 50.0)
    labels = case["labels"].tolist()
    # each class in a group of its own: no sample can be predicted without its group
    alone = select_late_fusion(**{**case, "groups": [f"g{label}" for label in labels]})
    assert (alone.factors, alone.weights, alone.prior_weight) == ((1.0, 1.0), (0.5, 0.5), 0.5)
    # the last class in one group: its samples are no part of the selection, whatever their scores
    groups = ["x" if label == max(labels) else group for label, group in zip(labels, case["groups"], strict=True)]
    chosen = select_late_fusion(**{**case, "groups": groups})
    changed = case["prior"].clone()
    changed[torch.tensor(labels).eq(max(labels)).repeat(3)] *= -7
    assert chosen == select_late_fusion(**{**case, "groups": groups, "prior": changed})
    assert sum(chosen.weights) == pytest.approx(1) and chosen.weights != (0.5, 0.5)


def test_a_late_fusion_is_a_sum_of_regressions() -> None:
    case = late_case(1, (0.7, 2.0), 0.0)
    initialise_late_fusion(case["blocks"], case["targets"], copies=3, factors=(1.0, 3.0), weights=(0.75, 0.25))
    for block, factor, weight in zip(case["blocks"], (1.0, 3.0), (0.75, 0.25), strict=True):
        expected = weight * solve_ridge([block], case["targets"], 3 * factor)[0]
        torch.testing.assert_close(block.projection.start, expected, atol=0, rtol=0)
        assert block.projection.gain == pytest.approx(0.005)
