"""Progress bars: a moving bar on a terminal, elsewhere a line now and then, so that log files stay short."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

FIRST_SECONDS, SECONDS_BETWEEN = 5.0, 30.0


class LineProgress(tqdm):
    """Progress as whole lines: the first after some seconds, one every half a minute, one at the end.

    Work that ends before the first line is silent. Arguments as of tqdm.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._next_line = time.monotonic() + FIRST_SECONDS
        self._printed = -1
        super().__init__(*arguments, **{**options, "mininterval": 1.0})

    def display(self, msg: str | None = None, pos: int | None = None) -> bool:
        """Print a line where it is time for one."""
        if time.monotonic() >= self._next_line:
            self._print_line()
        return True

    def close(self) -> None:
        """Print the last line, unless the work was too short for any."""
        if not self.disable and (self._printed >= 0 or time.monotonic() >= self._next_line):
            self._print_line()
        # nothing is on the screen that tqdm would have to remove
        self.leave = False
        self.fp = _Silent()
        super().close()

    def _print_line(self) -> None:
        if self.n == self._printed:
            return
        elapsed, done = self.format_dict["elapsed"], self.n - self.initial
        total = "" if not self.total else f"/{self.total}"
        left = ""
        if self.total and done and self.n < self.total:
            left = f", {self.format_interval(elapsed * (self.total - self.n) / done)} left"
        postfix = f", {self.postfix}" if self.postfix else ""
        name = f"{self.desc.removesuffix(': ')}: " if self.desc else ""
        self.fp.write(f"{name}{self.n}{total} {self.unit} in {self.format_interval(elapsed)}{left}{postfix}\n")
        self.fp.flush()
        self._printed, self._next_line = self.n, time.monotonic() + SECONDS_BETWEEN


class _Silent:
    """File that takes the control characters of a bar that is closed."""

    encoding = "utf-8"

    def write(self, text: str) -> int:
        return len(text)

    def flush(self) -> None:
        """Nothing is buffered."""


def progress_bar(items: Iterable[Any] | None = None, **options: Any) -> Any:
    """Progress bar of an iterable, or of ``total`` steps with ``update()``; a context manager, too.

    On a terminal it is tqdm's. Where stderr (or ``file``) is a file or a pipe it is `LineProgress`.

    Args:
        items: what is counted; None to count by ``update``.
        options: of tqdm: ``desc``, ``unit``, ``total``, ``leave``, ``disable``, ``initial``, ``file``.
    """
    stream = options.get("file") or sys.stderr
    terminal = bool(getattr(stream, "isatty", lambda: False)())
    return (tqdm if terminal else LineProgress)(items, **{**options, "file": stream})
