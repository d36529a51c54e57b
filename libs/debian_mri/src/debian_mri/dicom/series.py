"""Finding the series below a folder, and the parts of a series that become one volume each."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from pydicom import Dataset

from debian_mri.dicom.frames import Frame, Refusal
from debian_mri.dicom.geometry import SAME_PLACE_MM, normal_of, same_orientation
from debian_mri.dicom.headers import ImageFile, read_image
from debian_mri.dicom.reading import NotDicom
from icube_common.errors import InputError

LOCALISER = re.compile(r"(?<![a-z])(?:aahead[_ ]?|aah)?(?:locali[sz]ers?|scout|survey|3[ _-]?plane|loc)(?![a-z])")
DICOM_SUFFIXES = (".dcm", ".ima", ".dicom", ".dic")


@dataclass
class Series:
    """The files of one series in one folder.

    Attributes:
        source: the folder; the common parent where a series is spread over several.
        uid: of the series; empty for files that belong to none.
        number: the series' number.
        images: UIDs of the images.
        frames: of all files.
        header: of the first file.
        n_files: how many files there are.
        refusal: why the series as a whole cannot be converted.
    """

    source: Path
    uid: str = ""
    number: int = 0
    images: frozenset[str] = frozenset()
    frames: list[Frame] = field(default_factory=list)
    header: Dataset = field(default_factory=Dataset)
    n_files: int = 0
    refusal: Refusal | None = None


@dataclass(frozen=True)
class Part:
    """Frames of a series that are of one kind, or why there are none.

    Attributes:
        frames: of one image type and echo.
        refusal: why the part cannot be converted.
    """

    frames: tuple[Frame, ...]
    refusal: Refusal | None = None


def find_series(folder: str | Path) -> list[Series]:
    """All series below a folder, in the order of folders, series numbers and UIDs.

    Hidden files are left out; everything else is answered for: what is no DICOM file comes as a refused entry of its
    folder. A series spread over folders is put together unless the folders hold copies of the same images or slices.

    Raises:
        InputError: the folder does not exist or holds no file.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: is no folder; name the one that holds the DICOM files")
    found: list[Series] = []
    n_files = 0
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        visible = [Path(parent) / name for name in sorted(names) if not name.startswith(".")]
        n_files += len(visible)
        found += _folder_series(Path(parent), visible)
    if n_files == 0:
        raise InputError(f"{folder}: holds no files; name the folder with the DICOM files")
    return _join_folders(found)


def _folder_series(folder: Path, paths: Sequence[Path]) -> list[Series]:
    images: dict[str, list[ImageFile]] = defaultdict(list)
    others: list[Path] = []
    damaged: list[tuple[Path, Refusal]] = []
    for path in paths:
        try:
            if not path.is_file():
                raise Refusal("unreadable file", "neither a file nor a folder")
            image = read_image(path)
        except NotDicom:
            others.append(path)
        except Refusal as refusal:
            damaged.append((path, refusal))
        else:
            if image is not None:
                images[image.series_uid].append(image)
    suffixes = {_suffix(image.path) for group in images.values() for image in group} | set(DICOM_SUFFIXES)
    for path in others[:]:
        if _suffix(path) in suffixes and not _is_text(path):
            others.remove(path)
            damaged.append((path, Refusal("unreadable file", "named like an image, but no DICOM file")))
    series = [_series(folder, uid, group) for uid, group in images.items()]
    if damaged:
        for one in series:
            if one.refusal is None:
                one.refusal = Refusal(
                    "unreadable file", f"{len(damaged)} damaged files lie beside it, so slices may be missing"
                )
        kinds = Counter(str(refusal) for _, refusal in damaged)
        series.append(Series(folder, n_files=len(damaged), refusal=Refusal("; ".join(sorted(kinds)))))
    if others:
        series.append(Series(folder, n_files=len(others), refusal=Refusal("not DICOM")))
    return sorted(series, key=lambda one: (one.uid == "", one.number, one.uid))


def _suffix(path: Path) -> str:
    name = path.name.lower().removesuffix(".gz")
    suffix = Path(name).suffix
    # images without extension are often called by their UID or number
    return "" if suffix[1:].isdigit() else suffix


def _is_text(path: Path) -> bool:
    """Whether a file starts as text does (a README without extension beside images without extension)."""
    try:
        with path.open("rb") as handle:
            start = handle.read(512)
    except OSError:
        return False
    return bool(start) and all(byte >= 32 or byte in b"\t\n\r\f" for byte in start)


def _series(folder: Path, uid: str, images: Sequence[ImageFile]) -> Series:
    refusals = [image.refusal for image in images if image.refusal is not None]
    refusal = None
    if refusals:
        kinds = Counter(str(one) for one in refusals)
        reason, count = kinds.most_common(1)[0]
        refusal = Refusal(reason) if count == len(images) else Refusal(reason, f"in {count} of {len(images)} files")
    return Series(
        source=folder,
        uid=uid,
        number=images[0].series_number,
        images=frozenset(image.uid for image in images),
        frames=[frame for image in images for frame in image.frames],
        header=images[0].header,
        n_files=len(images),
        refusal=refusal,
    )


def _join_folders(series: list[Series]) -> list[Series]:
    """Put the pieces of a series that is spread over folders together."""
    by_uid: dict[str, list[Series]] = defaultdict(list)
    for one in series:
        if one.uid:
            by_uid[one.uid].append(one)
    for pieces in by_uid.values():
        if len(pieces) == 1 or not _are_pieces(pieces):
            continue
        first = pieces[0]
        first.source = Path(os.path.commonpath([piece.source for piece in pieces]))
        for piece in pieces[1:]:
            first.images |= piece.images
            first.frames += piece.frames
            first.n_files += piece.n_files
            first.refusal = first.refusal or piece.refusal
            series.remove(piece)
    return series


def _are_pieces(folders: Sequence[Series]) -> bool:
    """Whether folders with the same series UID share neither an image nor a slice: then each has a part of it."""
    images = [one.images for one in folders]
    places = [{frame.position for frame in one.frames} for one in folders]
    return sum(map(len, images)) == len(frozenset().union(*images)) and sum(map(len, places)) == len(
        set().union(*places)
    )


def split(series: Series) -> list[Part]:
    """The parts of a series that become a volume each: one for each image type and echo.

    Images of one type that are not parallel, or not of one size, are refused together: which of them belong to a
    volume would be a guess. So are parts that do not cover the same slices: one of them may lack some.

    Args:
        series: one of `find_series`.
    """
    if series.refusal is not None:
        return [Part(tuple(series.frames), series.refusal)]
    groups: dict[tuple[object, ...], list[Frame]] = defaultdict(list)
    for frame in series.frames:
        groups[(frame.image_type, frame.component)].append(frame)
    parts = [part for frames in groups.values() for part in _split_type(frames)]
    usable = [part for part in parts if part.refusal is None]
    refusal = _cover_the_same(usable)
    return [Part(part.frames, part.refusal or refusal) for part in parts]


def _split_type(frames: Sequence[Frame]) -> list[Part]:
    all_frames = tuple(frames)
    if "LOCALIZER" in frames[0].image_type or LOCALISER.search(frames[0].description):
        return [Part(all_frames, Refusal("localiser", f"{len(frames)} images for planning"))]
    if not same_orientation(frames):
        normals = np.array([normal_of(frame.orientation) for frame in frames])
        kinds = len(np.unique(np.round(normals, 2), axis=0))
        return [Part(all_frames, Refusal("mixed orientations", f"{len(frames)} images in {kinds} orientations"))]
    sizes = {(frame.rows, frame.columns) for frame in frames}
    if len(sizes) > 1:
        found = ", ".join(f"{rows} x {columns}" for rows, columns in sorted(sizes)[:4])
        return [Part(all_frames, Refusal("inconsistent sizes", found))]
    echoes: dict[object, list[Frame]] = defaultdict(list)
    by_number = len({frame.echo[1] for frame in frames}) > 1
    for frame in frames:
        echoes[frame.echo[by_number]].append(frame)
    return [Part(tuple(group)) for group in echoes.values()]


def _cover_the_same(parts: Iterable[Part]) -> Refusal | None:
    """A refusal where parallel parts of a series do not have the same slices."""
    seen: list[tuple[Frame, set[int]]] = []
    for part in parts:
        first = part.frames[0]
        normal = normal_of(first.orientation)
        heights = {round(float(normal @ np.array(frame.position)) / SAME_PLACE_MM) for frame in part.frames}
        near = heights | {height + 1 for height in heights} | {height - 1 for height in heights}
        for other, theirs in seen:
            if same_orientation([first, other]) and not (theirs <= near and len(theirs) == len(heights)):
                return Refusal("missing slices", "image types or echoes of the series do not cover the same slices")
        seen.append((first, heights))
    return None
