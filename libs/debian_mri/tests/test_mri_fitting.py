"""A fold's training: rows it reads, reproducibility, and the result of a tiny one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from model_world import SIGNS_ONLY, changed, people, settings, texts, write_slices

from debian_mri.config import MriConfig
from debian_mri.data.inputs import Inputs, load_inputs, used_by
from debian_mri.data.manifest import Manifest
from debian_mri.models.class_texts import MriTexts
from debian_mri.training.trainer import TrainedFold, predict_test, train_fold
from icube_common.errors import InputError
from icube_common.evaluation import Fold, Samples, grouped_k_fold, train_on_all
from icube_common.io.runs import RunFolder
from icube_common.vlm import FrozenVLM, load_vlm


@pytest.fixture(scope="module")
def tiny() -> FrozenVLM:
    return load_vlm("icube-tiny")


def first_fold(samples: Samples) -> Fold:
    return next(grouped_k_fold(samples, folds=3, validation=0.0))


def trained(
    folder: Path, inputs: Inputs, fold: Fold, config: MriConfig, vlm: FrozenVLM | None, *, known: MriTexts | None = None
) -> TrainedFold:
    run = RunFolder.create(folder, config_yaml="", environment={})
    return train_fold(inputs, fold, config, vlm, known or texts(config), run)


ALL = (
    "demographics.mode=linear",
    "concepts.covariate_adjusted=true",
    "visual.pooling=attention",
    "calibration.method=bias",
)


def test_training_is_independent_of_test_rows(tmp_path: Path, tiny: FrozenVLM) -> None:
    samples, inputs = people()
    fold, config = first_fold(samples), settings(*ALL)
    one = trained(tmp_path / "one", inputs, fold, config, tiny)
    for name in fold.test_ids:
        inputs = changed(inputs, name)
    other = trained(tmp_path / "other", inputs, fold, config, tiny)
    for name, value in one.model.learned().items():
        assert torch.equal(value, other.model.learned()[name]), name
    assert one.model.calibration == other.model.calibration and one.model.abstention == other.model.abstention
    np.testing.assert_array_equal(one.inner, other.inner)
    # and the test rows themselves are what was changed
    assert not np.allclose(predict_test(one, people()[1], fold), predict_test(other, inputs, fold))


def test_a_training_repeats_itself_and_another_seed_does_not(tmp_path: Path, tiny: FrozenVLM) -> None:
    samples, inputs = people()
    fold, config = first_fold(samples), settings(*ALL)
    one, other = (trained(tmp_path / name, inputs, fold, config, tiny) for name in ("one", "other"))
    np.testing.assert_array_equal(predict_test(one, inputs, fold), predict_test(other, inputs, fold))
    seeded = replace(config, train=replace(config.train, seed=1))
    third = trained(tmp_path / "third", inputs, fold, seeded, tiny)
    assert not np.array_equal(predict_test(one, inputs, fold), predict_test(third, inputs, fold))


def test_out_of_fold_logits_are_of_models_without_that_person(tmp_path: Path) -> None:
    """Changing one person's signs changes the others' out-of-fold logits only where that person was trained on."""
    samples, inputs = people()
    fold, config = train_on_all(samples), settings(*SIGNS_ONLY)
    one = trained(tmp_path / "one", inputs, fold, config, None)
    assert one.inner.shape == (24, 2) and np.isfinite(one.inner).all()
    other = trained(tmp_path / "other", changed(inputs, "s00", by=0.3), fold, config, None)
    same = np.isclose(one.inner, other.inner, atol=0).all(axis=1)
    assert 0 < same.sum() < 24 and not same[0]


def test_few_people_are_neither_calibrated_nor_abstained_on(tmp_path: Path) -> None:
    samples, inputs = people(4)
    config = settings(*SIGNS_ONLY, "calibration.folds=4")
    found = trained(tmp_path / "run", inputs, train_on_all(samples), config, None)
    assert found.model.calibration.rows == 0 and found.model.abstention.rows == 0
    assert any(note.startswith("Not calibrated") for note in found.warnings)


def test_the_best_validation_is_kept(tmp_path: Path) -> None:
    samples, inputs = people()
    config = settings(*SIGNS_ONLY, "train.eval_steps=1", "train.early_stopping_patience=2")
    assert config.validation_share > 0
    fold = train_on_all(samples, validation=config.validation_share)
    assert trained(tmp_path / "run", inputs, fold, config, None).result.best_step is not None
    with pytest.raises(InputError, match="eval_steps"):
        trained(tmp_path / "none", inputs, train_on_all(samples), config, None)


def test_tables_that_were_not_loaded_are_named(tmp_path: Path) -> None:
    _, inputs = people()
    with pytest.raises(InputError, match="features"):
        used_by(replace(inputs, features=None), settings())
    with pytest.raises(InputError, match="sylvian_widening"):
        used_by(inputs, settings("concepts.biomarkers=[sylvian_widenin]"))
    chosen = used_by(inputs, settings(*SIGNS_ONLY, "concepts.biomarkers=[sylvian_widening]"))
    assert chosen.biomarkers is not None and chosen.biomarkers.names == ("sylvian_widening",)
    assert chosen.features is None and chosen.demographics is None


@pytest.mark.parametrize("mode", ["film", "text"])
def test_variables_join_the_image(mode: str, tmp_path: Path, tiny: FrozenVLM) -> None:
    samples, inputs = people(16)
    fold = train_on_all(samples)
    config = settings(f"demographics.mode={mode}", "train.max_steps=2", "calibration.folds=2")
    found = trained(tmp_path / "run", inputs, fold, config, tiny)
    assert np.isfinite(found.inner).all()


def test_a_tiny_training_on_simulated_slices(tmp_path: Path) -> None:
    """Golden: pixels to probabilities. The fluid of the ill is wider, so the signs separate them."""
    manifest = Manifest.load(write_slices(tmp_path / "data"))
    config = settings(*SIGNS_ONLY, "train.max_steps=20", "train.learning_rate=0.05")
    inputs = load_inputs(manifest, config)
    fold = first_fold(manifest.samples())
    found = trained(tmp_path / "run", inputs, fold, config, None, known=MriTexts.of(manifest, config))
    probabilities = predict_test(found, inputs, fold)
    labels = manifest.targets()[fold.test]
    assert (probabilities.argmax(1) == labels).mean() >= 0.8
    np.testing.assert_allclose(probabilities[:3, 1], GOLDEN, atol=1e-3)


GOLDEN = (0.07227, 0.56423, 0.92587)


def test_missing_ages_stay_missing_until_the_model_declares_them(tmp_path: Path) -> None:
    manifest = Manifest.load(write_slices(tmp_path / "data", with_missing=True))
    linear = (*SIGNS_ONLY, "concepts.enabled=false", "demographics.mode=linear")
    inputs = load_inputs(manifest, settings(*linear))
    assert inputs.demographics is not None
    assert np.isnan(inputs.demographics.values[3, 0]) and np.isnan(inputs.demographics.values).sum() == 1
    found = trained(tmp_path / "run", inputs, train_on_all(manifest.samples()), settings(*linear), None)
    assert np.isfinite(found.inner).all()
    with pytest.raises(InputError, match=r"age of scan scan03 is missing.*demographics.missing"):
        load_inputs(manifest, settings(*linear, "demographics.missing=refuse"))


def test_cognitive_score_needs_the_flag_and_gives_a_disclaimer(tmp_path: Path) -> None:
    manifest = Manifest.load(write_slices(tmp_path / "data"))
    linear = (*SIGNS_ONLY, "demographics.mode=linear", "demographics.columns=[age,MMSE]")
    with pytest.raises(InputError, match=r"MMSE.*tier C.*allow_diagnostic"):
        load_inputs(manifest, settings(*linear))
    inputs = load_inputs(manifest, settings(*linear, "demographics.allow_diagnostic=true"))
    assert len(inputs.disclaimers) == 1 and "MMSE" in inputs.disclaimers[0]
    config = settings(*linear, "demographics.allow_diagnostic=true")
    found = trained(tmp_path / "run", inputs, train_on_all(manifest.samples()), config, None)
    assert found.disclaimers == inputs.disclaimers and inputs.disclaimers[0] in found.warnings
    # without the table nothing is stamped
    assert used_by(inputs, settings(*SIGNS_ONLY)).disclaimers == ()
