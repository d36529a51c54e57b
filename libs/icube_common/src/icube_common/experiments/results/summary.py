"""Result of an ablation: each variant's interval, and its difference to the baseline, as values and as a table."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from icube_common.errors import InputError
from icube_common.evaluation.intervals import Interval, mean_interval
from icube_common.experiments.grid import Grid, Variant
from icube_common.experiments.results.differences import (
    Difference,
    holm,
    out_of_reach,
    over_groups,
    over_seeds,
    value_of,
)
from icube_common.experiments.results.tables import P, Table
from icube_common.experiments.runner.trial_run import TrialRunResult, trial_run_folder


@dataclass(frozen=True, kw_only=True)
class VariantResult:
    """Result of one variant.

    Attributes:
        name: of the variant.
        overrides: all that it was run with.
        values: seed -> the study's metric, of the cells that were finished.
        errors: seed -> why the cell failed.
        interval: mean and 95 % t-interval over the seeds; its ends are NaN with one seed; None without any.
        difference: to the baseline; None for the baseline itself and where there are no two pairs.
        others: every other metric -> its mean over the seeds that have it.
    """

    name: str
    overrides: Mapping[str, Any]
    values: Mapping[int, float]
    errors: Mapping[int, str]
    interval: Interval | None
    difference: Difference | None
    others: Mapping[str, float]

    def to_dict(self) -> dict[str, Any]:
        """As ``--json`` prints it."""
        result = self.difference
        return {
            "name": self.name,
            "overrides": dict(self.overrides),
            "values": dict(self.values),
            "errors": dict(self.errors),
            "interval": self.interval and self.interval.to_dict(),
            "difference": result and result.to_dict(),
            "others": dict(self.others),
        }


@dataclass(frozen=True, kw_only=True)
class StudyResult:
    """Result of an ablation.

    Attributes:
        folder: ``table.md`` (``.tex``, ``.csv``), ``plot.svg`` (``.png``), ``report.html``, ``study.yaml`` and
            ``cells/<variant>/seed-N/`` lie in it.
        metric: what the table is about.
        baseline: the variant that the others are compared with.
        primary: the one whose difference is tested without correction; empty: all are, with Holm's.
        seeds: as asked for.
        variants: in the order of the grid.
    """

    folder: Path
    metric: str
    baseline: str
    seeds: tuple[int, ...]
    variants: tuple[VariantResult, ...]
    primary: str = ""

    def variant(self, name: str) -> VariantResult:
        """The variant of that name; KeyError where there is none."""
        return {variant.name: variant for variant in self.variants}[name]

    @property
    def warnings(self) -> dict[str, str]:
        """Variant -> why it is paired over seeds though it has predictions."""
        return {one.name: one.difference.note for one in self.variants if one.difference and one.difference.note}

    @property
    def failed(self) -> int:
        """Number of failed runs."""
        return sum(len(variant.errors) for variant in self.variants)

    def table(self) -> Table:
        """The study's table: one row a variant."""
        last = "comparison" if self.primary else "p (Holm)"
        columns = ("variant", self.metric, "seeds", f"difference to {self.baseline}", "paired over", "p", last)
        rows = tuple(self._row(variant) for variant in self.variants)
        caption = (
            f"{self.metric}: mean and 95 % t-interval over seeds (how much training varies, not subjects); "
            "differences are paired, p two-sided."
        )
        if self.primary:
            caption += (
                f" The primary comparison, {self.primary}, was named before the study ran, and its p stands alone; the "
                "other p are not corrected: descriptive."
            )
        result = [variant.difference for variant in self.variants if variant.difference]
        if reason := out_of_reach([one for one in result if one.role != "descriptive"]):
            caption += f" {reason}"
        if self.failed:
            caption += f" {self.failed} of {len(self.seeds) * len(self.variants)} cells failed and are left out."
        return Table(columns, rows, caption)

    def _row(self, variant: VariantResult) -> tuple[Any, ...]:
        result = variant.difference
        if result is None:
            return (variant.name, variant.interval, len(variant.values), None, "", None, "" if self.primary else None)
        last = result.role if self.primary else P(result.p_holm)
        paired = (result.interval, result.over, P(result.p_value), last)
        return (variant.name, variant.interval, len(variant.values), *paired)


def summarise(grid: Grid, folder: Path, results: Mapping[tuple[str, int], TrialRunResult]) -> StudyResult:
    """Bring the results of all cells together.

    Args:
        grid: the study.
        folder: its folder.
        results: (variant, seed) -> what came of the cell.
    """
    differences = {
        variant.name: _difference(grid, folder, results, variant.name)
        for variant in grid.variants
        if variant.name != grid.baseline
    }
    result = {name: difference for name, difference in differences.items() if difference}
    if grid.primary:
        roles = {name: "primary" if name == grid.primary else "descriptive" for name in result}
        result = {name: replace(difference, role=roles[name]) for name, difference in result.items()}
    else:
        corrected = holm([difference.p_value for difference in result.values()])
        result = {
            name: replace(difference, p_holm=p) for (name, difference), p in zip(result.items(), corrected, strict=True)
        }
    return StudyResult(
        folder=folder,
        metric=grid.metric,
        baseline=grid.baseline,
        primary=grid.primary,
        seeds=grid.seeds,
        variants=tuple(
            _variant(grid, variant, [results[variant.name, seed] for seed in grid.seeds], result.get(variant.name))
            for variant in grid.variants
        ),
    )


def _difference(
    grid: Grid, folder: Path, results: Mapping[tuple[str, int], TrialRunResult], name: str
) -> Difference | None:
    """A variant against the baseline: over groups where all cells of both have predictions, else over seeds."""
    pair = [
        {seed: results[one, seed] for seed in grid.seeds if results[one, seed].metrics.get(grid.metric) is not None}
        for one in (name, grid.baseline)
    ]
    seeds = [seed for seed in grid.seeds if all(seed in cells for cells in pair)]
    by_seed = over_seeds(*(_values(cells.values(), grid.metric) for cells in pair))
    chosen = [[cells[seed] for seed in seeds] for cells in pair]
    if not seeds or any(cell.predictions is None for cells in chosen for cell in cells):
        return by_seed
    files = [
        {cell.seed: trial_run_folder(folder, cell.name, cell.seed) / str(cell.predictions) for cell in cells}
        for cells in chosen
    ]
    try:
        for cells, paths in zip(chosen, files, strict=True):
            for cell in cells:
                _same_figure(cell, paths[cell.seed], grid.metric)
        return over_groups(files[0], files[1], grid.metric)
    except InputError as error:
        return by_seed and replace(by_seed, note=str(error))


def _same_figure(cell: TrialRunResult, predictions: Path, metric: str) -> None:
    """InputError where a cell's metric is not the one of its predictions: a percentage, or another part of the data."""
    reported, result = cell.metrics[metric], value_of(predictions, metric)
    if reported is None or not math.isclose(reported, result, rel_tol=1e-4, abs_tol=1e-6):
        raise InputError(f"{predictions}: gives {metric} {result:.6g}, the run's own value is {reported}")


def _variant(
    grid: Grid, variant: Variant, results: Sequence[TrialRunResult], difference: Difference | None
) -> VariantResult:
    finished = [result for result in results if result.error is None]
    values = _values(results, grid.metric)
    names = dict.fromkeys(name for result in finished for name in result.metrics if name != grid.metric)
    return VariantResult(
        name=variant.name,
        overrides=grid.overrides(variant),
        values=values,
        errors={
            result.seed: result.error or f"{grid.metric} is not finite"
            for result in results
            if result.seed not in values
        },
        interval=mean_interval(list(values.values())) if values else None,
        difference=difference,
        others={name: _mean(result.metrics.get(name) for result in finished) for name in names},
    )


def _values(results: Iterable[TrialRunResult], metric: str) -> dict[int, float]:
    """Seed -> the metric, of the results that have one."""
    return {result.seed: value for result in results if (value := result.metrics.get(metric)) is not None}


def _mean(values: Iterable[float | None]) -> float:
    """The mean of the values that are there; NaN without any."""
    there = [value for value in values if value is not None]
    return math.fsum(there) / len(there) if there else math.nan
