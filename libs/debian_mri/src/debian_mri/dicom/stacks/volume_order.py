"""Assignment of the images of each slice to the volumes of a 4-D series."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from debian_mri.dicom.frames import Frame, Refusal, Vector

# by priority: attributes that define volumes, then attributes that happen to distinguish them
SOURCES = ("dimensions", "temporal position", "acquisition number", "diffusion", "trigger time", "acquisition time")
BY_NUMBER = "instance number"


def group_into_volumes(slices: Sequence[Sequence[Frame]]) -> tuple[list[list[Frame]], str | None]:
    """Group the images of slices into volumes.

    A source of order is valid if each of its values has exactly one image of every slice.

    Args:
        slices: ``slices[k]``: images of slice k, the same number for each.

    Returns:
        ``volumes[t][k]``, in order of acquisition, and the source of the order (None: one volume).

    Raises:
        Refusal: no valid source of order in the headers.
    """
    if len(slices[0]) == 1:
        return [[frames[0] for frames in slices]], None
    for source in SOURCES:
        values = [[frame.times.get(source) for frame in frames] for frames in slices]
        if any(value is None for row in values for value in row):
            continue
        keys = sorted({value for row in values for value in row if value is not None})
        if len(keys) == len(slices[0]) and all(len(set(row)) == len(keys) for row in values):
            return _by_key(slices, source, keys), source
    return _by_instance(slices), BY_NUMBER


def _by_key(slices: Sequence[Sequence[Frame]], source: str, keys: Sequence[Vector]) -> list[list[Frame]]:
    by_key = [{frame.times[source]: frame for frame in frames} for frames in slices]
    volumes = [[frames[key] for frames in by_key] for key in keys]
    if source == "diffusion":  # gradient directions have no order of their own
        volumes.sort(key=lambda volume: min(frame.order for frame in volume))
    return volumes


def _by_instance(slices: Sequence[Sequence[Frame]]) -> list[list[Frame]]:
    """Volumes by instance number, numbered either volume by volume or slice by slice."""
    frames = [frame for images in slices for frame in images]
    # the frames of one file have an order of their own
    unnumbered = len({frame.path for frame in frames}) > 1 and any(frame.instance is None for frame in frames)
    if unnumbered or len({frame.order for frame in frames}) < len(frames):
        raise Refusal("duplicate slices", "several images a slice, of unknown volumes")
    ordered = [sorted(images, key=lambda frame: frame.order) for images in slices]
    volumes = [list(volume) for volume in zip(*ordered, strict=True)]
    if not (_follow_each_other(volumes) or _follow_each_other(sorted(ordered, key=lambda images: images[0].order))):
        raise Refusal("mixed volumes", "the images are numbered neither volume by volume nor slice by slice")
    return volumes


def _follow_each_other(groups: Sequence[Sequence[Frame]]) -> bool:
    """True if the numbers of each group end before those of the next begin."""
    return all(
        max(frame.order for frame in before) < min(frame.order for frame in after) for before, after in pairwise(groups)
    )
