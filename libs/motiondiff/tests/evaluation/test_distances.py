"""FID, KID, precision and recall against independent computations on random features."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import linalg

from icube_common.errors import InputError
from motiondiff.evaluation.distances import (
    diversity,
    fid,
    kid,
    kid_difference,
    precision_recall,
    why_no_fid,
    within_class,
)


def features(count: int, seed: int, width: int = 6, shift: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, width)) @ rng.normal(size=(width, width)) + shift


@pytest.mark.parametrize("width", [1, 6, 30])
@pytest.mark.parametrize("shift", [0.0, 2.0])
def test_fid_is_scipys(width: int, shift: float) -> None:
    x, y = features(400, 1, width), features(300, 2, width, shift)
    a, b = np.cov(x, rowvar=False).reshape(width, width), np.cov(y, rowvar=False).reshape(width, width)
    root = linalg.sqrtm(a @ b).real
    expected = np.square(x.mean(0) - y.mean(0)).sum() + np.trace(a + b - 2 * root)
    assert fid(x, y) == pytest.approx(expected, rel=1e-4)
    assert fid(y, x) == pytest.approx(fid(x, y), rel=1e-9)


def test_fid_by_hand_and_with_constant_features() -> None:
    """One feature: (m - n)^2 + (s - t)^2; a constant feature adds its difference of means."""
    x, y = np.array([[0.0], [2.0]]), np.array([[3.0], [7.0]])  # means 1, 5; deviations sqrt 2, sqrt 8
    assert fid(x, y) == pytest.approx(16 + 2)
    x, y = np.c_[x, [1, 1]], np.c_[y, [2, 2]]
    assert fid(x, y) == pytest.approx(19)
    assert fid(x, x) == pytest.approx(0, abs=1e-12)


def test_fid_only_where_the_counts_allow() -> None:
    assert why_no_fid(300, 300, 30) == ""
    assert "needs 300" in why_no_fid(299, 299, 30)
    assert "equal counts" in why_no_fid(1000, 300, 30)


def test_kid_is_a_naive_loop() -> None:
    x, y = features(13, 3), features(9, 4, shift=1.0)

    def k(a: np.ndarray, b: np.ndarray) -> float:
        return (float(sum(p * q for p, q in zip(a, b, strict=True))) / len(a) + 1) ** 3

    within_x = [k(x[i], x[j]) for i in range(13) for j in range(13) if i != j]
    within_y = [k(y[i], y[j]) for i in range(9) for j in range(9) if i != j]
    across = [k(a, b) for a in x for b in y]
    expected = np.mean(within_x) + np.mean(within_y) - 2 * np.mean(across)
    assert kid(x, y) == pytest.approx(expected, rel=1e-9)


def test_kid_by_class_is_a_naive_loop() -> None:
    x, y = features(12, 3), features(10, 4, shift=1.0)
    p, q = np.arange(12) % 3, np.array([0, 0, 0, 0, 0, 1, 1, 1, 2, 2])
    total = 0.0
    for c in range(3):
        for d in range(3):
            for first, second, labels, others, sign in ((x, x, p, p, 1), (y, y, q, q, 1), (x, y, p, q, -2)):
                pairs = [
                    (first[i] @ second[j] / 6 + 1) ** 3
                    for i in np.flatnonzero(labels == c)
                    for j in np.flatnonzero(others == d)
                    if not (first is second and i == j)
                ]
                total += sign * np.mean(pairs) / 9
    assert kid(x, y, p, q) == pytest.approx(total, rel=1e-9)


def test_kid_of_one_distribution_is_zero_on_average() -> None:
    """Also of sets with the same few clips of each class, where the plain estimate is far below 0."""
    rng = np.random.default_rng(0)
    centres, labels = 3 * rng.normal(size=(5, 4)), np.repeat(np.arange(5), 3)
    plain, by_class = [], []
    for _ in range(400):
        x, y = (centres[labels] + rng.normal(size=(15, 4)) for _ in range(2))
        plain.append(kid(x, y))
        by_class.append(kid(x, y, labels, labels))
    error = np.std(by_class) / 20
    assert abs(np.mean(by_class)) < 3 * error
    assert np.mean(plain) < -10 * np.std(plain) / 20


def test_the_interval_of_a_difference_of_kids() -> None:
    """Two samples of one distribution differ by less than their interval in 95 % of cases; a shifted one does not."""
    rng = np.random.default_rng(2)
    centres, labels = 2 * rng.normal(size=(3, 4)), np.repeat(np.arange(3), 12)
    reference = centres[labels] + rng.normal(size=(36, 4))
    inside = 0
    for trial in range(100):
        x, z = (centres[labels] + rng.normal(size=(36, 4)) for _ in range(2))
        value, low, high = kid_difference([x], [z], [reference], (labels, labels, labels), resamples=200, seed=trial)
        assert value == pytest.approx(kid(x, reference, labels, labels) - kid(z, reference, labels, labels))
        inside += low <= 0 <= high
    assert inside >= 88
    far = [x + 2.0, x + 2.0]
    value, low, high = kid_difference(far, [z, z], [reference] * 2, (labels, labels, labels), resamples=200)
    assert 0 < low < value < high
    assert (value, low, high) == kid_difference(far, [z, z], [reference] * 2, (labels, labels, labels), resamples=200)


@pytest.mark.parametrize(
    ("x", "y", "labels", "words"),
    [
        (np.zeros((1, 2)), np.zeros((4, 2)), None, "2 rows or more"),
        (np.zeros((4, 3)), np.zeros((4, 2)), None, "same width"),
        (np.zeros((3, 2)), np.zeros((3, 2)), ([0, 0, 1], [0, 0, 1]), "a class with 1 clip"),
        (np.zeros((4, 2)), np.zeros((4, 2)), ([0, 0, 1, 1], [0, 0, 2, 2]), r"classes \[0, 1\] on one side"),
    ],
)
def test_sets_that_cannot_be_compared(x: np.ndarray, y: np.ndarray, labels: object, words: str) -> None:
    with pytest.raises(InputError, match=words):
        kid(x, y, *(np.array(part) for part in labels or ()))  # type: ignore[attr-defined]


@pytest.mark.parametrize("neighbours", [1, 3])
def test_precision_and_recall_are_naive_loops(neighbours: int) -> None:
    real, made = features(40, 5), features(25, 6, shift=1.5)

    def inside(point: np.ndarray, manifold: np.ndarray) -> bool:
        for row, centre in enumerate(manifold):
            others = sorted(np.linalg.norm(centre - other) for n, other in enumerate(manifold) if n != row)
            if np.linalg.norm(point - centre) <= others[neighbours - 1]:
                return True
        return False

    expected = np.mean([inside(point, real) for point in made]), np.mean([inside(point, made) for point in real])
    assert precision_recall(real, made, neighbours=neighbours) == pytest.approx(expected)
    assert 0 < expected[0] < 1 and 0 < expected[1] < 1
    assert precision_recall(real, real) == (1, 1)
    with pytest.raises(InputError, match="more than 3 needed"):
        precision_recall(real[:3], made)


def test_diversity_by_hand() -> None:
    points, labels = np.array([[0.0], [1.0], [10.0], [13.0]]), np.array([0, 0, 1, 1])
    assert diversity(points) == pytest.approx((1 + 10 + 13 + 9 + 12 + 3) / 6)
    assert within_class(points, labels) == pytest.approx((1 + 3) / 2)
    assert within_class(np.ones((4, 2)), labels) == 0
    with pytest.raises(InputError, match="single clip"):
        within_class(points, np.array([0, 0, 0, 1]))
    with pytest.raises(InputError, match="1 clips"):
        diversity(points[:1])
