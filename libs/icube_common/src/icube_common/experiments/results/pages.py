"""Writing a study's folder: the table in three formats, the plot, and one page that a person opens."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from icube_common.experiments.results.plots import Dots, plot_history, plot_intervals, save_figure
from icube_common.experiments.results.run_comparison import RunComparison
from icube_common.experiments.results.summary import StudyResult
from icube_common.experiments.results.tables import Table
from icube_common.io.reports import Report

if TYPE_CHECKING:
    from icube_common.experiments.results.search_results import SearchResult


def add_table(report: Report, table: Table) -> None:
    """Add a table to a page as it is written elsewhere."""
    report.table(table.columns, table.texts(), caption=table.caption)


def write_ablation(study: StudyResult) -> None:
    """Write an ablation's ``table.*``, ``plot.*`` and ``report.html`` into its folder."""
    table = study.table()
    table.save(study.folder)
    base = study.variant(study.baseline)
    lines = [Dots(variant.name, variant.interval, list(variant.values.values())) for variant in study.variants]
    figure = plot_intervals(lines, x_label=study.metric, reference=base.interval.mean if base.interval else None)
    svg = save_figure(figure, study.folder)

    report = Report("Ablation", subtitle=f"{study.metric}, {len(study.variants)} variants, seeds {list(study.seeds)}")
    report.section("Result")
    add_table(report, table)
    report.image(
        svg,
        alt=f"{study.metric} of each variant with its 95 % interval; the dashed line is {study.baseline}",
        caption="Large: mean and 95 % interval. Small: single seeds. Dashed: the baseline.",
    )
    names = list(dict.fromkeys(name for variant in study.variants for name in variant.others))
    if names:
        report.section("Other metrics")
        rows = tuple((variant.name, *(variant.others.get(name) for name in names)) for variant in study.variants)
        add_table(report, Table(("variant", *names), rows, "Means over seeds."))
    report.section("Settings")
    shared, by_variant = _settings(study)
    if shared:
        report.facts(shared, caption="The same in every variant")
    keys = list(dict.fromkeys(key for settings in by_variant.values() for key in settings))
    rows = tuple((name, *(_word(settings, key) for key in keys)) for name, settings in by_variant.items())
    add_table(report, Table(("variant", *keys), rows, "What differs; a dash is the default."))
    if study.warnings:
        report.section("Pairs")
        rows = tuple(study.warnings.items())
        add_table(report, Table(("variant", "why it is paired over seeds"), rows))
    failures = tuple(
        (variant.name, seed, error) for variant in study.variants for seed, error in variant.errors.items()
    )
    if failures:
        report.section("Failed cells")
        add_table(report, Table(("variant", "seed", "error"), failures))
    report.save(study.folder / "report.html")


def write_search(result: SearchResult) -> None:
    """Write a search's ``table.*``, ``plot.*`` and ``report.html`` into its folder."""
    table = result.table()
    table.save(result.folder)
    finished = [(trial.slot, trial.value) for trial in result.trials if trial.value is not None]
    records = [(trial.slot, trial.value) for trial in result.records() if trial.value is not None]
    svg = save_figure(plot_history(finished, records, y_label=result.metric), result.folder)

    best = result.best
    report = Report("Search", subtitle=f"{result.direction} {result.metric}, {len(result.trials)} trials")
    report.section("Best trial")
    report.facts({"trial": best.slot, result.metric: best.value, **result.overrides}, caption="best.yaml")
    report.image(svg, alt=f"{result.metric} of each finished trial, and the best so far", caption="Finished trials")
    report.section("What mattered")
    if result.importance:
        report.table(["parameter", "importance"], list(result.importance.items()), caption=result.importance_note)
    else:
        report.paragraph(f"Importance of the parameters: {result.importance_note}.")
    report.section("Trials")
    add_table(report, table)
    failures = tuple((trial.slot, trial.error) for trial in result.trials if trial.error)
    if failures:
        report.section("Failed trials")
        add_table(report, Table(("trial", "error"), failures))
    report.save(result.folder / "report.html")


def write_comparison(result: RunComparison, folder: Path) -> None:
    """Write ``table.*``, ``differences.*``, ``plot.*`` and ``report.html`` of a comparison into a folder."""
    table, differences, settings = result.table(), result.difference_table(), result.settings_table()
    table.save(folder)
    differences.save(folder, "differences")
    metric = result.metrics[0]
    lines = [Dots(run.name, run.intervals.get(metric)) for run in result.runs]
    first = result.runs[0].intervals.get(metric)
    svg = save_figure(plot_intervals(lines, x_label=metric, reference=first.mean if first else None), folder)

    report = Report("Comparison", subtitle=f"{len(result.runs)} runs, compared with {result.runs[0].name}")
    report.section("Metrics")
    add_table(report, table)
    report.image(
        svg, alt=f"{metric} of each run with its 95 % interval over subjects", caption="Dashed: the first run."
    )
    report.section("Differences")
    if differences.rows:
        add_table(report, differences)
    for run in result.runs:
        if run.note:
            report.paragraph(f"{run.name} cannot be paired with {result.runs[0].name}: {run.note}.")
    report.section("Settings")
    if settings.rows:
        add_table(report, settings)
    else:
        report.paragraph("No setting differs, or no run has its settings beside its predictions.")
    report.save(folder / "report.html")


def _settings(study: StudyResult) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """The overrides that all variants share, and what remains of each."""
    first = study.variants[0].overrides
    shared = {
        key: value
        for key, value in first.items()
        if all(key in variant.overrides and variant.overrides[key] == value for variant in study.variants)
    }
    by_variant = {
        variant.name: {key: value for key, value in variant.overrides.items() if key not in shared}
        for variant in study.variants
    }
    return shared, by_variant


def _word(settings: Mapping[str, Any], key: str) -> str | None:
    """A setting as text, so that ``null`` and ``false`` differ from a key that is not set."""
    return None if key not in settings else str(settings[key])
