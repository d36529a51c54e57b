"""Search spaces: ``space.yaml``, read and checked.

For instance::

    base: {train.max_steps: 2000}         # the same in every trial
    space:
      train.learning_rate: {type: float, low: 1e-5, high: 1e-2, log: true}
      prompt.num_context: {type: int, low: 2, high: 16}
      prompt.initialise: {type: categorical, choices: [random, descriptions]}
    metric: top1
    direction: maximize
    trials: 40
    seeds: [0]                            # a trial is the mean over these

A logarithmic scale needs a positive ``low``; ``step`` makes a grid of values, instead of ``log``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from icube_common.config import Config, read_yaml
from icube_common.errors import InputError, unknown
from icube_common.experiments.grid import read_keys, read_metric, read_seeds
from icube_common.experiments.overrides import Unused, check_overrides, check_unused, leaves

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

_KEYS = ("base", "space", "metric", "direction", "trials", "seeds")
_FIELDS = {
    "float": ("type", "low", "high", "log", "step"),
    "int": ("type", "low", "high", "log", "step"),
    "categorical": ("type", "choices"),
}
DIRECTIONS = ("maximize", "minimize")


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One dimension of the space.

    Attributes:
        key: the configuration key.
        type: ``float``, ``int`` or ``categorical``.
        low: smallest value.
        high: largest value.
        log: whether values are spread evenly over the logarithm.
        step: distance of the values; None for any value (float), 1 (int).
        choices: the values of a categorical parameter.
    """

    key: str
    type: str
    low: float = 0
    high: float = 0
    log: bool = False
    step: float | None = None
    choices: tuple[Any, ...] = ()

    def distribution(self) -> BaseDistribution:
        """The same for Optuna."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        if self.type == "categorical":
            return CategoricalDistribution(self.choices)
        if self.type == "int":
            return IntDistribution(int(self.low), int(self.high), log=self.log, step=int(self.step or 1))
        return FloatDistribution(self.low, self.high, log=self.log, step=self.step)

    def ends(self) -> tuple[Any, ...]:
        """The values that a schema has to allow: both ends, or every choice."""
        return self.choices if self.type == "categorical" else (self.low, self.high)

    def to_dict(self) -> dict[str, Any]:
        """As ``space.yaml`` has it."""
        if self.type == "categorical":
            return {"type": self.type, "choices": list(self.choices)}
        step = {} if self.step is None else {"step": self.step}
        return {"type": self.type, "low": self.low, "high": self.high, "log": self.log, **step}


@dataclass(frozen=True, kw_only=True)
class Search:
    """A checked search; `load` reads one from a file.

    Attributes:
        base: overrides that every trial has.
        space: what is varied.
        metric: the figure that decides.
        direction: ``maximize`` or ``minimize``.
        trials: how many are run in all.
        seeds: a trial runs once with each, and its figure is their mean.
    """

    base: Mapping[str, Any]
    space: tuple[Parameter, ...]
    metric: str
    direction: str
    trials: int
    seeds: tuple[int, ...]

    def to_dict(self) -> dict[str, Any]:
        """Values that may not change when a search is resumed: all but the number of trials."""
        return {
            "metric": self.metric,
            "direction": self.direction,
            "seeds": list(self.seeds),
            "base": dict(self.base),
            "space": {parameter.key: parameter.to_dict() for parameter in self.space},
        }

    @classmethod
    def load(cls, file: str | Path, schema: type[Config] | None = None, **settings: Any) -> Search:
        """Read ``space.yaml``; see `from_mapping` for the rest."""
        return cls.from_mapping(read_yaml(file), schema, where=str(file), **settings)

    @classmethod
    def from_mapping(
        cls,
        values: Mapping[str, Any],
        schema: type[Config] | None = None,
        *,
        where: str = "space",
        below: Mapping[str, Any] | None = None,
        above: Mapping[str, Any] | None = None,
        unused: Unused | None = None,
    ) -> Search:
        """Check what a ``space.yaml`` holds; the arguments are those of `Grid.from_mapping`.

        Raises:
            InputError: a key is missing, unknown or of the wrong kind; a range is empty; an end of a range or a choice
                does not fit the schema.
        """
        for key in values:
            if key not in _KEYS:
                raise InputError(f"{where}: {unknown('key', key, _KEYS)}")
        leaf_keys = leaves(schema)
        space = values.get("space")
        if not isinstance(space, Mapping) or not space:
            raise InputError(f"{where}: space: must be a mapping of key: {{type: ..., ...}} (found {space!r})")
        parameters = tuple(_parameter(str(key), entry, f"{where}: space: {key}") for key, entry in space.items())
        base = {**(below or {}), **read_keys(values, "base", where, leaf_keys), **(above or {})}
        for parameter in parameters:
            if parameter.key in (above or {}):
                raise InputError(f"{where}: {parameter.key} is searched: it cannot be set for all as well")
        direction = values.get("direction")
        if direction not in DIRECTIONS:
            raise InputError(f"{where}: direction: must be one of {', '.join(DIRECTIONS)} (found {direction!r})")
        trials = values.get("trials")
        if not isinstance(trials, int) or isinstance(trials, bool) or trials < 1:
            raise InputError(f"{where}: trials: must be a whole number from 1 on (found {trials!r})")
        if schema is not None:
            check_overrides(schema, base, where=f"{where}: base")
            for parameter in parameters:
                for value in parameter.ends():
                    check_overrides(schema, {**base, parameter.key: value}, where=f"{where}: space")
            if unused is not None:
                _check_unused(schema, base, parameters, unused, where)
        return cls(
            base=base,
            space=parameters,
            metric=read_metric(values, where),
            direction=direction,
            trials=trials,
            seeds=read_seeds(values, where),
        )


def _check_unused(
    schema: type[Config], base: Mapping[str, Any], parameters: tuple[Parameter, ...], unused: Unused, where: str
) -> None:
    """Refuse parameters without effect, whatever value another one takes."""
    trials = [dict(base), *({**base, one.key: value} for one in parameters for value in one.ends())]
    for parameter in parameters:
        check_unused(schema, parameter.key, trials, unused, where=f"{where}: space")


def _parameter(key: str, entry: Any, where: str) -> Parameter:
    """One entry of the space, checked."""
    if not isinstance(entry, Mapping):
        raise InputError(f"{where}: must be {{type: float, low: ..., high: ...}} or the like (found {entry!r})")
    kind = entry.get("type")
    if kind not in _FIELDS:
        raise InputError(f"{where}: type: must be one of {', '.join(_FIELDS)} (found {kind!r})")
    for name in entry:
        if name not in _FIELDS[kind]:
            raise InputError(f"{where}: {unknown(f'field of type {kind}', str(name), _FIELDS[kind])}")
    if kind == "categorical":
        return Parameter(key=key, type=kind, choices=_choices(entry.get("choices"), where))
    low, high = (_number(entry.get(name), kind, f"{where}: {name}") for name in ("low", "high"))
    if not low < high:
        raise InputError(f"{where}: low {low} must be less than high {high}")
    log = entry.get("log", False)
    if not isinstance(log, bool):
        raise InputError(f"{where}: log: must be true or false (found {log!r})")
    if log and low <= 0:
        raise InputError(f"{where}: low {low} must be positive on a logarithmic scale")
    step = entry.get("step")
    if step is not None:
        step = _number(step, kind, f"{where}: step")
        if step <= 0 or log:
            raise InputError(f"{where}: step: must be positive, and goes without log (found {step})")
        if not math.isclose(math.remainder(high - low, step), 0, abs_tol=1e-9):
            raise InputError(f"{where}: step {step}: high {high} is no whole number of steps above low")
    return Parameter(key=key, type=kind, log=log, low=low, high=high, step=step)


def _number(value: Any, kind: str, where: str) -> float:
    """A finite number; a whole one for ``int``."""
    fits = isinstance(value, int) or (kind == "float" and isinstance(value, float) and math.isfinite(value))
    if not fits or isinstance(value, bool):
        raise InputError(f"{where}: must be a {'whole ' if kind == 'int' else ''}number (found {value!r})")
    return float(value) if kind == "float" else value


def _choices(choices: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(choices, list) or len(choices) < 2:
        raise InputError(f"{where}: choices: must be a list of at least two values (found {choices!r})")
    for index, choice in enumerate(choices):
        if not isinstance(choice, (str, int, float, bool, type(None))):
            raise InputError(f"{where}: choices: {choice!r} is no plain value (text, number, true, false, null)")
        if choice in choices[:index]:
            raise InputError(f"{where}: choices: {choice!r} stands there twice")
    return tuple(choices)
