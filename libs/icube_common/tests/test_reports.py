from __future__ import annotations

import base64
import re
import struct
import zlib
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from icube_common.errors import InputError
from icube_common.io.reports import Report, format_value, plot_lines
from icube_common.io.runs import RunFolder


def png() -> bytes:
    """An image of one black pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0\0")) + chunk(b"IEND", b"")


GIF = b"GIF89a\x01\x00\x01\x00\x00\x00\x00;"
SVG = b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg" width="1" height="1"/>'


class Page(HTMLParser):
    """Tags with their attributes, text, and whether every opened tag is closed in order."""

    VOID = frozenset({"meta", "img", "br", "link"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style" and data.strip():
            self.words.append(data.strip())


def full_report() -> Report:
    report = Report("Run & <more>", subtitle="3 steps")
    report.section("Setting")
    report.paragraph("<script>alert(1)</script> & such")
    report.facts({"<key>": "<b>", "steps": 12345, "rate": 1e-4, "none": None, "resumed": False}, caption="Facts")
    report.section("Clips")
    report.gallery([(png(), "a pixel", ""), (GIF, 'quote " and <', "moving"), (SVG, "a drawing", "")])
    report.section("Table")
    report.table(["class", "clips"], [["walk", 3], ["<run>", 12.34567]], caption="Counts")
    report.plot({"loss": ([1, 2, 3], [3.0, 2.0, float("nan")])}, alt="loss falls", x_label="step")
    return report


def test_the_page_is_whole_and_escaped() -> None:
    text = full_report().html()
    page = Page(text)
    assert page.open == []
    assert "<script" not in text and "<b>" not in text and "<run>" not in text
    assert "<script>alert(1)</script> & such" in page.words  # as text, after the parser has undone the escapes
    assert page.words.count("Run & <more>") == 2  # title and heading
    assert {"12,345", "0.0001", "\N{EN DASH}", "no", "12.35", "Counts", "moving"} <= set(page.words)


def test_page_loads_no_external_file() -> None:
    text = full_report().html()
    for tag, attributes in Page(text).tags:
        assert tag not in {"script", "link", "iframe", "object", "embed"}
        if "src" in attributes:
            assert str(attributes["src"]).startswith("data:image/")
        if "href" in attributes:
            assert str(attributes["href"]).startswith("#section-")
    assert "default-src 'none'" in text and "@import" not in text and "url(" not in text


def test_images_are_inlined_with_type_and_alt_text() -> None:
    images = [attributes for tag, attributes in Page(full_report().html()).tags if tag == "img"]
    assert [str(image["src"]).partition(";")[0] for image in images] == [
        "data:image/png",
        "data:image/gif",
        "data:image/svg+xml",
        "data:image/svg+xml",
    ]
    assert [image["alt"] for image in images] == ["a pixel", 'quote " and <', "a drawing", "loss falls"]
    assert base64.b64decode(str(images[0]["src"]).partition(",")[2]) == png()


def test_image_type_comes_from_the_content(tmp_path: Path) -> None:
    (tmp_path / "wrong.png").write_bytes(GIF)
    report = Report("r")
    report.image(tmp_path / "wrong.png", alt="moving")
    assert "data:image/gif;base64," in report.html()


@pytest.mark.parametrize(
    ("source", "alt", "message"),
    [
        (b"nonsense", "x", r"image: is none of PNG"),
        (b"<?xml version='1.0'?><html/>", "x", r"is none of PNG"),
        (GIF, " ", r"needs an alt text"),
        ("nowhere.png", "x", r"nowhere\.png: cannot be read \(No such file"),
    ],
)
def test_wrong_image_is_refused(source: bytes | str, alt: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Report("r").image(source, alt=alt)


def test_numbers_are_set_flush_right_and_text_is_not() -> None:
    report = Report("r")
    report.table(["name", "mixed", "number"], [["a", 1, 1.0], ["b", "x", None]])
    cells = [attributes.get("class") for tag, attributes in Page(report.html()).tags if tag in {"th", "td"}]
    assert cells == [None, None, "number"] * 3


def test_an_empty_table_shows_its_headings() -> None:
    report = Report("r")
    report.table(["a", "b"], [])
    assert Page(report.html()).words[-2:] == ["a", "b"]


def test_a_ragged_table_is_refused() -> None:
    with pytest.raises(InputError, match=r"row 1 has 1 cells for 2 columns"):
        Report("r").table(["a", "b"], [[1, 2], [3]], caption="Counts")


def test_links_to_sections_come_with_the_third() -> None:
    report = Report("r")
    for number in range(1, 4):
        report.section(f"Part {number}")
        links = re.findall(r'<a href="#(section-\d)">', report.html())
        assert links == (["section-1", "section-2", "section-3"] if number == 3 else [])
    assert re.findall(r'<h2 id="(section-\d)">', report.html()) == links


def test_metrics_are_drawn_over_the_records_that_have_them(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    for step in range(1, 6):
        run.append_metrics({"step": step, "loss": 1 / step} | ({"validation_loss": 0.5} if step % 2 else {}))
    report = Report("r")
    report.metrics(run.read_metrics(), ["loss", "validation_loss"], alt="both fall", log_y=True)
    assert "data:image/svg+xml" in report.html()
    with pytest.raises(InputError, match=r"unknown metric 'los': did you mean 'loss'\?"):
        report.metrics(run.read_metrics(), ["los"], alt="x")


def test_a_plot_is_reproducible_and_undated() -> None:
    series = {"a": ([0, 1], [1.0, 2.0]), "single": ([1], [1.5])}
    first, second = plot_lines(series, x_label="step"), plot_lines(series, x_label="step")
    assert first == second and b"<dc:date>" not in first and b"<svg" in first


@pytest.mark.parametrize(
    ("series", "log_y", "message"),
    [
        ({}, False, "no series"),
        ({"a": ([], [])}, False, "'a' has 0 x and 0 y"),
        ({"a": ([1, 2], [1.0])}, False, "'a' has 2 x and 1 y"),
        ({"a": ([1, 2], [0.0, -1.0])}, True, "no positive value"),
    ],
)
def test_a_plot_of_nothing_is_refused(
    series: dict[str, tuple[list[int], list[float]]], log_y: bool, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        plot_lines(series, log_y=log_y)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (3, "3"),
        (1234567, "1,234,567"),
        (0.123456, "0.1235"),
        (np.float32(2.5), "2.5"),
        (np.int64(1000), "1,000"),
        (True, "yes"),
        ({"a": 1.5, "b": None}, "a 1.5, b \N{EN DASH}"),
        ([1, 2.25], "1, 2.25"),
        (Path("a/b"), "a/b"),
    ],
)
def test_format_value(value: object, shown: str) -> None:
    assert format_value(value) == shown


def test_saving_is_atomic_and_replaces(tmp_path: Path) -> None:
    path = tmp_path / "out" / "report.html"
    first = Report("first")
    assert first.save(path) == path
    Report("second").save(path)
    assert "<title>second</title>" in path.read_text(encoding="utf-8")
    assert [item.name for item in path.parent.iterdir()] == ["report.html"]
