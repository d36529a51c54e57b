"""Tables and plots of studies: golden text, rounding, escaping, the same bytes twice."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path

import pytest

from icube_common.errors import InputError
from icube_common.evaluation.intervals import Interval
from icube_common.experiments.results.plots import Dots, plot_history, plot_intervals, save_figure
from icube_common.experiments.results.tables import P, Table, cell_text, escape_latex


def estimate(mean: float, low: float, high: float) -> Interval:
    return Interval(mean, low, high, groups=3, method="t")


TABLE = Table(
    ("variant", "top1", "n", "p"),
    (
        ("no_context", estimate(0.8124, 0.7904, 0.8344), 3, P(0.0312)),
        ("a|b & 50%", estimate(0.5, math.nan, math.nan), 1200, P(0.0004)),
        ("failed", None, 0, None),
    ),
    "Mean and 95 % interval.",
)


def test_markdown_is_as_written_here() -> None:
    assert TABLE.to_markdown() == (
        "| variant    |                 top1 |     n |      p |\n"
        "|------------|---------------------:|------:|-------:|\n"
        "| no_context | 0.812 [0.790, 0.834] |     3 |  0.031 |\n"
        "| a\\|b & 50% |                  0.5 | 1,200 | <0.001 |\n"
        "| failed     |                    \N{EN DASH} |     0 |      \N{EN DASH} |\n"
        "\n"
        "Mean and 95 % interval.\n"
    )


def test_latex_is_as_written_here() -> None:
    assert TABLE.to_latex() == (
        "\\begin{table}\n\\centering\n\\caption{Mean and 95 \\% interval.}\n\\begin{tabular}{lrrr}\n\\toprule\n"
        "variant & top1 & n & p \\\\\n\\midrule\n"
        "no\\_context & 0.812 [0.790, 0.834] & 3 & 0.031 \\\\\n"
        "a|b \\& 50\\% & 0.5 & 1,200 & \\textless{}0.001 \\\\\n"
        "failed & -- & 0 & -- \\\\\n"
        "\\bottomrule\n\\end{tabular}\n\\end{table}\n"
    )


def test_csv_keeps_the_numbers_unrounded() -> None:
    rows = list(csv.DictReader(io.StringIO(TABLE.to_csv())))
    assert list(rows[0]) == ["variant", "top1", "top1_low", "top1_high", "n", "p"]
    assert float(rows[0]["top1_low"]) == 0.7904 and float(rows[1]["p"]) == 0.0004
    assert rows[1]["top1_low"] == "" and rows[2]["top1"] == "" and rows[2]["n"] == "0"


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (estimate(134.216, 129.0, 139.4), "134.2 [129.0, 139.4]"),
        (estimate(2.5e-5, 2.1e-5, 2.9e-5), "0.0000250 [0.0000210, 0.0000290]"),
        (estimate(1234.0, 1000.0, 1468.0), "1234 [1000, 1468]"),
        (estimate(0.25, 0.25, 0.25), "0.25"),
        (estimate(0.085, 0.085 - 1e-17, 0.085 + 2e-17), "0.085"),
        (estimate(0.0, -0.02, 0.02), "0.000 [-0.020, 0.020]"),
        (estimate(math.nan, math.nan, math.nan), "\N{EN DASH}"),
        (P(math.nan), "\N{EN DASH}"),
        (P(0.0), "<0.001"),
        (P(1.0), "1.000"),
        (math.nan, "\N{EN DASH}"),
        (True, "yes"),
    ],
)
def test_cell_formatting(cell: object, text: str) -> None:
    assert cell_text(cell) == text


def test_every_special_character_of_latex_is_escaped() -> None:
    assert escape_latex("\\{}$&#%_^~") == (r"\textbackslash{}\{\}\$\&\#\%\_\textasciicircum{}\textasciitilde{}")


def test_a_row_of_another_length_is_refused() -> None:
    with pytest.raises(InputError, match="row 0 has 1 cells for 2 columns"):
        Table(("a", "b"), (("x",),))


def test_plots_are_the_same_bytes_each_time(tmp_path: Path) -> None:
    lines = [Dots("$a_b", estimate(0.5, 0.4, 0.6), [0.45, 0.55]), Dots("none", None), Dots("one", None, [0.7])]
    first, second = (save_figure(plot_intervals(lines, x_label="top1", reference=0.5), tmp_path) for _ in range(2))
    assert first == second == (tmp_path / "plot.svg").read_bytes()
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    other = save_figure(plot_intervals(lines[:1], x_label="top1"), tmp_path)
    assert other != first


def test_the_interval_is_drawn_where_it_lies() -> None:
    figure = plot_intervals([Dots("a", estimate(0.5, 0.4, 0.6), [0.45]), Dots("b", estimate(1, 1, 1))], x_label="")
    lines = [line.get_xydata().tolist() for line in figure.axes[0].get_lines()]
    assert lines == [[[0.45, 0]], [[0.4, 0], [0.6, 0]], [[0.5, 0]], [[1, 1], [1, 1]], [[1, 1]]]
    low, high = figure.axes[0].get_ylim()
    assert low > high, "the first line is on top"


def test_the_history_keeps_the_best_until_the_end() -> None:
    figure = plot_history([(0, 0.2), (1, 0.5), (4, 0.3)], [(0, 0.2), (1, 0.5)], y_label="top1")
    assert figure.axes[0].get_lines()[1].get_xydata().tolist() == [[0, 0.2], [1, 0.5], [4, 0.5]]


def test_empty_figure_is_refused() -> None:
    with pytest.raises(InputError, match="no line has a figure"):
        plot_intervals([Dots("a", None)], x_label="")
    with pytest.raises(InputError, match="no trial has a figure"):
        plot_history([], [], y_label="")
