"""Logistic regression with few rows and many columns, its strength chosen inside the training rows.

Standardised by the training rows; then rotated onto their singular vectors: with an L2 penalty the solution lies in
their span, so that the regression on the (at most N) coordinates is the one on all columns, at a fraction of the time.
"""

from __future__ import annotations

import warnings

import numpy as np

from debian_mri.evaluation.baselines.fold_tables import Array, Labels, Rows, as_samples
from icube_common.evaluation.samples import stratified_groups

STRENGTHS = tuple(10.0**power for power in np.arange(-5, 1.5))
"""Values of C (inverse of the penalty) that are tried, 1e-5 to 10."""
INNER_FOLDS = 5


def logistic(rows: Rows, *, strength: float | None = None, scaled: bool = False, seed: int = 0) -> Array:
    """Probabilities (M, C) of the test rows.

    Args:
        rows: what is learnt from and predicted; known and test are (N, P) and (M, P) without gaps.
        strength: C of scikit-learn; None: the one of `STRENGTHS` with the least log loss in 5 inner folds by group.
        scaled: the columns are scaled already.
        seed: of the inner folds.
    """
    train, test = rows.train, rows.test
    if train.shape[1] == 0:
        return prior(rows)
    if not scaled:
        center, spread = train.mean(axis=0), train.std(axis=0)
        spread = np.where(spread > 1e-12, spread, 1.0)
        train, test = (train - center) / spread, (test - center) / spread
    train, test = _rotated(train, test)
    if strength is None:
        strength = choose_strength(train, rows, seed=seed)
    return _fit(train, rows.labels, test, strength, rows.classes)


def prior(rows: Rows) -> Array:
    """The classes' shares among the training rows, for every test row (M, C): nothing is known of them."""
    counts = np.bincount(rows.labels, minlength=rows.classes)
    return np.tile(counts / counts.sum(), (len(rows.test), 1))


def choose_strength(train: Array, rows: Rows, *, seed: int) -> float:
    """The C of `STRENGTHS` with the least summed log loss over inner folds of whole groups, the smallest of equals.

    With too few groups for two inner folds with both classes it is 1.
    """
    samples = as_samples(rows.labels, rows.groups, rows.classes)
    parts = min(INNER_FOLDS, len(set(rows.groups)), int(np.bincount(rows.labels).max()))
    losses = np.zeros(len(STRENGTHS))
    used = 0
    if parts >= 2:
        for rest, part in stratified_groups(samples, np.arange(len(train)), parts, seed):
            if len(set(rows.labels[rest])) < rows.classes:
                continue
            used += 1
            for place, strength in enumerate(STRENGTHS):
                probabilities = _fit(train[rest], rows.labels[rest], train[part], strength, rows.classes)
                losses[place] -= np.log(np.maximum(probabilities[np.arange(len(part)), rows.labels[part]], 1e-12)).sum()
    return STRENGTHS[int(losses.argmin())] if used else 1.0


def _rotated(train: Array, test: Array) -> tuple[Array, Array]:
    if train.shape[1] <= len(train):
        return train, test
    left, sizes, right = np.linalg.svd(train, full_matrices=False)
    return left * sizes, test @ right.T


def _fit(train: Array, labels: Labels, test: Array, strength: float, classes: int) -> Array:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():
        # the last digits of a weak penalty do not matter here
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = LogisticRegression(C=strength, max_iter=300).fit(train, labels)
    probabilities = np.zeros((len(test), classes))
    probabilities[:, model.classes_] = model.predict_proba(test)
    return probabilities
