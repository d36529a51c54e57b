"""Figures of a study: dots with intervals, also in panels, and the history of a search."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from icube_common.errors import InputError
from icube_common.evaluation.intervals import Interval
from icube_common.io.reports import figure_svg
from icube_common.io.runs import atomic_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Dots:
    """One line of the plot.

    Attributes:
        label: left of it.
        estimate: its mean and interval, drawn as a dot with a bar; None where there is none.
        values: single figures (one for each seed), drawn small.
    """

    label: str
    estimate: Interval | None
    values: Sequence[float] = ()


def plot_intervals(lines: Sequence[Dots], *, x_label: str, reference: float | None = None) -> Figure:
    """A dot and an interval for each line, from top to bottom, single figures beside it.

    Args:
        lines: what to draw.
        x_label: name and unit of the figure.
        reference: where a thin vertical line goes, such as the baseline's mean.

    Raises:
        InputError: no line has anything to draw.
    """
    _check_lines(lines)
    figure, (axes,) = _panels(lines, 1)
    _draw_intervals(axes, lines, x_label=x_label, reference=reference)
    axes.set_yticks(range(len(lines)), [line.label for line in lines], parse_math=False)
    return figure


def plot_panels(panels: Mapping[str, Sequence[Dots]], *, x_label: str, reference: str) -> Figure:
    """Dots and intervals in panels side by side, with the same lines in each.

    Args:
        panels: heading -> lines, with the same labels in the same order.
        x_label: name of the metric.
        reference: label of the line whose mean is a dashed line in each panel.

    Raises:
        InputError: no line has anything to draw.
    """
    _check_lines([line for lines in panels.values() for line in lines])
    first = next(iter(panels.values()))
    figure, axes = _panels(first, len(panels))
    for part, (heading, lines) in zip(axes, panels.items(), strict=True):
        base = next((line.estimate for line in lines if line.label == reference), None)
        _draw_intervals(part, lines, x_label=x_label, reference=base.mean if base else None)
        part.set_yticks(range(len(lines)), [line.label for line in lines], parse_math=False)
        part.tick_params(axis="y", labelleft=part is axes[0])
        if len(panels) > 1:
            part.set_title(heading, fontsize="medium")
    return figure


def _check_lines(lines: Sequence[Dots]) -> None:
    if not any(line.estimate or line.values for line in lines):
        raise InputError("plot: no line has a figure")


def _panels(lines: Sequence[Dots], count: int) -> tuple[Figure, Sequence[Axes]]:
    """A figure with axes side by side for these lines."""
    from matplotlib.figure import Figure

    width = max(len(line.label) for line in lines)
    size = (min(12.0, 6.0 + 0.07 * width) + 3.2 * (count - 1), 1.0 + 0.36 * len(lines))
    figure = Figure(figsize=size, layout="constrained")
    return figure, list(figure.subplots(1, count, squeeze=False)[0])


def _draw_intervals(axes: Axes, lines: Sequence[Dots], *, x_label: str, reference: float | None) -> None:
    for place, line in enumerate(lines):
        if line.values:
            axes.plot(line.values, [place] * len(line.values), "o", color="0.72", markersize=4, zorder=2)
        if line.estimate:
            mean, low, high = line.estimate.mean, line.estimate.low, line.estimate.high
            if math.isfinite(low) and math.isfinite(high):
                axes.plot([low, high], [place, place], color="C0", linewidth=2, zorder=3)
            axes.plot([mean], [place], "o", color="C0", markersize=7, zorder=4)
    if reference is not None:
        axes.axvline(reference, color="0.4", linewidth=0.8, linestyle="--", zorder=1)
    axes.set(xlabel=x_label, ylim=(len(lines) - 0.5, -0.5))
    axes.grid(axis="x", alpha=0.25)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)


def plot_history(trials: Sequence[tuple[int, float]], best: Sequence[tuple[int, float]], *, y_label: str) -> Figure:
    """A search over time: each finished trial as a dot, the best so far as a line of steps.

    Args:
        trials: number and figure of each.
        best: number and figure of each that was better than all before, in order.
        y_label: name of the figure.

    Raises:
        InputError: no trial is given.
    """
    from matplotlib.figure import Figure

    if not trials:
        raise InputError("plot: no trial has a figure")
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    axes = figure.subplots()
    axes.plot(*zip(*trials, strict=True), "o", color="0.6", markersize=4, label="trial")
    steps = [*best, (max(number for number, _ in trials), best[-1][1])]
    axes.plot(*zip(*steps, strict=True), drawstyle="steps-post", color="C0", linewidth=1.6, label="best so far")
    axes.set(xlabel="trial", ylabel=y_label)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(frameon=False, loc="outside right upper")
    return figure


def save_figure(figure: Figure, folder: str | Path) -> bytes:
    """Write ``plot.svg`` and ``plot.png`` into the folder; return the SVG. The same figure gives the same SVG bytes."""
    svg = figure_svg(figure)
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=150)
    for suffix, data in (("svg", svg), ("png", png.getvalue())):
        with atomic_file(Path(folder) / f"plot.{suffix}") as temporary:
            temporary.write_bytes(data)
    return svg
