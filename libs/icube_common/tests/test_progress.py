"""Progress bars on a terminal and in log files."""

from __future__ import annotations

import io

import pytest
from tqdm import tqdm

from icube_common.io import progress
from icube_common.io.progress import LineProgress, progress_bar


class Terminal(io.StringIO):
    """A stream that claims to be a terminal."""

    def isatty(self) -> bool:
        return True


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress.time, "monotonic", clock)
    monkeypatch.setattr("tqdm.std.tqdm._time", clock, raising=False)
    return clock


def test_short_work_is_silent_in_a_file() -> None:
    stream = io.StringIO()
    assert list(progress_bar(range(1000), desc="clips", file=stream)) == list(range(1000))
    assert stream.getvalue() == ""


def test_a_line_every_half_a_minute(clock: Clock) -> None:
    stream = io.StringIO()
    with progress_bar(total=120, desc="training", unit="step", file=stream) as bar:
        for second in range(120):
            clock.now = float(second)
            bar.update()
            bar.refresh()
    lines = stream.getvalue().splitlines()
    assert [line.split(" in ")[0] for line in lines] == [
        "training: 6/120 step",
        "training: 36/120 step",
        "training: 66/120 step",
        "training: 96/120 step",
        "training: 120/120 step",
    ]
    assert "\r" not in stream.getvalue()


def test_work_without_a_total(clock: Clock) -> None:
    stream = io.StringIO()
    with progress_bar(desc="files", unit="file", file=stream) as bar:
        clock.now = 6.0
        bar.update(7)
        bar.refresh()
    assert stream.getvalue().startswith("files: 7 file in ") and stream.getvalue().count("\n") == 1


def test_no_line_where_it_is_disabled(clock: Clock) -> None:
    stream = io.StringIO()
    with progress_bar(total=2, file=stream, disable=True) as bar:
        clock.now = 60.0
        bar.update(2)
    assert stream.getvalue() == ""


def test_a_terminal_has_a_bar() -> None:
    bar = progress_bar(range(3), file=Terminal())
    assert type(bar) is tqdm and not isinstance(bar, LineProgress)
    bar.close()
