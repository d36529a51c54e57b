"""The demo: everything it promises is there, and marked as simulated."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from icube_common.errors import InputError
from icube_common.io.runs import read_json
from motiondiff.cli import demo as demo_module
from motiondiff.cli import main
from motiondiff.cli.demo import demo
from motiondiff.data.store import MotionStore
from motiondiff.data.synthetic import ACTIONS


@pytest.fixture
def _quiet() -> Iterator[None]:
    yield
    for name in ("icube_common", "motiondiff"):
        # the handler that the command made holds this test's stderr
        logging.getLogger(name).handlers[:] = [logging.NullHandler()]


@pytest.mark.usefixtures("_quiet")
def test_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(demo_module, "CLIPS", 20)
    out = tmp_path / "demo"
    assert main(["demo", "--out", str(out), "--steps", "3", "--json"]) == 0
    captured = capsys.readouterr()
    assert "formulas, not recordings of people" in captured.err
    result = json.loads(captured.out)
    assert result["note"].startswith("simulated motions") and result["training_seconds"] > 0

    store = MotionStore(out / "store")
    assert result["store"] == str(store.path) and len(store) == 20 and store.header["simulated"] is True
    assert store.info()["splits"]["train"] > 0 and store.actions == sorted(ACTIONS)
    assert "Trained on simulated motions" in (out / "run" / "model" / "README.md").read_text()
    assert read_json(out / "run" / "model" / "representation" / "config.json")["simulated"] is True

    report = Path(result["open"]["report"])
    assert report == out / "run" / "report.html" and "simulated motions" in report.read_text()
    animations = [Path(path) for path in result["open"]["animations"]]
    assert {path.stem.rsplit("-", 1)[0] for path in animations} == {"walk", "run", "wave", "sit-down", "pick-up"}
    assert len(animations) == 10
    with Image.open(animations[0]) as picture:
        assert picture.format == "GIF" and picture.n_frames >= 20
    in_blender = result["open"]["in Blender (File > Import > BVH)"]
    assert len(in_blender) == 5 and all(Path(path).read_text().startswith("HIERARCHY") for path in in_blender)


def test_demo_refuses_before_it_writes(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "precious.txt").touch()
    with pytest.raises(InputError, match="exists already"):
        demo(tmp_path / "old")
    with pytest.raises(InputError, match="--steps -1"):
        demo(tmp_path / "new", steps=-1)
    assert not (tmp_path / "new").exists()
