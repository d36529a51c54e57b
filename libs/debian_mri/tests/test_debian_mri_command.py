from __future__ import annotations

import pytest

import debian_mri
from debian_mri.cli import COMMANDS, main


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0 and capsys.readouterr().out == f"debian-mri {debian_mri.__version__}\n"


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    shown = capsys.readouterr().out
    assert "not for clinical use" in " ".join(shown.split())
    assert all(name in shown for name in COMMANDS)


def test_an_unknown_command_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["covnert"]) == 2
    answer = capsys.readouterr()
    assert answer.out == "" and "did you mean 'convert'?" in answer.err
