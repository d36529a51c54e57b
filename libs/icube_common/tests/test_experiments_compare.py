"""Predictions in studies: ablations paired over subjects, and finished runs side by side."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from icube_common.config import read_yaml
from icube_common.errors import InputError
from icube_common.evaluation.predictions import Predictions
from icube_common.experiments import Grid, Outcome
from icube_common.experiments.ablation import ablate
from icube_common.experiments.comparison import compare

SUBJECTS = 8


def predictions(right: list[int], *, rows: int = 4, prefix: str = "clip") -> Predictions:
    """Subject s has ``right[s]`` of its rows right; two classes."""
    labels = np.tile([0, 1], rows * len(right) // 2)
    correct = np.concatenate([np.arange(rows) < count for count in right])
    predicted = np.where(correct, labels, 1 - labels)
    return Predictions(
        ids=[f"{prefix}{row}" for row in range(len(labels))],
        subjects=[f"s{row // rows}" for row in range(len(labels))],
        repeats=np.zeros(len(labels), dtype=int),
        folds=np.zeros(len(labels), dtype=int),
        labels=labels,
        probabilities=np.eye(2)[predicted] * 0.8 + 0.1,
        class_names=["sit", "stand"],
    )


BASE, BETTER = [2] * SUBJECTS, [3, 3, 4, 3, 4, 3, 3, 3]
GRID = Grid.from_mapping({"grid": {"good": [False, True]}, "seeds": [0, 1], "metric": "top1"})


def run(overrides: Mapping[str, Any], seed: int, folder: Path) -> Outcome:
    made = predictions(BETTER if overrides["good"] else BASE)
    made.write_csv(folder / "predictions.csv")
    top1 = float((made.predicted == made.labels).mean())
    return Outcome(metrics={"top1": top1}, predictions=Path("predictions.csv"))


def test_an_ablation_with_predictions_is_paired_over_subjects(tmp_path: Path) -> None:
    study = ablate(run, GRID, tmp_path / "study")
    found = study.variant("good=true").difference
    assert found is not None and found.over == "8 groups" and found.note == ""
    # 26 of 32 rows right instead of 16
    assert found.interval.mean == pytest.approx(10 / 32)
    # every subject is better: of 2^8 choices of signs, these and their opposite are as extreme
    assert found.p_value == pytest.approx(2 / 2**8) and found.p_holm == found.p_value
    assert study.warnings == {}


def test_one_seed_is_enough_to_pair_subjects(tmp_path: Path) -> None:
    grid = Grid.from_mapping({"grid": {"good": [False, True]}, "seeds": [5], "metric": "top1"})
    found = ablate(run, grid, tmp_path / "study").variant("good=true").difference
    assert found is not None and found.p_value == pytest.approx(2 / 2**8)


@pytest.mark.parametrize(
    ("scale", "prefix", "metric", "note"),
    [
        (100.0, "clip", "top1", "gives top1 0.8125, the run's own value is 81.25"),
        (1.0, "other", "top1", "two runs on different rows"),
        (1.0, "clip", "fid", "unknown metric 'fid'"),
    ],
)
def test_seeds_are_paired_where_subjects_cannot_be(
    scale: float, prefix: str, metric: str, note: str, tmp_path: Path
) -> None:
    def other(overrides: Mapping[str, Any], seed: int, folder: Path) -> Outcome:
        if not overrides["good"]:
            return Outcome(
                metrics={metric: run(overrides, seed, folder).metrics["top1"]}, predictions=Path("predictions.csv")
            )
        made = predictions(BETTER, prefix=prefix)
        made.write_csv(folder / "predictions.csv")
        return Outcome(metrics={metric: 26 / 32 * scale}, predictions=folder / "predictions.csv")

    grid = Grid.from_mapping({"grid": {"good": [False, True]}, "seeds": [0, 1], "metric": metric})
    study = ablate(other, grid, tmp_path / "study")
    found = study.variant("good=true").difference
    assert found is not None and found.over == "2 seeds" and note in found.note
    assert "why it is paired over seeds" in (study.folder / "report.html").read_text()


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    paths = []
    for name, right in [("base", BASE), ("better", BETTER), ("odd", BETTER)]:
        folder = tmp_path / name
        folder.mkdir()
        predictions(right, prefix="odd" if name == "odd" else "clip").write_csv(folder / "predictions.csv")
        paths.append(folder)
    (paths[0] / "config.yaml").write_text("train: {rate: 0.1, steps: 5}\nname: a\n")
    (paths[1] / "config.yaml").write_text("train: {rate: 0.2, steps: 5}\nextra: null\nname: a\n")
    return paths


def test_runs_side_by_side(runs: list[Path], tmp_path: Path) -> None:
    result = compare(runs, tmp_path / "out", metrics=["top1", "mcc"])
    base, better, odd = result.runs
    assert (base.name, base.rows, base.subjects) == ("base", 32, 8)
    assert base.intervals["top1"].mean == 0.5 and better.intervals["top1"].mean == pytest.approx(26 / 32)
    found = better.differences["top1"]
    assert found.interval.mean == pytest.approx(10 / 32) and found.p_value == pytest.approx(2 / 2**8)
    assert found.p_holm == found.p_value, "one comparison for each metric: the third run cannot be paired"
    assert odd.differences == {} and "two runs on different rows" in odd.note
    # the third run has no settings: a dash everywhere, and no reason to show what the others agree on
    assert result.settings_table().rows == (("train.rate", "0.1", "0.2", None), ("extra", None, "None", None))
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"table.md", "table.tex", "table.csv", "differences.csv", "plot.svg", "report.html", "study.yaml"} <= names
    assert read_yaml(tmp_path / "out" / "study.yaml")["runs"] == [str(path) for path in runs]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "odd cannot be paired with base" in page and "train.rate" in page


def test_files_and_cells_of_a_study_can_be_compared(tmp_path: Path) -> None:
    study = ablate(run, GRID, tmp_path / "study")
    cells = [study.folder / "cells" / name / "seed-0" for name in ("good=false", "good=true")]
    result = compare([cells[0], cells[1] / "predictions.csv"], tmp_path / "out")
    assert [one.name for one in result.runs] == ["seed-0", "predictions.csv"]
    assert result.settings_table().rows == (("good", "False", "True"),)
    assert "True" in (tmp_path / "out" / "report.html").read_text()
    assert result.metrics[0] == "top1" and {"sensitivity", "ece"} < set(result.metrics)
    twins = compare(cells, tmp_path / "twins", metrics=["top1"])
    assert [one.name for one in twins.runs] == ["good=false/seed-0", "good=true/seed-0"]


def test_metrics_that_do_not_fit_a_run_are_left_out_unless_asked_for(runs: list[Path], tmp_path: Path) -> None:
    three = Predictions(
        ids=["a", "b", "c"],
        subjects=["s", "t", "u"],
        repeats=np.zeros(3, dtype=int),
        folds=np.zeros(3, dtype=int),
        labels=np.array([0, 1, 2]),
        probabilities=np.eye(3),
        class_names=["x", "y", "z"],
    )
    three.write_csv(tmp_path / "three.csv")
    result = compare([runs[0], tmp_path / "three.csv"], tmp_path / "out")
    assert "sensitivity" in result.runs[0].intervals and "sensitivity" not in result.runs[1].intervals
    assert "two runs with classes" in result.runs[1].note
    with pytest.raises(InputError, match="sensitivity"):
        compare([runs[0], tmp_path / "three.csv"], tmp_path / "other", metrics=["sensitivity"])


def test_wrong_runs_are_refused(runs: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(InputError, match=r"at least two runs \(found 1\)"):
        compare(runs[:1], out)
    with pytest.raises(InputError, match="is named twice"):
        compare([runs[0], runs[1], runs[0]], out)
    with pytest.raises(InputError, match="two of these are the same place"):
        compare([runs[0], runs[0] / ".." / runs[0].name], out)
    with pytest.raises(InputError, match=r"none\.csv: cannot be read"):
        compare([runs[0], tmp_path / "none.csv"], out)
    with pytest.raises(InputError, match="unknown metric 'top'"):
        compare(runs, out, metrics=["top"])
    shutil.move(runs[1] / "predictions.csv", runs[1] / "moved.csv")
    with pytest.raises(InputError, match=r"better: holds no predictions\.csv"):
        compare(runs, out)
    (runs[1] / "predictions.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match=r"predictions\.csv: columns"):
        compare(runs, out)
    assert not out.exists()
    out.mkdir()
    (out / "kept").touch()
    with pytest.raises(InputError, match="exists already"):
        compare([runs[0], runs[2]], out)
    assert (out / "kept").exists()
