"""The run of a training: other data and selections on resuming, trained subjects, result and report."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from training_job import make_config, make_model, step, train

from icube_common.errors import InputError
from icube_common.evaluation import Samples, select_groups, train_on_all
from icube_common.io.runs import RunFolder, write_json
from icube_common.training import TrainingResult, check_same_data, finish_run, trained_on, training_report

SAMPLES = Samples(
    ids=["a1", "a2", "b1", "c1"], labels=np.array([0, 1, 0, 1]), class_names=["x", "y"], groups=["a", "a", "b", "c"]
)


def test_groups_are_selected_and_excluded() -> None:
    assert select_groups(SAMPLES, [], option="--subjects").tolist() == [0, 1, 2, 3]
    assert select_groups(SAMPLES, ["a"], option="--subjects").tolist() == [0, 1]
    assert select_groups(SAMPLES, ["a"], option="--exclude-subjects", exclude=True).tolist() == [2, 3]
    with pytest.raises(InputError, match="--subjects d: no such subject; there are a, b, c"):
        select_groups(SAMPLES, ["d"], option="--subjects")
    with pytest.raises(InputError, match="--exclude-subjects a,b,c: no subject is left"):
        select_groups(SAMPLES, ["a", "b", "c"], option="--exclude-subjects", exclude=True)
    fold = train_on_all(SAMPLES.subset(select_groups(SAMPLES, ["a"], option="--subjects")))
    assert trained_on(fold) == {"subjects": ["a"], "ids": ["a1", "a2"]}


def test_a_resumed_run_has_the_data_and_the_selection_of_its_start(tmp_path: Path) -> None:
    selection = {"protocol": None, "exclude_subjects": ["s1", "s2"]}
    check_same_data(tmp_path, fingerprint="abc", selection=selection)  # no run folder: `open_run` says so
    write_json(tmp_path / "environment.json", {"data_fingerprint": "abc", "selection": selection})
    check_same_data(tmp_path, fingerprint="abc", selection=selection)
    with pytest.raises(InputError, match=r"was trained on other data \(fingerprint abc, here abd\)"):
        check_same_data(tmp_path, fingerprint="abd", selection=selection)
    with pytest.raises(InputError, match="was started with --exclude-subjects s1,s2; resume with the same"):
        check_same_data(tmp_path, fingerprint="abc", selection={"protocol": None, "exclude_subjects": []})
    write_json(tmp_path / "environment.json", {"data_fingerprint": "abc", "selection": {"exclude_subjects": []}})
    with pytest.raises(InputError, match="was started with all samples"):
        check_same_data(tmp_path, fingerprint="abc", selection={"exclude_subjects": ["s1"]})


def test_result_and_report_of_a_run(tmp_path: Path) -> None:
    fit = train(tmp_path / "run", make_config(max_steps=2, logging_steps=1), model=make_model(), step=step)
    run = RunFolder(tmp_path / "run")
    result = TrainingResult(run=run, model=fit.model, fit=fit, facts={"clips": 4}, warnings=("untrained",))
    saved: list[Path] = []
    same = finish_run(
        result,
        save=saved.append,
        report=lambda: training_report(run, fit, subtitle="toy", warnings=result.warnings, facts={"clips": 4}),
    )
    assert same is result and saved == [run.model] and not fit.model.training
    values = result.to_dict()
    assert (values["clips"], values["steps"], values["model"]) == (4, 2, str(run.model))
    assert values["last"]["step"] == 2 and values["warnings"] == ["untrained"]
    page = run.report.read_text()
    assert "untrained" in page and "stopped because" in page and "Losses" in page
