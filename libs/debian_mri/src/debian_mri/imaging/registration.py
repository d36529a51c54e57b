"""Affine registration of a head to the ICBM152 template, and N4, both by SimpleITK."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64

from debian_mri.imaging.nifti import RawVolume
from debian_mri.imaging.orientation import RegistrationStart, registration_starts, similarity
from debian_mri.imaging.template import MIDDLE, load_template
from icube_common.errors import InputError

# SimpleITK's world is LPS, ours RAS
_FLIP = np.diag([-1.0, -1.0, 1.0, 1.0])
# brain and a margin: a head's neck and face have no counterpart in the template, which has no skull
_MARGIN_MM = 8
# of the template that has to lie inside the image after registration
_MIN_INSIDE = 0.8
# mutual information with the template inside the brain: 0.25 to 0.51 for 14 real heads, at most 0.11 in a wrong
# orientation
MIN_SIMILARITY = 0.15
# of the rotated starts that many are registered to the end
_REFINED = 2


def to_sitk(data: Float32[np.ndarray, "x y z"], affine: Float64[np.ndarray, "4 4"]) -> Any:
    """A SimpleITK image of a volume in RAS."""
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(np.ascontiguousarray(data.transpose(2, 1, 0), dtype=np.float32))
    lps = _FLIP @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    image.SetDirection((lps[:3, :3] / spacing).reshape(-1).tolist())
    return image


def correct_bias(
    data: Float32[np.ndarray, "x y z"], affine: Float64[np.ndarray, "4 4"], *, shrink: int = 4
) -> Float32[np.ndarray, "x y z"]:
    """N4 (Tustison et al., IEEE TMI 2010) inside Otsu's mask; the field is fitted on every ``shrink``-th voxel."""
    import SimpleITK as sitk

    image = to_sitk(data, affine)
    mask = sitk.OtsuThreshold(image, 0, 1, 200)
    factors = [min(shrink, max(1, size // 16)) for size in image.GetSize()]
    n4 = sitk.N4BiasFieldCorrectionImageFilter()
    n4.SetMaximumNumberOfIterations([30, 30, 20])
    n4.SetNumberOfThreads(1)  # sums of several threads differ in the last digits
    n4.Execute(sitk.Shrink(image, factors), sitk.Shrink(mask, factors))
    field = sitk.GetArrayFromImage(n4.GetLogBiasFieldAsImage(image)).transpose(2, 1, 0)
    corrected: Float32[np.ndarray, "x y z"] = (data / np.exp(field)).astype(np.float32)
    return corrected


def register_affine(volume: RawVolume) -> Float64[np.ndarray, "4 4"]:
    """Affine registration of a head to MNI space: matrix from its world (RAS, mm) to the template's.

    Mattes' mutual information over the template's brain and a margin around it, by rigid, then affine steps on 8, 4
    and 2 mm, from `debian_mri.imaging.orientation.registration_starts`: the head may have any rotation in its affine.
    A mirrored head is not recognised. Deterministic.

    Raises:
        InputError: too little overlap of image and template, or too little similarity.
    """
    import SimpleITK as sitk

    template = load_template()
    step = 2  # mm; a finer grid moves the result by less than a tenth of a voxel and takes eight times as long
    affine = template.affine.copy()
    affine[:3, :3] *= step
    fixed = to_sitk(template.t1[::step, ::step, ::step], affine)
    mask = sitk.Cast(fixed > 0.2, sitk.sitkUInt8)
    mask = sitk.BinaryDilate(mask, [_MARGIN_MM // step] * 3)
    starts = registration_starts(volume)
    with _one_thread():
        moving, start, best = _best_of(fixed, mask, volume, starts)
    inside = sitk.Resample(moving * 0 + 1, fixed, best, sitk.sitkNearestNeighbor, 0.0)
    brain = sitk.GetArrayFromImage(mask) > 0
    covered = float((sitk.GetArrayFromImage(inside)[brain] > 0).mean())
    scale = abs(np.linalg.det(np.array(best.GetMatrix()).reshape(3, 3)))
    if covered < _MIN_INSIDE or not 0.4 < scale < 2.5:
        raise InputError(
            f"registration to MNI failed: {100 * covered:.0f} % of the template's brain lie inside the image, volumes "
            f"scaled by {1 / scale:.2f}: is it a whole head?"
        )
    matrix = np.eye(4)
    centre = np.array(best.GetCenter())
    matrix[:3, :3] = np.array(best.GetMatrix()).reshape(3, 3)
    matrix[:3, 3] = np.array(best.GetTranslation()) + centre - matrix[:3, :3] @ centre
    # the optimised transform takes points of the template to points of the turned image
    to_mni: Float64[np.ndarray, "4 4"] = np.linalg.inv(start.matrix @ _FLIP @ matrix @ _FLIP)
    achieved = similarity(volume, to_mni)
    if achieved < MIN_SIMILARITY:
        raise InputError(
            f"registration to MNI failed: mutual information of {achieved:.2f} with the template, at least "
            f"{MIN_SIMILARITY} is needed: is it a whole head, with contrast between tissues?"
        )
    return to_mni


@contextmanager
def _one_thread() -> Iterator[None]:
    """SimpleITK on one thread: sums of several differ in the last digits, those of the metric too."""
    import SimpleITK as sitk

    before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before)


def _best_of(
    fixed: Any, mask: Any, volume: RawVolume, starts: list[RegistrationStart]
) -> tuple[Any, RegistrationStart, Any]:
    """Head, start and affine transform of the best metric.

    Raises:
        InputError: too little overlap of image and template from all starts.
    """
    rigid = []
    for start in starts:
        moving = _aligned(volume, start)
        metric, transform = _optimise(fixed, mask, moving, _upright(), levels=((4, 4.0),))
        rigid.append((metric, transform, moving, start))
    refined = []
    for _, transform, moving, start in sorted(rigid, key=lambda one: one[0])[:_REFINED]:
        metric, best = _optimise(fixed, mask, moving, _to_affine(transform), levels=((2, 4.0), (1, 2.0)))
        refined.append((metric, best, moving, start))
    metric, best, moving, start = min(refined, key=lambda one: one[0])
    if not np.isfinite(metric):
        raise InputError("registration to MNI failed: image and template do not overlap: is it a whole head?")
    return moving, start, best


def _aligned(volume: RawVolume, start: RegistrationStart) -> Any:
    """Head in the world of a start, aligned with the template.

    The optimiser then starts from an upright head, since Euler angles do not parametrise all rotations equally well.
    """
    import SimpleITK as sitk

    moving = to_sitk(volume.data, np.linalg.inv(start.matrix) @ volume.affine)
    spacing = np.array(moving.GetSpacing())
    return sitk.Shrink(moving, [max(1, int(1.5 // item)) for item in spacing])


def _upright() -> Any:
    """Identity as a rigid transform with the centre of the brain as the centre of rotation."""
    import SimpleITK as sitk

    transform = sitk.Euler3DTransform()
    transform.SetCenter((_FLIP[:3, :3] @ np.array(MIDDLE)).tolist())
    return transform


def _to_affine(rigid: Any) -> Any:
    """Affine transform from a rigid one."""
    import SimpleITK as sitk

    transform = sitk.AffineTransform(3)
    transform.SetCenter(rigid.GetCenter())
    transform.SetMatrix(rigid.GetMatrix())
    transform.SetTranslation(rigid.GetTranslation())
    return transform


def _optimise(fixed: Any, mask: Any, moving: Any, start: Any, *, levels: tuple[tuple[int, float], ...]) -> Any:
    """Optimise from ``start``: (metric, transform); levels are (shrink factor, smoothing in mm)."""
    import SimpleITK as sitk

    method = sitk.ImageRegistrationMethod()
    method.SetNumberOfThreads(1)  # sums of several threads differ in the last digits
    method.SetMetricAsMattesMutualInformation(32)
    method.SetMetricFixedMask(mask)
    method.SetMetricSamplingStrategy(method.NONE)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsGradientDescent(1.0, 100, 1e-6, 10, method.EachIteration, 2.0)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([shrink for shrink, _ in levels])
    method.SetSmoothingSigmasPerLevel([sigma for _, sigma in levels])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    method.SetInitialTransform(start, inPlace=False)
    try:
        transform = method.Execute(fixed, moving)
    except RuntimeError:
        # ITK gives up where too few samples fall into the image
        return float("inf"), start
    if transform.GetName() == "CompositeTransform":
        transform = sitk.CompositeTransform(transform).GetBackTransform()
    kind = sitk.AffineTransform if isinstance(start, sitk.AffineTransform) else sitk.Euler3DTransform
    return method.GetMetricValue(), kind(transform)
