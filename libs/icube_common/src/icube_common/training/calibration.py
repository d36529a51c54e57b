"""Calibration of probabilities and a threshold of rejection, from held-out predictions inside the training.

Temperature scaling, with an optional bias of each class: ``softmax((z + b) / T)``; Guo et al., "On Calibration of
Modern Neural Networks", ICML 2017, sec. 4, equation 9. Fitted on logits that models gave to groups they had not been
trained on: inner folds of the training rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from icube_common.errors import InputError
from icube_common.evaluation import Fold, Samples, grouped_k_fold

Array = npt.NDArray[np.float64]

# flatter or sharper than this is no calibration any more
_RANGE = (0.1, 10.0)
# in rows: holds biases near 0 and the temperature near 1 where there are few
_PRIOR = 1.0


@dataclass(frozen=True)
class Calibration:
    """Map from logits to probabilities.

    Attributes:
        temperature: T.
        bias: (C,) b.
        rows: that it was fitted on, 0 for none.
        before: mean negative log-likelihood of these rows without it.
        after: with it.
    """

    temperature: float
    bias: tuple[float, ...]
    rows: int = 0
    before: float | None = None
    after: float | None = None

    def probabilities(self, logits: Array) -> Array:
        """(N, C) from logits (N, C)."""
        scaled = (np.asarray(logits, dtype=np.float64) + np.array(self.bias)) / self.temperature
        return _softmax(scaled)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Calibration:
        """The inverse of `to_dict`; JSON has written the numbers so that they come back as they were."""
        return cls(**{**record, "bias": tuple(record["bias"])})


def no_calibration(classes: int) -> Calibration:
    """The softmax as it is."""
    return Calibration(1.0, (0.0,) * classes)


def calibrate(logits: Array, labels: npt.NDArray[np.int64], *, method: str) -> Calibration:
    """Fit to logits of people that the model had not seen.

    Args:
        logits: (N, C).
        labels: (N,) class numbers.
        method: ``"none"``, ``"temperature"`` or ``"bias"`` (both).
    """
    from scipy.optimize import minimize

    logits = np.asarray(logits, dtype=np.float64)
    rows, classes = logits.shape
    before = _loss(logits, labels)
    if method == "none":
        return Calibration(1.0, (0.0,) * classes, rows, before, before)
    biases = classes if method == "bias" else 0

    def unpack(parameters: Array) -> tuple[float, Array]:
        bias = parameters[1:] - parameters[1:].mean() if biases else np.zeros(classes)
        return float(np.exp(parameters[0])), bias

    def objective(parameters: Array) -> float:
        temperature, bias = unpack(parameters)
        return rows * _loss((logits + bias) / temperature, labels) + _PRIOR / 2 * float((parameters**2).sum())

    bounds = [tuple(np.log(_RANGE)), *[(-5.0, 5.0)] * biases]
    parameters = minimize(objective, np.zeros(1 + biases), method="L-BFGS-B", bounds=bounds).x
    temperature, bias = unpack(parameters)
    after = _loss((logits + bias) / temperature, labels)
    return Calibration(temperature, tuple(bias.tolist()), rows, before, after)


@dataclass(frozen=True)
class Rejection:
    """Threshold of the largest probability below which a sample is taken for none of the classes.

    Hendrycks and Gimpel, "A Baseline for Detecting Misclassified and Out-of-Distribution Examples in Neural Networks",
    ICLR 2017.

    Attributes:
        threshold: smallest accepted value of the largest probability.
        accepted: share of the correctly classified held-out rows that reach it.
        rows: number of these.
    """

    threshold: float
    accepted: float
    rows: int

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def choose_rejection(probabilities: Array, labels: npt.NDArray[np.int64], *, share: float = 0.95) -> Rejection | None:
    """The largest threshold that accepts at least a share of the correctly classified rows; None without such a row.

    Args:
        probabilities: (N, C) of rows that were held out.
        labels: (N,) class numbers.
        share: of the correctly classified rows.
    """
    correct = np.sort(probabilities.max(1)[probabilities.argmax(1) == labels])
    if not len(correct):
        return None
    # 1e-9: 0.95 * 20 is 19 and a little more
    threshold = float(correct[len(correct) - int(np.ceil(share * len(correct) - 1e-9))])
    return Rejection(threshold, float(np.mean(correct >= threshold)), len(correct))


def held_out_logits(
    fold: Fold, train_and_predict: Callable[[Fold], Array], *, folds: int, check: Callable[[Fold], None]
) -> tuple[Array, list[str]]:
    """Logits (N, C) of the training rows, each by a model that was trained without its group, and warnings.

    NaN for all rows where there are too few groups for inner folds.

    Args:
        fold: of the whole training; its validation and test rows are not used.
        train_and_predict: inner fold -> logits (n, C) of its test rows, in their order.
        folds: number of inner folds.
        check: raises InputError for an inner fold that cannot be trained on.
    """
    logits = np.full((len(fold.train), len(fold.train_classes)), np.nan)
    samples = Samples(
        ids=[fold.samples.ids[row] for row in fold.train],
        labels=fold.train_labels,
        class_names=fold.train_class_names,
        groups=[fold.samples.groups[row] for row in fold.train],
    )
    try:
        inner_folds = list(grouped_k_fold(samples, folds=folds, seed=fold.seed, validation=0.0))
        for inner in inner_folds:
            check(inner)
    except InputError as error:
        return logits, [f"Not calibrated, and no threshold of confidence: {error}."]
    for inner in inner_folds:
        logits[inner.test] = train_and_predict(inner)
    return logits, []


def _loss(logits: Array, labels: npt.NDArray[np.int64]) -> float:
    top = logits.max(1, keepdims=True)
    log_sum = np.log(np.exp(logits - top).sum(1)) + top[:, 0]
    return float((log_sum - logits[np.arange(len(labels)), labels]).mean())


def _softmax(logits: Array) -> Array:
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)
