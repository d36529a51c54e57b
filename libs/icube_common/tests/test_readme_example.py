"""The README's example, from folders of images to accuracy with an interval, on simulated images."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_images import draw, table

from icube_common.evaluation import mean_interval
from icube_common.knowledge import ClassKnowledge, Sentence, Source

README = Path(__file__).resolve().parent.parent / "README.md"
CLASSES = ("red circle", "blue square", "green cross")


def test_the_example_of_the_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"```python example\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.S)
    assert len([line for line in code.splitlines() if line.strip() and not line.startswith(("import", "from"))]) <= 26
    rng = np.random.default_rng(0)
    for name in CLASSES:
        folder = tmp_path / "images" / name
        folder.mkdir(parents=True)
        for number in range(12):
            draw(name, rng).save(folder / f"{name[0]}{number % 6}_{number}.png")
    sentences = {
        name: [
            Sentence(text=text, source=Source(kind="person", person="the test"), status="accepted")
            for text in (f"a {name} on a grey ground", f"one {name} alone")
        ]
        for name in CLASSES
    }
    ClassKnowledge(title="shapes", classes=sentences).save(tmp_path / "classes.yaml")
    monkeypatch.chdir(tmp_path)
    found: dict[str, Any] = {}
    exec(compile(code, str(README), "exec"), found)
    accuracy = found["accuracy"]
    assert accuracy.groups == 18 and accuracy.method == "t"
    assert accuracy.low > 1 / 3  # chance
    assert "aligned by class names (ConSE)" in str(found["vlm"].origin)


def test_classes_never_seen_are_named_by_their_texts_and_not_by_exchanged_ones() -> None:
    """Ten draws of three classes that training leaves out; simulated images."""
    found = table(10)
    above_chance = {kind: mean_interval([value - 1 / 3 for value in values]) for kind, values in found.items()}
    assert above_chance["right"].low > 0
    assert above_chance["shuffled"].low < 0
    assert mean_interval([a - b for a, b in zip(found["right"], found["shuffled"], strict=True)]).low > 0
