"""Model cards: metadata of the Hugging Face hub and the sections of Mitchell et al."""

from __future__ import annotations

from dataclasses import dataclass

import yaml

from icube_common.config import Config, option
from icube_common.io.model_card import ModelCard


@dataclass(frozen=True, kw_only=True)
class Settings(Config):
    """Settings of a model."""

    width: int = option(8, "width of the model", ge=1)


def card(**values: object) -> str:
    texts = {name: f"text of {name}" for name in ("title", "details", "intended", "excluded", "data", "command")}
    return ModelCard(library="a_library", config=Settings(), **{**texts, **values}).to_markdown()  # type: ignore[arg-type]


def test_metadata_and_sections() -> None:
    text = card(pipeline_tag="video-classification", tags=("prompts",), limits=("first", "second"), citation="A paper.")
    _, head, body = text.split("---\n", 2)
    assert yaml.safe_load(head) == {
        "library_name": "a_library",
        "license": "other",
        "license_name": "see-licence-below",
        "pipeline_tag": "video-classification",
        "tags": ["a_library", "prompts"],
    }
    headings = [line[3:] for line in body.splitlines() if line.startswith("## ")]
    assert headings == [
        "Model details",
        "Intended use",
        "Training data",
        "Evaluation",
        "Limits",
        "Licence",
        "Citation",
        "Settings",
    ]
    assert body.startswith("\n# text of title\n") and "- first\n- second\n" in body and "width: 8" in body


def test_a_card_without_warnings_and_task() -> None:
    text = card()
    assert "No warning was given" in text and "pipeline_tag" not in text and "## Citation" not in text
