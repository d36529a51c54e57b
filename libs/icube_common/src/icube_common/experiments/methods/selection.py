"""Selection of a setting on inner folds of the training rows, with one budget for all methods."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from icube_common.errors import InputError
from icube_common.evaluation.metrics import per_class_recall
from icube_common.evaluation.samples import Samples, stratified_groups
from icube_common.experiments.methods.base import BUDGET, FeatureProblem, FittedMethod, Method

FOLDS = 3


def tune_and_fit(method: Method, problem: FeatureProblem, *, budget: int = BUDGET, folds: int = FOLDS) -> FittedMethod:
    """Select a setting on inner folds of the training rows, then fit on all of them.

    The score of a setting is the mean over the inner folds of the balanced accuracy of their held-out rows; of equal
    scores the earlier setting is taken, and the first is that of the paper. Each method may compare ``budget``
    settings. Where a class has one row only, or one setting is left, nothing is compared: the setting is the paper's.

    Args:
        method: applies to the problem (`Method.reason`).
        problem: training rows.
        budget: settings to compare, at most; 1 takes the paper's.
        folds: inner folds, at most (`inner_folds`).

    Raises:
        InputError: the method does not apply.
    """
    if reason := method.reason(problem):
        raise InputError(f"{method.name}: not applicable: {reason}")
    grid = method.grid(problem)
    assert 0 < len(grid) <= BUDGET, f"{method.name}: {len(grid)} settings, at most {BUDGET}"
    grid = grid[:budget]
    splits, note = inner_folds(problem, folds) if len(grid) > 1 else ([], "")
    if not splits:
        fitted = method.fit(problem, grid[0])
        return dataclasses.replace(fitted, warnings=(*fitted.warnings, *([note] if note else [])))
    if "texts" in method.requires:
        _ = problem.text_features  # encoded once for all folds
    scores = [
        float(
            np.mean([_score(method.fit(problem.select(rest), setting), problem.select(part)) for rest, part in splits])
        )
        for setting in grid
    ]
    fitted = method.fit(problem, grid[int(np.argmax(scores))])
    return dataclasses.replace(
        fitted,
        inner_scores=tuple(zip(grid, scores, strict=True)),
        warnings=(*fitted.warnings, *([note] if note else [])),
    )


def _score(fitted: FittedMethod, held_out: FeatureProblem) -> float:
    """Balanced accuracy of held-out rows over the classes among them."""
    logits = fitted.logits(held_out.features, held_out.joint)
    probabilities = logits.double().softmax(1).cpu().numpy()
    return float(np.nanmean(per_class_recall(held_out.labels.cpu().numpy(), probabilities)))


def inner_folds(
    problem: FeatureProblem, folds: int = FOLDS
) -> tuple[list[tuple[Int[Tensor, " r"], Int[Tensor, " p"]]], str]:
    """Inner folds of the training rows: groups stay whole, and no class is lost from a training side.

    Where no such split exists (a class with one group), rows are stratified by class instead, with a warning. With one
    row of a class there is no fold.

    Returns:
        Pairs of row numbers (rest, held-out part), and a line for the report, empty where groups stay whole.
    """
    labels, device = problem.labels.cpu().numpy(), problem.labels.device
    if problem.shots < 2:
        return [], "setting of the paper: a class has one training row, none is left to compare settings on"
    assert problem.groups is not None
    rows = np.arange(len(labels))
    alone = [str(row) for row in rows]
    for groups, note in (
        (list(problem.groups), ""),
        (alone, "inner folds share subjects: a class has too few of them for folds by subject"),
    ):
        samples = Samples(ids=alone, labels=labels, class_names=problem.class_names, groups=groups)
        for parts in range(min(folds, len(set(groups)), problem.shots), 1, -1):
            splits = list(stratified_groups(samples, rows, parts, problem.seed))
            if all(len(np.unique(labels[rest])) == len(np.unique(labels)) for rest, _ in splits):
                return [
                    (torch.tensor(rest, device=device), torch.tensor(part, device=device)) for rest, part in splits
                ], note
    return [], "setting of the paper: no inner fold keeps a training row of each class"
