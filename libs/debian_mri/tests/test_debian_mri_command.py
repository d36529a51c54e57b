from __future__ import annotations

import pytest

import debian_mri
from debian_mri.cli import main


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0 and capsys.readouterr().out == f"debian-mri {debian_mri.__version__}\n"


def test_help_lists_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert "describe" in capsys.readouterr().out


def test_any_other_command_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train"]) == 2
    assert capsys.readouterr() == ("", "debian-mri: unknown command 'train': (known: describe)\n")
