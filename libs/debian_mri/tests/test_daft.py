from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from judge_world import people
from numpy.testing import assert_allclose, assert_array_equal

from debian_mri.evaluation.baselines.daft import SETTINGS, AffineTransform, Daft, daft
from debian_mri.evaluation.protocols import ProtocolOptions, folds_of
from icube_common.errors import InputError
from icube_common.evaluation import Fold, Samples
from icube_common.training import open_run

QUICK = replace(SETTINGS, max_steps=30, batch_size=16, eval_steps=10, early_stopping_patience=3)


def test_maps_are_scaled_and_shifted_by_pooled_maps_and_variables() -> None:
    transform = AffineTransform(channels=2, variables=1)
    first, last = transform.auxiliary[0], transform.auxiliary[2]
    with torch.no_grad():
        first.weight.zero_()
        last.weight.zero_()
        first.weight[0] = torch.tensor([1.0, 0.0, 0.0])  # hidden 0: the mean of map 0
        first.weight[1] = torch.tensor([0.0, 0.0, 1.0])  # hidden 1: the variable
        last.weight[0, 0] = 2.0  # scale of map 0: twice its mean
        last.weight[1, 1] = 1.0  # scale of map 1: the variable
        last.weight[3, 1] = 10.0  # shift of map 1: ten times the variable
    maps = torch.tensor([[[[1.0, 3.0]], [[5.0, 7.0]]]])
    found = transform(maps, torch.tensor([[0.5]]))
    # map 0: mean 2, scale 4, shift 0; map 1: scale 0.5, shift 5
    assert_allclose(found.detach().numpy(), [[[[4.0, 12.0]], [[7.5, 8.5]]]])


@pytest.mark.parametrize(("dimensions", "shape"), [(2, (3, 5, 32, 32)), (3, (3, 1, 16, 18, 16))])
def test_the_network_takes_slices_and_volumes(dimensions: int, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    model = Daft(dimensions, variables=2, classes=3, width=4).eval()
    image, table = torch.randn(shape), torch.randn(3, 2)
    logits = model(image, table)
    assert logits.shape == (3, 3)
    # each scan for itself, and the variables matter
    assert_allclose(model(image[:1], table[:1]).detach(), logits[:1].detach(), atol=1e-5)
    assert not torch.allclose(model(image, table + 1), logits)
    # the order of slices does not
    assert_allclose(model(image.flip(1), table).detach(), logits.detach(), atol=1e-5)


def world(sides: tuple[int, ...] = (2, 24, 24)) -> tuple[Samples, Fold, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Simulated: the second class has stripes."""
    samples = people(24, sessions=1)
    generator = np.random.default_rng(0)
    stripes = np.broadcast_to(np.arange(sides[-1]) % 4 < 2, sides)
    pictures = {
        name: (generator.normal(size=sides) + 3 * label * stripes).astype(np.float32)
        for name, label in zip(samples.ids, samples.labels, strict=True)
    }
    variables = {name: np.array([generator.normal(), np.nan]) for name in samples.ids}
    return samples, folds_of(samples, "group-kfold", ProtocolOptions(folds=3))[0], pictures, variables


def run(tmp_path: Path, name: str):  # type: ignore[no-untyped-def]
    return open_run(tmp_path / name, config=QUICK, config_yaml="", overwrite=False)


def test_daft_learns_without_test_rows(tmp_path: Path) -> None:
    samples, fold, pictures, variables = world()
    found = daft(fold, pictures, variables, run(tmp_path, "a"), settings=QUICK)
    right = found[np.arange(len(fold.test)), samples.labels[fold.test]]
    assert right.mean() > 0.6
    # other test rows: the training is the same to the last bit, and so are the predictions of those left as they were
    changed = {**pictures, fold.test_ids[0]: -pictures[fold.test_ids[0]]}
    again = daft(fold, changed, variables, run(tmp_path, "b"), settings=QUICK)
    assert_allclose(again[1:], found[1:], atol=1e-6)
    assert (again[0] != found[0]).any()


def test_volumes_without_variables(tmp_path: Path) -> None:
    _, fold, pictures, _ = world((12, 12, 12))
    nothing = {name: np.full(1, np.nan) for name in pictures}
    quick = replace(QUICK, max_steps=2, eval_steps=1)
    found = daft(fold, pictures, nothing, run(tmp_path, "v"), volumes=True, settings=quick)
    assert found.shape == (len(fold.test), 2)
    assert_allclose(found.sum(1), 1)


def test_scans_of_different_slices_are_refused(tmp_path: Path) -> None:
    _, fold, pictures, variables = world()
    pictures[fold.test_ids[0]] = pictures[fold.test_ids[0]][:1]
    with pytest.raises(InputError, match="as many slices of every scan"):
        daft(fold, pictures, variables, run(tmp_path, "r"), settings=QUICK)


def test_validation_rows_of_the_fold_stop_the_training(tmp_path: Path) -> None:
    samples, _, pictures, variables = world()
    fold = folds_of(samples, "group-kfold", ProtocolOptions(folds=3), validation=0.25)[0]
    assert len(fold.validation)
    quick = replace(QUICK, max_steps=2, eval_steps=1)
    folder = run(tmp_path, "s")
    daft(fold, pictures, variables, folder, settings=quick)
    assert any("validation_loss" in record for record in folder.read_metrics())
    assert_array_equal(np.sort(np.concatenate([fold.train, fold.validation, fold.test])), np.arange(len(samples)))
