"""Comparison of published methods with the own model, on a small simulated cohort."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import Command, as_json, command_fixture
from judge_world import SETTINGS, write_cohort

from debian_mri import compare_methods
from debian_mri.cli import main
from debian_mri.config import MriConfig
from debian_mri.evaluation.methods import CONFIGURED, OWN, few_shot_folds
from debian_mri.evaluation.protocols import ProtocolOptions
from icube_common.config import load_config
from icube_common.errors import InputError


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("methods")
    write_cohort(folder / "data", columns=("age", "sex"))
    return folder


command = command_fixture(main, "debian_mri")


def test_images_of_the_encoder(place: Path, tmp_path: Path, command: Command) -> None:
    words = ["compare-methods", "--data", place / "data", "--methods", "zero-shot,nearest mean", "--seeds", "1"]
    words += ["--folds", "2", "--out", tmp_path / "out", "--json", "demographics.mode=linear", *SETTINGS]
    saved = as_json(command(*words))
    rows = {row["name"]: row for row in saved["methods"]}
    assert list(rows) == [OWN, CONFIGURED, "zero-shot", "nearest mean"] and saved["reference"] == OWN
    # holes of other sizes: the simulated classes are separate
    assert rows["nearest mean"]["metrics"]["all classes"]["auc"]["mean"] == 1.0
    assert rows["nearest mean"]["metrics"]["all classes"]["auc"]["groups"] == 16
    assert rows["zero-shot"]["trained_parameters"] == 0 < rows[CONFIGURED]["trained_parameters"]
    trained_with = load_config(MriConfig, file=tmp_path / "out/runs" / OWN / "00-000-seed-0/training/config.yaml")
    assert trained_with.visual.encoder == "vlm" and trained_with.demographics.mode == "none"
    assert not trained_with.concepts.enabled


def test_pixels_have_no_texts(place: Path, tmp_path: Path) -> None:
    config = load_config(MriConfig, overrides=[*SETTINGS])
    result = compare_methods(
        place / "data",
        config,
        out=tmp_path / "out",
        methods=["zero-shot", "nearest mean"],
        features="pixels",
        seeds=1,
        options=ProtocolOptions(folds=2),
    )
    rows = {row.name: row for row in result.rows}
    assert "no features in the space of the texts" in rows["zero-shot"].note and not rows["zero-shot"].metrics
    assert rows["nearest mean"].metrics["all classes"]["auc"].mean == 1.0


def test_few_scans_of_other_people(place: Path) -> None:
    samples = write_cohort(place / "more", people=16, sessions=2).samples()
    folds = few_shot_folds(samples, ProtocolOptions(folds=2, repeats=2), [1, 3])
    assert [shots for shots, _ in folds] == [1, 3] * 4 and {fold.repeat for _, fold in folds} == {0, 1}
    for shots, fold in folds:
        assert len(fold.train) == 2 * shots
        groups = samples.group_array
        assert not set(groups[fold.train]) & set(groups[fold.test])


@pytest.mark.parametrize(
    ("options", "pattern"),
    [
        ({"features": "voxels"}, "features 'voxels'.*biomarkers, images, pixels"),
        ({"methods": "coopp"}, "method 'coopp'"),
        ({"seeds": 0}, "seeds 0"),
        ({"protocol": "k-fold"}, "protocol 'k-fold'"),
    ],
)
def test_refusals(place: Path, tmp_path: Path, options: dict, pattern: str) -> None:  # type: ignore[type-arg]
    config = load_config(MriConfig, overrides=[*SETTINGS])
    with pytest.raises(InputError, match=pattern):
        compare_methods(place / "data", config, out=tmp_path / "out", **{"methods": "none", **options})
