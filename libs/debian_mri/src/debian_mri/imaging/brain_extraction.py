"""Brain mask of a head by the published networks of deepbet.

Fisch et al., "deepbet: Fast brain extraction of T1-weighted MRI using convolutional neural networks", Computers in
Biology and Medicine 179 (2024) 108845. The two networks are TorchScript files of the package ``deepbet`` (MIT licence;
extra ``brain``). The package is not imported, so that neither its graphical interface nor its folder ``data``, which
it installs beside the packages, takes part.

The first network finds the brain's bounding box on 128 voxels along each axis, the second the mask inside it on 256.
"""

from __future__ import annotations

import importlib.metadata
import warnings
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float32

from debian_mri.imaging.nifti import RawVolume
from icube_common.errors import InputError
from icube_common.io.csv import file_digest

DISTRIBUTION = "deepbet"
FILES = {
    "data/models/bbox_model.pt": "39a7b2b5f799faa1391ea97bfcdc0b9299f20d84f2316a4ff8918dc4685e40aa",
    "data/models/model.pt": "de8ee7c69654d0dd3935dc4a5d84571d8ecf4637a6bfc01df399c4c2bc86e0fd",
}
"""File of the distribution -> SHA-256, of version 1.0.2."""
CITATION = "Brain masks: deepbet (Fisch et al., Computers in Biology and Medicine 179, 2024), MIT licence."
_BOX_SIDE, _SIDE = 128, 256
# quantiles of the intensities that become 0 and 1; then mean and deviation of the networks' training images
_LOW, _HIGH = 0.005, 0.995
_MEAN, _STD = 0.449, 0.226
# of the box of the first mask, on each side
_MARGIN = 0.1
# share of a plane's voxels in the first mask for a plane of the box
_MIN_SHARE = 0.02
_THRESHOLD = 0.5

Network = Callable[[Any], Any]
"""From images (1, 1, X, Y, Z) to the probabilities of background and brain (1, 2, X, Y, Z)."""


class BrainNetworks(NamedTuple):
    """The two networks of brain extraction."""

    box: Network
    mask: Network


def deepbet_version() -> str | None:
    """Version of the installed deepbet, None where it is not installed."""
    try:
        return importlib.metadata.version(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        return None


@lru_cache(maxsize=1)
def load_networks() -> BrainNetworks:
    """The networks of the installed deepbet, on the CPU.

    Raises:
        InputError: it is not installed, or a file is missing or has another content.
    """
    import torch

    try:
        distribution = importlib.metadata.distribution(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError as error:
        raise InputError("mask=deepbet: deepbet is not installed: pip install 'debian-mri[brain]'") from error
    loaded = []
    for name, digest in FILES.items():
        path = Path(str(distribution.locate_file(name)))
        if not path.is_file() or file_digest(path) != digest:
            raise InputError(
                f"{path}: missing, or not the network of deepbet 1.0.2: remove deepbet and install that version again"
            )
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r"`torch\.jit\.load` is deprecated", FutureWarning)
            loaded.append(torch.jit.load(str(path), map_location="cpu").eval())
    return BrainNetworks(*loaded)


def extract_brain(volume: RawVolume, networks: BrainNetworks | None = None) -> Bool[np.ndarray, "x y z"]:
    """Brain mask of a T1-weighted head on its own grid, with ventricles and the fluid around the brain.

    Args:
        volume: a whole head; voxel axes in any order and direction.
        networks: in place of those of the installed deepbet.

    Raises:
        InputError: deepbet is not installed, or finds no brain.
    """
    import nibabel

    networks = networks or load_networks()
    # the networks were trained on heads in canonical orientation
    source = nibabel.orientations.io_orientation(volume.affine)
    canonical = np.ascontiguousarray(nibabel.orientations.apply_orientation(volume.data, source), dtype=np.float32)
    mask = _mask(canonical, networks)
    back = nibabel.orientations.ornt_transform([[0, 1], [1, 1], [2, 1]], source)
    turned: Bool[np.ndarray, "x y z"] = np.ascontiguousarray(nibabel.orientations.apply_orientation(mask, back))
    return turned


def _mask(data: Float32[np.ndarray, "x y z"], networks: BrainNetworks) -> Bool[np.ndarray, "x y z"]:
    import torch
    from scipy import ndimage

    head = torch.from_numpy(data)
    small = _resized(head, (_BOX_SIDE,) * 3)
    low, high = np.quantile(small.numpy(), [_LOW, _HIGH])
    if high <= low:
        raise InputError("mask=deepbet: the volume has one intensity")
    box = _bounding_box(_largest(_probability(networks.box, small, low, high) > _THRESHOLD), data.shape)
    inner = head[box]
    probability = _probability(networks.mask, _resized(inner, (_SIDE,) * 3), low, high)
    mask = np.zeros(data.shape, dtype=bool)
    mask[box] = _resized(torch.from_numpy(probability), tuple(inner.shape)).numpy() > _THRESHOLD
    filled: Bool[np.ndarray, "x y z"] = ndimage.binary_fill_holes(_largest(mask))
    return filled


def _resized(image: Any, shape: Sequence[int]) -> Any:
    """Nearest voxels on another grid."""
    import torch.nn.functional as F

    return F.interpolate(image[None, None], tuple(shape), mode="nearest-exact")[0, 0]


def _probability(network: Network, image: Any, low: float, high: float) -> Float32[np.ndarray, "x y z"]:
    import torch

    scaled = ((image - low) / (high - low)).clamp(0, 1)
    scaled = _STD * (scaled - scaled.mean()) / scaled.std() + _MEAN
    with torch.no_grad():
        probability: Float32[np.ndarray, "x y z"] = network(scaled[None, None].float())[0, 1].float().numpy()
    return probability


def _largest(mask: Bool[np.ndarray, "x y z"]) -> Bool[np.ndarray, "x y z"]:
    from scipy import ndimage

    pieces, count = ndimage.label(mask)
    if count == 0:
        raise InputError("mask=deepbet: no brain in the volume: is it a T1-weighted head?")
    largest: Bool[np.ndarray, "x y z"] = pieces == np.bincount(pieces.reshape(-1))[1:].argmax() + 1
    return largest


def _bounding_box(mask: Bool[np.ndarray, "a b c"], shape: Sequence[int]) -> tuple[slice, ...]:
    """Box of a mask with a margin, in voxels of a grid of another shape."""
    box = []
    for axis, size in enumerate(shape):
        shares = mask.mean(axis=tuple(other for other in range(3) if other != axis))
        planes = np.flatnonzero(shares > _MIN_SHARE)
        if not len(planes):
            raise InputError("mask=deepbet: no brain in the volume: is it a T1-weighted head?")
        scale = size / mask.shape[axis]
        low, high = scale * planes[0], scale * (planes[-1] + 1)
        margin = _MARGIN * (high - low)
        box.append(slice(max(0, round(low - margin)), min(size, round(high + margin))))
    return tuple(box)
