"""Preprocessing of volumes by a torchio pipeline.

Canonical axes (RAS), N4 and affine registration to MNI as configured, resampling, the field of view of
ClinicaDL's images, and z-scores inside a brain mask. One interpolation only: registration moves the affine, not voxels.

This is the only module that uses torchio.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Float64

from debian_mri.imaging.brain_extraction import deepbet_version, extract_brain
from debian_mri.imaging.masks import (
    MARGIN_MM,
    is_head,
    mask_file,
    read_mask,
    signal_mask,
    template_distance,
    threshold_brain_mask,
)
from debian_mri.imaging.nifti import RawVolume, read_volume
from debian_mri.imaging.template import FIELD_OF_VIEW, mni_grid, template_on_grid
from icube_common.config import Config, option
from icube_common.errors import InputError
from icube_common.io.csv import file_digest

# bump when results change: it is part of the cache's keys
VERSION = 3
# a stored z-score is a multiple of this, and between -16 and 16
STEP = 2.0**-11
MASKS = ("auto", "deepbet", "otsu")
STRIPPED, OTSU, GIVEN = "stripped", "otsu", "given"
"""Sources of a mask beside deepbet: foreground of a skull-stripped volume, thresholds, the user's file."""
# in native space: a skull-stripped volume has no more foreground than this factor of deepbet's mask
_MAX_STRIPPED = 1.25
# minimum fraction of the template's brain inside a volume in MNI space
_MIN_COVERED = 0.5


@dataclass(frozen=True, kw_only=True)
class PreprocessConfig(Config):
    """Preprocessing of volumes."""

    space: str = option("mni", "world of the result", choices=("mni", "native"))
    registration: str = option(
        "none", "registration to MNI space; none: volumes are in MNI space already", choices=("none", "affine")
    )
    spacing: float = option(1.0, "mm between voxels", ge=0.5, le=8)
    field_of_view: list[float] = option(
        list(FIELD_OF_VIEW), "mm along x, y, z; by default ClinicaDL's 169x208x179 voxels at 1 mm", ge=16, le=512
    )
    n4: bool = option(False, "correct the bias field (N4)")
    normalise: str = option("zscore", "intensities: z-scores inside the mask", choices=("zscore", "none"))
    mask: str = option(
        "auto",
        "brain mask of a head: deepbet, otsu (thresholds), or a file or folder of masks (auto: deepbet where it is "
        "installed, else otsu; the foreground of a skull-stripped volume)",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.field_of_view) != 3:
            raise InputError(f"field_of_view={self.field_of_view}: three lengths are needed, of x, y and z")
        if self.space == "native" and self.registration != "none":
            raise InputError(f"space=native registration={self.registration}: registration leads to space=mni")


class Volume(NamedTuple):
    """Preprocessed volume.

    Attributes:
        data: (X, Y, Z); z-scores, or the scanner's units.
        affine: voxel indices to RAS, mm; diagonal but for the origin in MNI space.
        mask: (X, Y, Z) brain mask (head mask in native space with a skull and mask=otsu).
        rotation: rotation of the head by the registration relative to the file's affine, degrees.
        mask_source: ``deepbet <version>``, `OTSU`, `GIVEN`, or `STRIPPED`.
        intracranial_ml: volume of the mask in the head's own size, mL.
    """

    data: Float32[np.ndarray, "x y z"]
    affine: Float64[np.ndarray, "4 4"]
    mask: Bool[np.ndarray, "x y z"]
    rotation: float = 0.0
    mask_source: str = ""
    intracranial_ml: float = float("nan")


def preprocess(path: str | Path, config: PreprocessConfig) -> Volume:
    """Preprocess a NIfTI file.

    Raises:
        InputError: `debian_mri.imaging.nifti.read_volume` refuses the file, registration fails, or the volume is not
            in MNI space with ``space=mni registration=none``.
    """
    try:
        return preprocess_volume(read_volume(path), config, source=Path(path))
    except InputError as error:
        raise error if str(error).startswith(str(path)) else InputError(f"{path}: {error}") from error


def preprocess_volume(volume: RawVolume, config: PreprocessConfig, *, source: Path | None = None) -> Volume:
    """Preprocess a volume in memory; see `preprocess`.

    Args:
        volume: voxels and affine.
        config: the steps.
        source: its file, by whose name a folder of masks is searched.
    """
    import torch
    import torchio as tio

    image = tio.ScalarImage(tensor=torch.from_numpy(volume.data)[None], affine=volume.affine)
    try:
        done = pipeline(config, volume, source)(tio.Subject(image=image))
    except RuntimeError as error:
        if "Standard deviation is 0" not in str(error):
            raise
        raise InputError("all of the brain has one intensity: no contrast") from error
    data, mask = done["image"].numpy()[0].astype(np.float32), done["mask"].numpy()[0] > 0
    if config.normalise == "zscore":
        # rounded as in the cache; in place, a volume at a time takes as long to allocate as to compute
        data = data / np.float32(STEP)
        np.rint(data, out=data)
        np.clip(data, -(2**15), 2**15 - 1, out=data)
        data *= np.float32(STEP)
    affine = np.asarray(done["image"].affine, dtype=np.float64)
    scale = abs(np.linalg.det(done["image"].get("to_mni", np.eye(4))))
    size = float(mask.sum() * abs(np.linalg.det(affine[:3, :3])) / 1000 / scale)
    return Volume(data, affine, mask, done["image"].get("turned", 0.0), done["image"]["mask_source"], size)


def pipeline(config: PreprocessConfig, volume: RawVolume, source: Path | None = None) -> Callable[[Any], Any]:
    """Compose of torchio: adds a label map ``mask`` to a subject with a scalar image ``image``.

    Args:
        config: the steps.
        volume: of the subject, on whose own grid brain extraction runs.
        source: its file.
    """
    import torchio as tio

    # where voxels become no coarser, torchio smooths by 1e-9 mm: it changes no bit and takes half of the time
    sizes = np.linalg.norm(volume.affine[:3, :3], axis=0)
    antialias = config.registration == "affine" or bool((sizes < config.spacing).any())
    # Compose takes any function of a subject beside its own transforms
    steps: list[Any] = [tio.ToCanonical()]
    if config.n4:
        steps.append(_n4)
    if config.space == "mni":
        grid = mni_grid(config.spacing, config.field_of_view)
        if config.registration == "affine":
            steps.append(_register)
        steps += [
            tio.Resample(
                (grid.shape, grid.affine),
                antialias=antialias,
                pre_affine_name="to_mni" if config.registration == "affine" else None,
            ),
            lambda subject: _mask_in_mni(subject, config, volume, source),
        ]
    else:
        grid = mni_grid(config.spacing, config.field_of_view)
        steps += [
            tio.Resample(config.spacing, antialias=antialias),
            lambda subject: _mask_in_native_space(subject, config, volume, source),
            tio.CropOrPad(grid.shape, mask_name="mask"),
        ]
    if config.normalise == "zscore":
        steps.append(tio.ZNormalization(masking_method="mask"))
    return tio.Compose(steps)


def _n4(subject: Any) -> Any:
    import torch

    from debian_mri.imaging.registration import correct_bias

    image = subject["image"]
    image.set_data(torch.from_numpy(correct_bias(image.numpy()[0], np.asarray(image.affine)))[None])
    return subject


def _register(subject: Any) -> Any:
    from debian_mri.imaging.orientation import head_rotation
    from debian_mri.imaging.registration import register_affine

    image = subject["image"]
    image["to_mni"] = register_affine(RawVolume(image.numpy()[0], np.asarray(image.affine)))
    image["turned"] = head_rotation(image["to_mni"])
    return subject


def _mask_in_mni(subject: Any, config: PreprocessConfig, volume: RawVolume, source: Path | None) -> Any:
    """Brain mask in MNI space."""
    field_of_view = tuple(config.field_of_view)
    distance = template_distance(config.spacing, field_of_view)
    data = subject["image"].numpy()[0]
    foreground = signal_mask(data)
    covered = float(foreground[template_on_grid(config.spacing, field_of_view).brain].mean())
    if covered < _MIN_COVERED:
        raise InputError(
            f"does not lie in MNI space: {100 * covered:.0f} % of the template's brain are covered; "
            "set registration=affine, or space=native"
        )
    head = is_head(foreground, distance)
    method = config.mask
    if method == "auto":
        method = STRIPPED if not head else "deepbet" if deepbet_version() else OTSU
    if method == OTSU and not head:
        method = STRIPPED
    if method == STRIPPED:
        return _with_mask(subject, foreground & (distance <= MARGIN_MM), STRIPPED)
    if method == OTSU:
        return _with_mask(subject, threshold_brain_mask(data, config.spacing, field_of_view), OTSU)
    return _with_mask(subject, *_mask_of_source(subject, method, volume, source))


def _mask_in_native_space(subject: Any, config: PreprocessConfig, volume: RawVolume, source: Path | None) -> Any:
    """Brain mask in native space, or the mask of the head without deepbet and a file."""
    foreground = signal_mask(subject["image"].numpy()[0])
    method = config.mask
    if method == "auto":
        method = "deepbet" if deepbet_version() else OTSU
    if method == OTSU:
        return _with_mask(subject, foreground, OTSU)
    mask, name = _mask_of_source(subject, method, volume, source)
    if config.mask == "auto" and foreground.sum() <= _MAX_STRIPPED * mask.sum():
        return _with_mask(subject, foreground, STRIPPED)
    return _with_mask(subject, mask, name)


def _mask_of_source(
    subject: Any, method: str, volume: RawVolume, source: Path | None
) -> tuple[Bool[np.ndarray, "x y z"], str]:
    """Mask by deepbet or of the user's file on the subject's grid, and its source."""
    if method == "deepbet":
        mask, affine, name = extract_brain(volume), volume.affine, f"deepbet {deepbet_version()}"
    else:
        mask, affine = read_mask(mask_file(method, source))
        name = GIVEN
    from scipy.ndimage import affine_transform

    image = subject["image"]
    matrix = np.linalg.inv(image.get("to_mni", np.eye(4)) @ affine) @ np.asarray(image.affine)
    share = affine_transform(
        mask.astype(np.float32), matrix[:3, :3], matrix[:3, 3], output_shape=image.spatial_shape, order=1
    )
    inside: Bool[np.ndarray, "x y z"] = share > 0.5
    if not inside.any():
        raise InputError(f"mask={method}: does not overlap the volume")
    return inside, name


def mask_warnings(sources: Sequence[str]) -> list[str]:
    """A line for reports that names the sources of brain masks, where a volume is not skull-stripped already."""
    counts = Counter(source for source in sources if source and source != STRIPPED)
    if not counts:
        return []
    parts = [f"{name} ({count})" if len(counts) > 1 else name for name, count in sorted(counts.items())]
    remedy = "; thresholds lose sulci and keep some scalp: pip install 'debian-mri[brain]'" if OTSU in counts else ""
    return [f"Brain masks of heads: {', '.join(parts)}{remedy}."]


def mask_identity(config: PreprocessConfig, source: Path) -> dict[str, str | None]:
    """Identity of the mask's method for a cache: version of deepbet, digest of the user's mask.

    Raises:
        InputError: no such mask.
    """
    if config.mask in MASKS:
        return {"deepbet": None if config.mask == OTSU else deepbet_version()}
    return {"file": file_digest(mask_file(config.mask, source))}


def _with_mask(subject: Any, mask: Bool[np.ndarray, "x y z"], name: str) -> Any:
    import torch
    import torchio as tio

    if not mask.any():
        raise InputError("no brain found: no foreground in the image")
    subject["image"]["mask_source"] = name
    values = torch.from_numpy(mask.astype(np.uint8))[None]
    subject.add_image(tio.LabelMap(tensor=values, affine=subject["image"].affine), "mask")
    return subject
