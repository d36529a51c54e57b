"""One string where a sequence of texts is taken is one text, not its letters."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from icube_common.config import as_list
from icube_common.errors import InputError
from icube_common.knowledge.generate import generate_sentences
from icube_common.knowledge.generators import Answer
from icube_common.knowledge.importers import import_descriptions
from icube_common.prompts import ClassTexts, PromptConfig, PromptLearner
from icube_common.vlm import FrozenVLM, load_vlm

ONE = "one foot is put before the other"


@pytest.fixture(scope="module")
def vlm() -> FrozenVLM:
    return load_vlm("icube-tiny")


class Speaker:
    """A source of descriptions that has one string for each class."""

    def texts(self, class_name: str) -> str:
        return f"{class_name}: {ONE}"


def test_a_string_is_one_text() -> None:
    assert as_list("walk") == ["walk"] and as_list(("a", "b")) == ["a", "b"] and as_list(iter("ab")) == ["a", "b"]


@pytest.mark.parametrize("init", ["descriptions", "knowledge"])
def test_one_sentence_of_knowledge(vlm: FrozenVLM, init: str) -> None:
    plain = PromptLearner(vlm, ["walk", "sit"], init, knowledge={"walk": ONE, "sit": ["the knees bend", "down"]})
    listed = PromptLearner(vlm, ["walk", "sit"], init, knowledge={"walk": [ONE], "sit": ["the knees bend", "down"]})
    assert plain.texts == listed.texts and len(plain.ids) == 3
    assert torch.equal(plain(), listed())
    assert plain.descriptions == {"walk": [ONE], "sit": ["the knees bend", "down"]}
    assert PromptLearner(vlm, "walk", init, knowledge=Speaker()).descriptions == {"walk": [f"walk: {ONE}"]}


def test_one_class_name_and_one_template(vlm: FrozenVLM) -> None:
    assert PromptLearner(vlm, "walk", template=["a photo of {}"]).texts == ["a photo of walk"]


def test_sentences_of_class_texts(vlm: FrozenVLM) -> None:
    texts = ClassTexts({"a": "walk", "b": "sit"}, {"a": ONE, "b": ["the knees bend"]}, {})
    assert texts.prompts(vlm, ["a", "b"], PromptConfig(init="descriptions")).texts == [ONE, "the knees bend"]
    assert texts.exchanged(1).sentences == {"a": ["the knees bend"], "b": [ONE]}


@pytest.mark.parametrize(
    ("content", "form"),
    [(f'{{"walk": "{ONE}."}}', "cupl"), ('{"walk": "two swinging legs"}', "dclip"), (f'"walk: {ONE}."', "tcclip")],
)
def test_published_files(tmp_path: Path, content: str, form: str) -> None:
    file = tmp_path / "published.json"
    file.write_text(content)
    knowledge = import_descriptions(file, form=form, class_names="walk").knowledge
    (sentence,) = knowledge.classes["walk"]
    assert sentence.text.startswith(("one foot is put", "walk, which has two swinging legs"))
    assert list(knowledge.descriptions("walk", include_proposed=True)) == ["walk"]
    if form != "tcclip":
        assert import_descriptions(file).form == form  # found out by the layout too


def test_one_question_and_one_class() -> None:
    asked: list[str] = []

    class Model:
        name = "a model"

        def __call__(self, prompt: str, *, seed: int) -> Answer:
            asked.append(prompt)
            return Answer(f"{ONE}.", complete=True)

    made = generate_sentences("walk", Model(), prompts="How does {name} look?", per_class=1)
    assert list(made.knowledge.classes) == ["walk"] and len(asked) == 1 and "How does walk look?" in asked[0]


def test_classes_of_one_name_are_refused_before_any_backbone() -> None:
    with pytest.raises(InputError, match=r"classes 'Walk' and 'walk': both are called 'walk'"):
        ClassTexts({"Walk": "Walk", "sit": "sit", "walk": "walk"}, None, {})
    with pytest.raises(InputError, match=r"classes 'sit_down' and 'SitDown': both are called 'sit down'"):
        ClassTexts({"sit_down": "sit  down", "SitDown": "Sit down"}, None, {})
