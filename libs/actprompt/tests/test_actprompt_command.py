from __future__ import annotations

import pytest

import actprompt
from actprompt.cli import main


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0 and capsys.readouterr().out == f"actprompt {actprompt.__version__}\n"


def test_help_says_that_nothing_is_there_yet(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert "No subcommand is there yet." in capsys.readouterr().out.replace("\n", " ")


def test_any_command_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train"]) == 2
    assert capsys.readouterr() == ("", "actprompt: unknown command 'train': (known: none)\n")
