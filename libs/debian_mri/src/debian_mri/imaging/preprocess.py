"""Preprocessing of volumes by a torchio pipeline.

Canonical axes (RAS), N4 and affine registration to MNI as configured, resampling, the field of view of
ClinicaDL's images, and z-scores inside a brain mask. One interpolation only: registration moves the affine, not voxels.

This is the only module that uses torchio.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Float64

from debian_mri.imaging.masks import signal_mask
from debian_mri.imaging.nifti import RawVolume, read_volume
from debian_mri.imaging.template import FIELD_OF_VIEW, mni_grid, template_on_grid
from icube_common.config import Config, option
from icube_common.errors import InputError

# bump when results change: it is part of the cache's keys
VERSION = 2
# a stored z-score is a multiple of this, and between -16 and 16
STEP = 2.0**-11
# margin of a brain mask around the template's brain, mm
_MARGIN_MM = 4.0
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
        mask: (X, Y, Z) brain mask (head mask in native space with a skull).
        rotation: rotation of the head by the registration relative to the file's affine, degrees.
    """

    data: Float32[np.ndarray, "x y z"]
    affine: Float64[np.ndarray, "4 4"]
    mask: Bool[np.ndarray, "x y z"]
    rotation: float = 0.0


def preprocess(path: str | Path, config: PreprocessConfig) -> Volume:
    """Preprocess a NIfTI file.

    Raises:
        InputError: `debian_mri.imaging.nifti.read_volume` refuses the file, registration fails, or the volume is not
            in MNI space with ``space=mni registration=none``.
    """
    try:
        return preprocess_volume(read_volume(path), config)
    except InputError as error:
        raise error if str(error).startswith(str(path)) else InputError(f"{path}: {error}") from error


def preprocess_volume(volume: RawVolume, config: PreprocessConfig) -> Volume:
    """Preprocess a volume in memory; see `preprocess`."""
    import torch
    import torchio as tio

    image = tio.ScalarImage(tensor=torch.from_numpy(volume.data)[None], affine=volume.affine)
    done = pipeline(config)(tio.Subject(image=image))
    data, mask = done["image"].numpy()[0].astype(np.float32), done["mask"].numpy()[0] > 0
    if config.normalise == "zscore":
        # rounded as in the cache
        data = (np.clip(np.round(data / STEP), -(2**15), 2**15 - 1) * STEP).astype(np.float32)
    affine = np.asarray(done["image"].affine, dtype=np.float64)
    return Volume(data, affine, mask, done["image"].get("turned", 0.0))


def pipeline(config: PreprocessConfig) -> Callable[[Any], Any]:
    """Compose of torchio: adds a label map ``mask`` to a subject with a scalar image ``image``."""
    import torchio as tio

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
                antialias=True,
                pre_affine_name="to_mni" if config.registration == "affine" else None,
            ),
            lambda subject: _mask_in_mni(subject, config),
        ]
    else:
        grid = mni_grid(config.spacing, config.field_of_view)
        steps += [
            tio.Resample(config.spacing, antialias=True),
            _mask_of_signal,
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


def _mask_in_mni(subject: Any, config: PreprocessConfig) -> Any:
    """Mask of the signal inside the template's brain and a margin around it."""
    brain = template_on_grid(config.spacing, config.field_of_view).brain
    near = _near_the_brain(config.spacing, tuple(config.field_of_view))
    foreground = signal_mask(subject["image"].numpy()[0])
    covered = float(foreground[brain].mean())
    if covered < _MIN_COVERED:
        raise InputError(
            f"does not lie in MNI space: {100 * covered:.0f} % of the template's brain are covered; "
            "set registration=affine, or space=native"
        )
    return _with_mask(subject, foreground & near)


@cache
def _near_the_brain(spacing: float, field_of_view: tuple[float, ...]) -> Bool[np.ndarray, "x y z"]:
    from scipy.ndimage import distance_transform_edt

    brain = template_on_grid(spacing, field_of_view).brain
    near: Bool[np.ndarray, "x y z"] = distance_transform_edt(~brain) * spacing <= _MARGIN_MM
    return near


def _mask_of_signal(subject: Any) -> Any:
    return _with_mask(subject, signal_mask(subject["image"].numpy()[0]))


def _with_mask(subject: Any, mask: Bool[np.ndarray, "x y z"]) -> Any:
    import torch
    import torchio as tio

    if not mask.any():
        raise InputError("no brain found: no foreground in the image")
    values = torch.from_numpy(mask.astype(np.uint8))[None]
    subject.add_image(tio.LabelMap(tensor=values, affine=subject["image"].affine), "mask")
    return subject
