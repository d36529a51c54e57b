"""Distances between two sets of features: KID, and FID where there are enough clips for it.

Shapes: N and M clips, D features.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from jaxtyping import Float

from icube_common.errors import InputError

Features = Float[npt.NDArray[np.float64], "N D"]

CLIPS_PER_DIMENSION = 10
"""FID estimates a D x D covariance on both sides: with fewer clips than this times D its bias exceeds what it tells."""


def kid(x: Features, y: Features) -> float:
    """Kernel distance of two sets: squared MMD, unbiased, with the kernel ``(x.y / D + 1)^3``.

    Binkowski et al., "Demystifying MMD GANs", ICLR 2018, section 4 and eq. 4, over all clips at once rather than over
    drawn blocks. Its expectation is 0 for two samples of one distribution, whatever their sizes, and a single value may
    be negative.

    Raises:
        InputError: fewer than two clips on a side, or another number of features.
    """
    _check(x, y, fewest=2)
    count, others = len(x), len(y)
    own, theirs, across = (_kernel(a, b) for a, b in ((x, x), (y, y), (x, y)))
    within = (own.sum() - np.trace(own)) / (count * (count - 1))
    within += (theirs.sum() - np.trace(theirs)) / (others * (others - 1))
    return float(within - 2 * across.mean())


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
    factors = [np.linalg.qr(a, mode="r") for a in centred]
    root = np.linalg.svd(factors[0] @ factors[1].T, compute_uv=False).sum()
    apart = np.square(x.mean(axis=0) - y.mean(axis=0)).sum()
    spread = sum(float(np.square(a).sum()) for a in centred)
    return float(max(apart + spread - 2 * root, 0.0))


def why_no_fid(generated: int, real: int, dimensions: int) -> str:
    """Why FID may not be given for these counts; empty where it may."""
    if generated != real:
        return f"{generated} clips on one side and {real} on the other: FID's bias differs, equal counts are needed"
    needed = CLIPS_PER_DIMENSION * dimensions
    if real < needed:
        return (
            f"{real} clips a side: FID over {dimensions} features needs {needed} ({CLIPS_PER_DIMENSION} each); see kid"
        )
    return ""


def _check(x: Features, y: Features, *, fewest: int) -> None:
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1] or min(len(x), len(y)) < fewest:
        raise InputError(f"features {x.shape} and {y.shape}: need two tables of the same width, {fewest} rows or more")
