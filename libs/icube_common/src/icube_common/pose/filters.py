"""One-euro filter: a low-pass filter whose cutoff rises with speed.

Source: Casiez, Roussel and Vogel 2012, *1 € Filter: A Simple Speed-based Low-pass Filter for Noisy Input in Interactive
Systems*, section "The 1 € filter".
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


@dataclass
class OneEuroFilter:
    """One-euro filter of an array of any shape, all elements with their own speed.

    Attributes:
        min_cutoff: cutoff at rest, in Hz.
        beta: rise of the cutoff with speed.
        derivative_cutoff: cutoff of the speed, in Hz.
    """

    min_cutoff: float
    beta: float
    derivative_cutoff: float = 1.0

    def __post_init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget all earlier values."""
        self._time: float | None = None
        self._raw: Array | None = None
        self._value: Array | None = None
        self._speed: Array | None = None

    def __call__(self, value: npt.ArrayLike, time: float, *, scale: float = 1.0) -> Array:
        """Filter the next value.

        Args:
            value: any shape, the same at each call.
            time: in s, later than at the call before; a value of the same or an earlier time is returned as it is.
            scale: multiplies the speed before ``beta``: 1 / size of the object makes the filter independent of it.
        """
        raw = np.asarray(value, dtype=np.float64)
        if self._time is None or self._raw is None or self._value is None or self._speed is None:
            self._time, self._raw, self._value, self._speed = time, raw, raw, np.zeros_like(raw)
            return raw
        seconds = time - self._time
        if seconds <= 0:
            return raw
        speed = (raw - self._raw) * scale / seconds
        self._speed = self._speed + _alpha(self.derivative_cutoff, seconds) * (speed - self._speed)
        cutoff = self.min_cutoff + self.beta * np.abs(self._speed)
        self._value = self._value + _alpha(cutoff, seconds) * (raw - self._value)
        self._time, self._raw = time, raw
        return self._value


def _alpha(cutoff: Array | float, seconds: float) -> Array | float:
    """Weight of the new value of a low-pass filter of ``cutoff`` Hz, ``seconds`` after the last."""
    constant = 1 / (2 * math.pi * np.asarray(cutoff))
    return 1 / (1 + constant / seconds)
