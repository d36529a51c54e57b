"""Affine registration of a head to the ICBM152 template, deformable registration, and N4, all by SimpleITK."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Float64

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
# demons: factors of the grid's spacing, iterations, standard deviation of the Gaussian on the displacement at the
# finest level, mm; as many voxels at the others
_SHRINK, _ITERATIONS, _FIELD_MM = (4, 2, 1), (30, 30, 15), 3.0
# of the inverse of a deformation: steps towards the point whose image is the voxel, and the factor of each
_INVERSE_STEPS, _INVERSE_DAMPING = 24, 0.5
# around the template's brain, mm
_BOX_MARGIN_MM = 8.0
# of a brain's intensities: quantiles that the levels of fluid, grey and white matter start from
_LEVEL_QUANTILES, _LEVEL_STEPS = (0.03, 0.25, 0.8), 30


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


class Deformation(NamedTuple):
    """Deformable registration of a brain to a template on one grid.

    Attributes:
        displacement: (3, X, Y, Z) mm, RAS: the template's point x lies at ``x + displacement(x)`` in the brain.
        jacobian: (X, Y, Z) determinant of ``x + displacement(x)``: volume in the brain over volume in the template.
        warped: (X, Y, Z) the brain's intensities at the template's points, in the template's levels.
        correlation: of ``warped`` and the template inside the template's brain.
        jacobian_range: smallest and largest determinant inside the template's brain; 0 or less is a fold.
    """

    displacement: Float32[np.ndarray, "3 x y z"]
    jacobian: Float32[np.ndarray, "x y z"]
    warped: Float32[np.ndarray, "x y z"]
    correlation: float
    jacobian_range: tuple[float, float]


def register_deformable(
    data: Float32[np.ndarray, "x y z"],
    mask: Bool[np.ndarray, "x y z"],
    template: Float32[np.ndarray, "x y z"],
    brain: Bool[np.ndarray, "x y z"],
    affine: Float64[np.ndarray, "4 4"],
    *,
    tissue: Bool[np.ndarray, "x y z"] | None = None,
) -> Deformation:
    """Register a brain in MNI space to a template by demons.

    Diffeomorphic demons (Vercauteren et al., NeuroImage 45, 2009) on three levels, to the grid's own spacing, with a
    Gaussian on the displacement. Intensities are first mapped piecewise linearly, the levels of fluid, grey and white
    matter to those of the template. Deterministic.

    Args:
        data: intensities, as of `debian_mri.imaging.preprocess.Volume`.
        mask: brain.
        template: T1-weighted, on the same grid; 0 outside ``brain``.
        brain: of the template.
        affine: of the grid, axis-aligned.
        tissue: voxels that the levels of tissue are taken from; by default ``mask``. A mask without the fluid around
            the brain has too few voxels of fluid for a level of its own.

    Raises:
        InputError: no contrast between tissues, or the registration fails.
    """
    from scipy.ndimage import binary_dilation, find_objects, map_coordinates

    levels = tissue_levels(template[brain])
    moving = map_levels(data, mask, levels, tissue)
    spacing = float(affine[0, 0])
    box = find_objects(binary_dilation(brain, iterations=max(1, round(_BOX_MARGIN_MM / spacing))).astype(np.uint8))[0]
    corner = np.array([part.start for part in box])
    inner = affine.copy()
    inner[:3, 3] += affine[:3, :3] @ corner
    with _one_thread():
        field = _demons(to_sitk(np.where(brain, template, 0)[box], inner), to_sitk(moving[box], inner), spacing)
    displacement = np.zeros((3, *data.shape), dtype=np.float32)
    displacement[(slice(None), *box)] = field
    coordinates = np.indices(data.shape, dtype=np.float32) + displacement / np.float32(spacing)
    warped = map_coordinates(moving, coordinates, order=1, output=np.float32)
    jacobian = jacobian_determinant(displacement, spacing)
    correlation = float(np.corrcoef(warped[brain], template[brain])[0, 1])
    inside = jacobian[brain]
    return Deformation(displacement, jacobian, warped, correlation, (float(inside.min()), float(inside.max())))


def invert_deformation(
    displacement: Float32[np.ndarray, "3 x y z"], spacing: float, inside: Bool[np.ndarray, "x y z"]
) -> tuple[Float32[np.ndarray, "3 n"], Float32[np.ndarray, " n"]]:
    """Template points of voxels of the brain: t with ``t + displacement(t) = x``, by a damped fixed point.

    Args:
        displacement: mm, RAS, of the template's points, as of `Deformation`.
        spacing: mm between voxels.
        inside: the N voxels x.

    Returns:
        (3, N) voxel coordinates on the same grid, and the distance in mm of each point's image from its voxel.
    """
    from scipy.ndimage import map_coordinates

    voxels = np.stack(np.nonzero(inside)).astype(np.float32)
    points = voxels.copy()
    field = displacement / np.float32(spacing)
    error = np.zeros_like(points)
    for step in range(_INVERSE_STEPS + 1):
        image = points + np.stack([map_coordinates(part, points, order=1, mode="nearest") for part in field])
        error = image - voxels
        if step < _INVERSE_STEPS:
            points = points - np.float32(_INVERSE_DAMPING) * error
    distance: Float32[np.ndarray, " n"] = (np.linalg.norm(error, axis=0) * spacing).astype(np.float32)
    return points, distance


def tissue_levels(values: Float32[np.ndarray, " n"]) -> Float64[np.ndarray, " 3"]:
    """Intensities of fluid, grey and white matter: medians of three classes (k-means of one dimension).

    Raises:
        InputError: no contrast.
    """
    levels = np.quantile(values, _LEVEL_QUANTILES).astype(np.float64)
    for _ in range(_LEVEL_STEPS):
        classes = np.digitize(values, (levels[1:] + levels[:-1]) / 2)
        # a class without a voxel keeps its level
        moved = np.array([np.median(values[classes == at]) if (classes == at).any() else levels[at] for at in range(3)])
        if np.allclose(moved, levels, rtol=1e-4):
            break
        levels = moved
    if not (np.diff(levels) > 0).all():
        raise InputError("no contrast between fluid, grey and white matter: is it a T1-weighted image?")
    return levels


def map_levels(
    data: Float32[np.ndarray, "x y z"],
    mask: Bool[np.ndarray, "x y z"],
    levels: Float64[np.ndarray, " 3"],
    tissue: Bool[np.ndarray, "x y z"] | None = None,
) -> Float32[np.ndarray, "x y z"]:
    """Intensities with the tissue levels of another image, 0 outside the mask; linear between the levels.

    Args:
        data: intensities.
        mask: brain.
        levels: of fluid, grey and white matter in the other image.
        tissue: voxels that the image's own levels are taken from; by default ``mask``.
    """
    source, target = (_extended(each) for each in (tissue_levels(data[mask if tissue is None else tissue]), levels))
    mapped = np.interp(data, source, target)
    return np.where(mask, mapped, 0).astype(np.float32)


def _extended(levels: Float64[np.ndarray, " 3"]) -> Float64[np.ndarray, " 5"]:
    """Levels with one on each side, at twice the distance of the outer two."""
    low, middle, high = levels
    return np.array([low - 2 * (middle - low), low, middle, high, high + 2 * (high - middle)])


def jacobian_determinant(field: Float32[np.ndarray, "3 x y z"], spacing: float) -> Float32[np.ndarray, "x y z"]:
    """Determinant of the derivative of ``x + field(x)``, by central differences.

    Args:
        field: displacement, mm, along the grid's axes.
        spacing: mm between voxels.
    """
    a, b, c = (np.gradient(part, spacing) for part in field)
    determinant: Float32[np.ndarray, "x y z"] = (
        (1 + a[0]) * ((1 + b[1]) * (1 + c[2]) - b[2] * c[1])
        - a[1] * (b[0] * (1 + c[2]) - b[2] * c[0])
        + a[2] * (b[0] * c[1] - (1 + b[1]) * c[0])
    ).astype(np.float32)
    return determinant


def _demons(fixed: Any, moving: Any, spacing: float) -> Float32[np.ndarray, "3 x y z"]:
    """Displacement in mm, RAS, of the fixed image's points."""
    import SimpleITK as sitk

    field: Any = None
    for shrink, iterations in zip(_SHRINK, _ITERATIONS, strict=True):
        images = [fixed, moving]
        if shrink > 1:
            smoothed = (sitk.SmoothingRecursiveGaussian(image, shrink * spacing / 2) for image in images)
            images = [sitk.Shrink(image, [shrink] * 3) for image in smoothed]
        demons = sitk.DiffeomorphicDemonsRegistrationFilter()
        demons.SetNumberOfThreads(1)  # sums of several threads differ in the last digits
        demons.SetNumberOfIterations(iterations)
        demons.SetSmoothDisplacementField(True)
        demons.SetStandardDeviations(_FIELD_MM / spacing)
        try:
            if field is None:
                field = demons.Execute(*images)
            else:
                start = sitk.Resample(field, images[0], sitk.Transform(), sitk.sitkLinear, 0.0, sitk.sitkVectorFloat64)
                field = demons.Execute(*images, start)
        except RuntimeError as error:
            raise InputError(f"deformable registration failed ({' '.join(str(error).split())[-120:]})") from error
    lps = sitk.GetArrayFromImage(field).transpose(3, 2, 1, 0)
    result: Float32[np.ndarray, "3 x y z"] = (lps * np.diag(_FLIP)[:3, None, None, None]).astype(np.float32)
    return result
