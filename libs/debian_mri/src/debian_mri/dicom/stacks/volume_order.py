"""Which image of a slice belongs to which volume of a 4-D series."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from debian_mri.dicom.frames import Frame, Refusal, Vector

# in this order: what was made to tell volumes apart, then what happens to
SOURCES = ("dimensions", "temporal position", "acquisition number", "diffusion", "trigger time", "acquisition time")
BY_NUMBER = "instance number"


def group_into_volumes(places: Sequence[Sequence[Frame]]) -> tuple[list[list[Frame]], str | None]:
    """Volumes of a series in which every place has the same number of images.

    A source of order counts only if each of its values takes exactly one image of every slice.

    Args:
        places: ``places[k]``: the images of slice k.

    Returns:
        ``volumes[t][k]``, in order of acquisition, and what told them apart (None: one volume).

    Raises:
        Refusal: nothing in the headers says which image belongs where.
    """
    if len(places[0]) == 1:
        return [[place[0] for place in places]], None
    for source in SOURCES:
        values = [[frame.times.get(source) for frame in place] for place in places]
        if any(value is None for row in values for value in row):
            continue
        keys = sorted({value for row in values for value in row if value is not None})
        if len(keys) == len(places[0]) and all(len(set(row)) == len(keys) for row in values):
            return _by_key(places, source, keys), source
    return _by_instance(places), BY_NUMBER


def _by_key(places: Sequence[Sequence[Frame]], source: str, keys: Sequence[Vector]) -> list[list[Frame]]:
    found = [{frame.times[source]: frame for frame in place} for place in places]
    volumes = [[place[key] for place in found] for key in keys]
    if source == "diffusion":  # gradient directions have no order of their own
        volumes.sort(key=lambda volume: min(frame.order for frame in volume))
    return volumes


def _by_instance(places: Sequence[Sequence[Frame]]) -> list[list[Frame]]:
    """Volumes by instance number, numbered either volume by volume or slice by slice."""
    frames = [frame for place in places for frame in place]
    # the frames of one file have an order of their own
    unnumbered = len({frame.path for frame in frames}) > 1 and any(frame.instance is None for frame in frames)
    if unnumbered or len({frame.order for frame in frames}) < len(frames):
        raise Refusal("duplicate slices", "several images a slice, and nothing says which volume they belong to")
    ordered = [sorted(place, key=lambda frame: frame.order) for place in places]
    volumes = [list(volume) for volume in zip(*ordered, strict=True)]
    if not (_follow_each_other(volumes) or _follow_each_other(sorted(ordered, key=lambda place: place[0].order))):
        raise Refusal("mixed volumes", "the images are numbered neither volume by volume nor slice by slice")
    return volumes


def _follow_each_other(groups: Sequence[Sequence[Frame]]) -> bool:
    """Whether each group's numbers end before the next one's begin."""
    return all(
        max(frame.order for frame in before) < min(frame.order for frame in after) for before, after in pairwise(groups)
    )
