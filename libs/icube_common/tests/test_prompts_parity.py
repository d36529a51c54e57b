"""Prompts against the towers' own ``encode_text``: every kind of text tower, every place of the class name."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from vlm_encoders import load_tower

from icube_common.prompts import PromptLearner
from icube_common.vlm import FrozenVLM
from icube_common.vlm.text_encoder import ATTENDED, CAUSAL, MASKED

NAMES = ["walking", "sitting down", "drinking from a bottle", "answering the phone"]
# small ones of each kind; benchmarks/prompt_parity.py goes through those of full size
PADDING = {
    "icube-tiny": CAUSAL,
    "EVA02-B-16": CAUSAL,
    "PE-Core-T-16-384": CAUSAL,
    "icube-minilm": MASKED,
    "hf": MASKED,
    "MobileCLIP-S1": ATTENDED,
    "ViT-B-16-SigLIP": ATTENDED,
    "ViT-B-16-SigLIP2": ATTENDED,
    "coca_ViT-B-32": ATTENDED,
}


@pytest.fixture(scope="module", params=PADDING)
def vlm(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> FrozenVLM:
    found = load_tower(request.param, tmp_path_factory.mktemp("tower"))
    assert found._tower.padding == PADDING[request.param]
    return found


def own_feature(vlm: FrozenVLM, ids: torch.Tensor) -> torch.Tensor:
    """Features of open_clip's model for whole, uncut ids."""
    with torch.no_grad():
        return F.normalize(vlm.model.encode_text(ids, normalize=False), dim=-1)


def test_a_template_is_its_sentence(vlm: FrozenVLM) -> None:
    learner = PromptLearner(vlm, NAMES, init="template", template="a photo of a")
    sentences = [f"a photo of a {name}." for name in NAMES]
    torch.testing.assert_close(learner(), own_feature(vlm, vlm.tokenize(sentences)), atol=1e-5, rtol=0)
    torch.testing.assert_close(vlm.encode_text(sentences), own_feature(vlm, vlm.tokenize(sentences)), atol=1e-5, rtol=0)


@pytest.mark.parametrize("place", ["end", "middle", "front"])
def test_placeholders_filled_with_a_sentences_tokens_are_that_sentence(vlm: FrozenVLM, place: str) -> None:
    learner = PromptLearner(vlm, NAMES, init="template", template="a photo of a", class_token=place, cut_padding=False)
    words = torch.tensor(vlm.tokens.words("two people of a"))
    with torch.no_grad():
        learner.context.copy_(vlm.token_embedding.weight[words])
    sentence = torch.where(learner.slots >= 0, words[learner.slots.clamp(min=0)], learner.ids)
    expected = {"end": "two people of a {}.", "middle": "two people {} of a.", "front": "{} two people of a."}[place]
    by_tokenizer = vlm.tokenize([expected.format(name) for name in NAMES])
    assert torch.equal(sentence, by_tokenizer)
    torch.testing.assert_close(learner(), own_feature(vlm, sentence), atol=1e-5, rtol=0)


@pytest.mark.parametrize("place", ["none", "end"])
def test_descriptions_are_the_features_at_step_0(vlm: FrozenVLM, place: str) -> None:
    knowledge = {"drink": ["a person drinks from the bottle slowly", "takes sip of water"], "walk": ["people walking"]}
    learner = PromptLearner(vlm, list(knowledge), "descriptions", class_token=place, knowledge=knowledge)
    texts = [f"{text} {name}." if place == "end" else text for name, found in knowledge.items() for text in found]
    assert learner.texts == texts
    torch.testing.assert_close(learner(per_description=True), own_feature(vlm, vlm.tokenize(texts)), atol=1e-5, rtol=0)
    assert learner.owner.tolist() == [0, 0, 1]


def test_cut_padding_changes_nothing_where_it_is_allowed(vlm: FrozenVLM) -> None:
    whole = PromptLearner(vlm, NAMES, cut_padding=False)
    cut = PromptLearner(vlm, NAMES)
    assert whole.ids.shape[1] == vlm.context_length
    if vlm.padding_cuttable:
        assert cut.ids.shape[1] < 16
        torch.testing.assert_close(cut(), whole(), atol=1e-5, rtol=0)
    else:
        assert torch.equal(cut.ids, whole.ids)
        with pytest.raises(ValueError, match="depend on the padding"):
            vlm.encode_ids(whole.ids[:, :12])


def test_the_backbone_is_frozen_and_stays_in_eval_mode(vlm: FrozenVLM) -> None:
    learner = PromptLearner(vlm, NAMES).train()
    assert not vlm.model.training and not any(p.requires_grad for p in vlm.parameters())
    learner().sum().backward()
    assert all(p.grad is None for p in vlm.parameters())
    assert not vlm.token_embedding._forward_hooks
