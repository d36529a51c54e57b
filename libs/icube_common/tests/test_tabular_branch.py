"""Tabular branch: training, training rows only, saving and loading."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from icube_common.config import load_config
from icube_common.errors import InputError
from icube_common.tabular import ClassPrototypeMemory, Scaler, TabularBranch, TabularConfig, TabularData
from icube_common.vlm import FrozenVLM, load_vlm

from .tabular_data import FOLD, LABELS, NAMES, UNITS, Rows, make_table, seeded, with_other_test_rows, with_values

NAN = float("nan")
KINDS = ("sinusoidal", "mlp")
ENTRIES = ("contrastive", "memory", "fusion")


@pytest.fixture(scope="module")
def vlm() -> FrozenVLM:
    return load_vlm("icube-tiny")


def make_branch(vlm: FrozenVLM, **config: object) -> TabularBranch:
    return TabularBranch.fit(
        vlm,
        TabularConfig(enabled=True, group_size=2, **config),
        make_table(),
        FOLD,
        generator=seeded(),
    )


def configurations() -> Iterator[dict[str, object]]:
    for kind in KINDS:
        for entry in ENTRIES:
            yield {"kind": kind, "fusion_mode": entry}
    yield {"fusion_mode": "fusion", "fusion": "mlp"}
    yield {"fusion_mode": "contrastive", "label_aware": False}
    yield {"fusion_mode": "fusion", "missing": "word"}
    yield {"fusion_mode": "memory", "scaling": "standard"}


def logits_of(branch: TabularBranch, values: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor | None]:
    dim = branch.text.per_group(torch.zeros(1, 4)).shape[-1]
    sample = F.normalize(torch.randn(len(values), dim, generator=seeded(3)), dim=1)
    classes = F.normalize(torch.randn(3, dim, generator=seeded(4)), dim=1)
    out = branch(sample, classes, values, labels=labels)
    return 20 * out.sample @ out.classes.T, out.loss


@pytest.mark.parametrize("config", list(configurations()), ids=lambda config: "-".join(map(str, config.values())))
def test_every_parameter_learns_within_two_steps(vlm: FrozenVLM, config: dict[str, object]) -> None:
    branch = make_branch(vlm, **config)
    if isinstance(branch.fusion, ClassPrototypeMemory):
        # the class means of this table have no hole; a column that a class was never measured in is one
        branch.fusion.values[1, 1] = NAN
    values = torch.from_numpy(make_table().values[:9])
    labels = torch.tensor(LABELS[:9])
    optimizer = torch.optim.SGD(branch.parameters(), lr=0.01)
    learnt: dict[str, bool] = {name: False for name, _ in branch.named_parameters()}
    first = None
    for _ in range(2):
        optimizer.zero_grad()
        logits, term = logits_of(branch, values, labels)
        loss = F.cross_entropy(logits, labels) + (0.0 if term is None else term)
        loss.backward()
        optimizer.step()
        first = first or loss.item()
        for name, value in branch.named_parameters():
            assert value.grad is None or torch.isfinite(value.grad).all()
            learnt[name] |= value.grad is not None and bool(value.grad.abs().sum() > 0)
    assert learnt and all(learnt.values()), [name for name, did in learnt.items() if not did]
    assert all(value.grad is None for value in vlm.parameters())
    # whole tensors, not single entries: no row of a weight is dead
    weights = [value.grad for name, value in branch.named_parameters() if name.endswith("out.weight")]
    assert all((grad.abs().sum(1) > 0).all() for grad in weights if grad is not None) and weights
    # and learning does what it should
    for _ in range(60):
        optimizer.zero_grad()
        logits, term = logits_of(branch, values, labels)
        loss = F.cross_entropy(logits, labels) + (0.0 if term is None else term)
        loss.backward()
        optimizer.step()
    assert first is not None and loss.item() < first - 0.01


@pytest.mark.parametrize("entry", ENTRIES)
def test_fitted_branch_is_independent_of_test_rows(vlm: FrozenVLM, entry: str) -> None:
    config = TabularConfig(fusion_mode=entry)
    first, second = (
        TabularBranch.fit(vlm, config, table, FOLD, generator=seeded())
        for table in (make_table(), with_other_test_rows(make_table()))
    )
    assert first.to_dict() == second.to_dict()
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name
    # the same with another training row: it does look
    changed = make_table().values.copy()
    changed[1] = changed[0] * 3
    third = TabularBranch.fit(vlm, config, with_values(make_table(), changed), FOLD, generator=seeded())
    assert third.to_dict() != first.to_dict()


@pytest.mark.parametrize("entry", ENTRIES)
def test_fusion_modes(vlm: FrozenVLM, entry: str) -> None:
    branch = make_branch(vlm, fusion_mode=entry)
    values, other = (torch.from_numpy(make_table(seed=seed).values) for seed in (0, 1))
    labels = torch.tensor(LABELS)
    with torch.no_grad():
        here, there = (logits_of(branch, numbers, labels) for numbers in (values, other))
        assert (here[1] is not None) == (entry == "contrastive")
        # only fusion lets a sample's numbers move its own logits
        assert torch.equal(here[0], there[0]) == (entry != "fusion")
        # prediction needs no labels, and no numbers unless they are fused
        branch.eval()
        predicted, term = logits_of(branch, torch.full_like(values, NAN), None)
        assert term is None and torch.isfinite(predicted).all()
        assert torch.equal(predicted, here[0]) == (entry != "fusion")


def test_raw_values_are_scaled_inside(vlm: FrozenVLM) -> None:
    """A table in other units gives the same logits."""
    table = make_table()
    factor, shift = np.array([100.0, 1000.0, 1 / 60, 1.0]), np.array([0.0, 5.0, 0.0, -1900.0])
    other = with_values(table, table.values * factor + shift)
    logits = []
    for own in (table, other):
        branch = TabularBranch.fit(vlm, TabularConfig(fusion_mode="fusion"), own, FOLD, generator=seeded())
        with torch.no_grad():
            logits.append(logits_of(branch, torch.from_numpy(own.values), None)[0])
    torch.testing.assert_close(*logits, atol=1e-3, rtol=0)


@pytest.mark.parametrize("config", list(configurations()), ids=lambda config: "-".join(map(str, config.values())))
def test_saved_and_loaded(vlm: FrozenVLM, tmp_path: Path, config: dict[str, object]) -> None:
    branch = make_branch(vlm, **config).eval()
    save_file(branch.state_dict(), tmp_path / "branch.safetensors", metadata={"format": "pt"})
    record = json.loads(json.dumps(branch.to_dict()))
    again = TabularBranch.from_dict(vlm, record)
    again.load_state_dict(load_file(tmp_path / "branch.safetensors"))
    again.eval()
    values = torch.from_numpy(make_table().values)
    with torch.no_grad():
        torch.testing.assert_close(logits_of(again, values, None)[0], logits_of(branch, values, None)[0])
    assert again.to_dict() == record
    # of single subjects nothing is kept: what is stored grows with classes and columns, not with rows
    assert all(12 not in value.shape and 9 not in value.shape for value in branch.state_dict().values())


def test_numbers_separate_classes_of_equal_images(vlm: FrozenVLM) -> None:
    """Simulated: samples without any information in their features, classes that differ in their numbers only."""
    labels = np.arange(200) % 2
    values = np.random.default_rng(0).normal(size=(200, 4)) + 1.5 * labels[:, None]
    table = TabularData(ids=tuple(map(str, range(200))), names=NAMES, values=values, units=UNITS)
    config = TabularConfig(fusion_mode="fusion")
    branch = TabularBranch.fit(vlm, config, table, Rows(table.ids[:40]), generator=seeded())
    sample = F.normalize(torch.ones(200, vlm.embed_dim), dim=1)
    classes = F.normalize(torch.randn(2, vlm.embed_dim, generator=seeded(5)), dim=1)
    truth, numbers = torch.from_numpy(labels), torch.from_numpy(values)
    optimizer = torch.optim.AdamW(branch.parameters(), lr=3e-3)
    for _ in range(60):
        out = branch(sample[:40], classes, numbers[:40])
        optimizer.zero_grad()
        F.cross_entropy(10 * out.sample @ out.classes.T, truth[:40]).backward()
        optimizer.step()
    with torch.no_grad():
        out = branch(sample, classes, numbers)
    right = ((out.sample @ out.classes.T).argmax(1) == truth)[40:].float().mean().item()
    # of 160 unseen samples, by chance a half: 6 standard errors above it; the best possible is .93
    assert right >= 0.75


def test_configuration_by_keys() -> None:
    config = load_config(TabularConfig, overrides=["enabled=true", "fusion_mode=memory", "kind=mlp", "group_size=3"])
    assert (config.enabled, config.fusion_mode, config.kind, config.group_size) == (True, "memory", "mlp", 3)
    with pytest.raises(InputError, match="unknown value of fusion_mode 'sum'"):
        load_config(TabularConfig, overrides=["fusion_mode=sum"])


def test_scaler_of_the_branch_is_the_folds(vlm: FrozenVLM) -> None:
    branch = make_branch(vlm)
    assert branch.scaler == Scaler.fit(make_table(), FOLD)
    assert math.isclose(branch.center[0].item(), float(np.median(make_table().values[:9, 0])), rel_tol=1e-6)


def test_with_a_real_fold(vlm: FrozenVLM) -> None:
    """The protocols' own folds: scaling, groups and memory are those of a table that has no other rows."""
    from icube_common import evaluation
    from icube_common.evaluation.folds import make_fold

    table = make_table()
    samples = evaluation.Samples(ids=table.ids, labels=np.array(LABELS), class_names=("a", "b", "c"))
    train, validation, test = np.arange(9), np.array([9]), np.array([10, 11])
    fold = make_fold(samples, name="one", train=train, validation=validation, test=test)
    for entry in ENTRIES:
        config = TabularConfig(fusion_mode=entry)
        real, plain = (TabularBranch.fit(vlm, config, table, rows, generator=seeded()) for rows in (fold, FOLD))
        assert real.to_dict() == plain.to_dict()
        for name, value in real.state_dict().items():
            assert torch.equal(value, plain.state_dict()[name]), name
