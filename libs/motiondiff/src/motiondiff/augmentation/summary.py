"""Results of an augmentation study: table, paired differences, plot, page."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from icube_common.errors import InputError
from icube_common.evaluation.intervals import Interval, mean_interval
from icube_common.experiments.results.differences import Difference, over_groups, over_seeds
from icube_common.experiments.results.plots import save_figure
from icube_common.experiments.results.tables import P, Table
from icube_common.experiments.runner.trial_run import TrialRunResult, trial_run_folder
from icube_common.io.reports import Report
from motiondiff.augmentation.config import StudyConfig
from motiondiff.augmentation.study_arms import METRIC, StudyArm, source_name
from motiondiff.data.store import MotionStore

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True)
class ArmResult:
    """Results of an arm.

    Attributes:
        row: which.
        clips: clips trained on.
        values: seed -> accuracy on the held-out subjects.
        errors: why cells failed.
        interval: mean and 95 % t-interval over the seeds.
    """

    row: StudyArm
    clips: int | None
    values: Mapping[int, float]
    errors: tuple[str, ...]
    interval: Interval | None


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """A paired difference of two rows of the same fraction, first minus second.

    Attributes:
        first: row.
        second: row.
        seeds: paired over classifier seeds; None with fewer than two in common.
        subjects: paired over held-out subjects, seeds averaged; None where a cell is missing.
    """

    first: StudyArm
    second: StudyArm
    seeds: Difference | None
    subjects: Difference | None


@dataclass(frozen=True, kw_only=True)
class StudySummary:
    """Results of a study.

    Attributes:
        folder: of the study.
        data: the store's folder and fingerprint, for the record.
        config: of the study.
        rows: in the order of the table.
        contrasts: for each fraction: with and without each method's motions, and the methods against each other.
        sources: results of the generators.
        test_subjects: held-out subjects.
    """

    folder: Path
    data: Mapping[str, str]
    config: StudyConfig
    rows: tuple[ArmResult, ...]
    contrasts: tuple[Contrast, ...]
    sources: tuple[TrialRunResult, ...]
    test_subjects: tuple[str, ...]

    def table(self) -> Table:
        """Accuracy of every row."""
        columns = ("real clips", "trained on", "clips", METRIC, "seeds", "share of real")
        real = {one.row.fraction: one.interval for one in self.rows if not one.row.method}
        cells = []
        for one in self.rows:
            base = real.get(one.row.fraction)
            share = one.interval.mean / base.mean if one.interval and base and base.mean else None
            share = share if one.row.method else None
            name = f"{100 * one.row.fraction:g} %"
            cells.append((name, one.row.training, one.clips, one.interval, len(one.values), share))
        held_out = ", ".join(self.test_subjects) or "the test split"
        return Table(
            columns,
            tuple(cells),
            f"{METRIC} on held-out {held_out}: mean and 95 % t-interval over classifier seeds (not over people). "
            "Generator, filter and statistics of a row have seen that row's share of the real clips only.",
        )

    def contrast_table(self) -> Table:
        """Paired differences at the same share of real clips."""
        columns = ("real clips", "first", "second", "difference over seeds", "p", "over subjects", "subjects", "p ")
        cells = []
        for one in self.contrasts:
            seeds = (one.seeds.interval, P(one.seeds.p_value)) if one.seeds else (None, None)
            people: tuple[Any, ...] = (None, None, None)
            if one.subjects:
                people = (one.subjects.interval, one.subjects.interval.groups, P(one.subjects.p_value))
            name = f"{100 * one.first.fraction:g} %"
            cells.append((name, one.first.training, one.second.training, *seeds, *people))
        return Table(
            columns,
            tuple(cells),
            f"{METRIC}, first minus second, paired: over classifier seeds (t), and over held-out subjects with the "
            "seeds as repeats (sign flips; no interval with one subject).",
        )

    def source_table(self) -> Table:
        """The generators and their sets."""
        names = ("real_clips", "steps", "training_seconds", "passed", "filled", "synthetic_clips")
        cells = [(one.name, *(one.metrics.get(name) for name in names), one.error or "") for one in self.sources]
        columns = ("generator", "real clips", "steps", "seconds", "share that passes", "filled", "motions", "failed")
        caption = "One generator for each share; filled: kept though they do not pass, never copies."
        return Table(columns, tuple(cells), caption)

    def to_dict(self) -> dict[str, Any]:
        """As ``--json`` prints it."""
        return {
            "study": str(self.folder),
            "data": dict(self.data),
            "test_subjects": list(self.test_subjects),
            "failed": sum(len(one.errors) for one in self.rows),
            "rows": [
                {
                    **one.row.settings(),
                    "training": one.row.training,
                    "clips": one.clips,
                    "values": dict(one.values),
                    METRIC: one.interval and one.interval.to_dict(),
                    "errors": list(one.errors),
                }
                for one in self.rows
            ],
            "differences": [
                {
                    "fraction": one.first.fraction,
                    "first": one.first.training,
                    "second": one.second.training,
                    "over_seeds": one.seeds and one.seeds.to_dict(),
                    "over_subjects": one.subjects and one.subjects.to_dict(),
                }
                for one in self.contrasts
            ],
            "generators": [{"name": one.name, **one.metrics, "error": one.error} for one in self.sources],
            "table": self.table().to_markdown() + "\n" + self.contrast_table().to_markdown(),
            "report": str(self.folder / "report.html"),
        }


def summarise(
    folder: Path,
    store: MotionStore,
    config: StudyConfig,
    rows: Sequence[StudyArm],
    sources: Mapping[tuple[str, int], TrialRunResult],
    results: Mapping[tuple[str, int], TrialRunResult],
    test_subjects: Sequence[str],
) -> StudySummary:
    """Bring the results of all cells together.

    Args:
        folder: of the study.
        store: the data.
        config: of the study.
        rows: of the table.
        sources: (name, 0) -> result of a generator.
        results: (name of the arm, seed) -> result of a classifier.
        test_subjects: held-out subjects.
    """
    by_arm = {row: _row(row, config, sources, results) for row in rows}
    contrasts = []
    for fraction in config.fractions:
        here = {(row.method, row.real): row for row in rows if row.fraction == fraction}
        real = here["", True]
        pairs = [(here[method, both], real) for method in config.methods for both in (True, False)]
        for one, other in itertools.combinations(config.methods, 2):
            pairs += [(here[one, both], here[other, both]) for both in (False, True)]
        contrasts += [_contrast(folder, first, second, by_arm) for first, second in pairs]
    return StudySummary(
        folder=folder,
        data={"store": store.path.name, "fingerprint": store.fingerprint},
        config=config,
        rows=tuple(by_arm[row] for row in rows),
        contrasts=tuple(contrasts),
        sources=tuple(sources.values()),
        test_subjects=tuple(test_subjects),
    )


def _row(
    row: StudyArm,
    config: StudyConfig,
    sources: Mapping[tuple[str, int], TrialRunResult],
    results: Mapping[tuple[str, int], TrialRunResult],
) -> ArmResult:
    cells = [results[row.name, seed] for seed in range(config.seeds) if (row.name, seed) in results]
    values = {cell.seed: value for cell in cells if (value := cell.metrics.get(METRIC)) is not None}
    errors = [cell.error for cell in cells if cell.error]
    if row.method and (source := sources[source_name(row.fraction, row.method), 0]).error:
        errors.append(f"generator: {source.error}")
    counts = [int(value) for cell in cells if (value := cell.metrics.get("training_clips")) is not None]
    return ArmResult(
        row=row,
        clips=counts[0] if counts else None,
        values=values,
        errors=tuple(errors),
        interval=mean_interval(list(values.values())) if values else None,
    )


def _contrast(folder: Path, first: StudyArm, second: StudyArm, by_arm: Mapping[StudyArm, ArmResult]) -> Contrast:
    values = [by_arm[row].values for row in (first, second)]
    shared = sorted(values[0].keys() & values[1].keys())
    subjects = None
    if shared:
        files = [
            {seed: trial_run_folder(folder, row.name, seed) / "predictions.csv" for seed in shared}
            for row in (first, second)
        ]
        subjects = over_groups(files[0], files[1], METRIC)
    return Contrast(first=first, second=second, seeds=over_seeds(*values), subjects=subjects)


def plot_study(summary: StudySummary) -> Figure:
    """Accuracy over the share of real clips, one line for each way of training, with intervals over seeds.

    Raises:
        InputError: no row has a figure.
    """
    from matplotlib.figure import Figure

    lines: dict[str, list[ArmResult]] = {}
    for one in summary.rows:
        if one.interval:
            lines.setdefault(one.row.training, []).append(one)
    if not lines:
        raise InputError("plot: no row has a figure")
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    for number, (name, results) in enumerate(lines.items()):
        results = sorted(results, key=lambda one: one.row.fraction)
        shift = 1 + 0.015 * (number - (len(lines) - 1) / 2)  # bars beside each other, not on top
        x = [100 * one.row.fraction * shift for one in results]
        intervals = [one.interval for one in results if one.interval]
        reach = [0.0 if math.isnan(one.high) else one.high - one.mean for one in intervals]
        axes.errorbar(x, [one.mean for one in intervals], yerr=reach, label=name, marker="o", markersize=4, capsize=2)
    shares = sorted({one.row.fraction for one in summary.rows})
    axes.set(xlabel="real training clips, %", ylabel=f"{METRIC}, held-out subjects", xscale="log")
    axes.set_xticks([100 * share for share in shares], [f"{100 * share:g}" for share in shares])
    axes.minorticks_off()
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(frameon=False, loc="outside right upper")
    return figure


def write_report(summary: StudySummary) -> None:
    """Write ``table.*``, ``differences.*``, ``generators.*``, ``plot.*`` and ``report.html`` into the folder."""
    tables = {"table": summary.table(), "differences": summary.contrast_table(), "generators": summary.source_table()}
    for stem, table in tables.items():
        table.save(summary.folder, stem)
    svg = save_figure(plot_study(summary), summary.folder)
    config = summary.config
    report = Report("Augmentation study", subtitle=f"{summary.data['store']}, {config.seeds} classifier seeds")
    report.section("Accuracy on people that nothing has seen")
    report.image(svg, alt="Accuracy over the share of real clips, a line for each way of training")
    headings = {"table": "Rows", "differences": "Paired differences", "generators": "Generators"}
    for stem, table in tables.items():
        report.section(headings[stem])
        report.table(table.columns, table.texts(), caption=table.caption)
    if failed := [f"{one.row.name}: {error}" for one in summary.rows for error in one.errors]:
        report.section("Cells that failed")
        for line in failed:
            report.paragraph(line)
    report.section("Settings")
    report.facts({"store": summary.data["store"], "fingerprint": summary.data["fingerprint"]})
    for name in ("filter", "classifier"):
        report.facts(vars(getattr(config, name)), caption=name)
    report.save(summary.folder / "report.html")
