"""Attribution of a prediction to slices: the contribution of each, and the prediction without some.

Attention gives the slices that the pooled feature was taken from, not their evidence: it may lie evenly on all slices,
and biomarkers have none. So a slice is weighted by its contribution to the logits, which are a sum:

- a biomarker is the mean over the planes on which it is measured, each plane has its share, and a plane belongs to the
  slice nearest to it; a volume is the sum over planes, and a plane's share is how far its volume differs from the
  expected one;
- an image encoder of whole volumes has one feature, whose part belongs to no slice, and no deletion changes it;
- the projection of the image branch is linear up to the length of the feature, which is kept fixed; where the clinical
  variables join the feature, or the pooling is no linear one, its part is shared by the weights of the pooling.

Deleting slices removes the same parts: the planes no longer count (of a volume they become the expected ones), a
biomarker without any plane left is missing, and the feature is pooled from the other slices.

Shapes: B 1, S slices, K biomarkers, P planes, C classes, N descriptions, D width.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from debian_mri.biomarkers.measurement import BiomarkerMeasurement
from debian_mri.explanation.contributions import SlicePart
from debian_mri.imaging.slices import SliceInfo
from debian_mri.models.mri_model import DESCRIPTION, Batch, MriModel

Array = npt.NDArray[np.float64]

# a plane on which a sign is measured belongs to no slice that is farther away
_NEAR_MM = 15.0


@dataclass(frozen=True, eq=False)
class SliceAttribution:
    """Contributions of the slices of one scan.

    Attributes:
        values: (S, C) added to each class's logit, before calibration.
        unplaced: (C,) of signs that were measured in the volume where no slice is shown, and of the image branch where
            its encoder takes whole volumes.
        attention: (S,) shares in the pooled feature; None without image branch, or with an encoder of volumes.
    """

    values: Array
    unplaced: Array
    attention: Array | None


def nearest_slices(measured: BiomarkerMeasurement, infos: Sequence[SliceInfo]) -> npt.NDArray[np.int64]:
    """(P,) the slice that each plane on which signs were measured belongs to, -1 for none."""
    images = measured.images.copy()
    coronal = [(at, info.position_mm) for at, info in enumerate(infos) if info.plane == "coronal"]
    placed = [(at, place) for at, place in coronal if place is not None]
    if not placed:
        return images
    covariates, places = (np.array(column) for column in zip(*placed, strict=True))
    apart = np.abs(measured.positions_mm[:, None] - places[None])
    nearest = np.where(apart.min(1) <= _NEAR_MM, covariates[apart.argmin(1)], -1)
    return np.where(images >= 0, images, nearest)


@torch.no_grad()
def attribute_to_slices(
    model: MriModel, batch: Batch, infos: Sequence[SliceInfo], measured: BiomarkerMeasurement | None
) -> SliceAttribution:
    """Attribute the logits of a scan to its slices.

    Args:
        model: in eval mode.
        batch: the scan alone.
        infos: its slices.
        measured: its signs, in the model's order; None for a model without signs.
    """
    values = np.zeros((len(infos), len(model.labels)))
    unplaced = np.zeros(len(model.labels))
    if model.biomarkers is not None and measured is not None:
        planes = _sign_planes(model, batch, measured)
        owner = nearest_slices(measured, infos)
        for at in range(len(infos)):
            values[at] += planes[owner == at].sum(0)
        unplaced = planes[owner < 0].sum(0)
    attention = None
    if model.image_branch is not None and model.image_branch.whole_volume:
        unplaced = unplaced + _of_image_branch(model, batch).sum(0)
    elif model.image_branch is not None:
        attention = model.image_branch.pooling.weights(batch["slices"])[0].double().cpu().numpy()
        values += _of_image_branch(model, batch)[: len(infos)]
    return SliceAttribution(values, unplaced, attention)


def _sign_planes(model: MriModel, batch: Batch, measured: BiomarkerMeasurement) -> Array:
    """(P, C) each plane's part of the biomarkers' contributions."""
    assert model.biomarkers is not None
    layer = model.biomarkers
    covariates = model.covariates(batch) if len(layer.slope) else None
    parts = layer(batch["biomarkers"], covariates)[0].double().cpu().numpy()  # (C, K)
    apart = measured.deviations(_expected_values(model, batch))
    there = ~np.isnan(apart)
    apart = np.where(there, apart, 0.0)
    total = apart.sum(1, keepdims=True)
    # planes that cancel out say nothing together: then all have the same share of that nothing
    even = there / np.maximum(there.sum(1, keepdims=True), 1)
    shares = np.where(np.abs(total) > 1e-9, apart / np.where(np.abs(total) > 1e-9, total, 1.0), even)
    planes: Array = np.einsum("ck,kp->pc", parts, shares)
    return planes


@torch.no_grad()
def _expected_values(model: MriModel, batch: Batch) -> Array:
    """(K,) biomarkers that the model expects of controls with the scan's covariates."""
    layer = model.biomarkers
    assert layer is not None
    covariates = model.covariates(batch) if len(layer.slope) else None
    expected = layer.mean if covariates is None else (layer.mean + covariates @ layer.slope)[0]
    values: Array = expected.double().cpu().numpy()
    return values


def _of_image_branch(model: MriModel, batch: Batch) -> Array:
    """(S, C) each slice's part of the image branch's contributions."""
    image_branch = model.image_branch
    assert image_branch is not None
    slices = batch["slices"]
    weights = image_branch.pooling.weights(slices)  # (1, S)
    whole = sum(term.values for term in model.contributions(batch) if term.kind == DESCRIPTION)
    assert isinstance(whole, Tensor)
    shared = torch.einsum("bs,bc->sc", weights, whole)
    if (
        image_branch.film is not None
        or image_branch.branch is not None
        or image_branch.pooling.kind in ("max", "custom")
    ):
        return shared.double().cpu().numpy()
    texts = image_branch.texts()
    start, linear = image_branch.projection.start, image_branch.projection.gain * image_branch.projection.learned
    matrix = start + linear  # (F, D)
    feature = image_branch.prior(slices, texts) + image_branch.projection(image_branch.pooling(slices))
    moved = _slice_rows(
        image_branch.pooling.kind,
        slices,
        weights,
        image_branch.projection.mean,
        image_branch.projection.std,
        matrix,
        by_plane=image_branch.pooling.by_plane,
    )
    # numbers that were drawn in make the sum differ a little: what is left is shared by the slices evenly
    left = image_branch.projection(image_branch.pooling(slices)) - moved.sum(0)
    moved = moved + weights.T * left
    parts = image_branch.to_classes(image_branch.parts(moved / feature.norm(), texts))
    return parts.double().cpu().numpy()


def _slice_rows(
    kind: str,
    slices: Float[Tensor, "1 s d"],
    weights: Float[Tensor, "1 s"],
    center: Tensor,
    deviation: Tensor,
    matrix: Float[Tensor, "f e"],
    *,
    by_plane: bool = False,
) -> Float[Tensor, "s e"]:
    """Contribution of each slice to the feature."""
    filled = slices[0].nan_to_num()
    count, dim = filled.shape
    if kind == "concat":
        z = (slices[0] - center.reshape(count, dim)) / deviation.reshape(count, dim) / (count * dim) ** 0.5
        return torch.einsum("sd,sde->se", z.nan_to_num(), matrix.reshape(count, dim, -1))
    z = (filled - center) / deviation / dim**0.5
    if by_plane and kind == "mean":
        there = ~slices[0].isnan()
        return (z * there / there.sum(0).clamp(min=1)) @ matrix
    return (weights.T * z) @ matrix


def slice_parts(
    evidence: SliceAttribution, infos: Sequence[SliceInfo], first: int, second: int, *, sequence: str = "T1w"
) -> tuple[SlicePart, ...]:
    """The slices with their shares of the evidence for one class rather than another.

    Args:
        evidence: of the scan.
        infos: its slices.
        first: number of the predicted class.
        second: number of the runner-up.
        sequence: that the slices are of.
    """
    margins = evidence.values[:, first] - evidence.values[:, second]
    helping = np.clip(margins, 0, None)
    total = helping.sum()
    weights = helping / total if total > 1e-9 else np.zeros(len(helping))
    return tuple(
        SlicePart(
            plane=info.plane,
            position_mm=info.position_mm,
            weight=float(weights[at]),
            regions=info.regions,
            sequence=sequence,
            contributions=tuple(evidence.values[at].tolist()),
            attention=None if evidence.attention is None else float(evidence.attention[at]),
        )
        for at, info in enumerate(infos)
    )


def mask_slices(
    model: MriModel,
    batch: Batch,
    infos: Sequence[SliceInfo],
    measured: BiomarkerMeasurement | None,
    gone: Collection[int],
) -> dict[str, Tensor]:
    """The batch of a scan without some of its slices.

    Args:
        model: whose tables the batch has.
        batch: the scan alone.
        infos: its slices.
        measured: its signs; None for a model without signs.
        gone: numbers of the slices that are deleted.
    """
    changed = dict(batch)
    places = np.array(sorted(gone), dtype=np.int64)
    if measured is not None and model.biomarkers is not None:
        removed = np.isin(nearest_slices(measured, infos), places)
        left = measured.without(removed, _expected_values(model, batch))
        changed["biomarkers"] = torch.from_numpy(left).float()[None].to(model.device)
    if model.image_branch is not None and not model.image_branch.whole_volume:
        slices = batch["slices"].clone()
        if model.image_branch.pooling.kind == "concat":
            # the middle of the training scans: the map makes 0 of it
            middle = model.image_branch.projection.mean.reshape(slices.shape[1:])
            slices[0, places] = middle[places]
        elif len(places) < len(infos):
            slices[0, places] = torch.nan
        changed["slices"] = slices
    return changed
