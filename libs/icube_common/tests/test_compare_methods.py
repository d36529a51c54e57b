"""Comparison of methods on the same folds, on simulated features of a class pattern plus noise."""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
import torch

from icube_common.errors import InputError
from icube_common.evaluation import Samples, TestLeakageError, base_to_new, few_shot, leave_one_group_out
from icube_common.experiments import compare_methods, compare_methods_command, open_comparison
from icube_common.experiments.methods import (
    FeatureProblem,
    FittedMethod,
    LinearProbe,
    Method,
    NearestMean,
    NearestNeighbours,
    RandomisedTrees,
    ZeroShot,
    all_methods,
    select_methods,
)
from icube_common.experiments.runner.measure import measure
from icube_common.experiments.runner.method_cases import (
    ClassWords,
    ModelOutput,
    base_to_new_cases,
    cached_features,
    few_shot_cases,
    plain_cases,
)
from icube_common.experiments.runner.method_runs import MethodBench
from icube_common.losses import LossConfig
from icube_common.vlm import load_vlm

CLASSES = ("cat", "dog", "car", "bus")
PEOPLE = 5


@pytest.fixture(scope="module")
def samples() -> Samples:
    rows = [(person, label, take) for person in range(PEOPLE) for label in range(len(CLASSES)) for take in range(2)]
    return Samples(
        ids=[f"s{person}-{label}-{take}" for person, label, take in rows],
        labels=np.array([label for _, label, _ in rows]),
        class_names=CLASSES,
        groups=[f"s{person}" for person, _, _ in rows],
    )


def tables(samples: Samples, vlm=None, noise: float = 0.6):
    """Simulated features: the class's own direction with noise; joint features near the class's text."""
    generator = torch.Generator().manual_seed(0)
    pattern = torch.eye(len(CLASSES), 6)
    features = {
        name: pattern[label] + noise * torch.randn(6, generator=generator)
        for name, label in zip(samples.ids, samples.labels, strict=True)
    }
    if vlm is None:
        return features, None
    texts = vlm.encode_text([f"a photo of a {name}" for name in CLASSES])
    texts = texts - texts.mean(0)
    joint = {
        name: texts[label] + 0.02 * texts.norm(dim=1).mean() * torch.randn(texts.shape[1], generator=generator)
        for name, label in zip(samples.ids, samples.labels, strict=True)
    }
    return features, joint


def bench(samples, cases, out, *, vlm=None, seeds=(0,), budget=2, features=None) -> MethodBench:
    first, joint = tables(samples, vlm)
    return MethodBench(
        samples=samples,
        cases=cases,
        features=features or cached_features(first, joint),
        texts=ClassWords(words={name: name for name in CLASSES}, vlm=vlm),
        out=open_comparison(out, {"data": "simulated", "budget": budget}),
        seeds=seeds,
        budget=budget,
    )


def folds(samples):
    return plain_cases(list(leave_one_group_out(samples, validation=0)))


@dataclass(frozen=True, kw_only=True)
class Counting(Method):
    """Nearest mean that records the rows that it is fitted to."""

    name: str = "counting"
    citation: ClassVar[str] = "none"
    per_class: bool = True
    power: int = 1
    calls: ClassVar[list[FeatureProblem]] = []

    def grid(self, problem):
        return [{}]

    def fit(self, problem, setting) -> FittedMethod:
        self.calls.append(problem)
        return replace(NearestMean().fit(problem, {"transform": "UN"}), name=self.name)


class NoVision(NearestMean):
    def reason(self, problem):
        return "no vision tokens"


def test_one_row_for_each_method_with_cost_and_differences(samples, tmp_path):
    out = tmp_path / "out"

    def constant(case, seed, folder) -> ModelOutput:
        fold = case.tests["all classes"]
        return ModelOutput(
            probabilities={"all classes": np.full((len(fold.test), len(CLASSES)), 0.25)}, trained_parameters=7
        )

    result = compare_methods(
        bench(samples, folds(samples), out, seeds=(0, 1)),
        [ZeroShot(), NearestMean(), NearestNeighbours(), LinearProbe(), NoVision(name="maple")],
        title="simulated",
        models={"mine": (constant, {"steps": 1})},
        metrics=("top1", "macro_f1"),
        reference="linear probe",
    )
    rows = {row.name: row for row in result.rows}
    assert list(rows) == ["mine", "zero-shot", "nearest mean", "nearest neighbours", "linear probe", "maple"]
    # always the first of equal classes: a quarter
    assert rows["mine"].metrics["all classes"]["top1"].mean == 0.25 and rows["mine"].trained_parameters == 7
    probe = rows["linear probe"].metrics["all classes"]["top1"]
    assert probe.mean > 0.5 and probe.groups == PEOPLE
    assert "all classes" not in rows["linear probe"].differences
    difference = rows["mine"].differences["all classes"]
    assert difference.interval.mean == pytest.approx(0.25 - probe.mean) and difference.p_holm >= difference.p_value
    assert rows["nearest mean"].trained_parameters == 24 and rows["nearest mean"].seconds > 0
    assert rows["zero-shot"].note == "not applicable: no features in the space of the texts"
    assert rows["maple"].note == "not applicable: no vision tokens" and not rows["maple"].metrics
    assert sum(rows["linear probe"].settings.values()) == 2 * PEOPLE
    table = (out / "table.md").read_text()
    assert "not applicable: no vision tokens" in table and "minus linear probe" in table
    tex = (out / "table.tex").read_text()
    assert r"\toprule" in tex and r"\bottomrule" in tex and r"\midrule" in tex
    assert (out / "plot.png").read_bytes()[:4] == b"\x89PNG" and (out / "report.html").is_file()
    saved = json.loads((out / "results.json").read_text())
    assert saved["methods"][4]["metrics"]["all classes"]["top1"]["mean"] == probe.mean
    with (out / "runs" / "linear-probe" / "00-000-seed-1" / "predictions.csv").open(newline="") as file:
        assert {row["subject"] for row in csv.DictReader(file)} == {"s0"}


def test_finished_runs_are_read_and_other_settings_refused(samples, tmp_path):
    Counting.calls.clear()
    first = compare_methods(bench(samples, folds(samples), tmp_path / "out"), [Counting()], title="simulated")
    assert len(Counting.calls) == PEOPLE
    (tmp_path / "out" / "runs" / "counting" / "00-002-seed-0" / "predictions.csv").unlink()
    again = compare_methods(bench(samples, folds(samples), tmp_path / "out"), [Counting()], title="simulated")
    assert len(Counting.calls) == PEOPLE + 1
    assert again.rows[0].metrics == first.rows[0].metrics
    compare_methods(bench(samples, folds(samples), tmp_path / "out", seeds=(0, 1)), [Counting()], title="simulated")
    assert len(Counting.calls) == 2 * PEOPLE + 1
    with pytest.raises(InputError, match=r"counting: holds runs of counting with other settings \(power\)"):
        compare_methods(bench(samples, folds(samples), tmp_path / "out"), [Counting(power=2)], title="simulated")
    with pytest.raises(InputError, match="holds an evaluation of other settings or data"):
        bench(samples, folds(samples), tmp_path / "out", budget=3)


def test_methods_get_training_rows_only(samples, tmp_path):
    Counting.calls.clear()
    features, _ = tables(samples)
    compare_methods(bench(samples, folds(samples), tmp_path / "out"), [Counting()], title="simulated")
    for number, problem in enumerate(Counting.calls):
        expected = [name for name in samples.ids if not name.startswith(f"s{number}-")]
        assert torch.equal(problem.features, torch.stack([features[name] for name in expected]))
        assert set(problem.groups) == {f"s{person}" for person in range(PEOPLE)} - {f"s{number}"}

    def cheating(fold):
        def encode(view):
            visible = view(features)
            return torch.stack([visible[name] for name in samples.ids]), None

        return encode

    with pytest.raises(TestLeakageError, match="not in the training rows"):
        compare_methods(
            bench(samples, folds(samples), tmp_path / "other", features=cheating), [Counting()], title="simulated"
        )


def test_changed_test_labels_change_no_prediction(samples, tmp_path):
    """The labels of the test rows enter the metrics alone."""
    shuffled = np.array(samples.labels)
    people = np.array(samples.groups)
    shuffled[people == "s0"] = np.roll(shuffled[people == "s0"], 3)
    other = Samples(ids=samples.ids, labels=shuffled, class_names=CLASSES, groups=samples.groups)
    parts = []
    for name, rows in (("a", samples), ("b", other)):
        cases = folds(rows)[:1]
        shared = cached_features(*tables(samples))
        result = bench(rows, cases, tmp_path / name, features=shared).run(LinearProbe())
        parts.append(result.predictions["all classes"])
    assert np.array_equal(parts[0].probabilities, parts[1].probabilities)
    assert not np.array_equal(parts[0].labels, parts[1].labels)


def test_few_shots_have_a_column_each(samples, tmp_path):
    listed = [
        (shots, fold)
        for person in range(2)
        for shots in (1, 3)
        for fold in few_shot(
            samples,
            shots=(shots,),
            seeds=[0, 1],
            test_ids=[name for name in samples.ids if name.startswith(f"s{person}-")],
            validation=0,
        )
    ]
    result = compare_methods(
        bench(samples, few_shot_cases(listed), tmp_path / "out"), [NearestMean(), LinearProbe()], title="few"
    )
    assert result.conditions == ("1 shot", "3 shots")
    mean = result.rows[0]
    assert len(mean.by_seed["1 shot"]) == 2 and mean.metrics["3 shots"]["top1"].groups == 2
    assert any("a class has one training row" in line for line in mean.warnings)
    assert "1 shot: top1" in (tmp_path / "out" / "table.md").read_text()


def test_new_classes_need_texts(samples, tmp_path):
    vlm = load_vlm("icube-tiny")
    pairs = [
        (draw, pair)
        for draw, new in enumerate((["dog", "bus"], ["cat", "car"], ["cat", "bus"]))
        for person in range(PEOPLE)
        for pair in base_to_new(
            samples,
            new_classes=new,
            test_ids=[name for name in samples.ids if name.startswith(f"s{person}-")],
            validation=0,
        )
    ]
    result = compare_methods(
        bench(samples, base_to_new_cases(pairs), tmp_path / "out", vlm=vlm),
        [ZeroShot(), LinearProbe()],
        title="new",
        over_draws=True,
    )
    zero, probe = result.rows
    assert zero.metrics["new"]["top1"].mean > 0.9 and zero.metrics["new"]["top1"].groups == 3
    assert zero.metrics["harmonic mean"]["top1"].mean > 0.9
    assert probe.metrics["base"]["top1"].mean > 0.6 and "new" not in probe.metrics
    assert probe.note.startswith("new: not applicable: learns weights of each class")
    assert probe.differences["base"].over == "3 draws" and "new" not in probe.differences
    part = json.loads((tmp_path / "out" / "results.json").read_text())
    assert part["conditions"] == ["base", "new", "harmonic mean"]


@pytest.mark.parametrize(
    ("options", "pattern"),
    [
        ({"methods": []}, "no method"),
        ({"methods": [NearestMean(), NearestMean()]}, "nearest mean is named twice"),
        ({"reference": "linear prob"}, "reference 'linear prob'.*nearest mean"),
        ({"metrics": ("top9x",)}, "top9x"),
        ({"methods": [NoVision(), LinearProbe()]}, "reference nearest mean: not applicable: no vision tokens"),
    ],
)
def test_refusals(samples, tmp_path, options: Mapping, pattern):
    arguments = {"methods": [NearestMean()], "title": "x", **options}
    with pytest.raises(InputError, match=pattern):
        compare_methods(bench(samples, folds(samples)[:2], tmp_path / "out"), arguments.pop("methods"), **arguments)


def test_plain_classifiers_of_separated_classes():
    labels = torch.arange(4).repeat_interleave(6)
    generator = torch.Generator().manual_seed(1)
    rows = torch.eye(4, 5)[labels] + 0.1 * torch.randn(24, 5, generator=generator)
    problem = FeatureProblem(features=rows, labels=labels, class_names=CLASSES)
    for method in (NearestNeighbours(), RandomisedTrees()):
        for setting in method.grid(problem)[::5]:
            fitted = method.fit(problem, setting)
            assert fitted.logits(torch.eye(4, 5)).argmax(1).tolist() == [0, 1, 2, 3]
            assert torch.allclose(fitted.logits(rows[:2]).exp().sum(1), torch.ones(2), atol=1e-4)
        assert fitted.trained_parameters > 0
    # two of three neighbours are of the second class
    few = FeatureProblem(features=torch.tensor([[0.0], [1.0], [1.1]]), labels=torch.tensor([0, 1, 1]), class_names="ab")
    votes = NearestNeighbours().fit(few, {"k": 3, "standardised": False}).logits(torch.zeros(1, 1)).exp()
    assert votes[0].tolist() == pytest.approx([1 / 3, 2 / 3])


def test_the_catalogue_holds_every_exported_method():
    import icube_common.experiments.methods as package

    exported = [getattr(package, name) for name in dir(package)]
    classes = {each for each in exported if isinstance(each, type) and issubclass(each, Method) and each is not Method}
    assert {type(method) for method in all_methods().values()} == classes
    assert [method.name for method in select_methods("linear probe, zero-shot")] == ["linear probe", "zero-shot"]
    assert select_methods("none") == [] and len(select_methods("all")) == len(all_methods())
    with pytest.raises(InputError, match="linear probe"):
        select_methods("linear prob")
    with pytest.raises(InputError, match="named twice"):
        select_methods(["zero-shot", "zero-shot"])


def test_memory_of_a_block():
    with measure() as cost:
        block = np.ones(40_000_000 // 8)
    assert block.sum() > 0 and cost.seconds > 0
    with measure() as small:
        sum(range(1000))
    if cost.memory_mb is not None:
        assert 30 < cost.memory_mb < 60 and small.memory_mb < 20


def test_command_line():
    received = {}

    class Result:
        def to_dict(self):
            return {"table": "table", "report": "page"}

    def library(**options):
        received.update(options)
        return Result()

    command = compare_methods_command(
        library,
        LossConfig,
        add_arguments=lambda parser: parser.add_argument("--data", required=True),
        options=lambda args: {"data": args.data},
    )
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    args = parser.parse_args(["--data", "D", "--out", "O", "--methods", "linear probe", "--seeds", "2"])
    args.config, args.overrides = None, ["name=focal"]
    assert command.render(command.run(args)) == "table\npage"
    assert received["config"].name == "focal" and received["data"] == "D" and received["seeds"] == 2
    assert received["methods"] == "linear probe" and received["budget"] is None and received["reference"] is None
