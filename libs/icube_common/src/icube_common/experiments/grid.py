"""Grids of ablations: ``grid.yaml``, read, checked and expanded to a list of named variants.

    base: {train.max_steps: 2000}         # the same in every cell
    grid:                                 # every combination of these values
      prompt.num_context: [4, 16]
      prompt.initialise: [random, descriptions]
    variants:                             # and these, each one a change of the base
      - {name: no-numbers, tabular.use: false}
      - {name: short, train.max_steps: 200}
    seeds: [0, 1, 2]
    metric: top1
    baseline: num_context=4,initialise=random
    primary: no-numbers                   # the one comparison that is tested; the others are descriptive

At least one of ``grid`` and ``variants`` is needed, with ``seeds`` and ``metric``. A variant with a name alone is the
base itself. ``baseline`` is the variant that the others are compared with; left out, it is the first. ``primary``
names, before anything runs, the one variant whose difference to the baseline is tested; without it all are, corrected
by Holm's method, with which few groups may leave nothing to find. Keys may be dotted or nested.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from icube_common.config import Config, read_yaml
from icube_common.errors import InputError, unknown
from icube_common.experiments.overrides import Unused, check_overrides, check_unused, flatten, leaves
from icube_common.experiments.runner.study import digest

_KEYS = ("base", "grid", "variants", "seeds", "metric", "baseline", "primary")


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One setting of the study.

    Attributes:
        name: as tables show it.
        changes: its own overrides, over the base.
    """

    name: str
    changes: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A checked ablation; `load` reads one from a file.

    Attributes:
        base: overrides that every cell has.
        variants: in the order of the table.
        seeds: each variant is run once with each.
        metric: the figure that the table is about.
        baseline: name of the variant that the others are compared with.
        primary: name of the one whose difference is tested without correction; empty: all are, with Holm's.
    """

    base: Mapping[str, Any]
    variants: tuple[Variant, ...]
    seeds: tuple[int, ...]
    metric: str
    baseline: str
    primary: str = ""

    def __post_init__(self) -> None:
        names = [variant.name for variant in self.variants]
        if self.baseline not in names:
            raise unknown("baseline", self.baseline, names)
        if self.primary and self.primary not in names:
            raise unknown("primary", self.primary, names)
        if self.primary and self.primary == self.baseline:
            raise InputError(f"primary {self.primary!r}: is the baseline; name the variant that is compared with it")

    def overrides(self, variant: Variant) -> dict[str, Any]:
        """All overrides of a variant, the base's and its own."""
        return {**self.base, **variant.changes}

    def to_dict(self) -> dict[str, Any]:
        """Everything written out, as ``study.yaml`` keeps it."""
        return {
            "metric": self.metric,
            "baseline": self.baseline,
            "primary": self.primary or None,
            "seeds": list(self.seeds),
            "base": dict(self.base),
            "variants": [{"name": variant.name, "changes": dict(variant.changes)} for variant in self.variants],
        }

    @classmethod
    def load(cls, file: str | Path, schema: type[Config] | None = None, **settings: Any) -> Grid:
        """Read ``grid.yaml``; see `from_mapping` for the rest."""
        return cls.from_mapping(read_yaml(file), schema, where=str(file), **settings)

    @classmethod
    def from_mapping(
        cls,
        values: Mapping[str, Any],
        schema: type[Config] | None = None,
        *,
        where: str = "grid",
        below: Mapping[str, Any] | None = None,
        above: Mapping[str, Any] | None = None,
        unused: Unused | None = None,
    ) -> Grid:
        """Check what a ``grid.yaml`` holds.

        Args:
            values: the file's content.
            schema: the configuration that the keys belong to; names, types and ranges are checked.
            where: what messages start with.
            below: overrides that the file's ``base`` stands over (a ``--config`` file).
            above: overrides that stand over the ``base`` (``key=value`` words); a key that the study varies is
                refused here.
            unused: which keys have no effect under a configuration; a variant may not change such a key.

        Raises:
            InputError: a key is missing, unknown or of the wrong kind; a value does not fit the schema; a key has no
                effect; two variants have one name; the baseline is none of them.
        """
        keys_of_schema = leaves(schema)
        for key in values:
            if key not in _KEYS:
                raise InputError(f"{where}: {unknown('key', key, _KEYS)}")
        base = read_keys(values, "base", where, keys_of_schema)
        factors = {
            key: _distinct(choices, f"{where}: grid: {key}")
            for key, choices in read_keys(values, "grid", where, keys_of_schema).items()
        }
        variants = [*_combinations(factors), *_named(values.get("variants"), where, keys_of_schema)]
        if not variants:
            raise InputError(f"{where}: varies nothing: give grid (key: [values]) or variants (a list with names)")
        for variant in variants:
            if fixed := sorted(variant.changes.keys() & (above or {}).keys()):
                raise InputError(f"{where}: {fixed[0]} is varied by {variant.name!r}: it cannot be set for all as well")
        names = [variant.name for variant in variants]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise InputError(f"{where}: two variants have the name {twice[0]!r}: give each its own")
        seeds, metric = read_seeds(values, where), read_metric(values, where)
        try:
            grid = cls(
                base={**(below or {}), **base, **(above or {})},
                variants=tuple(variants),
                seeds=seeds,
                metric=metric,
                baseline=str(values.get("baseline", names[0])),
                primary=str(values.get("primary") or ""),
            )
        except InputError as error:
            raise InputError(f"{where}: {error}") from error
        if schema is not None:
            check_overrides(schema, grid.base, where=f"{where}: base")
            for variant in variants:
                check_overrides(schema, grid.overrides(variant), where=f"{where}: {variant.name}")
            if unused is not None:
                grid._check_unused(schema, unused, where)
        return grid

    def _check_unused(self, schema: type[Config], unused: Unused, where: str) -> None:
        trials = [self.overrides(variant) for variant in self.variants]
        for variant, overrides in zip(self.variants, trials, strict=True):
            for key in variant.changes:
                # a key that varies within the grid may be without effect in some of its combinations
                sharing = [one for one in trials if one.get(key) == overrides[key]]
                check_unused(schema, key, sharing, unused, where=f"{where}: {variant.name}")


def folder_name(name: str) -> str:
    """A variant's name as the name of a folder; what a path cannot hold is replaced, and a digest keeps it unique."""
    safe = re.sub(r"[^A-Za-z0-9._=,+-]", "-", name)
    if safe == name and len(name) <= 100 and not name.startswith("."):
        return name
    return f"{safe[:80].lstrip('.')}-{digest(name)}"


def read_keys(values: Mapping[str, Any], part: str, where: str, leaf_keys: Container[str] = ()) -> dict[str, Any]:
    """A part of the file (``base``) as dotted keys; none where the part is absent or has nothing behind it.

    Raises:
        InputError: it is no mapping, or a key is given twice.
    """
    result = values.get(part)
    if result is None:
        return {}
    if not isinstance(result, Mapping):
        raise InputError(f"{where}: {part}: must be a mapping of configuration keys (found {result!r})")
    try:
        return flatten(result, leaf_keys)
    except InputError as error:
        raise InputError(f"{where}: {part}: {error}") from error


def read_seeds(values: Mapping[str, Any], where: str) -> tuple[int, ...]:
    """The list ``seeds``, all different and none negative; InputError for anything else."""
    seeds = values.get("seeds")
    if not isinstance(seeds, Sequence) or isinstance(seeds, str) or not seeds:
        raise InputError(f"{where}: seeds: must be a list of whole numbers such as [0, 1, 2] (found {seeds!r})")
    for seed in seeds:
        if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
            raise InputError(f"{where}: seeds: {seed!r} is no whole number from 0 on")
    if len(set(seeds)) < len(seeds):
        raise InputError(f"{where}: seeds: {list(seeds)} holds one of them twice: equal seeds are no repetition")
    return tuple(seeds)


def read_metric(values: Mapping[str, Any], where: str) -> str:
    """The name at ``metric``; InputError where there is none."""
    metric = values.get("metric")
    if not isinstance(metric, str) or not metric:
        raise InputError(f"{where}: metric: must name the figure to report, such as top1 (found {metric!r})")
    return metric


def _distinct(choices: Any, where: str) -> list[Any]:
    """The values of one factor: a list, no value twice."""
    if not isinstance(choices, list) or not choices:
        raise InputError(f"{where}: must be a list of values (found {choices!r})")
    for index, choice in enumerate(choices):
        # True == 1 in Python, but not in a configuration
        if any(choice == other and type(choice) is type(other) for other in choices[:index]):
            raise InputError(f"{where}: {choice!r} stands there twice")
    return choices


def _combinations(factors: Mapping[str, Sequence[Any]]) -> list[Variant]:
    """The full factorial, the last factor varying fastest; a factor is named by the last part of its key."""
    if not factors:
        return []
    last = [key.rpartition(".")[2] for key in factors]
    short = {key: name if last.count(name) == 1 else key for key, name in zip(factors, last, strict=True)}
    return [
        Variant(
            name=",".join(f"{short[key]}={_word(value)}" for key, value in zip(factors, values, strict=True)),
            changes=dict(zip(factors, values, strict=True)),
        )
        for values in itertools.product(*factors.values())
    ]


def _word(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return f"[{' '.join(map(_word, value))}]" if isinstance(value, list) else str(value)


def _named(variants: Any, where: str, leaf_keys: frozenset[str]) -> list[Variant]:
    """The list ``variants``: a name each, the rest are configuration keys."""
    if variants is None:
        return []
    if not isinstance(variants, list):
        raise InputError(f"{where}: variants: must be a list, each with a name and its keys (found {variants!r})")
    named = []
    for number, entry in enumerate(variants, start=1):
        if not isinstance(entry, Mapping):
            raise InputError(f"{where}: variants: entry {number} must be a mapping with a name (found {entry!r})")
        name = entry.get("name")
        if not isinstance(name, str) or not name.strip():
            raise InputError(f"{where}: variants: entry {number} has no name (found {name!r})")
        changes = {key: value for key, value in entry.items() if key != "name"}
        named.append(Variant(name=name, changes=read_keys({name: changes}, name, f"{where}: variants", leaf_keys)))
    return named
