"""Pixels of scans for an image tower that is trained in part: preprocessed slices or volumes, read on first access.

Shapes: N scans, S slices of a scan, H and W pixels, X, Y and Z voxels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from debian_mri.config import MriConfig
from debian_mri.data.feature_store import ScanImages, encoder_inputs
from debian_mri.data.manifest import Manifest
from icube_common.errors import InputError
from icube_common.vlm import FrozenVLM


def scan_pixels(images: ScanImages, vlm: FrozenVLM) -> Float[Tensor, "s ..."]:
    """Preprocessed slices (S, 3, H, W) of a scan, or its volume (1, 1, X, Y, Z), in half precision.

    Raises:
        InputError: an image cannot be used.
    """
    return torch.stack(list(encoder_inputs(images, vlm))).half()


class ScanPixels(Mapping[str, Tensor]):
    """Pixels of a set's scans by id, kept in half precision once they are read.

    Args:
        manifest: the set.
        config: preprocessing and slices.
        vlm: gives the preprocessing of the image tower.

    Raises:
        InputError: (on access) an image cannot be used.
    """

    def __init__(self, manifest: Manifest, config: MriConfig, vlm: FrozenVLM) -> None:
        self._manifest, self._config, self._vlm = manifest, config, vlm
        self._scans = {scan.id: scan for scan in manifest.scans}
        self._cached: dict[str, Tensor] = {}

    def __getitem__(self, name: str) -> Float[Tensor, "s ..."]:
        if name not in self._cached:
            images = ScanImages(self._manifest, self._scans[name], self._config)
            try:
                self._cached[name] = scan_pixels(images, self._vlm)
            except InputError as error:
                raise InputError(f"scan {name}: {error}") from error
        return self._cached[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._scans)

    def __len__(self) -> int:
        return len(self._scans)


class PixelRows:
    """Pixels of some scans in their order, by number as a tensor (N, S, ...) has them; NaN for missing slices.

    Args:
        pixels: by id.
        ids: the scans.
    """

    def __init__(self, pixels: Mapping[str, Tensor], ids: Sequence[str]) -> None:
        self._pixels, self._ids = pixels, tuple(ids)

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, index: int | slice | Tensor) -> Tensor:
        if isinstance(index, int):
            return self._pixels[self._ids[index]]
        ids = self._ids[index] if isinstance(index, slice) else [self._ids[place] for place in index.tolist()]
        rows = [self._pixels[name] for name in ids]
        longest = max(len(row) for row in rows)
        padded = rows[0].new_full((len(rows), longest, *rows[0].shape[1:]), torch.nan)
        for place, row in enumerate(rows):
            padded[place, : len(row)] = row
        return padded
