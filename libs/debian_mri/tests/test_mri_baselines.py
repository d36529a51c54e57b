from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from judge_world import people
from numpy.testing import assert_allclose, assert_array_equal

from debian_mri.evaluation.baselines.fold_tables import Rows, fold_rows, with_missing_indicators
from debian_mri.evaluation.baselines.frozen_encoder import class_words, coop, plane_means, slice_mean, zero_shot
from debian_mri.evaluation.baselines.logistic import STRENGTHS, choose_strength, logistic, prior
from debian_mri.evaluation.protocols import ProtocolOptions, folds_of
from debian_mri.imaging.slices import block_means, coarse, stacked
from icube_common.errors import InputError
from icube_common.evaluation import Fold, Samples, TestLeakageError
from icube_common.evaluation.folds import make_fold
from icube_common.training import TrainConfig, open_run
from icube_common.vlm import FrozenVLM, load_vlm

NAN = np.nan


@pytest.mark.parametrize(
    ("image", "blocks", "expected"),
    [
        ([[1, 3, 5, 7], [1, 3, 5, 7], [0, 0, 2, 2], [4, 4, 6, 6]], 2, [[2, 6], [2, 4]]),
        # three pixels in two blocks: both take the middle one
        ([[0, 3, 6]], 2, [[1.5, 4.5], [1.5, 4.5]]),
        ([[5.0]], 1, [[5.0]]),
    ],
)
def test_block_means_by_hand(image: list[list[float]], blocks: int, expected: list[list[float]]) -> None:
    assert_array_equal(block_means(np.array(image, dtype=np.float32), blocks), np.array(expected, dtype=np.float32))


def test_a_slice_of_176_pixels_has_blocks_of_8() -> None:
    image = np.random.default_rng(0).normal(size=(176, 208)).astype(np.float32)
    means = block_means(image)
    assert means.shape == (22, 22)
    assert_allclose(means[:, 0], image[:, :10].reshape(22, 8, 10).mean((1, 2)), atol=1e-6)
    assert stacked([image, image.T], 4).shape == (2, 4, 4)


def test_volumes_become_voxels_of_8_mm() -> None:
    volume = np.zeros((8, 12, 16), dtype=np.float32)
    volume[:4] = 1
    assert coarse(volume, spacing=2.0).shape == (2, 3, 4)
    assert_array_equal(coarse(volume, spacing=2.0)[:, 0, 0], [1, 0])
    assert coarse(volume, spacing=1.0, mm=4.0).shape == (2, 3, 4)


def test_missing_values_become_the_median_with_an_indicator() -> None:
    train = np.array([[1.0, 5.0, NAN], [3.0, NAN, NAN], [NAN, 7.0, NAN]])
    test = np.array([[NAN, 6.0, 4.0]])
    mine, theirs = with_missing_indicators(train, test)
    # column 1 has mean 2 and deviation 1, column 2 mean 6 and deviation 1; the third was never seen
    assert_allclose(mine, [[-1, -1, 0, 0], [1, 0, 0, 1], [0, 1, 1, 0]])
    assert_allclose(theirs, [[0, 0, 1, 0]])
    nothing = with_missing_indicators(np.full((2, 1), NAN), np.full((1, 1), NAN))
    assert [part.shape for part in nothing] == [(2, 0), (1, 0)]


def wide(rows: int = 30, columns: int = 80, seed: int = 0, signal: float = 1.0) -> Rows:
    generator = np.random.default_rng(seed)
    labels = np.arange(rows) % 2
    train = generator.normal(size=(rows, columns)) * generator.uniform(0.5, 3, columns)
    train[:, :3] += signal * labels[:, None]
    groups = np.array([f"g{row}" for row in range(rows)])
    return Rows(train, labels, groups, generator.normal(size=(7, columns)), 2)


@pytest.mark.parametrize("strength", [1e-3, 1.0])
def test_the_rotation_does_not_change_the_regression(strength: float) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rows = wide()
    plain = make_pipeline(StandardScaler(), LogisticRegression(C=strength, tol=1e-8, max_iter=5000))
    expected = plain.fit(rows.train, rows.labels).predict_proba(rows.test)
    assert_allclose(logistic(rows, strength=strength), expected, atol=2e-3)


def test_strength_depends_on_the_signal() -> None:
    noise = wide(signal=0.0, seed=1)
    assert choose_strength(noise.train, noise, seed=0) == STRENGTHS[0]
    strong = wide(60, columns=3, signal=4.0)
    assert choose_strength(strong.train, strong, seed=0) >= 0.1
    # groups too few for inner folds
    few = Rows(strong.train[:2], strong.labels[:2], np.array(["a", "a"]), strong.test, 2)
    assert choose_strength(few.train, few, seed=0) == 1.0


def test_empty_table_gives_class_frequencies() -> None:
    rows = Rows(np.zeros((4, 0)), np.array([0, 0, 0, 1]), np.array(list("abcd")), np.zeros((2, 0)), 2)
    assert_array_equal(prior(rows), [[0.75, 0.25]] * 2)
    assert_array_equal(logistic(rows), [[0.75, 0.25]] * 2)


def fold_and_table(width: int = 6, seed: int = 0) -> tuple[Samples, Fold, dict[str, np.ndarray]]:
    samples = people(12, sessions=1)
    generator = np.random.default_rng(seed)
    table = {
        name: generator.normal(size=(width,)) + label for name, label in zip(samples.ids, samples.labels, strict=True)
    }
    return samples, folds_of(samples, "group-kfold", ProtocolOptions(folds=3))[0], table


def test_rows_hold_no_label_of_a_test_row() -> None:
    samples, fold, table = fold_and_table()
    rows = fold_rows(fold, table)
    assert len(rows.labels) == len(rows.train) == len(fold.train) == 8
    assert_array_equal(rows.labels, samples.labels[fold.train])
    assert_array_equal(rows.test, np.stack([table[name] for name in fold.test_ids]))
    with pytest.raises(TestLeakageError):
        fold.samples.labels_of(fold.test)


def test_a_baseline_is_the_same_whatever_the_test_labels_are() -> None:
    samples, fold, table = fold_and_table()
    labels = np.array(samples.labels)
    labels[fold.test] = 1 - labels[fold.test]
    other = Samples(ids=samples.ids, labels=labels, class_names=samples.class_names, groups=samples.groups)
    turned = make_fold(other, name=fold.name, train=fold.train, validation=fold.validation, test=fold.test)
    assert_array_equal(logistic(fold_rows(fold, table)), logistic(fold_rows(turned, table)))


def test_a_changed_test_row_changes_its_own_prediction_alone() -> None:
    _, fold, table = fold_and_table()
    features = {name: np.stack([row, row[::-1]]) for name, row in table.items()}
    planes = {name: ["axial", "coronal"] for name in table}
    changed = {**features, fold.test_ids[0]: features[fold.test_ids[0]] + 5}
    before, after = slice_mean(fold, features, planes), slice_mean(fold, changed, planes)
    assert_array_equal(before[1:], after[1:])
    assert (before[0] != after[0]).any()
    rows, other = fold_rows(fold, table), fold_rows(fold, {**table, fold.test_ids[0]: table[fold.test_ids[0]] + 5})
    assert_array_equal(logistic(rows)[1:], logistic(other)[1:])


def test_a_class_without_training_rows_is_refused() -> None:
    samples, fold, table = fold_and_table()
    ones = np.flatnonzero(samples.labels == 1)
    alone = make_fold(
        samples, name="odd", train=np.flatnonzero(samples.labels == 0), validation=np.array([], dtype=int), test=ones
    )
    with pytest.raises(InputError, match="class 'AD' has no training row"):
        fold_rows(alone, table)
    assert fold.train_classes == (0, 1)


def test_means_over_the_slices_of_each_plane() -> None:
    features = np.array([[1.0, 2.0], [3.0, 4.0], [10.0, 20.0]])
    assert_array_equal(plane_means(features, ["coronal", "coronal", "axial"]), [10, 20, 2, 3])


@pytest.fixture(scope="module")
def tiny() -> FrozenVLM:
    return load_vlm("icube-tiny")


def unit(table: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {
        name: torch.nn.functional.normalize(torch.from_numpy(np.stack([row, row])).float(), dim=-1)
        for name, row in table.items()
    }


def test_zero_shot_reads_no_label_and_coop_learns(tiny: FrozenVLM, tmp_path: Path) -> None:
    _, fold, table = fold_and_table(tiny.embed_dim)
    features = unit(table)
    names = {"CN": class_words("CN"), "AD": class_words("AD")}
    found = zero_shot(fold, features, tiny, names)
    assert found.shape == (len(fold.test), 2)
    assert_allclose(found.sum(1), 1)
    settings = TrainConfig(max_steps=3, batch_size=8, device="cpu", report_to="none")
    run = open_run(tmp_path / "run", config=settings, config_yaml="", overwrite=False)
    learnt = coop(fold, features, tiny, names, run, settings=settings)
    assert_allclose(learnt.sum(1), 1)
    other = {**features, fold.test_ids[0]: -features[fold.test_ids[0]]}
    run = open_run(tmp_path / "again", config=settings, config_yaml="", overwrite=False)
    again = coop(fold, other, tiny, names, run, settings=settings)
    # the same rows in a batch of another content: equal up to the order of sums
    assert_allclose(again[1:], learnt[1:], atol=1e-6)


def test_classes_in_words() -> None:
    assert class_words("AD") == "Alzheimer's disease"
    assert class_words("SemanticDementia") == "semantic dementia"


def test_strengths_span_the_measured_range() -> None:
    assert_allclose([STRENGTHS[0], STRENGTHS[-1]], [1e-5, 10])
