"""Contributions of slices to the logits: sums that come out even, and slices that are taken away."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from model_world import people, settings, texts

from debian_mri.biomarkers.measurement import BiomarkerMeasurement
from debian_mri.data.dataset import to_tensors
from debian_mri.data.inputs import Inputs, used_by
from debian_mri.explanation.explain import contributions
from debian_mri.explanation.slice_attribution import (
    SliceAttribution,
    attribute_to_slices,
    mask_slices,
    nearest_slices,
    slice_parts,
)
from debian_mri.imaging.slices import SliceInfo
from debian_mri.models.mri_model import BIOMARKER, DESCRIPTION, MriModel
from debian_mri.training.trainer import train_fold
from icube_common.evaluation import train_on_all
from icube_common.io.runs import RunFolder
from icube_common.vlm import FrozenVLM, load_vlm

INFOS = tuple(SliceInfo("coronal", place, ()) for place in (-40.0, -20.0, 0.0))


@pytest.fixture(scope="module")
def tiny() -> FrozenVLM:
    return load_vlm("icube-tiny")


def trained(folder: Path, vlm: FrozenVLM | None, *overrides: str) -> tuple[MriModel, Inputs]:
    samples, inputs = people(16)
    config = settings(*overrides)
    run = RunFolder.create(folder / "run", config_yaml="", environment={})
    model = train_fold(inputs, train_on_all(samples), config, vlm, texts(config), run).model
    return model, used_by(inputs, config)


def one(inputs: Inputs) -> Inputs:
    from dataclasses import replace

    return replace(inputs, ids=inputs.ids[1:2])


def planes_of(inputs: Inputs) -> BiomarkerMeasurement:
    """Four planes, two of them nearest to the slice at -20 mm, one too far from all; their means are the signs."""
    assert inputs.biomarkers is not None
    values = inputs.biomarkers.rows(inputs.ids)[0]
    around = np.array([-0.3, 0.1, 0.2, 0.0])
    return BiomarkerMeasurement(values[:, None] + around, np.array([-38.0, -22.0, -14.0, 60.0]), np.full(4, -1))


@pytest.mark.parametrize("pooling", ["mean", "attention", "concat", "max"])
def test_slice_contributions_sum_to_biomarkers_and_image(pooling: str, tmp_path: Path, tiny: FrozenVLM) -> None:
    model, inputs = trained(tmp_path, tiny, f"visual.pooling={pooling}", "visual.tune=false")
    scan = one(inputs)
    batch = to_tensors(scan)
    found = attribute_to_slices(model, batch, INFOS, planes_of(scan))
    terms = contributions(model, batch)
    biomarkers = sum(v[0] for kind, v in zip(terms.kinds, terms.values, strict=True) if kind == BIOMARKER)
    image_branch = sum(v[0] for kind, v in zip(terms.kinds, terms.values, strict=True) if kind == DESCRIPTION)
    total = found.values.sum(0) + found.unplaced
    if pooling == "max":
        np.testing.assert_allclose(total, biomarkers + image_branch, atol=1e-4)
    else:
        # what all scans share in the picture is of no slice
        with torch.no_grad():
            assert model.image_branch is not None
            known = model.image_branch.prior(batch["slices"], model.image_branch.texts())
            feature = known + model.image_branch.projection(model.image_branch.pooling(batch["slices"]))
            shared = model.image_branch.to_classes(
                model.image_branch.parts(known / feature.norm(), model.image_branch.texts())
            )
        np.testing.assert_allclose(total, biomarkers + image_branch - shared[0].double().numpy(), atol=1e-4)
    assert found.attention is not None and found.attention.sum() == pytest.approx(1)


def test_a_plane_belongs_to_the_nearest_slice() -> None:
    measured = BiomarkerMeasurement(np.zeros((1, 4)), np.array([-38.0, -22.0, -14.0, 60.0]), np.full(4, -1))
    assert nearest_slices(measured, INFOS).tolist() == [0, 1, 1, -1]
    images = BiomarkerMeasurement(np.zeros((1, 2)), np.array([-20.0, -20.0]), np.array([2, 0]))
    assert nearest_slices(images, (SliceInfo("axial", None, ()),) * 3).tolist() == [2, 0]


def test_biomarker_without_its_slices_follows_the_other_planes(tmp_path: Path) -> None:
    model, inputs = trained(tmp_path, None, "visual.enabled=false")
    scan = one(inputs)
    batch, measured = to_tensors(scan), planes_of(scan)
    left = mask_slices(model, batch, INFOS, measured, [1])
    # planes -0.3 and 0 of -0.3, 0.1, 0.2, 0
    np.testing.assert_allclose(left["biomarkers"], batch["biomarkers"] - 0.15, atol=1e-6)
    everywhere = BiomarkerMeasurement(measured.planes[:, :3], measured.positions_mm[:3], measured.images[:3])
    gone = mask_slices(model, batch, INFOS, everywhere, [0, 1, 2])
    assert gone["biomarkers"].isnan().all()
    with torch.no_grad():
        assert torch.equal(model(gone)[0], model.bias)  # nothing else takes part


@pytest.mark.parametrize("pooling", ["mean", "concat"])
def test_without_a_slice_the_feature_is_of_the_others(pooling: str, tmp_path: Path, tiny: FrozenVLM) -> None:
    model, inputs = trained(tmp_path, tiny, f"visual.pooling={pooling}", "concepts.enabled=false")
    batch = to_tensors(one(inputs))
    left = mask_slices(model, batch, INFOS, None, [0])
    assert model.image_branch is not None
    if pooling == "mean":
        pooled = model.image_branch.pooling(left["slices"])
        torch.testing.assert_close(pooled, batch["slices"][:, 1:].mean(1))
    else:
        pooled = model.image_branch.pooling(left["slices"])
        dim = batch["slices"].shape[-1]
        torch.testing.assert_close(model.image_branch.projection.standardise(pooled)[0, :dim], torch.zeros(dim))


def test_weights_are_shares_of_positive_evidence() -> None:
    values = np.array([[0.0, 3.0], [0.5, 0.0], [-1.0, 0.0]])  # margins 3, -0.5, 1
    parts = slice_parts(SliceAttribution(values, np.zeros(2), None), INFOS, 1, 0)
    assert [part.weight for part in parts] == [0.75, 0.0, 0.25] and parts[0].contributions == (0.0, 3.0)
    assert {part.weight for part in slice_parts(SliceAttribution(-values[:1], np.zeros(2), None), INFOS[:1], 1, 0)} == {
        0
    }
