"""A fresh clone, a fresh environment and one bare ``pip install -e libs/<library>`` give a working library."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        os.environ.get("ICUBE_BARE_INSTALL") != "1",
        reason="installs torch into a new environment for each library: set ICUBE_BARE_INSTALL=1",
    ),
]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(tmp_path / "clone")], check=True)
    return tmp_path / "clone"


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", str(path)], check=True)
    yield path / "bin"
    shutil.rmtree(path)


@pytest.mark.parametrize("library", ["motiondiff", "actprompt", "debian_mri"])
def test_bare_install(library: str, clone: Path, environment: Path, tmp_path: Path) -> None:
    def run(*words: str) -> str:
        clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        done = subprocess.run(words, cwd=tmp_path, env=clean, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    python, command = str(environment / "python"), library.replace("_", "-")
    run(python, "-m", "pip", "install", "--disable-pip-version-check", "--quiet", "-e", f"clone/libs/{library}")
    assert run(str(environment / command), "--help").startswith(f"usage: {command}")
    assert "torch" not in run(python, "-c", f"import sys, {library}; print(*sys.modules)").split()

    marker = "\nMARKER = 'live'\n"
    sibling = clone / "libs" / "icube_common" / "src" / "icube_common" / "__init__.py"
    sibling.write_text(sibling.read_text() + marker)
    assert run(python, "-c", "import icube_common; print(icube_common.MARKER)") == "live\n"
    run(python, "-W", "ignore", "-c", f"import {library} as x; [getattr(x, name) for name in dir(x)]")
