"""One training: what it may see, that it repeats itself, that it learns, and what new classes are given of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from act_world import LABELS, SENTENCES, World, settings, world
from safetensors.torch import save_file
from vlm_encoders import write_small

import actprompt.training.trainer as fitting
from actprompt.config import ActConfig
from actprompt.data.dataset import Inputs
from actprompt.training.trainer import TrainedFold, predict_test, prompts_for, train_fold
from icube_common.errors import InputError
from icube_common.evaluation import Fold, base_to_new, few_shot, leave_one_group_out, make_predictions
from icube_common.io.runs import RunFolder
from icube_common.prompts import ClassTexts
from icube_common.tabular import TabularData
from icube_common.vlm import FrozenVLM, load_vlm

ON = {"enabled": True}


def run_folder(path: Path) -> RunFolder:
    return RunFolder.create(path, config_yaml="", environment={}, overwrite=True)


def folds(made: World, validation: float = 0.0) -> list[Fold]:
    return list(leave_one_group_out(made.samples, validation=validation))


def fit(made: World, config: ActConfig, vlm: FrozenVLM, folder: Path, fold: Fold | None = None) -> TrainedFold:
    return train_fold(made.seen_by(config), fold or folds(made)[0], config, vlm, made.texts, run_folder(folder / "run"))


def weights(trained: TrainedFold) -> dict[str, torch.Tensor]:
    """All that was learned or measured in a training."""
    prompts = {f"prompts.{name}": value for name, value in trained.model.prompts.learned().items()}
    encoder, captioner = trained.model.encoder, trained.model.captioner
    joint_means = {} if encoder is None else {"joint means": torch.from_numpy(encoder.joint_means)}
    usual = {} if captioner is None else {"usual": torch.from_numpy(captioner.mean)}
    return {**trained.model.learned(), **prompts, **joint_means, **usual}


def same(first: TrainedFold, second: TrainedFold) -> bool:
    a, b = weights(first), weights(second)
    assert a.keys() == b.keys() and len(a) > 2
    return all(torch.equal(a[name], b[name]) for name in a)


class Guarded(Mapping[str, Any]):
    """A table with rows that may not be read."""

    def __init__(self, table: Mapping[str, Any], barred: Sequence[str]) -> None:
        self.table, self.barred = table, set(barred)

    def __getitem__(self, name: str) -> Any:
        assert name not in self.barred, f"{name} was read"
        return self.table[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.table)

    def __len__(self) -> int:
        return len(self.table)


class GuardedNumbers(TabularData):
    """The same for named parameters."""

    barred: frozenset[str] = frozenset()

    def rows(self, ids: Sequence[str]) -> Any:
        assert not self.barred & set(ids), "a row was read"
        return super().rows(ids)


def guarded(inputs: Inputs, barred: Sequence[str]) -> Inputs:
    def guard(table: Any) -> Any:
        return None if table is None else Guarded(table, barred)

    numbers = inputs.parameters
    if numbers is not None:
        numbers = GuardedNumbers(numbers.ids, numbers.names, numbers.values, numbers.units)
        object.__setattr__(numbers, "barred", frozenset(barred))
    return replace(
        inputs,
        frames=guard(inputs.frames),
        pixels=guard(inputs.pixels),
        skeletons=guard(inputs.skeletons),
        parameters=numbers,
    )


@pytest.mark.parametrize(
    "sections",
    [{"skeleton": ON}, {"skeleton": {**ON, "fusion_mode": "fusion"}}, {"visual": {"prompts": 1}}],
    ids=["captions", "fusion", "visual prompts"],
)
def test_no_test_row_is_read(sections: dict[str, Any], tiny: FrozenVLM, tmp_path: Path) -> None:
    made = world(pixels=96 if "visual" in sections else 0, takes=1)
    config = settings(**sections, train={"max_steps": 1, "batch_size": 4, "eval_steps": 1})
    fold = folds(made, validation=0.25)[1]
    assert len(fold.validation) == 4 and set(fold.samples.groups[row] for row in fold.test) == {"p2"}
    barred = guarded(made.seen_by(config), fold.test_ids)
    trained = train_fold(barred, fold, config, tiny, made.texts, run_folder(tmp_path / "run"))
    assert trained.result.steps == 1
    with pytest.raises(AssertionError, match="read"):
        predict_test(trained.model, barred, fold, made.texts)


def test_weights_of_a_late_fusion_are_selected_on_left_out_subjects(tiny: FrozenVLM, tmp_path: Path) -> None:
    """Frames of noise beside trajectories that contain the action: their weight is small without being set."""
    made = world()
    assert made.inputs.frames is not None
    generator = torch.Generator().manual_seed(3)
    noise = {name: torch.randn(1, 3, 64, generator=generator) for name in made.inputs.ids}
    noisy = replace(made, inputs=replace(made.inputs, frames=noise))
    options = {"fusion": "late", "targets": "one_hot"}
    config = settings(skeleton={**ON, "num_time_warps": 2}, visual={"head": "segment_difference"}, ridge_init=options)
    trained = fit(noisy, config, tiny, tmp_path)
    names = ["image", "trajectory", "parameters", "without training"]
    assert list(trained.fusion) == names and all(weight >= 0 for weight in trained.fusion.values())
    image, trajectory, parameters, untrained = trained.fusion.values()
    assert image + trajectory + parameters == pytest.approx(1) and image < 0.25 < max(trajectory, parameters)
    assert float(trained.model.trust) == pytest.approx(untrained)
    visual = trained.model.visual
    assert visual is not None and visual.map.start.shape == (3 * 64, tiny.embed_dim)
    joint = fit(made, settings(skeleton=ON), tiny, tmp_path / "joint")
    assert joint.fusion == {}


@pytest.mark.parametrize(
    "sections",
    [
        {"skeleton": ON, "visual": {"head": "mean_std"}},
        {"skeleton": ON, "visual": {"head": "segment_difference"}, "ridge_init": {"fusion": "late"}},
        {"skeleton": {**ON, "fusion_mode": "memory", "scaling": "standard"}},
        {"skeleton": {**ON, "fusion_mode": "fusion", "trajectory": False}},
        {"skeleton": {**ON, "fusion_mode": "contrastive"}},
    ],
    ids=["captions", "late fusion", "memory", "fusion", "contrastive"],
)
def test_other_test_rows_train_the_same_model(sections: dict[str, Any], tiny: FrozenVLM, tmp_path: Path) -> None:
    """Scales, stand-ins, shrinkage, ridge, memory, groups of numbers: all are independent of the test rows."""
    config, made = settings(**sections), world()
    fold = folds(made)[2]
    inputs, barred = made.inputs, set(fold.test_ids)
    assert inputs.frames is not None and inputs.skeletons is not None and inputs.parameters is not None
    generator = np.random.default_rng(9)
    values = inputs.parameters.values.copy()
    for row, name in enumerate(inputs.ids):
        if name in barred:
            values[row] = 1e6 * generator.normal(size=values.shape[1])
    noise = {name: torch.from_numpy(1e3 * generator.normal(size=(1, 3, 64))).float() for name in inputs.ids}
    wild = replace(
        inputs,
        frames={name: noise[name] if name in barred else table for name, table in inputs.frames.items()},
        skeletons={
            name: generator.normal(size=(4, 8, 3)).astype(np.float32) if name in barred else joints
            for name, joints in inputs.skeletons.items()
        },
        parameters=TabularData(inputs.parameters.ids, inputs.parameters.names, values, inputs.parameters.units),
    )
    first = fit(made, config, tiny, tmp_path, fold)
    second = fit(replace(made, inputs=wild), config, tiny, tmp_path, fold)
    assert same(first, second)
    # and a change of a training row is a change
    name = fold.samples.ids[fold.train[0]]
    frames = {**inputs.frames, name: inputs.frames[name].flip(-1)}
    third = fit(replace(made, inputs=replace(inputs, frames=frames)), config, tiny, tmp_path, fold)
    assert not same(first, third)


def accuracy(made: World, config: ActConfig, vlm: FrozenVLM, folder: Path, fold: Fold) -> float:
    trained = fit(made, config, vlm, folder, fold)
    found = make_predictions(made.samples, fold, predict_test(trained.model, made.seen_by(config), fold, made.texts))
    return float((found.predicted == found.labels).mean())


@pytest.mark.parametrize(
    ("sections", "least"),
    [
        ({}, 0.9),
        ({"visual": {"head": "transformer"}, "ridge_init": {"enabled": False}, "train": {"max_steps": 60}}, 0.9),
        ({"visual": {"enabled": False}, "skeleton": ON}, 0.9),
        ({"visual": {"enabled": False}, "skeleton": {**ON, "trajectory": False}}, 0.9),
        ({"skeleton": {**ON, "fusion_mode": "fusion"}}, 0.9),
    ],
    ids=["picture", "picture without ridge", "numbers", "named parameters", "fusion"],
)
def test_training_generalises_to_other_people(
    sections: dict[str, Any], least: float, tiny: FrozenVLM, tmp_path: Path
) -> None:
    made = world()
    shares = [accuracy(made, settings(**sections), tiny, tmp_path, fold) for fold in folds(made)[:2]]
    # of 4 classes, 8 clips a person
    assert np.mean(shares) >= least


def test_noise_is_not_learned(tiny: FrozenVLM, tmp_path: Path) -> None:
    """The same code on uninformative labels: the accuracy above is no leak."""
    made = world(subjects=6)
    generator = np.random.default_rng(4)
    made = replace(made, samples=replace(made.samples, labels=generator.permutation(made.samples.labels)))
    config = settings(skeleton=ON)
    shares = [accuracy(made, config, tiny, tmp_path, fold) for fold in folds(made)]
    assert np.mean(shares) < 0.5


@pytest.fixture(scope="module")
def trained_clip(tmp_path_factory: pytest.TempPathFactory) -> FrozenVLM:
    folder = write_small(tmp_path_factory.mktemp("clip"), "ViT-B-32")
    state = {name: value.contiguous() for name, value in load_vlm(str(folder), seed=3).model.state_dict().items()}
    save_file(state, folder / "open_clip_model.safetensors")
    return load_vlm(str(folder))


def test_exchanged_texts_hurt_where_texts_carry_information(trained_clip: FrozenVLM, tmp_path: Path) -> None:
    """Frames that lie at their class's text, as a trained tower has them; one clip of each class is seen."""
    with torch.no_grad():
        texts = {label: trained_clip.encode_text([f"a photo of a {label}."])[0] for label in LABELS}
    middle = torch.stack(list(texts.values())).mean(0)
    apart = {label: torch.nn.functional.normalize(text - middle, dim=0) for label, text in texts.items()}
    made = world(24, features=apart, spread=0.1)
    fold = next(few_shot(made.samples, shots=(1,), seeds=(0,), validation=0))
    config = settings(prompt={"init": "template", "learn": False})
    right = accuracy(made, config, trained_clip, tmp_path, fold)
    exchanged = replace(made, texts=made.texts.exchanged(1))
    wrong = accuracy(exchanged, config, trained_clip, tmp_path, fold)
    assert right >= 0.85 and wrong <= 0.5


def test_exchanged_texts_change_an_untrained_towers_predictions(tiny: FrozenVLM, tmp_path: Path) -> None:
    made = world()
    config = settings(visual={"enabled": False}, skeleton={**ON, "trajectory": False})
    fold = next(few_shot(made.samples, shots=(1,), seeds=(0,), validation=0))
    found = []
    for number in range(2):
        texts = made.texts if number == 0 else made.texts.exchanged(number)
        trained = fit(replace(made, texts=texts), config, tiny, tmp_path, fold)
        found.append(predict_test(trained.model, made.seen_by(config), fold, texts))
    assert np.abs(found[0] - found[1]).max() > 0.01


def test_every_class_gets_the_texts_of_another() -> None:
    texts = world(subjects=1).texts
    assert texts.sentences is not None
    for number in range(1, 6):
        other = texts.exchanged(number)
        assert other.sentences is not None and sorted(other.names.values()) == sorted(LABELS)
        for label in LABELS:
            assert other.names[label] != label
            assert other.sentences[label] == SENTENCES[other.names[label]]
        assert other == texts.exchanged(number)
        assert any("exchanged" in note for note in other.warnings)
    assert len({tuple(texts.exchanged(number).names.values()) for number in range(1, 20)}) > 3
    with pytest.raises(InputError, match="one class cannot exchange"):
        ClassTexts({"a": "a"}, None, {}).exchanged(1)


@pytest.mark.parametrize(
    "sections",
    [
        {"skeleton": ON, "visual": {"head": "cross_frame", "dropout": 0.2}},
        {"skeleton": {**ON, "fusion_mode": "fusion"}},
    ],
    ids=["captions", "fusion"],
)
def test_the_same_seed_gives_the_same_weights(sections: dict[str, Any], tiny: FrozenVLM, tmp_path: Path) -> None:
    made = world(views=2)
    first = fit(made, settings(**sections), tiny, tmp_path)
    torch.manual_seed(99)
    assert same(first, fit(made, settings(**sections), tiny, tmp_path))
    train = {"seed": 1, "max_steps": 3, "batch_size": 8, "report_to": "none", "device": "cpu", "learning_rate": 1e-2}
    assert not same(first, fit(made, settings(**sections, train=train), tiny, tmp_path))


def test_interrupted_training_resumes_to_the_same_bytes(
    tiny: FrozenVLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = world(subjects=3)
    config = settings(
        skeleton=ON,
        visual={"head": "transformer", "dropout": 0.1},
        train={"max_steps": 6, "batch_size": 8, "checkpointing_steps": 2, "eval_steps": 3, "ema_decay": 0.5},
    )
    fold = next(leave_one_group_out(world(subjects=4).samples, validation=0.25))
    made = world(subjects=4)

    def trained(folder: RunFolder, *, resume: bool = False) -> TrainedFold:
        return train_fold(made.seen_by(config), fold, config, tiny, made.texts, folder, resume=resume)

    whole = trained(run_folder(tmp_path / "whole"))
    calls: list[int] = []
    inner = fitting.ActionLoss.__call__

    def interrupted(self: Any, *arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return inner(self, *arguments)

    monkeypatch.setattr(fitting.ActionLoss, "__call__", interrupted)
    folder = run_folder(tmp_path / "stopped")
    with pytest.raises(KeyboardInterrupt):
        trained(folder)
    resumed = trained(folder, resume=True)
    assert resumed.result.resumed_from == 4 and len(calls) == 8
    assert same(whole, resumed)
    for name, found in (("a", whole), ("b", resumed)):
        found.model.description = description()
        found.model.save_pretrained(tmp_path / name)
    for file in ("model.safetensors", "prompts/model.safetensors", "model.json", "README.md"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def description() -> dict[str, Any]:
    return {
        "data": {"format": "simulated", "title": "simulated", "classes": {}},
        "trained_on": {"clips": 1, "subjects": ["p1"], "ids": []},
        "knowledge": {},
        "warnings": [],
    }


def test_patience_stops_a_training_that_gets_worse(tiny: FrozenVLM, tmp_path: Path) -> None:
    made = world(subjects=5)
    train = {"max_steps": 40, "batch_size": 8, "learning_rate": 2.0, "eval_steps": 1, "early_stopping_patience": 2}
    config = settings(skeleton=ON, train=train)
    fold = folds(made, validation=0.25)[0]
    assert len(fold.validation)
    folder = run_folder(tmp_path / "run")
    trained = train_fold(made.seen_by(config), fold, config, tiny, made.texts, folder)
    result = trained.result
    assert result.stopped_because == "early_stopping_patience" and result.best_step == result.steps - 2 < 38
    losses = {row["step"]: row["validation_loss"] for row in folder.read_metrics() if "validation_loss" in row}
    assert min(losses, key=lambda step: losses[step]) == result.best_step
    # what comes back is the model of that step
    validate = fitting._validation(fold, made.seen_by(config), trained.model)
    with torch.no_grad():
        assert validate(trained.model)["loss"] == pytest.approx(losses[result.best_step], abs=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("class", "class 'wave' has no training clip"),
        ("validation", "eval_steps=1: no validation rows: 1 training groups, 3 are needed; set it to 0"),
        ("skeletons", "no training clip has a skeleton; set skeleton.trajectory=false"),
    ],
)
def test_folds_that_cannot_be_trained_on(change: str, message: str, tiny: FrozenVLM, tmp_path: Path) -> None:
    made = world(subjects=2)
    train = {"max_steps": 1, "eval_steps": int(change == "validation")}
    config = settings(skeleton=ON, train=train)
    fold = folds(made, validation=0.2 * (change == "validation"))[0]
    if change == "class":
        fold = replace(fold, train=fold.train[fold.train_labels != 3])
    assert made.inputs.skeletons is not None
    if change == "skeletons":
        empty = {name: np.zeros((0, 8, 3), dtype=np.float32) for name in made.inputs.ids}
        made = replace(made, inputs=replace(made.inputs, skeletons=empty))
    with pytest.raises(InputError, match=message):
        fit(made, config, tiny, tmp_path, fold)


# prompts of classes that were never trained


def base_and_new(tiny: FrozenVLM, folder: Path, **prompt: Any) -> tuple[World, TrainedFold, Fold]:
    made = world(subjects=2)
    pair = next(
        base_to_new(made.samples, new_classes=["clap", "wave"], test_ids=list(made.samples.ids[:8]), validation=0)
    )
    trained = fit(made, settings(prompt=prompt), tiny, folder, pair.base)
    assert trained.model.labels == ("bow", "sit down")
    return made, trained, pair.new


def test_a_shared_context_goes_over_to_new_classes(tiny: FrozenVLM, tmp_path: Path) -> None:
    made, trained, new = base_and_new(tiny, tmp_path, init="template")
    before = made.texts.prompts(tiny, ["clap", "wave"], trained.model.prompts.config)
    prompts, rows = prompts_for(trained.model, ["clap", "wave"], made.texts)
    assert rows.tolist() == [-1, -1] and prompts.class_names == ["clap", "wave"]
    assert torch.equal(prompts.context, trained.model.prompts.context)
    assert not torch.equal(prompts.context, before.context)
    found = predict_test(trained.model, made.seen_by(trained.model.config), new, made.texts)
    assert found.shape == (4, 2) and np.allclose(found.sum(1), 1)


def test_networks_go_over_to_new_classes(tiny: FrozenVLM, tmp_path: Path) -> None:
    made, trained, _ = base_and_new(tiny, tmp_path, init="knowledge", conditional=True)
    prompts, _ = prompts_for(trained.model, ["wave"], made.texts)
    learned = trained.model.prompts.learned()
    assert {name.split(".")[0] for name in learned} == {"context", "project_knowledge", "meta_net"}
    for name, value in prompts.learned().items():
        assert torch.equal(value, learned[name])


@pytest.mark.parametrize("init", ["descriptions", "template"])
def test_a_classs_own_vectors_stay_with_it(init: str, tiny: FrozenVLM, tmp_path: Path) -> None:
    own = {"init": init, "class_specific": True}
    made, trained, _ = base_and_new(tiny, tmp_path, **own)
    labels = ["wave", "sit down", "clap", "bow"]
    prompts, rows = prompts_for(trained.model, labels, made.texts)
    assert rows.tolist() == [-1, 1, -1, 0]
    fresh = made.texts.prompts(tiny, labels, trained.model.prompts.config)
    with torch.no_grad():
        given, untrained, learned = prompts(), fresh(), trained.model.prompts()
    torch.testing.assert_close(given[[1, 3]], learned[[1, 0]], atol=1e-5, rtol=0)
    torch.testing.assert_close(given[[0, 2]], untrained[[0, 2]], atol=1e-5, rtol=0)
    assert (given - untrained)[[1, 3]].abs().max() > 1e-3


def test_new_classes_beside_trained_ones_keep_the_trained_ones_logits(tiny: FrozenVLM, tmp_path: Path) -> None:
    made, trained, new = base_and_new(tiny, tmp_path, init="descriptions")
    prompts, rows = prompts_for(trained.model, ["bow", "sit down", "wave"], made.texts)
    assert made.inputs.frames is not None
    frames = torch.stack([made.inputs.frames[name][0] for name in new.test_ids])
    with torch.no_grad():
        mine = trained.model({"frames": frames}).logits
        wide = trained.model.against(prompts, {"frames": frames}, class_rows=rows).logits
    torch.testing.assert_close(wide[:, :2], mine, atol=1e-4, rtol=0)
