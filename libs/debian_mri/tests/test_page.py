"""The page and the table of a prediction, of a made-up one: whole, self-contained, and with the notice at both ends."""

from __future__ import annotations

import csv
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from made_up import draw_slices, make_explanation

from debian_mri import RESEARCH_ONLY
from debian_mri.explanation.contributions import SlicePart
from debian_mri.explanation.html_report import prediction_page, write_page, write_tsv
from debian_mri.explanation.report_text import explain
from icube_common.errors import InputError


class Words(HTMLParser):
    """The visible text, and the tags."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.hidden = 0
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.hidden += tag in ("style", "title")

    def handle_endtag(self, tag: str) -> None:
        self.hidden -= tag in ("style", "title")

    def handle_data(self, data: str) -> None:
        if not self.hidden and data.strip():
            self.words.append(" ".join(data.split()))


def test_the_page_shows_the_prediction_and_loads_nothing(tmp_path: Path) -> None:
    found = make_explanation()
    path = write_page(tmp_path / "page.html", found, draw_slices(found))
    page = path.read_text(encoding="utf-8")
    read = Words(page)
    assert read.words[0] == read.words[-1] == RESEARCH_ONLY
    assert "simulated" in read.words[1] and "AD" in read.words[:4]
    whole = " ".join(read.words)
    for line in explain(found).splitlines():
        assert " ".join(line.split()) in whole.replace("\N{NO-BREAK SPACE}", " ")
    assert "2 of 11 concepts were not judged for lack of FLAIR, SWI." in whole
    assert "none (draft, not checked by a specialist)" in whole and "Scheltens P et al." in whole
    assert "swallow" not in page.casefold() and "Schwarz" not in page
    sources = [attrs.get("src") or "" for tag, attrs in read.tags if tag == "img"]
    assert len(sources) == 7 and all(source.startswith("data:image/jpeg;base64,") for source in sources)
    assert not {"script", "link", "iframe"} & {tag for tag, _ in read.tags}
    assert "://" not in page and "default-src 'none'" in page
    with pytest.raises(InputError, match="exists already"):
        write_page(path, found, draw_slices(found))


def bars(page: str, kind: str) -> list[float]:
    return [float(width) for width in re.findall(rf'<i class="{kind}" style="width: ([\d.]+)%">', page)]


def test_bars_by_hand() -> None:
    found = make_explanation()
    page = prediction_page(found, draw_slices(found))
    # attention beside the highest, .31
    assert bars(page, "heat") == [100.0, 71.0, 54.8, 38.7, 32.3, 16.1, 9.7]
    # half of the width is the longest part, .625
    assert bars(page, "for right") == [50.0, 30.0, 20.0, 10.0, 5.0, 20.0, 5.0]
    assert bars(page, "against left") == [20.0, 10.0, 10.0, 5.0, 5.0, 40.0]
    assert re.findall(r'<div class="track" aria-hidden="true"><i style="width: ([\d.]+)%">', page) == [
        "60.0", "36.4", "3.6", "15.8",
    ]  # fmt: skip


def test_an_abstaining_page() -> None:
    found = make_explanation(threshold=0.9, trained=False, n_controls=120)
    page = prediction_page(found, draw_slices(found))
    assert "<h1>The model abstains</h1>" in page and "<title>The model abstains</title>" in page
    assert "is untrained" in page and "below the chosen 90\N{NO-BREAK SPACE}%" in page


def test_page_states_the_left_side() -> None:
    page = prediction_page(make_explanation(), draw_slices(make_explanation()))
    assert "convention: the person&#39;s left is on the right. Sagittal slices have the front on the right." in page
    assert "not known" not in page
    found = make_explanation(slices=(SlicePart(plane="axial", position_mm=None, weight=1.0),))
    page = prediction_page(found, draw_slices(found))
    assert "Of slices without a position the sides are not known." in page and "left is on the right" not in page
    assert 'class="letter' not in page and 'id="convention"' not in page


def test_words_are_escaped() -> None:
    found = make_explanation(id="<script>x</script>", warnings=("a < b & c",))
    page = prediction_page(found, draw_slices(found))
    assert "<script" not in page and "a &lt; b &amp; c" in page


def test_many_slices_are_cut_off() -> None:
    parts = tuple(SlicePart(plane="axial", position_mm=float(z), weight=1 / 20) for z in range(20))
    found = make_explanation(slices=parts)
    page = prediction_page(found, draw_slices(found))
    assert page.count("<img") == 12 and "8 more slices with less attention are not shown" in page


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda images: images[:-1], "6 images for 7 slices"),
        (lambda images: [images[0] * 255, *images[1:]], "values from 0 to 1"),
        (lambda images: [images[0][None], *images[1:]], r"shape \(1, 181, 181\)"),
    ],
)
def test_wrong_images_are_refused(change: Any, message: str) -> None:
    found = make_explanation()
    with pytest.raises(InputError, match=message):
        prediction_page(found, change(draw_slices(found)))


def test_the_table(tmp_path: Path) -> None:
    found = make_explanation()
    path = write_tsv(tmp_path / "t.tsv", found)
    rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines(), delimiter="\t"))
    assert rows[0]["kind"] == "notice" and rows[0]["name"] == RESEARCH_ONLY
    assert {row["id"] for row in rows} == {"made-up-07"}
    added = sum(float(row["value"]) for row in rows if row["kind"] in ("bias", "contribution") and row["class"] == "AD")
    logit = next(float(row["value"]) for row in rows if row["kind"] == "logits" and row["class"] == "AD")
    assert added == pytest.approx(logit) == pytest.approx(2.1)
    assert next(row["value"] for row in rows if row["kind"] == "attention") == "0.31"
    assert not any("swallow" in row["name"] for row in rows)
