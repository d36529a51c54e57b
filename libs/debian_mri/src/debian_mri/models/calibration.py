"""Calibration of probabilities: temperature scaling, with an optional bias of each class.

Fitted on logits that models gave to people they had not been trained on: inner folds of the training people. Guo et
al., "On Calibration of Modern Neural Networks", ICML 2017, sec. 4: ``softmax((z + b) / T)``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

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


def _loss(logits: Array, labels: npt.NDArray[np.int64]) -> float:
    top = logits.max(1, keepdims=True)
    log_sum = np.log(np.exp(logits - top).sum(1)) + top[:, 0]
    return float((log_sum - logits[np.arange(len(labels)), labels]).mean())


def _softmax(logits: Array) -> Array:
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)
