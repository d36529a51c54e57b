"""Pixel features of the image branch: columns of each plane, no backbone, explanations that sum to the logits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch
from model_world import drawn_brain, settings, texts, write_slices

from debian_mri.data.dataset import to_tensors
from debian_mri.data.feature_store import pixel_width, uses_pixels
from debian_mri.data.inputs import Inputs, load_inputs, used_by
from debian_mri.data.manifest import Manifest
from debian_mri.evaluation.context import EvaluationContext
from debian_mri.explanation.explain import contributions, explain_inputs
from debian_mri.explanation.slice_attribution import attribute_to_slices, mask_slices
from debian_mri.imaging.slices import BLOCKS, SliceImage, SliceInfo, block_means
from debian_mri.imaging.slices import pixel_features as block_features
from debian_mri.models.checkpoint import load_model
from debian_mri.models.mri_model import DESCRIPTION, MriModel
from debian_mri.models.slice_pooling import SlicePooling
from debian_mri.training.run import train
from icube_common.vlm import FrozenVLM, load_vlm

CONFIG = settings("visual.encoder=auto", "concepts.enabled=false", "slices.planes=[coronal]", "visual.tune=false")
PLANES = ("axial", "coronal")


def pixel_features(images: Sequence[SliceImage], planes: Sequence[str]) -> torch.Tensor:
    return torch.from_numpy(block_features(images, planes))


@pytest.fixture(scope="module")
def tiny() -> FrozenVLM:
    return load_vlm("icube-tiny")


def image(seed: int, plane: str) -> SliceImage:
    grey = drawn_brain(3, np.random.default_rng(seed)).astype(np.float32) / 255
    return SliceImage(image=grey, plane=plane, position_mm=None, regions=())


def test_auto_is_an_encoder_trained_with_captions_or_pixels(tiny: FrozenVLM) -> None:
    assert uses_pixels(CONFIG, tiny)
    assert not uses_pixels(settings("visual.encoder=vlm"), tiny)
    assert uses_pixels(settings("visual.encoder=pixels"), tiny)

    trained = SimpleNamespace(encoder=None, origin=SimpleNamespace(trained_on_pairs=True))
    chosen = SimpleNamespace(encoder="resnet", origin=SimpleNamespace(trained_on_pairs=False))
    assert not uses_pixels(CONFIG, cast(FrozenVLM, trained)) and not uses_pixels(CONFIG, cast(FrozenVLM, chosen))


def test_each_plane_has_its_own_columns() -> None:
    images = [image(0, "coronal"), image(1, "axial")]
    features = pixel_features(images, PLANES)
    assert features.shape == (2, 2 * BLOCKS**2)
    axial, coronal = features[:, : BLOCKS**2], features[:, BLOCKS**2 :]
    assert axial[0].isnan().all() and coronal[1].isnan().all()
    np.testing.assert_allclose(coronal[0] * BLOCKS, block_means(images[0].image).reshape(-1), rtol=1e-6)
    assert features.nan_to_num().norm(dim=1).max() <= 1


def test_the_mean_is_that_of_each_plane() -> None:
    features = pixel_features([image(0, "coronal"), image(1, "axial"), image(2, "coronal")], PLANES)[None]
    missing = torch.full_like(features[:, :1], torch.nan)
    pooling = SlicePooling("mean", features.shape[-1], slices=0, by_plane=True)
    pooled = pooling(torch.cat([features, missing], 1))[0]
    torch.testing.assert_close(pooled[: BLOCKS**2], features[0, 1, : BLOCKS**2])
    torch.testing.assert_close(pooled[BLOCKS**2 :], features[0, ::2, BLOCKS**2 :].mean(0))
    assert pooling(features[:, :1])[0, : BLOCKS**2].isnan().all()  # no axial slice: imputed by the projection
    assert pooling.weights(torch.cat([features, missing], 1))[0].tolist() == pytest.approx([1 / 3, 1 / 3, 1 / 3, 0])


def test_no_image_is_encoded(tmp_path: Path, tiny: FrozenVLM, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiny, "encode_image", None)
    manifest = Manifest.load(write_slices(tmp_path / "data", count=4))
    inputs = load_inputs(manifest, CONFIG, tiny)
    assert inputs.features is not None and inputs.encoded is None
    assert {features.shape for features in inputs.features.values()} == {(1, pixel_width(CONFIG))}
    assert [info.plane for info in inputs.slices["scan00"]] == ["coronal"]
    assert not (manifest.folder / "features").exists()


def test_baselines_have_the_encoder_beside_pixels(tmp_path: Path) -> None:
    manifest = Manifest.load(write_slices(tmp_path / "data", count=4))
    context = EvaluationContext.load(manifest, CONFIG, tmp_path / "out", wider=True)
    assert context.inputs.features is not None and context.inputs.encoded is not None
    assert context.inputs.features["scan00"].shape == (1, BLOCKS**2)
    assert context.inputs.encoded["scan00"].shape == (1, 64)


def two_planes(count: int = 12) -> Inputs:
    """People of two slices, whose pixels differ."""
    ids = tuple(f"s{number:02d}" for number in range(count))
    features = {
        name: pixel_features([image(2 * at, "axial"), image(2 * at + 1, "coronal")], PLANES)
        for at, name in enumerate(ids)
    }
    return Inputs(ids, features)


@pytest.mark.parametrize("pooling", ["mean", "attention", "concat", "max"])
def test_slices_sum_to_the_contribution_of_the_image(pooling: str, tiny: FrozenVLM) -> None:
    config = settings(
        "visual.encoder=pixels",
        "concepts.enabled=false",
        f"slices.planes=[{','.join(PLANES)}]",
        f"visual.pooling={pooling}",
    )
    inputs = used_by(two_planes(), config)
    model = MriModel.for_inputs(inputs, ("CN", "AD"), config, tiny, texts(config))
    branch, rows = model.image_branch, to_tensors(inputs)
    assert branch is not None and branch.pixels
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        branch.projection.fit_scale(branch.pooling(rows["slices"]))
        branch.projection.learned.normal_(generator=generator)
    model.eval()
    batch = {name: table[:1] for name, table in rows.items()}
    infos = tuple(SliceInfo(plane, None, ()) for plane in PLANES)
    attribution = attribute_to_slices(model, batch, infos, None)
    terms = contributions(model, batch)
    whole = sum(value[0] for kind, value in zip(terms.kinds, terms.values, strict=True) if kind == DESCRIPTION)
    with torch.no_grad():
        known = branch.prior(batch["slices"], branch.texts())
        feature = known + branch.projection(branch.pooling(batch["slices"]))
        shared = branch.to_classes(branch.parts(known / feature.norm(), branch.texts()))[0].double().numpy()
    total = attribution.values.sum(0) + (0 if pooling == "max" else shared)
    np.testing.assert_allclose(total, whole, atol=1e-4)
    assert not torch.isnan(model(batch)).any()
    if pooling == "mean":
        # without its coronal slice the scan has the training mean there, and the axial columns as before
        left = mask_slices(model, batch, infos, None, [1])
        z, before = (branch.projection.standardise(branch.pooling(one["slices"]))[0] for one in (left, batch))
        assert (z[BLOCKS**2 :] == 0).all()
        torch.testing.assert_close(z[: BLOCKS**2], before[: BLOCKS**2])


def test_a_trained_model_is_read_again(tmp_path: Path, tiny: FrozenVLM) -> None:
    data = write_slices(tmp_path / "data", count=12)
    result = train(CONFIG, data, tmp_path / "run")
    model = load_model(result.run.path)
    assert model.image_branch is not None and model.image_branch.pixels
    assert model.image_branch.projection.mean.shape == (BLOCKS**2,)
    inputs = load_inputs(Manifest.load(data), CONFIG, tiny)
    explanation = explain_inputs(model, inputs, "scan03")
    assert explanation.backbone.startswith("pixels; class texts of icube-tiny") and explanation.trained
    card = (result.run.path / "model" / "README.md").read_text()
    assert "slice images (pixels; class texts of icube-tiny" in card
