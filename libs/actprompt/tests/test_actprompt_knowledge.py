"""``actprompt knowledge`` from the first sentence to the signature, and every way to ask it for something wrong."""

from __future__ import annotations

import hashlib
import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import icube_common.vlm
from actprompt.cli import main
from icube_common.errors import InputError
from icube_common.knowledge import ClassKnowledge, OpenAIGenerator
from icube_common.knowledge.generate import Answer


class Encoder:
    """Features of words by a hash of each: no model, but texts that share words are near each other."""

    text_budget = 6
    weights_warning = "untrained backbone"

    def count_tokens(self, text: str) -> int:
        return len(text.split())

    def encode_text(self, texts: list[str]) -> np.ndarray:
        table = np.zeros((len(texts), 64))
        for row, text in zip(table, texts, strict=True):
            for word in text.lower().split():
                row[hashlib.sha256(word.encode()).digest()[0] % 64] += 1
        return table / np.linalg.norm(table, axis=1, keepdims=True)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working folder with a published file, and no model that would have to be downloaded."""
    monkeypatch.chdir(tmp_path)

    def load_vlm(name: str, pretrained: str | None, **options: Any) -> Encoder:
        if name != "fake":
            raise InputError(f"unknown model {name!r}")
        return Encoder()

    monkeypatch.setattr(icube_common.vlm, "load_vlm", load_vlm, raising=False)
    published = {"WalkSlowly": ["A person walks slowly.", "Legs move."], "Run": ["A person runs.", "Legs move fast."]}
    (tmp_path / "published.json").write_text(json.dumps(published))
    yield tmp_path
    for name in ("icube_common", "actprompt"):
        # the handler that the command made holds this test's stderr
        logging.getLogger(name).handlers[:] = [logging.NullHandler()]


def result(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    """The JSON result of a command that goes well."""
    capsys.readouterr()
    assert main(["knowledge", *words, "--json"]) == 0, capsys.readouterr().err
    value: dict[str, Any] = json.loads(capsys.readouterr().out)
    return value


def refusal(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The one line of a command that is refused."""
    capsys.readouterr()
    assert main(["knowledge", *words]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("actprompt: ") and err.count("\n") == 1, err
    return err


def test_the_whole_way(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    made = result(capsys, "import", "published.json", "--out", "k.yaml", "--model", "GPT-4", "--date", "2024-01-02")
    assert made["by_status"] == {"proposed": 4} and made["by_source"] == {"model GPT-4 (2024-01-02)": 4}
    assert "not checked by a specialist" in made["review_warning"] and made["form"] == "cupl"

    scored = result(capsys, "score", "k.yaml", "--vlm", "fake", "--out", "s.json", "--html", "s.html")
    assert scored["sentences"] == 4 and scored["budget"] == 6 and scored["vlm_note"] == "untrained backbone"
    assert json.loads((folder / "s.json").read_text())["scores"] == scored["scores"]
    page = (folder / "s.html").read_text()
    assert "untrained backbone" in page and "not checked by a specialist" in page and "Legs move fast." in page

    review = result(capsys, "review", "k.yaml", "--html", "r.html", "--scores", "s.json")
    assert review["html"] == "r.html" and "margin" in (folder / "r.html").read_text()

    decisions = [
        {"class": "WalkSlowly", "text": "A person walks slowly.", "decision": "accepted"},
        {"class": "Run", "text": "Legs move fast.", "decision": "edited", "edited": "Both feet leave the ground."},
    ]
    (folder / "decisions.json").write_text(json.dumps({"title": "published", "decisions": decisions}))
    decided = result(capsys, "review", "k.yaml", "--apply", "decisions.json")
    assert decided["decisions"] == {"accepted": 1, "edited": 1} and decided["still_proposed"] == 2

    frozen = result(capsys, "freeze", "k.yaml")
    assert not frozen["already_frozen"] and frozen["hash"] == decided["hash"]
    assert result(capsys, "freeze", "k.yaml")["already_frozen"]
    assert ClassKnowledge.load("k.yaml").provenance()["hash"] == frozen["hash"]

    signed = result(capsys, "review", "k.yaml", "--accept-all", "--reviewer", "C. D.", "--role", "physiotherapist")
    assert signed["reviewer"].startswith("C. D., physiotherapist, ") and signed["review_warning"] == ""
    assert ClassKnowledge.load("k.yaml").frozen is not None and signed["by_status"] == {"accepted": 3, "edited": 1}

    (folder / "k.yaml").write_text((folder / "k.yaml").read_text().replace("A person runs.", "A person sprints."))
    assert "class 'Run': changed since it was frozen" in refusal(capsys, "score", "k.yaml", "--vlm", "fake")


def test_a_review_in_the_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    result(capsys, "import", "published.json", "--out", "k.yaml")
    monkeypatch.setattr("sys.stdin", io.StringIO("a\nr\nsays nothing\nq\n"))
    capsys.readouterr()
    assert main(["knowledge", "review", "k.yaml", "--json", "--reviewer", "C. D."]) == 0
    out, err = capsys.readouterr()
    value = json.loads(out)
    assert value["decisions"] == {"accepted": 1, "rejected": 1} and value["still_proposed"] == 2
    assert value["warnings"] == ["not signed: 2 sentences are still proposed"] and "[1/4] WalkSlowly" in err
    monkeypatch.setattr("sys.stdin", io.StringIO("a\na\n"))
    assert result(capsys, "review", "k.yaml", "--reviewer", "C. D.")["reviewer"].startswith("C. D., ")


def test_review_page_content(capsys: pytest.CaptureFixture[str]) -> None:
    result(capsys, "import", "published.json", "--out", "k.yaml")
    assert main(["knowledge", "score", "k.yaml", "--vlm", "fake"]) == 0
    out = capsys.readouterr().out
    assert "sentences with problems" in out and "knowledge_hash" in out
    assert main(["knowledge"]) == 0
    assert "generate" in capsys.readouterr().out


def test_endpoint_requests_and_resume(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def answer(self: OpenAIGenerator, prompt: str, *, seed: int) -> Answer:
        asked.append(prompt)
        if len(asked) == 2:
            raise InputError("endpoint: gone")
        return Answer(f"1. Sentence number {len(asked)} of it.")

    monkeypatch.setattr(OpenAIGenerator, "__call__", answer)
    words = ["generate", "--classes", "walk,run fast", "--out", "g.yaml", "--model", "m-1", "--per-class", "1"]
    words += ["--endpoint", "http://localhost:1/v1", "--key-variable", "NO_SUCH_KEY"]
    capsys.readouterr()
    assert main(["knowledge", *words, "--quiet"]) == 2
    assert "endpoint: gone" in capsys.readouterr().err
    assert ClassKnowledge.load("g.yaml").class_names == ("walk",)
    assert "--resume continues" in refusal(capsys, *words)
    made = result(capsys, *words, "--resume", "--quiet")
    assert made["classes"] == 2 and made["fewer_than_asked"] == {} and len(asked) == 3
    assert asked[0].startswith(
        "The samples are: short colour videos of people in everyday life. Describe what a person"
    )
    assert '"run fast"' in asked[2]
    made = result(capsys, *words, "--overwrite", "--quiet", "--prompt", "Say {name}!", "--domain", "")
    assert asked[3] == "Say walk! Answer with 1 different sentences, one per line, each complete in itself."
    assert made["by_status"] == {"proposed": 2}


GENERATE = ["generate", "--out", "g.yaml", "--model", "m"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["genrate"], "unknown knowledge command 'genrate': did you mean 'generate'"),
        (["generate", "--model", "m", "--classes", "a"], "the following arguments are required: --out"),
        (GENERATE, "--classes or --classes-file: one of them must name the classes"),
        ([*GENERATE, "--classes", "a,a"], "--classes a,a: must be different names"),
        ([*GENERATE, "--classes", "a,,b"], "--classes a,,b: must be different names"),
        ([*GENERATE, "--classes", "a", "--classes-file", "c.txt"], "--classes and --classes-file: give one of them"),
        ([*GENERATE, "--classes-file", "c.txt"], "c.txt: cannot be read"),
        ([*GENERATE, "--classes", "a", "--prompt", "What?"], "prompt 'What?': must hold {name}"),
        ([*GENERATE, "--classes", "a", "--date", "today"], "--date today: must have the form"),
        ([*GENERATE, "--classes", "a", "--endpoint", "host"], "endpoint 'host': must be a URL"),
        ([*GENERATE[:-1], "./no", "--classes", "a"], "model './no': no such folder"),
        (["generate", "--out", "g.txt", "--model", "m", "--classes", "a"], "g.txt: a knowledge file ends in"),
        (["import", "no.json", "--out", "k.yaml"], "no.json: cannot be read"),
        (["import", "published.json", "--out", "old.yaml"], "old.yaml: exists already (--overwrite replaces it)"),
        (
            ["import", "published.json", "--out", "k.yaml", "--form", "dlcip"],
            "unknown form 'dlcip': did you mean 'dclip'",
        ),
        (["import", "published.json", "--out", "k.yaml", "--form", "tcclip"], 'entry 0: must be "Class: sentence"'),
        (["import", "published.json", "--out", "k.yaml", "--classes", "walk slowly"], "unknown class 'Run'"),
        (["import", "published.json", "--out", "k.yaml", "--classes", "a"], "missing class 'a'"),
        (["score", "no.yaml", "--vlm", "fake"], "no.yaml: cannot be read"),
        (["score", "old.yaml", "--vlm", "fake"], "old.yaml: must hold a mapping"),
        (["score", "k.yaml", "--vlm", "other"], "unknown model 'other'"),
        (["score", "k.yaml"], "the following arguments are required: --vlm"),
        (["score", "k.yaml", "--vlm", "fake", "--duplicate-threshold", "2"], "--duplicate-threshold 2.0: must lie"),
        (["score", "k.yaml", "--vlm", "fake", "--html", "old.yaml"], "old.yaml: exists already"),
        (["review", "no.yaml"], "no.yaml: cannot be read"),
        (["review", "k.yaml", "--html", "old.yaml"], "old.yaml: exists already"),
        (["review", "k.yaml", "--html", "r.html", "--reviewer", "A"], "--reviewer: with --html the name is put in"),
        (["review", "k.yaml", "--accept-all"], "--accept-all: needs --reviewer"),
        (["review", "k.yaml", "--accept-all", "--reviewer", "none"], "reviewer 'none': must be a person's name"),
        (["review", "k.yaml", "--accept-all", "--apply", "d.json"], "not allowed with argument"),
        (["review", "k.yaml", "--apply", "published.json"], "unknown key 'WalkSlowly'"),
        (
            ["review", "k.yaml", "--html", "r.html", "--scores", "published.json"],
            "is no file of `knowledge score --out`",
        ),
        (["freeze", "k.yaml"], "class 'WalkSlowly', 'Run': no sentence is in use"),
        (["freeze", "no.yaml"], "no.yaml: cannot be read"),
        (["freeze"], "the following arguments are required: FILE"),
    ],
)
def test_wrong_input_is_one_line_and_writes_nothing(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    (folder / "old.yaml").write_text("[]\n")
    if "k.yaml" in words and words[0] != "import":
        result(capsys, "import", "published.json", "--out", "k.yaml")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert message in refusal(capsys, *words)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
