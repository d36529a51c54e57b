"""Result of a comparison of finished runs, as values and as tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from icube_common.evaluation.intervals import Interval
from icube_common.experiments.results.differences import Difference, holm, out_of_reach
from icube_common.experiments.results.tables import P, Table


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """One run.

    Attributes:
        name: as tables show it.
        path: where it is.
        rows: predictions, all repeats together.
        subjects: how many people they are of.
        intervals: metric -> value with its 95 % interval over subjects.
        differences: metric -> difference to the first run, paired by subject; empty where they cannot be paired.
        note: why they cannot be paired; empty otherwise.
        settings: configuration key -> value.
    """

    name: str
    path: Path
    rows: int
    subjects: int
    intervals: Mapping[str, Interval]
    differences: Mapping[str, Difference]
    note: str
    settings: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """As ``--json`` prints it."""
        return {
            "name": self.name,
            "path": str(self.path),
            "rows": self.rows,
            "subjects": self.subjects,
            "metrics": {metric: interval.to_dict() for metric, interval in self.intervals.items()},
            "differences": {metric: result.to_dict() for metric, result in self.differences.items()},
            **({"note": self.note} if self.note else {}),
        }


@dataclass(frozen=True, kw_only=True)
class RunComparison:
    """Several runs.

    Attributes:
        folder: where tables, plot and page lie.
        metrics: in the order of the columns.
        runs: the first is the one that the others are compared with.
    """

    folder: Path
    metrics: tuple[str, ...]
    runs: tuple[RunResult, ...]

    def corrected(self) -> RunComparison:
        """The same with Holm's correction over the runs, for each metric by itself."""
        changed = {run.name: dict(run.differences) for run in self.runs}
        for metric in self.metrics:
            names = [name for name, differences in changed.items() if metric in differences]
            for name, p in zip(names, holm([changed[name][metric].p_value for name in names]), strict=True):
                changed[name][metric] = replace(changed[name][metric], p_holm=p)
        return replace(self, runs=tuple(replace(run, differences=changed[run.name]) for run in self.runs))

    def table(self) -> Table:
        """A row for each run, a column for each metric."""
        rows = tuple(
            (run.name, run.rows, run.subjects, *(run.intervals.get(metric) for metric in self.metrics))
            for run in self.runs
        )
        return Table(("run", "rows", "subjects", *self.metrics), rows, "95 % intervals over subjects.")

    def difference_table(self) -> Table:
        """A row for each run after the first and each metric that both have."""
        rows = tuple(
            (run.name, metric, result.interval, result.over, P(result.p_value), P(result.p_holm))
            for run in self.runs
            for metric, result in run.differences.items()
        )
        head = ("run", "metric", f"difference to {self.runs[0].name}", "paired over", "p", "p (Holm)")
        caption = "Sign-flip tests over subjects, two-sided; Holm's correction over the runs, each metric by itself."
        for metric in self.metrics:
            if reason := out_of_reach([run.differences[metric] for run in self.runs if metric in run.differences]):
                caption += f" {reason}"
                break
        return Table(head, rows, caption)

    def settings_table(self) -> Table:
        """The keys whose values differ among the runs that have settings; a key that a run does not have is a dash."""
        recorded = [run for run in self.runs if run.settings]
        keys = dict.fromkeys(key for run in self.runs for key in run.settings)
        odd = [key for key in keys if len({_told(run, key) for run in recorded}) > 1]
        rows = tuple((key, *(_told(run, key) for run in self.runs)) for key in odd)
        return Table(("key", *(run.name for run in self.runs)), rows, "Settings that differ.")


def _told(run: RunResult, key: str) -> str | None:
    """A setting as text, so that ``null`` and ``false`` differ from a key that is not there."""
    return str(run.settings[key]) if key in run.settings else None
