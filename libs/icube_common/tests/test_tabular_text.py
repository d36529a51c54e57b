"""Numbers through a text tower, and their three ways in."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from icube_common.errors import InputError
from icube_common.losses import info_nce
from icube_common.tabular import (
    ClassPrototypeMemory,
    Fusion,
    TabularConfig,
    TabularContrastiveLoss,
    TabularText,
    ValueEmbedding,
)
from icube_common.vlm import FrozenVLM, load_vlm

from .tabular_data import NAMES, UNITS, seeded

NAN = float("nan")
KINDS = ("sinusoidal", "mlp")


@pytest.fixture(scope="module")
def vlm() -> FrozenVLM:
    return load_vlm("icube-tiny")


def make_text(vlm: FrozenVLM, **config: object) -> TabularText:
    return TabularText(vlm, NAMES, UNITS, groups=[[0, 2], [1, 3]], config=TabularConfig(**config), generator=seeded())


def some_values() -> Tensor:
    values = torch.randn(5, 4, generator=seeded(1))
    values[1, 2] = NAN
    values[3] = NAN
    return values


def test_sentences_have_a_place_for_each_value(vlm: FrozenVLM) -> None:
    text = make_text(vlm)
    assert text.sentences == [
        "walking speed <value> m/s, cadence <value> steps/min",
        "step length <value> m, age <value> years",
    ]
    # the ids are those of the sentence with a written number, and the places are where that number stands
    expected = vlm.tokenize(["walking speed 1 m/s, cadence 1 steps/min", "step length 1 m, age 1 years"])
    torch.testing.assert_close(text.ids, expected[:, : text.ids.shape[1]])
    one = vlm.tokens.words("1")[0]
    for row, group in enumerate(([0, 2], [1, 3])):
        places = (text.column[row] >= 0).nonzero().flatten().tolist()
        assert text.ids[row, places].tolist() == [one, one]
        assert text.column[row, places].tolist() == group
    bare = TabularText(vlm, ["age"], [""], config=TabularConfig(template="{value} = {name} {unit}"))
    assert bare.sentences == ["<value> = age"]


@pytest.mark.parametrize("cuttable", [True, False])
def test_a_values_feature_is_that_of_its_sentence(
    vlm: FrozenVLM, monkeypatch: pytest.MonkeyPatch, cuttable: bool
) -> None:
    """With the embedding of a written number in each place, the text feature is that of the written sentence."""
    if not cuttable:
        monkeypatch.setattr(FrozenVLM, "padding_cuttable", False)
    text = make_text(vlm)
    assert (text.ids.shape[1] < vlm.context_length) == cuttable
    seven = vlm.token_embedding.weight[vlm.tokens.words("7")[0]]
    monkeypatch.setattr(text, "embed", lambda values: seven.expand(*values.shape, -1))
    expected = vlm.encode_text(["walking speed 7 m/s, cadence 7 steps/min", "step length 7 m, age 7 years"])
    found = text.per_group(torch.zeros(3, 4))
    torch.testing.assert_close(found, expected.expand(3, -1, -1), atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_embeddings_have_the_length_of_the_towers_tokens(vlm: FrozenVLM, kind: str) -> None:
    text = make_text(vlm, kind=kind)
    norm = vlm.token_embedding.weight.norm(dim=1).mean()
    values = some_values() * 10
    torch.testing.assert_close(text.embed(values).norm(dim=-1), norm.expand(5, 4), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_near_values_are_near_and_different_ones_different(kind: str, seed: int) -> None:
    embedding = ValueEmbedding(torch.ones(32), norm=1.0, kind=kind, generator=seeded(seed))
    grid = torch.linspace(-6, 6, 241)[:, None]
    with torch.no_grad():
        vectors = embedding(grid)[:, 0]
    distance = torch.cdist(vectors, vectors)
    # injective: a twentieth of a deviation can be told, and what is half a deviation apart does not meet
    assert distance.diagonal(1)[70:-70].min() > 1e-3
    apart = (grid - grid.T).abs()
    core = (grid.abs() <= 3) & (grid.T.abs() <= 3)
    assert distance[(apart >= 0.5) & core].min() > 0.02
    assert distance.fill_diagonal_(1.0).min() > 0
    # continuous: no step of a twentieth goes a third of the mean distance
    assert distance.diagonal(1).max() < distance.mean() / 3
    near, far = distance[(apart > 0) & (apart <= 0.2)].mean(), distance[(apart >= 2) & (apart <= 4)].mean()
    assert near < far / 2


@pytest.mark.parametrize("kind", KINDS)
def test_an_outlier_stays_at_its_end(kind: str) -> None:
    """However far out, a value is nearer to the ends of the scale than to its middle, and to its own end at that."""
    embedding = ValueEmbedding(torch.ones(32), norm=1.0, kind=kind, generator=seeded())
    with torch.no_grad():
        outliers = embedding(torch.tensor([[-1e30], [-50.0], [50.0], [1e30]]))[:, 0]
        ordinary = embedding(torch.linspace(-3, 3, 61)[:, None])[:, 0]
        ends = embedding(torch.tensor([[-9.0], [9.0]]))[:, 0]
    assert torch.isfinite(outliers).all()
    nearest = torch.cdist(outliers, ordinary).min(1).values
    assert torch.cdist(outliers, ends).argmin(1).tolist() == [0, 0, 1, 1]
    assert (torch.cdist(outliers, ends).min(1).values < nearest / 2).all()


@pytest.mark.parametrize("missing", ["learned", "word"])
def test_missing_values(vlm: FrozenVLM, missing: str) -> None:
    text = make_text(vlm, missing=missing)
    values = some_values()
    features = text(values)
    assert torch.isfinite(features).all()
    # before training a missing value reads as the word
    word = vlm.token_embedding.weight[vlm.tokens.words("unknown")].mean(0)
    torch.testing.assert_close(text.embed(values)[1, 2], F.normalize(word, dim=0) * text.value.norm)
    # it is no number: none reads as it does
    numbers = text.embed(torch.linspace(-5, 5, 101)[:, None].expand(-1, 4))[:, 0]
    assert (numbers - text.embed(values)[1, 2]).norm(dim=1).min() > 0.1 * text.value.norm
    assert (text.missing is None) == (missing == "word")
    # nothing of a missing value's gradient is lost in NaN
    loss = features.square().sum(1) @ torch.arange(5.0) + text.per_group(values).sum()
    loss.backward()
    assert all(torch.isfinite(value.grad).all() for value in text.parameters() if value.grad is not None)
    assert text.missing is None or text.missing.grad is not None


@pytest.mark.parametrize("kind", KINDS)
def test_samples_do_not_see_each_other(vlm: FrozenVLM, kind: str) -> None:
    text = make_text(vlm, kind=kind)
    values = some_values()
    with torch.no_grad():
        together = text(values)
        alone = torch.cat([text(row[None]) for row in values])
        torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
        order = torch.tensor([3, 0, 4, 1, 2])
        torch.testing.assert_close(text(values[order]), together[order], atol=1e-5, rtol=0)
        text.chunk_size = 3
        torch.testing.assert_close(text(values), together, atol=1e-5, rtol=0)
    assert together.shape == (5, vlm.embed_dim)
    torch.testing.assert_close(together.norm(dim=1), torch.ones(5))


def test_each_number_moves_its_own_sentence_only(vlm: FrozenVLM) -> None:
    text = make_text(vlm)
    values = torch.zeros(1, 4)
    with torch.no_grad():
        before = text.per_group(values)[0]
        for column, group in ((0, 0), (2, 0), (1, 1), (3, 1)):
            changed = values.clone()
            changed[0, column] = 1.5
            moved = (text.per_group(changed)[0] - before).norm(dim=1)
            assert moved[group] > 1e-3 and moved[1 - group] < 1e-6


def test_text_refuses(vlm: FrozenVLM) -> None:
    with pytest.raises(InputError, match=r"tokens do not fit into the 75 .*take a smaller group_size"):
        TabularText(vlm, [f"length of walk number {j}" for j in range(12)], ["m"] * 12)


def test_first_weights_come_from_the_generator(vlm: FrozenVLM) -> None:
    state = torch.get_rng_state()
    first, second = (make_text(vlm, kind="mlp").state_dict() for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
    assert not any("token" in name or "model" in name for name in first), "the tower is not a part"


def test_contrastive_branch() -> None:
    sample, numbers = torch.randn(2, 6, 16, generator=seeded())
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    plain, aware = TabularContrastiveLoss(label_aware=False), TabularContrastiveLoss()
    scale = 1 / 0.07
    assert plain(sample, numbers).item() == pytest.approx(info_nce(sample, numbers, scale=scale).item(), rel=1e-5)
    expected = info_nce(sample, numbers, scale=scale, labels=labels).item()
    assert aware(sample, numbers, labels=labels).item() == pytest.approx(expected, rel=1e-5)
    # who has no number does not count
    present = torch.tensor([True, True, False, True, True, False])
    spoilt = torch.where(present[:, None], numbers, 1e3 * numbers.flip(1))
    expected = info_nce(sample[present], numbers[present], scale=scale, labels=labels[present]).item()
    assert aware(sample, spoilt, labels=labels, present=present).item() == pytest.approx(expected, rel=1e-5)
    nobody = aware(sample.requires_grad_(), numbers, labels=labels, present=torch.zeros(6, dtype=torch.bool))
    nobody.backward()
    assert nobody.item() == 0 and sample.grad is not None and sample.grad.abs().sum() == 0
    # the scale has CLIP's ceiling
    plain.log_scale.data.fill_(20.0)
    assert plain(sample, numbers).item() == pytest.approx(info_nce(sample, numbers, scale=100.0).item(), rel=1e-5)
    with pytest.raises(InputError, match="needs the labels"):
        aware(sample, numbers)


def test_class_memory(vlm: FrozenVLM) -> None:
    text = make_text(vlm)
    values = torch.tensor([[1.0, 1, 1, 1], [NAN] * 4, [-1, NAN, 0, 2], [0, 0, 0, 0]])
    memory = ClassPrototypeMemory(values, vlm.embed_dim)
    classes = F.normalize(torch.randn(4, vlm.embed_dim, generator=seeded()), dim=1)
    with torch.no_grad():
        found = memory(classes, text)
        # a class without numbers stays what it was, the others move a little
        torch.testing.assert_close(found[1], classes[1])
        moved = (found - classes).norm(dim=1)[[0, 2, 3]]
        assert moved.min() > 1e-4 and moved.max() < 0.2
        # by a tenth of what tells its numbers from the mean
        features = text(values[[0, 2, 3]])
        expected = F.normalize(classes[2] + 0.1 * (features[1] - features.mean(0)), dim=0)
        torch.testing.assert_close(found[2], expected)
        # several descriptions of a class move alike
        several = memory(classes[:, None].expand(-1, 3, -1), text)
        torch.testing.assert_close(several, found[:, None].expand(-1, 3, -1))
        # other classes than the trained ones: the new ones stay what they were
        mixed = memory(classes[[3, 0, 2]], text, rows=torch.tensor([3, -1, 2]))
        torch.testing.assert_close(mixed, torch.stack([found[3], classes[0], found[2]]))
    with pytest.raises(InputError, match="2 class features for 4 rows of class numbers"):
        memory(classes[:2], text)
    with pytest.raises(InputError, match="fewer than two classes"):
        ClassPrototypeMemory(values[:2], vlm.embed_dim)


@pytest.mark.parametrize("kind", ["gated", "mlp"])
def test_fusion_starts_small(kind: str) -> None:
    sample, numbers = F.normalize(torch.randn(2, 64, 128, generator=seeded()), dim=-1)
    fused = Fusion(128, kind=kind, generator=seeded())(sample, numbers)
    torch.testing.assert_close(fused.norm(dim=1), torch.ones(64))
    moved = (fused - sample).norm(dim=1)
    assert moved.min() > 0.02 and moved.max() < 0.25
