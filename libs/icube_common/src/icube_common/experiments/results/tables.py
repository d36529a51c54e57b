"""A small table that can be written as Markdown, LaTeX (booktabs) and CSV, its cells still numbers until then."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from icube_common.errors import InputError
from icube_common.evaluation.intervals import Interval
from icube_common.io.reports import format_value
from icube_common.io.runs import atomic_file

_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "\N{EN DASH}": "--",
}


@dataclass(frozen=True)
class P:
    """A p-value as a cell: three decimals, or ``<0.001``."""

    value: float


@dataclass(frozen=True)
class Table:
    """Rows of texts, numbers, `Interval`, `P` and None.

    Attributes:
        columns: headings.
        rows: as many cells each as there are columns.
        caption: what the table shows, one sentence or two.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    caption: str = ""

    def __post_init__(self) -> None:
        for number, row in enumerate(self.rows):
            if len(row) != len(self.columns):
                raise InputError(f"table: row {number} has {len(row)} cells for {len(self.columns)} columns")

    def texts(self) -> list[list[str]]:
        """Formatted text of every cell."""
        return [[cell_text(cell) for cell in row] for row in self.rows]

    def to_markdown(self) -> str:
        """As a Markdown table with padded columns, numbers flush right, the caption below."""
        rows = [[text.replace("\\", "\\\\").replace("|", "\\|") for text in row] for row in self.texts()]
        head = [column.replace("|", "\\|") for column in self.columns]
        widths = [max(3, *(len(row[index]) for row in [head, *rows])) for index in range(len(head))]
        right = self._right()

        def line(cells: Sequence[str]) -> str:
            padded = [
                cell.rjust(width) if flush else cell.ljust(width)
                for cell, width, flush in zip(cells, widths, right, strict=True)
            ]
            return f"| {' | '.join(padded)} |"

        rules = (f"{'-' * (width + 1)}{':' if flush else '-'}" for width, flush in zip(widths, right, strict=True))
        rule = f"|{'|'.join(rules)}|"
        lines = [line(head), rule, *map(line, rows)]
        if self.caption:
            lines += ["", self.caption]
        return "\n".join(lines) + "\n"

    def to_latex(self) -> str:
        r"""As a ``table`` environment for ``\usepackage{booktabs}``; every special character is escaped."""
        align = "".join("r" if flush else "l" for flush in self._right())
        lines = [
            r"\begin{table}",
            r"\centering",
            *([rf"\caption{{{escape_latex(self.caption)}}}"] if self.caption else []),
            rf"\begin{{tabular}}{{{align}}}",
            r"\toprule",
            " & ".join(map(escape_latex, self.columns)) + r" \\",
            r"\midrule",
            *(" & ".join(map(escape_latex, row)) + r" \\" for row in self.texts()),
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
        ]
        return "\n".join(lines) + "\n"

    def to_csv(self) -> str:
        """As CSV with unrounded numbers; an estimate takes three columns: itself, ``_low`` and ``_high``."""
        wide = [any(isinstance(row[index], Interval) for row in self.rows) for index in range(len(self.columns))]
        head: list[str] = []
        for column, three in zip(self.columns, wide, strict=True):
            head += [column, f"{column}_low", f"{column}_high"] if three else [column]
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(head)
        for row in self.rows:
            writer.writerow([value for cell, three in zip(row, wide, strict=True) for value in _raw(cell, three)])
        return buffer.getvalue()

    def save(self, folder: str | Path, stem: str = "table") -> None:
        """Write ``table.md``, ``table.tex`` and ``table.csv`` into the folder, or with another stem."""
        for suffix, text in (("md", self.to_markdown()), ("tex", self.to_latex()), ("csv", self.to_csv())):
            with atomic_file(Path(folder) / f"{stem}.{suffix}") as temporary:
                temporary.write_text(text, encoding="utf-8")

    def _right(self) -> list[bool]:
        """True for each column of numbers, which is aligned to the right."""
        if not self.rows:
            return [False] * len(self.columns)
        return [not any(isinstance(cell, str) for cell in column) for column in zip(*self.rows, strict=True)]


def cell_text(cell: Any) -> str:
    """Formatted text of a cell.

    An estimate is rounded to two significant digits of half its interval's width, a p-value to three decimals, any
    other number to four significant digits. What is absent or not a number is an en dash.
    """
    if isinstance(cell, P):
        if not math.isfinite(cell.value):
            return format_value(None)
        return "<0.001" if cell.value < 0.001 else f"{cell.value:.3f}"
    if isinstance(cell, Interval):
        return _estimate_text(cell)
    if _is_no_number(cell):
        return format_value(None)
    return format_value(cell)


def escape_latex(text: str) -> str:
    """The text so that LaTeX prints it as it is."""
    return "".join(_LATEX.get(character, character) for character in text)


def _estimate_text(cell: Interval) -> str:
    half = (cell.high - cell.low) / 2
    if not math.isfinite(cell.mean):
        return format_value(None)
    # an interval of no width is rounding, and no measure for digits
    if not (math.isfinite(half) and half > 1e-9 * abs(cell.mean)):
        return format_value(cell.mean)
    decimals = min(10, max(0, 1 - math.floor(math.log10(half))))
    return f"{cell.mean:.{decimals}f} [{cell.low:.{decimals}f}, {cell.high:.{decimals}f}]"


def _raw(cell: Any, three: bool) -> list[Any]:
    """Values for CSV: numbers without rounding, empty for None."""
    values = [cell.value if isinstance(cell, P) else cell]
    if isinstance(cell, Interval):
        values = [cell.mean, cell.low, cell.high]
    values += [None] * (3 - len(values)) if three else []
    return ["" if value is None or _is_no_number(value) else value for value in values]


def _is_no_number(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)
