"""Prompts against the towers' own ``encode_text``: every kind of text tower, every place of the class name."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from vlm_encoders import load_tower

from icube_common.prompts import PromptLearner
from icube_common.vlm import FrozenVLM, text_encoder
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


@pytest.mark.parametrize("row_tokens", [256, 10])
@pytest.mark.parametrize("conditional", [False, True])
def test_compact_prompts_have_the_features_and_gradients_of_the_full_length(
    vlm: FrozenVLM, monkeypatch: pytest.MonkeyPatch, conditional: bool, row_tokens: int
) -> None:
    """One packed row, or a row for two prompts and a filled one; bidirectional towers share nothing.

    Features in single precision; gradients in double, where rounding is no matter.
    """
    monkeypatch.setattr(text_encoder, "_ROW_TOKENS", row_tokens)
    names = [*NAMES, "waving"]
    image = F.normalize(torch.arange(1.0, 1 + vlm.embed_dim), dim=0)
    target = torch.randn(len(names), vlm.embed_dim, generator=torch.Generator().manual_seed(0))
    features, gradients = [], []
    for more in ({"cut_padding": False}, {"compact": True}):
        learner = PromptLearner(vlm, names, "random", num_context=5, conditional=conditional, **more)
        with torch.no_grad():
            learner.context.mul_(30)  # vectors as long as those of words
            features.append(learner(image if conditional else None))
        learned = [value for value in learner.double().parameters() if value.requires_grad]
        result = learner(image.double() if conditional else None)
        gradients.append(torch.autograd.grad((result * target).sum(), learned))
        vlm.float()
    assert learner._shared == (len(vlm.tokens.prefix) + 5 if vlm.causal else 0)
    if vlm.padding_cuttable:
        assert (learner.ids[:, -1] != vlm.tokens.pad).any()
    torch.testing.assert_close(features[1], features[0], atol=1e-5, rtol=0)
    for full, compact in zip(*gradients, strict=True):
        largest = full.abs().max()
        assert largest > 0
        torch.testing.assert_close(compact / largest, full / largest, atol=1e-5, rtol=0)
    assert not vlm.token_embedding._forward_hooks


def test_shared_words_of_compact_prompts(vlm: FrozenVLM) -> None:
    """Classes with vectors of their own, and a single class, share none; a tower that is not causal refuses them."""
    own = PromptLearner(vlm, NAMES, "random", num_context=4, class_specific=True, compact=True)
    assert own._shared == (len(vlm.tokens.prefix) if vlm.causal else 0)
    single = PromptLearner(vlm, NAMES[:1], "random", num_context=4, compact=True)
    assert single._shared == 0
    front = PromptLearner(vlm, NAMES, compact=True, class_token="front")
    torch.testing.assert_close(front(), PromptLearner(vlm, NAMES, class_token="front")(), atol=1e-5, rtol=0)
    if not vlm.causal:
        with pytest.raises(ValueError, match="depends on the whole text"):
            vlm.encode_ids(own.ids, shared=1)


def test_the_backbone_is_frozen_and_stays_in_eval_mode(vlm: FrozenVLM) -> None:
    learner = PromptLearner(vlm, NAMES).train()
    assert not vlm.model.training and not any(p.requires_grad for p in vlm.parameters())
    learner().sum().backward()
    assert all(p.grad is None for p in vlm.parameters())
    assert not vlm.token_embedding._forward_hooks
