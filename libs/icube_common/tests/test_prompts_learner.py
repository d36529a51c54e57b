"""Learned parameters, their initialisation and their files."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from icube_common.errors import InputError
from icube_common.prompts import PromptConfig, PromptLearner
from icube_common.vlm import FrozenVLM, load_vlm

NAMES = ["walk", "sit down", "wave"]
KNOWLEDGE = {
    "walk": ["a person moves forward step by step", "legs swing in turn"],
    "sit down": ["the knees bend until the body rests on a chair"],
    "wave": ["a raised hand moves from side to side", "the forearm swings", "someone greets"],
}
MODES: dict[str, dict[str, Any]] = {
    "random": {"init": "random", "num_context": 4},
    "template": {"init": "template"},
    "class-specific": {"init": "template", "class_specific": True, "class_token": "middle"},
    "descriptions": {"init": "descriptions"},
    "descriptions-end": {"init": "descriptions", "class_token": "end"},
    "descriptions-short": {"init": "descriptions", "num_context": 3},
    "knowledge": {"init": "knowledge"},
    "knowledge-specific": {"init": "knowledge", "class_specific": True},
    "conditional": {"init": "template", "conditional": True},
    "conditional-knowledge": {"init": "knowledge", "conditional": True},
}


@pytest.fixture(scope="module")
def vlm() -> FrozenVLM:
    return load_vlm("icube-tiny")


def make(vlm: FrozenVLM, mode: str, **options: Any) -> PromptLearner:
    return PromptLearner(vlm, NAMES, knowledge=KNOWLEDGE, **{**MODES[mode], **options})


def images(count: int, vlm: FrozenVLM) -> torch.Tensor:
    return F.normalize(torch.randn(count, vlm.embed_dim, generator=torch.Generator().manual_seed(1)), dim=-1)


@pytest.mark.parametrize("mode", MODES)
def test_every_parameter_is_moved_by_a_gradient_within_two_steps(vlm: FrozenVLM, mode: str) -> None:
    learner = make(vlm, mode)
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    moved: set[str] = set()
    # no weight decay, which would move a parameter that no gradient reaches
    optimizer = torch.optim.AdamW(learner.parameters(), lr=1e-3, weight_decay=0.0)
    for _ in range(2):
        optimizer.zero_grad()
        F.cross_entropy(learner.logits(images(6, vlm)), labels).backward()
        moved |= {n for n, p in learner.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}
        optimizer.step()
    assert moved == {name for name, p in learner.named_parameters() if p.requires_grad}
    assert moved


@pytest.mark.parametrize("mode", MODES)
def test_saved_state_is_the_learned_part_and_loads_exactly(vlm: FrozenVLM, mode: str, tmp_path: Path) -> None:
    learner = make(vlm, mode)
    with torch.no_grad():
        for parameter in learner.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)))
    learner.save_pretrained(tmp_path / "prompts")
    loaded = PromptLearner.from_pretrained(tmp_path / "prompts", vlm)
    feature = images(1, vlm)[0] if learner.config.conditional else None
    assert torch.equal(loaded(feature), learner(feature))
    learned = sum(p.numel() for p in learner.parameters() if p.requires_grad)
    fixed = 0 if learner.knowledge_embeddings is None else learner.knowledge_embeddings.numel()
    assert (tmp_path / "prompts/model.safetensors").stat().st_size < 4 * (learned + fixed) + 2000


def test_other_weights_are_refused(vlm: FrozenVLM, tmp_path: Path) -> None:
    make(vlm, "template").save_pretrained(tmp_path / "prompts")
    with pytest.raises(InputError, match=r"learned on icube-tiny .*seed 0.*this is icube-tiny .*seed 1"):
        PromptLearner.from_pretrained(tmp_path / "prompts", load_vlm("icube-tiny", seed=1))


def test_other_versions_of_the_libraries_are_a_warning(
    vlm: FrozenVLM, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    learner = make(vlm, "template")
    learner.save_pretrained(tmp_path / "prompts")
    PromptLearner.from_pretrained(tmp_path / "prompts", vlm)
    assert "other versions" not in caplog.text
    file = tmp_path / "prompts" / "config.json"
    saved = json.loads(file.read_text())
    here = saved["backbone"]["versions"].pop("torch")
    saved["backbone"]["versions"] |= {"torch": "1.13.0"}
    file.write_text(json.dumps(saved))
    assert torch.equal(PromptLearner.from_pretrained(tmp_path / "prompts", vlm)(), learner())
    assert f"{tmp_path / 'prompts'}: made with other versions (torch 1.13.0, here {here})" in caplog.text
    # of the release before, whose fingerprint had the versions in it
    saved["backbone"] = {"description": saved["backbone"]["description"], "fingerprint": "0" * 64}
    file.write_text(json.dumps(saved))
    with pytest.raises(InputError, match=r"fingerprint 000000000000; this is .*recorded by an earlier release"):
        PromptLearner.from_pretrained(tmp_path / "prompts", vlm)


def test_another_activation_or_preprocessing_is_refused_by_name(vlm: FrozenVLM, tmp_path: Path) -> None:
    make(vlm, "template").save_pretrained(tmp_path / "prompts")
    other = load_vlm("icube-tiny")
    other.config["quick_gelu"] = True
    with pytest.raises(InputError, match=r"\(other model\)"):
        PromptLearner.from_pretrained(tmp_path / "prompts", other)
    other = load_vlm("icube-tiny")
    other.preprocess = torch.nn.Identity()
    with pytest.raises(InputError, match=r"\(other preprocess\)"):
        PromptLearner.from_pretrained(tmp_path / "prompts", other)


def test_damaged_folders_are_refused(vlm: FrozenVLM, tmp_path: Path) -> None:
    folder = tmp_path / "prompts"
    with pytest.raises(InputError, match="cannot be read"):
        PromptLearner.from_pretrained(folder, vlm)
    make(vlm, "template").save_pretrained(folder)
    with pytest.raises(InputError, match="exists already"):
        make(vlm, "template").save_pretrained(folder)
    whole = (folder / "config.json").read_text()
    config = json.loads(whole)
    del config["class_names"]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="class_names"):
        PromptLearner.from_pretrained(folder, vlm)
    (folder / "config.json").write_text(whole)
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:50])
    with pytest.raises(InputError, match="damaged"):
        PromptLearner.from_pretrained(folder, vlm)


def test_exchanged_knowledge_embeddings_change_the_logits_with_the_texts_fixed(vlm: FrozenVLM) -> None:
    learner = make(vlm, "knowledge")
    before = learner.logits(images(5, vlm))
    assert learner.knowledge_embeddings is not None
    learner.knowledge_embeddings = learner.knowledge_embeddings[[1, 0, 2]]
    after = learner.logits(images(5, vlm))
    assert (after[:, :2] - before[:, :2]).abs().min() > 0
    assert torch.equal(after[:, 2], before[:, 2])


@pytest.mark.parametrize("mode", ["descriptions", "knowledge"])
def test_exchanged_descriptions_change_the_logits_at_step_0(vlm: FrozenVLM, mode: str) -> None:
    shuffled = {"walk": KNOWLEDGE["wave"], "sit down": KNOWLEDGE["walk"], "wave": KNOWLEDGE["sit down"]}
    plain = make(vlm, mode).logits(images(5, vlm))
    other = (
        make(
            vlm,
            mode,
        )
        .__class__(vlm, NAMES, mode, knowledge=shuffled)
        .logits(images(5, vlm))
    )
    assert (plain - other).abs().min(0).values.min() > 1e-4


def test_logits_are_the_mean_over_a_classs_descriptions(vlm: FrozenVLM) -> None:
    learner, pixels = make(vlm, "descriptions"), images(4, vlm)
    each = pixels @ learner(per_description=True).T
    by_hand = torch.stack([each[:, :2].mean(1), each[:, 2], each[:, 3:].mean(1)], 1)
    torch.testing.assert_close(learner.logits(pixels, scale=10.0), 10 * by_hand)


@pytest.mark.parametrize("chunk", [0, 2])
@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("mode", ["template", "ensemble", "descriptions", "descriptions-end", "knowledge"])
def test_logits_are_products_with_the_class_features(vlm: FrozenVLM, mode: str, conditional: bool, chunk: int) -> None:
    options: dict[str, Any] = {"conditional": conditional, "chunk": chunk}
    if mode == "ensemble":
        learner = PromptLearner(vlm, NAMES, template=["a photo of a {}.", "a {} indoors"], **options)
    else:
        learner = make(vlm, mode, **options)
    pixels = images(4, vlm)
    features = [learner(pixel if conditional else None) for pixel in pixels]
    expected = torch.stack([10 * feature @ pixel for feature, pixel in zip(features, pixels, strict=True)])
    torch.testing.assert_close(learner.logits(pixels, scale=10.0), expected, atol=1e-5, rtol=0)
    each = learner(pixels[0] if conditional else None, per_description=True)
    torch.testing.assert_close(learner.class_features(each), features[0])
    torch.testing.assert_close(each.norm(dim=1), torch.ones(len(each)))


def test_conditional_prompts_depend_on_the_image_and_logits_agree_with_features(vlm: FrozenVLM) -> None:
    learner, pixels = make(vlm, "conditional"), images(2, vlm)
    first, second = learner(pixels[0]), learner(pixels[1])
    assert (first - second).abs().max() > 1e-5
    expected = torch.stack([first @ pixels[0], second @ pixels[1]])
    torch.testing.assert_close(learner.logits(pixels, scale=1.0), expected)
    with pytest.raises(ValueError, match="not conditional"):
        make(vlm, "template")(pixels[0])


def test_chunks_give_the_same_features_and_gradients(vlm: FrozenVLM) -> None:
    whole, parts = make(vlm, "conditional-knowledge"), make(vlm, "conditional-knowledge", chunk=2)
    feature = images(1, vlm)[0]
    for learner in (whole, parts):
        (learner(feature) * torch.arange(3.0)[:, None]).sum().backward()
    torch.testing.assert_close(parts(feature), whole(feature))
    for mine, other in zip(parts.parameters(), whole.parameters(), strict=True):
        if mine.requires_grad:
            torch.testing.assert_close(mine.grad, other.grad, atol=1e-6, rtol=1e-4)


def test_shorter_context_averages_segments_with_a_warning(vlm: FrozenVLM) -> None:
    learner = make(vlm, "descriptions-short")
    words = vlm.tokens.words(KNOWLEDGE["walk"][0])
    table = vlm.token_embedding.weight
    assert len(words) == 7
    expected = torch.stack([table[words[:2]].mean(0), table[words[2:5]].mean(0), table[words[5:]].mean(0)])
    torch.testing.assert_close(learner.context[:3], expected)
    (note,) = learner.warnings
    assert "num_context=3: 5 of 6 descriptions are longer" in note


def test_too_long_a_description_is_cut_as_the_tokenizer_cuts_and_the_name_stays(vlm: FrozenVLM) -> None:
    long = " ".join(["walking"] * 100)
    learner = PromptLearner(vlm, ["walk"], "descriptions", knowledge={"walk": [long]})
    assert learner.warnings == ["1 of 1 descriptions are longer than the tower reads and were cut"]
    torch.testing.assert_close(learner(), vlm.encode_text([long]))
    named = PromptLearner(vlm, ["walk"], "descriptions", knowledge={"walk": [long]}, class_token="end")
    assert named.ids[0, -3:-1].tolist() == vlm.tokens.words("walk.")


def test_nearest_words_of_untrained_vectors_are_their_own(vlm: FrozenVLM) -> None:
    found = make(vlm, "template").nearest_words(2)
    assert [row[0][0] for row in found] == ["a", "photo", "of", "a"]
    assert all(row[0][1] < 1e-3 < row[1][1] for row in found)


def test_unified_and_class_specific_contexts(vlm: FrozenVLM) -> None:
    assert make(vlm, "template").context.shape[0] == 4
    specific = make(vlm, "class-specific")
    assert specific.context.shape[0] == 12
    before = specific().detach()
    with torch.no_grad():
        specific.context[:4] += torch.randn(4, vlm.token_width, generator=torch.Generator().manual_seed(0))
    assert (specific() - before).abs().amax(1).gt(1e-6).tolist() == [True, False, False]


def test_vectors_that_are_not_learned_have_no_gradient(vlm: FrozenVLM) -> None:
    learner = make(vlm, "descriptions", learn=False)
    assert not any(p.requires_grad for p in learner.parameters())


def test_a_copy_shares_the_frozen_model(vlm: FrozenVLM) -> None:
    learner = make(vlm, "template")
    twin = copy.deepcopy(learner)
    assert twin.vlm is vlm and twin.context is not learner.context


def test_a_bf16_backbone_keeps_the_context_in_fp32() -> None:
    half = load_vlm("icube-tiny", precision="bf16")
    learner = PromptLearner(half, NAMES)
    assert learner.context.dtype == torch.float32 and learner().dtype == torch.float32
    assert half.model.transformer.resblocks[0].mlp.c_fc.weight.dtype == torch.bfloat16
    learner().sum().backward()
    assert learner.context.grad is not None and learner.context.grad.dtype == torch.float32
    torch.testing.assert_close(learner(), PromptLearner(load_vlm("icube-tiny"), NAMES)(), atol=0.05, rtol=0)


def test_bf16_autocast_trains_a_ten_class_problem_without_nan(vlm: FrozenVLM) -> None:
    names = [f"class {n}" for n in "abcdefghij"]
    learner = PromptLearner(vlm, names, "random", num_context=4, class_specific=True)
    pixels, labels = images(40, vlm), torch.arange(10).repeat(4)
    optimizer = torch.optim.AdamW(learner.parameters(), lr=1e-2)
    seen: set[torch.dtype] = set()
    block = vlm.model.transformer.resblocks[0].mlp.c_fc
    handle = block.register_forward_hook(lambda module, inputs, output: seen.add(output.dtype))
    losses = []
    for _ in range(40):
        with torch.autocast("cpu", torch.bfloat16):
            loss = F.cross_entropy(learner.logits(pixels), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    handle.remove()
    assert seen == {torch.bfloat16}
    assert all(map(math.isfinite, losses)) and losses[-1] < losses[0]
    assert all(torch.isfinite(p).all() for p in learner.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"class_names": []}, "at least one"),
        ({"class_names": ["walk", "walk"]}, "none twice"),
        ({"init": "descriptions"}, "needs class descriptions"),
        (
            {"init": "descriptions", "knowledge": {"walk": ["steps"], "wave": []}},
            "no accepted description of 'sit down', 'wave'",
        ),
        ({"init": "description"}, "did you mean 'descriptions'"),
        ({"num_context": "many"}, "num_context=many"),
        ({"num_context": 7}, "the template 'a photo of a' has 4 tokens"),
        ({"template": "  "}, "holds no word"),
        ({"init": "random", "num_context": 80}, "class 'walk': the prompt has 82 tokens, this text tower reads 75"),
        ({"init": "descriptions", "knowledge": KNOWLEDGE, "class_token": "front"}, "class_token=front"),
        ({"init": "knowledge", "knowledge": KNOWLEDGE, "class_token": "middle"}, "class_token=middle"),
        ({"init": "knowledge", "knowledge": KNOWLEDGE, "knowledge_embeddings": torch.zeros(2, 4)}, "2 rows for 3"),
        ({"knowledge_embeddings": torch.zeros(3, 4)}, "have no place with init=template"),
    ],
)
def test_wrong_input(vlm: FrozenVLM, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        PromptLearner(vlm, **{"class_names": NAMES, **options})


def test_a_configuration_section_makes_the_same_learner(vlm: FrozenVLM) -> None:
    config = PromptConfig(init="descriptions", class_token="end", max_descriptions=1)
    learner = PromptLearner.from_config(vlm, NAMES, config, knowledge=KNOWLEDGE)
    assert learner.config == config
    assert learner.owner.tolist() == [0, 1, 2]
    torch.testing.assert_close(learner.reference_features(), learner(), atol=1e-5, rtol=0)
