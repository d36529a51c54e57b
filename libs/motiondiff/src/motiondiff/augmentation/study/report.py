"""Tables, plot and page of an augmentation study."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from icube_common.errors import InputError
from icube_common.experiments.results.plots import save_figure
from icube_common.io.reports import Report
from motiondiff.augmentation.study.arms import METRIC, MIRROR, REAL, SYNTHETIC
from motiondiff.augmentation.study.summary import ArmResult, StudySummary

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def plot_study(summary: StudySummary) -> Figure:
    """Accuracy over the share of real clips, a line for each training set, with t intervals over people.

    Two panels: synthetic clips alone, and beside real ones; real clips in both.

    Raises:
        InputError: no row has a figure.
    """
    from matplotlib.figure import Figure

    lines: dict[str, list[ArmResult]] = {}
    for one in summary.rows:
        if one.interval:
            lines.setdefault(one.arm.training, []).append(one)
    if not lines:
        raise InputError("plot: no row has a figure")
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    shares = sorted({one.arm.fraction for one in summary.rows})
    for axes, title, alone in zip(
        panels, ("synthetic clips alone", "real and synthetic clips"), (True, False), strict=True
    ):
        chosen = [
            results
            for results in lines.values()
            if results[0].arm.kind in {REAL, MIRROR} or (results[0].arm.kind == SYNTHETIC) == alone
        ]
        _draw(axes, chosen)
        axes.set(title=title, xlabel="real training clips, %", xscale="log")
        axes.set_xticks([100 * share for share in shares], [f"{100 * share:g}" for share in shares])
        axes.minorticks_off()
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=7, loc="lower right")
    panels[0].set_ylabel(f"{METRIC}, people that nothing was trained on")
    return figure


def _draw(axes: Axes, lines: list[list[ArmResult]]) -> None:
    for number, results in enumerate(lines):
        results = sorted(results, key=lambda one: one.arm.fraction)
        shift = 1 + 0.02 * (number - (len(lines) - 1) / 2)  # bars beside each other, not on top
        x = [100 * one.arm.fraction * shift for one in results]
        intervals = [one.interval for one in results if one.interval]
        reach = [0.0 if math.isnan(one.high) else one.high - one.mean for one in intervals]
        real = results[0].arm.kind in {REAL, MIRROR}
        style: dict[str, Any] = (
            {"color": "black" if results[0].arm.kind == MIRROR else "grey", "linestyle": "--"} if real else {}
        )
        axes.errorbar(
            x,
            [one.mean for one in intervals],
            yerr=reach,
            label=results[0].arm.training,
            marker="o",
            markersize=4,
            capsize=2,
            **style,
        )


def write_report(summary: StudySummary) -> None:
    """Write ``table.*``, ``differences.*``, ``people.*``, ``choices.*``, ``generators.*``, ``plot.*`` and the page."""
    tables = {
        "table": ("Rows", summary.table()),
        "differences": ("Paired differences", summary.contrast_table()),
        "people": ("Person by person", summary.people_table()),
        "choices": ("Mixtures chosen on inner people", summary.choice_table()),
        "generators": ("Generators", summary.source_table()),
    }
    for stem, (_, table) in tables.items():
        table.save(summary.folder, stem)
    svg = save_figure(plot_study(summary), summary.folder)
    config = summary.config
    seeds = f"{config.generator_seeds} generator and {config.seeds} classifier seeds"
    report = Report("Augmentation study", subtitle=f"{summary.data['store']}, {len(summary.people)} people, {seeds}")
    report.section("Primary comparison")
    report.paragraph(primary_sentence(summary))
    report.section("Accuracy on people that nothing was trained on")
    report.image(svg, alt="Accuracy over the share of real clips, a line for each training set")
    for heading, table in tables.values():
        if table.rows:
            report.section(heading)
            report.table(table.columns, table.texts(), caption=table.caption)
    if failed := [f"{one.arm.name}: {error}" for one in summary.rows for error in one.errors]:
        report.section("Cells that failed")
        for line in failed:
            report.paragraph(line)
    report.section("Settings")
    report.facts({"store": summary.data["store"], "fingerprint": summary.data["fingerprint"]})
    report.facts({f"fold {number}": ", ".join(people) for number, people in enumerate(summary.folds)})
    report.facts(dict(summary.budget), caption="budget")
    for name in ("mixture", "primary", "filter", "classifier"):
        report.facts(vars(getattr(config, name)), caption=name)
    report.save(summary.folder / "report.html")


def primary_sentence(summary: StudySummary) -> str:
    """The primary comparison in one sentence."""
    one = summary.contrasts[0]
    where = f"{one.first.training} minus {one.second.training} at {100 * one.first.fraction:g} % of the real clips"
    if one.difference is None:
        return f"{where}: fewer than two people have both rows."
    interval, p = one.difference.interval, one.difference.p_value
    return (
        f"{where}: {interval.mean:+.3f}, 95 % t interval over {interval.groups} people [{interval.low:+.3f}, "
        f"{interval.high:+.3f}], p {p:.3f} (paired t); better for {one.better}, worse for {one.worse}, equal for "
        f"{interval.groups - one.better - one.worse}. It was named in the configuration before the study ran; all "
        "other comparisons are descriptive."
    )
