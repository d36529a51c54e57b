"""Generated motions as videos in class folders are what ``actprompt prepare --format folder`` takes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from actprompt.cli import main as actprompt
from motiondiff.augmentation.videos import render_store
from motiondiff.data.prepare import PrepareOptions, write_store
from motiondiff.data.synthetic import simulate_clips


def test_rendered_videos_are_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    description = {"format": "simulated", "source": "tests", "simulated": True}
    store = write_store(simulate_clips(10, fps=10), tmp_path / "store", PrepareOptions(), description=description)
    assert render_store(store, tmp_path / "videos", size=(64, 64)) == 10
    capsys.readouterr()
    words = ["prepare", str(tmp_path / "videos"), "--format", "folder", "--out", str(tmp_path / "data"), "--json"]
    assert actprompt(words) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["clips"] == 10 and not told.get("rejected")
    text = json.dumps(told)
    assert all(action in text for action in store.actions)
