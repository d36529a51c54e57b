"""Evaluation from end to end on a tiny simulated cohort: retrained by fold, of a trained run, and wrong input."""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import Command, Ran, as_json, command_fixture
from judge_world import SETTINGS, people, write_cohort
from numpy.testing import assert_allclose

import debian_mri.evaluation.comparisons as comparisons_module
import debian_mri.evaluation.context as bench_module
from debian_mri.cli import main
from debian_mri.evaluation.comparisons import COMPARISONS, chosen, holds_chance
from debian_mri.evaluation.report import METRICS, p_text, reliability, roc_points
from debian_mri.evaluation.runner import restrict_classes, site_warning
from debian_mri.training.trainer import train_fold
from icube_common.errors import InputError
from icube_common.evaluation import Predictions
from icube_common.io.runs import read_json
from icube_common.vlm import VLMConfig


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cohort of 16 people at two sites, one of 8 others, one in which the site determines the class."""
    folder = tmp_path_factory.mktemp("mri")
    write_cohort(folder / "data", sites="even", columns=("age", "sex", "MMSE"))
    write_cohort(folder / "others", people=8, prefix="q", seed=7)
    write_cohort(folder / "named", sites="named")
    write_cohort(folder / "strange", labels=("CN", "XYZ"), people=8, prefix="x", seed=9)
    return folder


command = command_fixture(main, "debian_mri")


@pytest.fixture
def fitted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the folds that are trained on; a training beyond ``stop_at`` of them is interrupted."""
    names: list[str] = []

    def counting(inputs: Any, fold: Any, *arguments: Any, **options: Any) -> Any:
        if getattr(counting, "stop_at", None) == len(names):
            raise KeyboardInterrupt
        names.append(fold.name)
        return train_fold(inputs, fold, *arguments, **options)

    counting.names = names  # type: ignore[attr-defined]
    monkeypatch.setattr(bench_module, "train_fold", counting)
    quick = {"max_steps": 2, "batch_size": 8}
    monkeypatch.setattr(
        comparisons_module, "DAFT_SETTINGS", replace(comparisons_module.DAFT_SETTINGS, **quick, eval_steps=1)
    )
    monkeypatch.setattr(comparisons_module, "COOP_SETTINGS", replace(comparisons_module.COOP_SETTINGS, **quick))
    return names


def refused(ran: Ran, *messages: str) -> None:
    status, out, err = ran
    assert status == 2 and out == "", ran
    lines = [line for line in err if line.startswith("debian-mri: ")]
    assert len(lines) == 1 and not any("Traceback" in line for line in err)
    for message in messages:
        assert message in lines[0], lines[0]


def check_figures(found: Any, people: int) -> None:
    for name in METRICS:
        assert found[name]["groups"] == people and len(found[name]["ci95"]) == 2, (name, found[name])
        assert np.isfinite(found[name]["mean"])


def test_everything_on_a_tiny_cohort(place: Path, tmp_path: Path, command: Command, fitted: list[str]) -> None:
    words = ["--data", place / "data", "--folds", 2, "--out", tmp_path / "e", "--json", "--quiet"]
    found = as_json(command("evaluate", *words, *SETTINGS))
    check_figures(found, 16)
    assert found["notice"] == "For research, not for clinical use."
    assert found["warnings"][0].startswith("Simulated images: the figures are no evidence")
    assert any("icube-tiny (untrained backbone" in note for note in found["warnings"])
    assert not any("none asked for" in note for note in found["warnings"])
    rows = found["comparisons"]
    roles = {name: row["comparison"] for name, row in rows.items() if "comparison" in row}
    assert roles.pop("table") == "primary" and set(roles.values()) == {"descriptive"} and "permutation" not in roles
    assert list(rows) == list(COMPARISONS)
    assert [name for name, row in rows.items() if "skipped" in row] == [
        "logistic-biomarkers",
        "linear-voxels",
        "cnn-3d",
    ]
    for name, row in rows.items():
        if "skipped" in row:
            continue
        assert Path(row["predictions"]).is_file()
        if COMPARISONS[name].paired:
            check_figures(row, 16)
            assert set(row["difference"]) == {"auc", "balanced_accuracy", "brier"}
            # the paired difference is ours minus theirs
            gap = found["auc"]["mean"] - row["auc"]["mean"]
            assert row["difference"]["auc"]["mean"] == pytest.approx(gap, abs=1e-9)
    # without variables the configured model is the one of the image alone, and is not trained twice
    assert rows["image"]["configured"] and rows["image"]["difference"]["auc"]["mean"] == 0
    assert not list((tmp_path / "e" / "comparisons" / "image").glob("*"))
    assert rows["permutation"]["holds_chance"] in (True, False)
    assert rows["site-from-image"]["chance"] == 0.5
    # two folds of the model, of table and both, of two kinds of permuted labels
    assert len(fitted) == 2 * 5
    page = (tmp_path / "e" / "report.html").read_text()
    for text in ("For research, not for clinical use.", "Simulated images", "logistic regression, pixels", "ROC"):
        assert text in page
    assert Predictions.read_csv(found["predictions"]).class_names == ("CN", "AD")
    # everything is there: the same command reads it
    again = as_json(command("evaluate", *words, *SETTINGS))
    assert len(fitted) == 2 * 5
    for name in METRICS:
        assert again[name] == found[name]
    refused(command("evaluate", *words, *SETTINGS, "train.max_steps=3"), "holds an evaluation of other settings")


def test_interrupted_evaluation_resumes(place: Path, tmp_path: Path, command: Command, fitted: list[str]) -> None:
    words = ["--data", place / "data", "--folds", 3, "--comparisons", "none", "--json", "--quiet"]
    whole = as_json(command("evaluate", *words, "--out", tmp_path / "whole", *SETTINGS))
    assert len(fitted) == 3
    counting: Any = bench_module.train_fold
    counting.stop_at = 4
    status, _, _ = command("evaluate", *words, "--out", tmp_path / "parts", *SETTINGS)
    assert status not in (0, 2) and len(fitted) == 4
    assert not (tmp_path / "parts" / "metrics.json").exists()
    counting.stop_at = None
    found = as_json(command("evaluate", *words, "--out", tmp_path / "parts", *SETTINGS))
    assert len(fitted) == 6
    for name in METRICS:
        assert found[name] == whole[name]


def test_leave_one_site_out(place: Path, tmp_path: Path, command: Command) -> None:
    words = ["--data", place / "data", "--protocol", "leave-one-site-out", "--comparisons", "confounds,label-from-site"]
    found = as_json(command("evaluate", *words, "--out", tmp_path / "e", "--json", "--quiet", *SETTINGS))
    assert found["folds"] == 2 and list(found["comparisons"]) == ["confounds", "label-from-site"]
    assert found["site_association"]["sites"] == 2
    # both sites have as many of each class: the site tells nothing, and every row of a fold has one probability
    assert found["comparisons"]["label-from-site"]["auc"]["mean"] == pytest.approx(0.5)


@pytest.fixture(scope="module")
def run(place: Path) -> Path:
    """A model trained on ``data``, without p00 and p01."""
    words = ["--data", str(place / "data"), "--out", str(place / "run"), "--exclude-subjects", "p00,p01", "--quiet"]
    assert main(["train", *words, "demographics.mode=linear", *SETTINGS]) == 0
    logging.getLogger("debian_mri").handlers[:] = [logging.NullHandler()]
    return place / "run"


def test_a_run_on_an_unseen_cohort(place: Path, run: Path, tmp_path: Path, command: Command, fitted: list[str]) -> None:
    names = "image,logistic-table,permutation"
    words = [run, "--data", place / "others", "--comparisons", names, "--json", "--quiet"]
    found = as_json(command("evaluate", *words, "--out", tmp_path / "e"))
    check_figures(found, 8)
    assert found["protocol"] == "unseen cohort" and found["trained_on"].startswith("14 people of")
    assert "configured" not in found["comparisons"]["image"]
    assert found["comparisons"]["logistic-table"]["difference"]["auc"]["p"] is not None
    assert "retrained inside this cohort" in (tmp_path / "e" / "report.html").read_text()
    # people of the same set that the model has not seen
    found = as_json(
        command(
            "evaluate", run, "--data", place / "data", "--subjects", "p00,p01", "--comparisons", "image",
            "--out", tmp_path / "own", "--json", "--quiet",
        )
    )  # fmt: skip
    assert found["subjects"] == 2 and "cannot be divided" in found["comparisons"]["image"]["skipped"]


def test_people_and_classes_of_a_run(place: Path, run: Path, tmp_path: Path, command: Command) -> None:
    out = ["--out", tmp_path / "e"]
    refused(command("evaluate", run, "--data", place / "data", *out), "the model was trained on subject 'p02'")
    refused(command("evaluate", run, "--data", place / "data", "--subjects", "p00,p05", *out), "'p05'")
    refused(command("evaluate", run, "--data", place / "data", "--subjects", "nobody", *out), "no such subject")
    refused(command("evaluate", run, "--data", place / "strange", *out), "class 'XYZ' is none of the 2")
    refused(
        command("evaluate", run, "--data", place / "others", *out, "train.seed=1"), "a trained RUN has its settings"
    )
    refused(command("evaluate", run, "--data", place / "others", *out, "--folds", "3"), "--folds: a trained RUN")
    refused(command("evaluate", place, "--data", place / "others", *out), "no trained model in it")
    assert not (tmp_path / "e").exists()


@pytest.mark.parametrize(
    ("data", "words", "message"),
    [
        ("strange", ["--folds", "2", "prompt.init=descriptions"], "XYZ"),
        ("named", [], "the site determines the class"),
        ("data", ["--comparisons", "dafd"], "did you mean 'daft'"),
        ("data", ["--protocol", "kfold"], "did you mean 'group-kfold'"),
        ("data", ["--folds", "40"], "40 folds of 16 groups"),
        ("data", ["--subjects", "p01"], "goes with a trained RUN only"),
        ("data", ["demographics.mode=linear", "demographics.columns=[MMSE]"], "MMSE: is of tier C"),
        ("nowhere", [], "not a prepared set"),
    ],
)
def test_wrong_input_is_refused_and_nothing_written(
    place: Path, tmp_path: Path, command: Command, data: str, words: list[str], message: str
) -> None:
    refused(command("evaluate", "--data", place / data, "--out", tmp_path / "e", *SETTINGS, *words), message)
    assert not (tmp_path / "e").exists()


def test_a_split_with_a_person_on_both_sides_is_refused(tmp_path: Path, command: Command) -> None:
    manifest = write_cohort(tmp_path / "data", people=4, sessions=2)
    lines = [f"{scan.id},{place % 2}" for place, scan in enumerate(manifest.scans)]
    (tmp_path / "split.csv").write_text("\n".join(["id,fold", *lines]) + "\n")
    words = ["--data", tmp_path / "data", "--protocol", "given", "--split", tmp_path / "split.csv"]
    refused(command("evaluate", *words, "--out", tmp_path / "e", *SETTINGS), "subject 'p00' is in fold 1")


def test_variables_of_tier_c_are_stamped(place: Path, tmp_path: Path, command: Command) -> None:
    words = ["demographics.mode=linear", "demographics.columns=[MMSE]", "demographics.allow_diagnostic=true"]
    out = [
        "--data",
        place / "data",
        "--folds",
        2,
        "--comparisons",
        "none",
        "--out",
        tmp_path / "e",
        "--json",
        "--quiet",
    ]
    found = as_json(command("evaluate", *out, *SETTINGS, *words))
    assert found["disclaimers"] and "MMSE" in found["disclaimers"][0]
    assert found["disclaimers"][0] in (tmp_path / "e" / "report.html").read_text()


def test_ablate_and_tune(place: Path, tmp_path: Path, command: Command) -> None:
    base = "\n".join(f"  {word.replace('=', ': ')}" for word in SETTINGS)
    variants = "variants:\n  - {name: base}\n  - {name: max, visual.pooling: max}"
    grid = f"base:\n{base}\n{variants}\nseeds: [0, 1]\nmetric: auc\n"
    (tmp_path / "grid.yaml").write_text(grid)
    words = ["--data", place / "data", "--folds", 2, "--out", tmp_path / "study", "--json", "--quiet"]
    found = as_json(command("ablate", *words, "--grid", tmp_path / "grid.yaml"))
    assert [row["name"] for row in found["variants"]] == ["base", "max"] and not found["failed"]
    searched = "space:\n  visual.pooling: {type: categorical, choices: [mean, max]}"
    space = f"base:\n{base}\n{searched}\nmetric: auc\ndirection: maximize\nseeds: [0]\ntrials: 2\n"
    (tmp_path / "space.yaml").write_text(space)
    words = ["--data", place / "data", "--folds", 2, "--out", tmp_path / "search", "--json", "--quiet"]
    assert as_json(command("tune", *words, "--space", tmp_path / "space.yaml"))["finished"] == 2


def test_names_of_comparisons() -> None:
    assert chosen("none") == () and chosen("all") == tuple(COMPARISONS)
    assert chosen("daft,image,daft") == ("daft", "image")
    with pytest.raises(InputError, match="did you mean 'zero-shot'"):
        chosen("zeroshot")


def test_chance_is_held_or_not() -> None:
    assert holds_chance({"ci95": [0.4, 0.6]}) is True
    assert holds_chance({"ci95": [0.51, 0.6]}) is False
    assert holds_chance({"ci95": [None, None]}) is None


def test_sites_associated_with_the_diagnosis_give_a_warning() -> None:
    assert site_warning(people()) == site_warning(people(sites=True)) == []
    samples = people(40, sessions=1)
    # two people of each class at the other site: not refused, and far from even
    sites = [f"S{label if row >= 4 else 1 - label}" for row, label in enumerate(samples.labels)]
    (found,) = site_warning(replace(samples, sites=sites))
    # 18 of 20 and 2 of 20: phi squared 0.64, less 1/39, over 1 - 1/39
    assert "Cramer's V 0.79" in found


def test_p_values_in_words() -> None:
    assert [p_text(value) for value in (0.0002, 0.001, 0.5, None)] == ["< 0.001", "0.001", "0.500", "\N{EN DASH}"]


def test_probabilities_among_some_classes() -> None:
    found = restrict_classes(np.array([[0.2, 0.5, 0.3]]), ["CN", "MCI", "AD"], ["CN", "AD"])
    assert_allclose(found, [[0.4, 0.6]])


def test_roc_and_reliability_by_hand() -> None:
    labels, scores = np.array([0, 0, 1, 1]), np.array([0.1, 0.6, 0.4, 0.9])
    false, true = roc_points(labels, scores, np.zeros(4, dtype=np.int64))
    assert true[0] == 0 and true[-1] == 1 and false[-1] == 1
    # one of two positives lies above both negatives, both above the lower one
    assert true[1] == 0.5 and true[np.searchsorted(false, 0.5)] == 1
    both = roc_points(np.tile(labels, 2), np.r_[scores, -scores], np.repeat([0, 1], 4))[1]
    assert_allclose(both[-1], 1)
    bins = reliability(np.array([True, False, True, True]), np.array([0.05, 0.15, 0.151, 1.0]))
    assert_allclose(bins, [(0.05, 1.0, 1), (0.1505, 0.5, 2), (1.0, 1.0, 1)])


def test_records_of_an_evaluation(place: Path, tmp_path: Path, command: Command) -> None:
    names = "confounds,linear-voxels,permutation"
    words = ["--data", place / "data", "--folds", 2, "--comparisons", names, "--out", tmp_path / "e", "--quiet"]
    status, out, _ = command("evaluate", *words, *SETTINGS)
    assert status == 0 and "configured model" in out and "For research, not for clinical use." in out
    assert "left out: the set has slices, not volumes" in out
    (line,) = (line for line in out.splitlines() if line.startswith("confounds only"))
    # AUC, its interval, the difference with its sign, p
    assert re.fullmatch(r"confounds only +0\.\d{3}  0\.\d{3} to [01]\.\d{3} +[+-]\d\.\d{3} +(< )?\d\.\d{3}", line)
    assert read_json(tmp_path / "e" / "evaluation.json")["protocol"] == "group-kfold"
    assert len(list((tmp_path / "e" / "folds").glob("*/seconds.json"))) == 2


@pytest.mark.parametrize("job", ["train", "evaluate"])
def test_classes_of_one_name_are_refused_before_the_backbone_is_loaded(
    job: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def load(*arguments: Any, **options: Any) -> None:
        raise AssertionError("the backbone was loaded")

    monkeypatch.setattr(VLMConfig, "load", load)
    write_cohort(tmp_path / "data", labels=("CN", "cn"))
    words = ["--data", str(tmp_path / "data"), "--out", str(tmp_path / "out"), *SETTINGS]
    assert main([job, *words]) == 2
    assert "classes 'CN' and 'cn': both are called 'cn' in a prompt" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
