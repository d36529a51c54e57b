"""Report pages: one HTML file with its images and style, which loads nothing.

report = Report("Training", subtitle="bandai_namco, 10,000 steps")
report.section("Losses")
report.metrics(run.read_metrics(), ["loss", "validation_loss"], alt="Both losses fall")
report.save(run.report)
"""

from __future__ import annotations

import base64
import io
import math
import numbers
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from icube_common.errors import InputError, unknown
from icube_common.io.runs import atomic_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL.Image import Image


@dataclass(frozen=True)
class _Image:
    uri: str
    alt: str
    caption: str


@dataclass(frozen=True)
class _Block:
    """Block of the page; the template has a case for each kind."""

    kind: str
    content: Any
    caption: str = ""


class Report:
    """A page that is filled from top to bottom and saved once.

    Every text is shown as it is given: ``<`` and ``&`` are escaped, nothing is read as HTML.

    Args:
        title: heading of the page and name of the browser's tab.
        subtitle: one line below it.
    """

    def __init__(self, title: str, *, subtitle: str = "") -> None:
        self.title = title
        self.subtitle = subtitle
        self._blocks: list[_Block] = []

    def section(self, heading: str) -> None:
        """Start a section; what is added from here on belongs to it."""
        self._blocks.append(_Block("section", heading))

    def paragraph(self, text: str) -> None:
        """Add a paragraph of plain text."""
        self._blocks.append(_Block("paragraph", text))

    def facts(self, values: Mapping[str, Any], *, caption: str = "") -> None:
        """Add a table of names and values, one pair a row."""
        rows = [(str(name), format_value(value)) for name, value in values.items()]
        self._blocks.append(_Block("facts", rows, caption))

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[Any]], *, caption: str = "") -> None:
        """Add a data table; columns that hold numbers only are set flush right.

        Args:
            columns: their headings.
            rows: one sequence of cells for each row, as many as there are columns.
            caption: one line above the table.

        Raises:
            InputError: a row has another number of cells than there are columns.
        """
        for number, row in enumerate(rows):
            if len(row) != len(columns):
                raise InputError(f"table {caption!r}: row {number} has {len(row)} cells for {len(columns)} columns")
        numeric = [bool(rows) and all(_is_number(row[index]) for row in rows) for index in range(len(columns))]
        cells = [[format_value(cell) for cell in row] for row in rows]
        self._blocks.append(_Block("table", {"columns": list(columns), "numeric": numeric, "rows": cells}, caption))

    def image(self, source: bytes | str | Path, *, alt: str, caption: str = "") -> None:
        """Add an image: PNG, GIF, JPEG, WebP or SVG, as bytes or as the path of a file, copied into the page.

        Args:
            source: the encoded image or its path.
            alt: what it shows, for who cannot see it.
            caption: one line below it.

        Raises:
            InputError: ``alt`` is empty, the file is missing, or it is none of these formats.
        """
        self.gallery([(source, alt, caption)])

    def gallery(self, images: Sequence[tuple[bytes | str | Path, str, str]]) -> None:
        """Add several images side by side, each as ``(source, alt, caption)``; see `image`."""
        self._blocks.append(_Block("images", [_load_image(*image) for image in images]))

    def plot(
        self,
        series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
        *,
        alt: str,
        x_label: str = "",
        y_label: str = "",
        log_y: bool = False,
        caption: str = "",
    ) -> None:
        """Add a line plot, one line for each series.

        Args:
            series: name of the line -> its x and its y values.
            alt: what the plot shows, in words.
            x_label: name and unit of the x axis.
            y_label: name and unit of the y axis.
            log_y: logarithmic y axis.
            caption: one line below it.
        """
        svg = plot_lines(series, x_label=x_label, y_label=y_label, log_y=log_y)
        self.image(svg, alt=alt, caption=caption)

    def metrics(
        self,
        records: Sequence[Mapping[str, Any]],
        names: Sequence[str],
        *,
        alt: str,
        x: str = "step",
        log_y: bool = False,
        caption: str = "",
    ) -> None:
        """Plot what a run has logged (`RunFolder.read_metrics`): one line for each name, over the records that have it.

        Raises:
            InputError: no record has one of the names.
        """
        series = {}
        for name in names:
            result = [record for record in records if name in record and x in record]
            if not result:
                raise unknown("metric", name, {key for record in records for key in record if key != x})
            series[name] = ([record[x] for record in result], [record[name] for record in result])
        self.plot(series, alt=alt, x_label=x, log_y=log_y, caption=caption)

    def html(self) -> str:
        """The whole page as text."""
        return render_page("report.html.j2", title=self.title, subtitle=self.subtitle, blocks=self._blocks)

    def save(self, path: str | Path) -> Path:
        """Write the page atomically, over an older one, and return its path."""
        with atomic_file(path) as temporary:
            temporary.write_text(self.html(), encoding="utf-8")
        return Path(path)


def render_page(template: str, *, package: str = "icube_common", folder: str = "templates", **values: Any) -> str:
    """A page from a template, as text.

    A template of another library extends ``page.html.j2``, which has the head, the policy that nothing is loaded and
    the style of all pages, and fills its blocks ``style`` and ``content``. Values are escaped.

    Args:
        template: its file name.
        package: the library whose template it is.
        folder: of the templates in ``package``.
        values: what it shows; ``title`` among them.
    """
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

    shared = PackageLoader("icube_common", "io/templates")
    environment = Environment(
        loader=shared if package == "icube_common" else ChoiceLoader([PackageLoader(package, folder), shared]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(values)


def format_value(value: Any) -> str:
    """Formatted text of a value: four significant digits, thousands set apart, an en dash for None."""
    if value is None:
        return "\N{EN DASH}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, numbers.Integral):
        return f"{int(value):,}"
    if isinstance(value, numbers.Real):
        return f"{float(value):.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {format_value(item)}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(format_value(item) for item in value)
    return str(value)


def plot_lines(
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    x_label: str = "",
    y_label: str = "",
    log_y: bool = False,
) -> bytes:
    """A line plot as SVG. The same input gives the same bytes; text is drawn as outlines and needs no font.

    Raises:
        InputError: a series is empty, its x and y differ in length, or a logarithmic axis would get no positive value.
    """
    from matplotlib.figure import Figure

    if not series:
        raise InputError("plot: no series given")
    for name, (xs, ys) in series.items():
        if len(xs) != len(ys) or len(xs) == 0:
            raise InputError(
                f"plot: series {name!r} has {len(xs)} x and {len(ys)} y values; as many of both are needed"
            )
        if log_y and not any(math.isfinite(y) and y > 0 for y in ys):
            raise InputError(f"plot: series {name!r} has no positive value for a logarithmic axis")
    # a Figure of its own: pyplot would choose a backend for the whole process and keep the figure alive
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    axes = figure.subplots()
    for name, (xs, ys) in series.items():
        axes.plot(xs, ys, label=name, linewidth=1.6, marker="o" if len(xs) == 1 else None)
    axes.set(xlabel=x_label, ylabel=y_label, yscale="log" if log_y else "linear")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(frameon=False, loc="outside right upper")
    return figure_svg(figure)


def figure_svg(figure: Figure) -> bytes:
    """A matplotlib figure as SVG. The same figure gives the same bytes; text is drawn as outlines and needs no font."""
    from matplotlib import rc_context

    buffer = io.BytesIO()
    with rc_context({"svg.hashsalt": "icube", "svg.fonttype": "path"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def jpeg_uri(image: Image, *, quality: int) -> str:
    """An image as JPEG in a data URI, for the ``src`` of a page's image."""
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=quality)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, numbers.Real) and not isinstance(value, bool))


def _load_image(source: bytes | str | Path, alt: str, caption: str) -> _Image:
    where = "image" if isinstance(source, bytes) else str(source)
    if not alt.strip():
        raise InputError(f"{where}: needs an alt text that describes it")
    if isinstance(source, bytes):
        data = source
    else:
        try:
            data = Path(source).read_bytes()
        except OSError as error:
            raise InputError(f"{where}: cannot be read ({error.strerror})") from error
    kind = _media_type(data)
    if kind is None:
        raise InputError(f"{where}: is none of PNG, GIF, JPEG, WebP, SVG (starts with {data[:8]!r})")
    return _Image(f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}", alt, caption)


def _media_type(data: bytes) -> str | None:
    """Format of an image by its first bytes; a file's name may be wrong."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "image/webp"
    head = data[:1000].lstrip().lower()
    if head.startswith((b"<svg", b"<?xml", b"<!doctype svg")) and b"<svg" in head:
        return "image/svg+xml"
    return None
