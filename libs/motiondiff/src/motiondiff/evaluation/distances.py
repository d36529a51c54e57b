"""Distances between two sets of features (KID, FID, precision and recall) and within one (diversity).

Shapes: N and M clips, D features.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from jaxtyping import Float
from scipy.spatial.distance import cdist, pdist

from icube_common.errors import InputError

Features = Float[np.ndarray, "N D"]
Labels = npt.NDArray[np.int64]

CLIPS_PER_DIMENSION = 10
"""Clips per feature that FID needs: it estimates a D x D covariance on both sides, with a large bias below."""
NEIGHBOURS = 3
"""k of precision and recall."""


def kid(x: Features, y: Features, x_labels: Labels | None = None, y_labels: Labels | None = None) -> float:
    """Kernel distance of two sets: squared MMD, unbiased, with the kernel ``(x.y / D + 1)^3``.

    Binkowski et al., "Demystifying MMD GANs", ICLR 2018, section 4 and eq. 4, over all clips at once rather than over
    drawn blocks. Its expectation is 0 for two samples of one distribution, whatever their sizes, and a single value may
    be negative.

    With labels, the sets are taken as drawn class by class and compared as mixtures in which every class weighs the
    same: the mean of the kernel over pairs is taken for each pair of classes, then over pairs of classes. Without that,
    a balanced set with few clips of each class has too few pairs within classes and comes out clearly below 0.

    Args:
        x: (N, D).
        y: (M, D).
        x_labels: (N,) class numbers, or None.
        y_labels: (M,) class numbers, or None.

    Raises:
        InputError: fewer than two clips on a side (with labels: of a class), another number of features, or other
            classes on the two sides.
    """
    _check(x, y, fewest=2)
    groups = [np.zeros(len(a), dtype=np.int64) if b is None else b for a, b in ((x, x_labels), (y, y_labels))]
    classes, others = (np.unique(labels) for labels in groups)
    if not np.array_equal(classes, others):
        raise InputError(f"KID: classes {classes.tolist()} on one side, {others.tolist()} on the other")
    members = [(labels[None] == classes[:, None]).astype(np.float64) for labels in groups]
    first, theirs = (_within(a, rows) for a, rows in zip((x, y), members, strict=True))
    sizes = [rows.sum(axis=1) for rows in members]
    across = (members[0] @ _kernel(x, y) @ members[1].T / np.outer(*sizes)).mean()
    return float(first + theirs - 2 * across)


def kid_difference(
    x: Sequence[Features],
    z: Sequence[Features],
    y: Sequence[Features],
    labels: tuple[Labels, Labels, Labels],
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[float, float, float]:
    """KID of x minus KID of z, both to y, with a 95 % percentile bootstrap interval over the clips of x and z.

    Clips are drawn with replacement within their class, y is fixed; a clip that is drawn twice makes no pair with
    itself, which keeps the estimate unbiased (bootstrap of a U-statistic: Arcones and Gine, Annals of Statistics 20(2),
    1992). Zero inside the interval: the two sets are not distinguished by their distance to y.

    Args:
        x: (N, D) by each of several networks; the difference is the mean over these.
        z: (M, D) by each.
        y: (K, D) by each.
        labels: class numbers of x, z and y; KID is that by class.
        resamples: draws.
        seed: of the draws.

    Returns:
        The difference, and the ends of its interval.

    Raises:
        InputError: anything that `kid` refuses.
    """
    first, second, third = labels
    values = [kid(a, c, first, third) - kid(b, c, second, third) for a, b, c in zip(x, z, y, strict=True)]
    random = np.random.default_rng([seed, 41])
    drawn = np.zeros(resamples)
    for features, side in ((x, first), (z, second)):
        weights = np.stack([_class_weights(side, random) for _ in range(resamples)])
        sign = 1 if features is x else -1
        for one, real in zip(features, y, strict=True):
            drawn += sign * _weighted_kid(one, real, side, third, weights) / len(x)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return float(np.mean(values)), float(low), float(high)


def _class_weights(labels: Labels, random: np.random.Generator) -> npt.NDArray[np.float64]:
    """(N,) how often each clip is drawn, with replacement within its class; at least two different ones of each."""
    weights = np.zeros(len(labels))
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        counts = np.zeros(len(members))
        while (counts > 0).sum() < 2:
            counts = np.bincount(random.integers(0, len(members), len(members)), minlength=len(members)).astype(float)
        weights[members] = counts
    return weights


def _weighted_kid(
    x: Features, y: Features, x_labels: Labels, y_labels: Labels, weights: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """(R,) KID by class without the term of y alone, for R draws of x given as weights (R, N)."""
    classes = np.unique(x_labels)
    members = (x_labels[None] == classes[:, None]).astype(np.float64)
    kernel = _kernel(x, x)
    np.fill_diagonal(kernel, 0)
    across = _kernel(x, y) @ np.stack([(y_labels == c) / (y_labels == c).sum() for c in classes], axis=1)
    result = []
    for row in weights:
        drawn = members * row
        sizes = drawn.sum(axis=1)
        pairs = np.outer(sizes, sizes) - np.diag(np.square(drawn).sum(axis=1))
        within = (drawn @ kernel @ drawn.T / pairs).mean()
        result.append(within - 2 * (drawn @ across / sizes[:, None]).mean())
    return np.array(result)


def _within(x: Features, members: npt.NDArray[np.float64]) -> float:
    """Mean over pairs of classes of the mean kernel of their clips, no clip paired with itself; members (C, N)."""
    sizes = members.sum(axis=1)
    if sizes.min() < 2:
        raise InputError(f"KID: a class with {int(sizes.min())} clip, two of each are needed")
    kernel = _kernel(x, x)
    np.fill_diagonal(kernel, 0)
    return float((members @ kernel @ members.T / (np.outer(sizes, sizes) - np.diag(sizes))).mean())


def _kernel(x: Features, y: Features) -> npt.NDArray[np.float64]:
    return np.asarray((x @ y.T / x.shape[1] + 1) ** 3)


def fid(x: Features, y: Features) -> float:
    """Frechet distance of the normal distributions of two sets (Heusel et al., NeurIPS 2017, eq. 6).

    ``|m_x - m_y|^2 + tr(S_x + S_y - 2 (S_x S_y)^(1/2))``. The trace of the root is the sum of the singular values of
    ``A_x A_y^T``, with ``A^T A = S``: no matrix root, which is ill-conditioned where features are constant.

    Raises:
        InputError: fewer than two clips on a side, or another number of features.
    """
    _check(x, y, fewest=2)
    centred = [(a - a.mean(axis=0)) / np.sqrt(len(a) - 1) for a in (x, y)]
    # QR first: the product of the factors is D x D however many clips there are
    first, second = (np.asarray(np.linalg.qr(a, mode="r")) for a in centred)
    root = float(np.linalg.norm(first @ second.T, ord="nuc"))
    apart = np.square(x.mean(axis=0) - y.mean(axis=0)).sum()
    spread = sum(float(np.square(a).sum()) for a in centred)
    return float(max(apart + spread - 2 * root, 0.0))


def why_no_fid(generated: int, real: int, dimensions: int) -> str:
    """Reason not to report FID for these counts; empty where there is none."""
    if generated != real:
        return f"{generated} clips on one side and {real} on the other: FID's bias differs, equal counts are needed"
    needed = CLIPS_PER_DIMENSION * dimensions
    if real < needed:
        return (
            f"{real} clips a side: FID over {dimensions} features needs {needed} ({CLIPS_PER_DIMENSION} each); see kid"
        )
    return ""


def precision_recall(
    real: npt.NDArray[np.float64], generated: npt.NDArray[np.float64], *, neighbours: int = NEIGHBOURS
) -> tuple[float, float]:
    """Share of generated features in the real manifold, and of real ones in the generated.

    Kynkaanniemi et al., "Improved precision and recall metric for assessing generative models", NeurIPS 2019, eq. 1
    and 2: a point lies in a manifold if it is within the distance of one of its points to that point's k-th nearest
    neighbour. Both depend on the number of clips: compare sets of the same size.

    Args:
        real: (N, D).
        generated: (M, D).
        neighbours: k.

    Raises:
        InputError: no more than k clips on a side.
    """
    if min(len(real), len(generated)) <= neighbours:
        raise InputError(
            f"precision, recall: {len(real)} real and {len(generated)} generated clips, more than {neighbours} needed"
        )
    across = cdist(real, generated)
    precision = (across <= _radii(real, neighbours)[:, None]).any(axis=0).mean()
    recall = (across <= _radii(generated, neighbours)[None, :]).any(axis=1).mean()
    return float(precision), float(recall)


def _radii(points: npt.NDArray[np.float64], neighbours: int) -> npt.NDArray[np.float64]:
    """(N,) distance of each point to its k-th nearest other one."""
    distances = cdist(points, points)
    np.fill_diagonal(distances, -1.0)  # itself comes first
    return np.asarray(np.partition(distances, neighbours, axis=1)[:, neighbours])


def diversity(features: Features) -> float:
    """Mean distance between two clips of the set.

    Guo et al., "Action2Motion", ACM MM 2020, section 5.1, draw 200 pairs at random; all pairs give what the draws
    scatter around.

    Raises:
        InputError: fewer than two clips.
    """
    if len(features) < 2:
        raise InputError(f"diversity: {len(features)} clips, at least two are needed")
    return float(pdist(features).mean())


def within_class(features: Features, labels: npt.NDArray[np.int64]) -> float:
    """Mean over classes of the mean distance between two clips of the class.

    On a classifier's features this is Action2Motion's multimodality (of all pairs instead of 20 drawn ones). A
    classifier is trained to give the clips of a class the same features, which hides a class that has
    collapsed to one prototype: the same on poses (`motiondiff.recognition.pose_descriptors`) does.

    Raises:
        InputError: a class with a single clip.
    """
    means = []
    for label in np.unique(labels):
        members = features[labels == label]
        if len(members) < 2:
            raise InputError(f"within-class diversity: class number {label} has a single clip, two are needed")
        means.append(pdist(members).mean())
    return float(np.mean(means))


def _check(x: Features, y: Features, *, fewest: int) -> None:
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1] or min(len(x), len(y)) < fewest:
        raise InputError(f"features {x.shape} and {y.shape}: need two tables of the same width, {fewest} rows or more")
