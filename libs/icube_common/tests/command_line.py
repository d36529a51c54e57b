"""A library's command line run inside a test: what it answers, without its progress bars."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

BAR = re.compile(r"\d+%\||\[\d+:\d\d")
"""A progress bar, with or without a known end."""

Ran = tuple[int, str, list[str]]
"""Status, stdout, and the lines on stderr that are no progress bars."""
Command = Callable[..., Ran]


def command_fixture(main: Callable[[Sequence[str]], int], package: str) -> Any:
    """A fixture that runs ``main`` in this process with any words.

    Args:
        main: of the library.
        package: its import name; the program is called the same, with hyphens.
    """
    program = package.replace("_", "-")

    @pytest.fixture
    def command(capsys: pytest.CaptureFixture[str]) -> Iterator[Command]:
        def run(*words: object) -> Ran:
            capsys.readouterr()
            status = main([str(word) for word in words])
            out, err = capsys.readouterr()
            # a bar that was left in the middle has no end of line: what the command says last follows it
            lines = re.split(rf"[\r\n]+|(?={program}: )", err)
            return status, out, [line for line in lines if line.strip() and not BAR.search(line)]

        yield run
        for name in ("icube_common", package):
            # the handler that the command made holds this test's stderr
            logging.getLogger(name).handlers[:] = [logging.NullHandler()]

    return command


def as_json(ran: Ran) -> Any:
    """Output of a command with ``--json``; it has to have succeeded."""
    status, out, lines = ran
    assert status == 0, lines
    return json.loads(out)


class CountedTrainings:
    """A training function that records the folds it trains on and can be interrupted.

    Args:
        train: called with the inputs and the fold first.

    Attributes:
        names: of the folds so far.
        stop_at: number of trainings after which the next one is interrupted.
    """

    def __init__(self, train: Callable[..., Any]) -> None:
        self._train, self.names = train, list[str]()
        self.stop_at: int | None = None

    def __call__(self, inputs: Any, fold: Any, *arguments: Any, **options: Any) -> Any:
        if self.stop_at == len(self.names):
            raise KeyboardInterrupt
        self.names.append(fold.name)
        return self._train(inputs, fold, *arguments, **options)
