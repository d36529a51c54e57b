"""Result of a comparison of methods: values, tables, plot and page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from icube_common.evaluation import Predictions, find_metric, harmonic_mean, mean_interval
from icube_common.evaluation.intervals import Interval
from icube_common.experiments.results.differences import Difference, holm, out_of_reach, over_seeds
from icube_common.experiments.results.pages import add_table
from icube_common.experiments.results.plots import Dots, plot_panels, save_figure
from icube_common.experiments.results.tables import P, Table
from icube_common.io.reports import Report
from icube_common.io.runs import write_json

if TYPE_CHECKING:
    from icube_common.experiments.runner.method_runs import MethodRuns

HARMONIC_MEAN = "harmonic mean"


@dataclass(frozen=True, kw_only=True)
class MethodRow:
    """A method in the table.

    Attributes:
        name: of the method.
        citation: paper, venue, section; empty for a library's own model.
        metrics: condition -> metric -> value with its 95 % interval.
        differences: condition -> paired difference to the reference in the first metric.
        by_seed: condition -> value of the first metric for each seed.
        reasons: condition -> the reason for which the method does not apply.
        trained_parameters: the largest number of its trainings; None without any.
        seconds: mean of a training, the inner selection with it.
        memory_mb: highest of its trainings, above the memory before it; None where it cannot be measured.
        settings: chosen setting as text -> number of trainings that chose it.
        warnings: of its trainings.
    """

    name: str
    citation: str
    metrics: Mapping[str, Mapping[str, Interval]]
    differences: Mapping[str, Difference]
    by_seed: Mapping[str, Sequence[float]]
    reasons: Mapping[str, str]
    trained_parameters: int | None
    seconds: float | None
    memory_mb: float | None
    settings: Mapping[str, int]
    warnings: Sequence[str]

    @property
    def note(self) -> str:
        """Reasons for missing values; empty where there are none."""
        whole = len(set(self.reasons.values())) == 1 and not self.metrics
        if whole:
            return f"not applicable: {next(iter(self.reasons.values()))}"
        return "; ".join(f"{condition}: not applicable: {reason}" for condition, reason in self.reasons.items())

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "name": self.name,
            "citation": self.citation,
            "metrics": {
                condition: {name: interval.to_dict() for name, interval in values.items()}
                for condition, values in self.metrics.items()
            },
            "differences": {condition: result.to_dict() for condition, result in self.differences.items()},
            "by_seed": {condition: list(values) for condition, values in self.by_seed.items()},
            "not_applicable": dict(self.reasons),
            "trained_parameters": self.trained_parameters,
            "seconds_per_training": self.seconds,
            "peak_memory_mb": self.memory_mb,
            "settings": dict(self.settings),
            "warnings": list(self.warnings),
        }


@dataclass(frozen=True, kw_only=True)
class MethodComparison:
    """Methods on the same folds.

    Attributes:
        folder: where tables, plot, page and runs lie.
        title: protocol and data.
        metrics: the first is compared and plotted.
        conditions: columns of the table.
        reference: name of the row that the others are compared with.
        rows: of the methods.
        over: units of intervals and of paired differences: ``subjects`` or ``draws of classes``.
        facts: features, seeds, budget and the like.
        warnings: of data and backbone.
    """

    folder: Path
    title: str
    metrics: tuple[str, ...]
    conditions: tuple[str, ...]
    reference: str
    rows: tuple[MethodRow, ...]
    over: str
    facts: Mapping[str, Any]
    warnings: Sequence[str] = ()

    @classmethod
    def summarise(
        cls,
        runs: Sequence[MethodRuns],
        *,
        citations: Mapping[str, str],
        reference: str,
        metrics: Sequence[str],
        conditions: Sequence[str],
        over_draws: bool,
        **more: Any,
    ) -> MethodComparison:
        """Metrics with intervals, differences to the reference with Holm's correction, costs.

        Args:
            runs: of the methods, in the order of the rows.
            citations: name -> source.
            reference: one of the names.
            metrics: names in `icube_common.evaluation.metrics`.
            conditions: in the order of the columns.
            over_draws: units are draws of classes (base-to-new) in place of subjects; adds the harmonic mean of the
                two conditions.
            more: further attributes.
        """
        values = {run.name: _values(run, metrics, conditions, over_draws) for run in runs}
        names = [*conditions, *([HARMONIC_MEAN] if over_draws else [])]
        differences: dict[str, dict[str, Difference]] = {run.name: {} for run in runs}
        base = next(run for run in runs if run.name == reference)
        for condition in names:
            for run in runs:
                if run.name != reference:
                    difference = _difference(run, base, condition, metrics[0], conditions, over_draws)
                    if difference is not None:
                        differences[run.name][condition] = difference
            listed = [name for name in differences if condition in differences[name]]
            for name, p in zip(listed, holm([differences[name][condition].p_value for name in listed]), strict=True):
                differences[name][condition] = replace(differences[name][condition], p_holm=p)
        rows = tuple(
            MethodRow(
                name=run.name,
                citation=citations.get(run.name, ""),
                metrics=values[run.name],
                differences=differences[run.name],
                by_seed={condition: _by_seed(part, metrics[0]) for condition, part in run.predictions.items()},
                reasons=run.reasons,
                trained_parameters=max((int(fit["trained_parameters"]) for fit in run.fits), default=None),
                seconds=float(np.mean([fit["seconds"] for fit in run.fits])) if run.fits else None,
                memory_mb=max((fit["memory_mb"] for fit in run.fits if fit["memory_mb"] is not None), default=None),
                settings=_settings(run),
                warnings=run.warnings,
            )
            for run in runs
        )
        return cls(
            metrics=tuple(metrics),
            conditions=tuple(names),
            reference=reference,
            rows=rows,
            over="draws of classes" if over_draws else "subjects",
            **more,
        )

    def table(self) -> Table:
        """A row for each method: the first metric of each condition, the difference to the reference, and the cost."""
        metric, several = self.metrics[0], len(self.conditions) > 1
        head: list[str] = ["method"]
        for condition in self.conditions:
            head += [f"{condition}: {metric}" if several else metric, f"minus {self.reference}", "p (Holm)"]
        head += ["parameters", "s a training", "peak MB", "note"]
        rows = []
        for row in self.rows:
            cells: list[Any] = [row.name]
            for condition in self.conditions:
                difference = row.differences.get(condition)
                cells += [row.metrics.get(condition, {}).get(metric)]
                cells += [None, None] if difference is None else [difference.interval, P(difference.p_holm)]
            seconds = None if row.seconds is None else float(f"{row.seconds:.2g}")
            memory = None if row.memory_mb is None else round(row.memory_mb, 1)
            rows.append((*cells, row.trained_parameters, seconds, memory, row.note))
        return Table(tuple(head), tuple(rows), self._caption())

    def metric_table(self) -> Table:
        """All metrics of each method and condition."""
        rows = tuple(
            (row.name, condition, *(values.get(metric) for metric in self.metrics))
            for row in self.rows
            for condition, values in row.metrics.items()
        )
        return Table(("method", "condition", *self.metrics), rows, f"95 % intervals over {self.over}.")

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "title": self.title,
            "reference": self.reference,
            "metrics": list(self.metrics),
            "conditions": list(self.conditions),
            "units": self.over,
            **self.facts,
            "warnings": list(self.warnings),
            "methods": [row.to_dict() for row in self.rows],
            "table": self.table().to_markdown(),
            "report": str(self.folder / "report.html"),
        }

    def save(self) -> None:
        """Write ``table.*``, ``metrics.*``, ``results.json``, ``plot.*`` and ``report.html``."""
        table, metrics = self.table(), self.metric_table()
        table.save(self.folder)
        metrics.save(self.folder, "metrics")
        write_json(self.folder / "results.json", self.to_dict())
        metric = self.metrics[0]
        panels = {
            condition: [
                Dots(row.name, row.metrics.get(condition, {}).get(metric), row.by_seed.get(condition, ()))
                for row in self.rows
                if row.metrics
            ]
            for condition in self.conditions
        }
        svg = save_figure(plot_panels(panels, x_label=metric, reference=self.reference), self.folder)
        report = Report("Comparison of methods", subtitle=self.title)
        for text in self.warnings:
            report.paragraph(text)
        report.section("Result")
        add_table(report, table)
        report.image(
            svg,
            alt=f"{metric} of each method with its 95 % interval; the dashed line is {self.reference}",
            caption=f"Large: mean and 95 % interval over {self.over}. Small: single seeds. Dashed: {self.reference}. "
            "Methods that do not apply are left out.",
        )
        report.section("Metrics")
        add_table(report, metrics)
        report.section("Methods")
        rows = tuple(
            (row.name, row.citation, ", ".join(f"{text} ({count})" for text, count in row.settings.items()))
            for row in self.rows
        )
        add_table(report, Table(("method", "source", "settings chosen on inner folds (trainings)"), rows))
        report.section("Settings")
        report.facts(self.facts)
        notes = tuple((row.name, line) for row in self.rows for line in row.warnings)
        if notes:
            report.section("Warnings")
            add_table(report, Table(("method", "warning"), notes))
        report.save(self.folder / "report.html")

    def _caption(self) -> str:
        caption = f"{self.title}. 95 % intervals over {self.over}; differences paired by these."
        for condition in self.conditions:
            listed = [row.differences[condition] for row in self.rows if condition in row.differences]
            if listed and (reason := out_of_reach(listed)):
                return f"{caption} {reason}"
        return caption


def _values(
    run: MethodRuns, metrics: Sequence[str], conditions: Sequence[str], over_draws: bool
) -> dict[str, dict[str, Interval]]:
    """Condition -> metric -> value with interval."""
    if not over_draws:
        return {name: run.predictions[name].metrics(metrics) for name in conditions if name in run.predictions}
    values = {
        name: {metric: mean_interval(list(_by_draw(run.predictions[name], metric, run).values())) for metric in metrics}
        for name in conditions
        if name in run.predictions
    }
    if set(conditions) <= set(run.predictions):
        values[HARMONIC_MEAN] = {metrics[0]: mean_interval(list(_harmonic(run, conditions, metrics[0]).values()))}
    return values


def _by_draw(predictions: Predictions, metric: str, run: MethodRuns) -> dict[int, float]:
    """Draw -> value of a metric, the mean over seeds."""
    values: dict[int, list[float]] = {}
    for repeat in np.unique(predictions.repeats):
        rows = predictions.repeats == repeat
        value = find_metric(metric)(predictions.labels[rows], predictions.probabilities[rows])
        values.setdefault(int(repeat) % run.draws, []).append(value)
    return {draw: float(np.mean(each)) for draw, each in sorted(values.items())}


def _harmonic(run: MethodRuns, conditions: Sequence[str], metric: str) -> dict[int, float]:
    """Draw -> harmonic mean of the two conditions."""
    first, second = (_by_draw(run.predictions[name], metric, run) for name in conditions)
    return {draw: harmonic_mean(first[draw], second[draw]) for draw in first}


def _difference(
    run: MethodRuns, base: MethodRuns, condition: str, metric: str, conditions: Sequence[str], over_draws: bool
) -> Difference | None:
    """Paired difference to the reference; None where one of the two has no value, or no pairs."""
    needed = conditions if condition == HARMONIC_MEAN else [condition]
    if any(name not in part.predictions for part in (run, base) for name in needed):
        return None
    if not over_draws:
        test = run.predictions[condition].compare(base.predictions[condition], [metric])[metric]
        return Difference.over_groups(test)
    if condition == HARMONIC_MEAN:
        pair = [_harmonic(part, conditions, metric) for part in (run, base)]
    else:
        pair = [_by_draw(part.predictions[condition], metric, part) for part in (run, base)]
    result = over_seeds(*pair)
    return None if result is None else replace(result, over=f"{len(pair[0])} draws")


def _by_seed(predictions: Predictions, metric: str) -> list[float]:
    """Value of a metric for each repeat (seed and draw)."""
    repeats = [predictions.repeats == repeat for repeat in np.unique(predictions.repeats)]
    return [find_metric(metric)(predictions.labels[rows], predictions.probabilities[rows]) for rows in repeats]


def _settings(run: MethodRuns) -> dict[str, int]:
    """Chosen setting as text -> number of trainings."""
    counts: dict[str, int] = {}
    for fit in run.fits:
        text = ", ".join(
            f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}"
            for key, value in (fit.get("setting") or {}).items()
        )
        if text:
            counts[text] = counts.get(text, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: -item[1]))
