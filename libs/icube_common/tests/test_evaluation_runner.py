from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from icube_common.errors import InputError
from icube_common.evaluation import (
    EvaluationResult,
    Fold,
    Predictions,
    Samples,
    check_train_test_overlap,
    grouped_k_fold,
    make_predictions,
)
from icube_common.evaluation.report import evaluation_report
from icube_common.evaluation.runner import (
    FoldResult,
    all_warnings,
    cached_predictions,
    check_same_evaluation,
    compare_predictions,
    fold_name,
    interval_text,
    open_folder,
    run_folds,
    training_seconds,
)

SAMPLES = Samples(
    ids=["a1", "a2", "b1"], labels=np.array([0, 1, 1]), class_names=["CN", "AD"], groups=["a", "a", "b"]
)  # fmt: skip


def predictions() -> Predictions:
    return Predictions(
        ids=["a1"], subjects=["a"], repeats=np.array([0]), folds=np.array([0]), labels=np.array([0]),
        probabilities=np.array([[0.25, 0.75]]), class_names=["CN", "AD"],
    )  # fmt: skip


def test_same_evaluation_resumes_and_another_is_refused(tmp_path: Path) -> None:
    out, record = tmp_path / "eval", {"folds": (2, 3), "data": "abc"}
    check_same_evaluation(out, record)
    open_folder(out, record)
    (out / "kept").touch()
    check_same_evaluation(out, record)
    open_folder(out, record)
    assert (out / "kept").exists()
    with pytest.raises(InputError, match="other settings or data"):
        check_same_evaluation(out, {**record, "data": "abd"})
    check_same_evaluation(out, {"data": "abd"}, overwrite=True)
    open_folder(out, {"data": "abd"}, overwrite=True)
    assert not (out / "kept").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").touch()
    with pytest.raises(InputError, match="exists already"):
        check_same_evaluation(tmp_path / "mine", record)


def test_a_training_is_computed_once(tmp_path: Path) -> None:
    calls = []

    def compute() -> tuple[Predictions, list[str]]:
        calls.append(1)
        return predictions(), ["untrained tower"]

    first, again = (cached_predictions(tmp_path / "fold", compute) for _ in range(2))
    assert len(calls) == 1
    assert first[1] == again[1] == ("untrained tower",)
    np.testing.assert_array_equal(first[0].probabilities, again[0].probabilities)
    # the predictions are written last: a folder with notes alone is one that was interrupted
    (tmp_path / "fold" / "predictions.csv").unlink()
    cached_predictions(tmp_path / "fold", compute)
    assert len(calls) == 2
    assert all_warnings([first, again]) == ["untrained tower"]


@pytest.mark.parametrize(
    ("rows", "trained", "message"),
    [
        ([0, 2], {"subjects": ["a"], "ids": []}, r"subject 'a' \(1 of the set's\).*--subjects b takes the others"),
        ([0, 1, 2], {"subjects": ["a", "b"], "ids": []}, r"subject 'a' \(2.*it has no other subjects"),
        ([2], {"subjects": ["x"], "ids": ["b1"]}, "scan 'b1'"),
    ],
)
def test_people_that_were_trained_on_are_refused(rows: list[int], trained: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_train_test_overlap(SAMPLES, rows, trained, kind="scan")
    check_train_test_overlap(SAMPLES, rows, {"subjects": ["c"], "ids": ["c1"]})


def test_intervals_in_words() -> None:
    assert interval_text({"ci95": [0.5, 0.75]}) == "0.500 to 0.750"
    assert interval_text({"ci95": [None, None]}) == interval_text({"ci95": None}) == "\N{EN DASH}"


def test_the_result_of_an_evaluation(tmp_path: Path) -> None:
    samples = Samples(
        ids=[f"x{row}" for row in range(24)],
        labels=np.arange(24) % 2,
        class_names=("a", "b"),
        groups=[f"s{row // 4}" for row in range(24)],
    )
    folds = list(grouped_k_fold(samples, folds=3, validation=0.0))
    runs: list[str] = []

    def run(fold: Fold, confidence: float) -> FoldResult:
        folder = tmp_path / f"folds-{confidence}" / fold_name(fold)
        folder.mkdir(parents=True, exist_ok=True)

        def compute() -> tuple[Predictions, Sequence[str]]:
            runs.append(folder.name)
            right = np.eye(2)[samples.labels[fold.test]]
            wrong = np.arange(len(fold.test)) < (confidence < 0.8)
            table = np.where(wrong[:, None], right[:, ::-1], right) * (2 * confidence - 1) + (1 - confidence)
            return make_predictions(samples, fold, table), ("untrained",)

        return cached_predictions(folder, compute)

    predictions, warnings = run_folds(folds, lambda fold: run(fold, 0.9))
    again, _ = run_folds(folds, lambda fold: run(fold, 0.9))
    other, _ = run_folds(folds, lambda fold: run(fold, 0.7))
    assert runs == ["00-000", "00-001", "00-002"] * 2 and warnings == ("untrained",)
    assert np.array_equal(predictions.probabilities, again.probabilities)
    assert training_seconds(tmp_path / "folds-0.9") < 1
    rows = compare_predictions(predictions, {"other": other}, ["top1"], primary="other")
    assert rows["other"]["comparison"] == "primary"
    assert rows["other"]["difference"]["top1"]["mean"] == pytest.approx(3 / 24)
    result = EvaluationResult(
        predictions=predictions,
        metrics=predictions.metrics(["top1", "auc"]),
        facts={"protocol": "k-fold"},
        warnings=warnings,
        disclaimers=("Research only.",),
        comparisons=rows,
        sample="clips",
    )
    assert result.metrics["top1"].mean == 1.0 and "predictions" not in result.to_dict()
    saved = result.save(tmp_path, lambda found: evaluation_report(found, subtitle="k-fold"))
    written = json.loads((tmp_path / "metrics.json").read_text())
    assert written == json.loads(json.dumps(saved.to_dict()))
    assert (written["clips"], written["subjects"], written["protocol"]) == (24, 6, "k-fold")
    assert Predictions.read_csv(written["predictions"]).ids == predictions.ids
    page = (tmp_path / "report.html").read_text()
    assert "Research only." in page and "untrained" in page and "6 people" in page
