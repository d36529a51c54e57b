"""Series below a folder, and the parts of a series that become one volume each."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from pydicom import Dataset

from debian_mri.dicom.files.damage import DamagedFile, candidate_series, foreign_kind, name_pattern
from debian_mri.dicom.files.dicom_io import UNREADABLE, NotDicom, UnreadableDicom, is_uid, optional, text
from debian_mri.dicom.files.image_file import MISSING_GEOMETRY, NO_PIXELS, ImageFile, read_image_file
from debian_mri.dicom.files.object_kinds import is_secondary_capture
from debian_mri.dicom.files.walk import walk
from debian_mri.dicom.frames import Frame, Refusal, plane_normal
from debian_mri.dicom.stacks.geometry import SAME_POSITION_MM, same_orientation
from icube_common.errors import InputError

LOCALISER = re.compile(r"(?<![a-z])(?:aahead[_ ]?|aah)?(?:locali[sz]ers?|scout|survey|3[ _-]?plane|loc)(?![a-z])")
DICOM_SUFFIXES = (".dcm", ".ima", ".dicom", ".dic")
NO_DICOM = "no DICOM file, and none of another known kind"


@dataclass
class Series:
    """Files of a series.

    Attributes:
        source: folder; the common parent of a series in several folders; a damaged file itself.
        uid: UID of the series; empty for files without one.
        number: series number.
        images: UIDs of the images.
        frames: frames of all files.
        header: header of the first file.
        n_files: number of files.
        refusal: reason to refuse the whole series.
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
class SeriesPart:
    """Part of a series: frames of one image type and echo.

    Attributes:
        frames: frames.
        refusal: reason to refuse the part.
    """

    frames: tuple[Frame, ...]
    refusal: Refusal | None = None


def find_series(folder: str | Path) -> list[Series]:
    """All series below a folder, sorted by folder, series number and UID.

    Hidden files are skipped; files other than images of a scan are refused entries of their folder, damaged files are
    refused entries of their own. A series in several folders is joined unless the folders hold copies of the same
    images or slices.

    Raises:
        InputError: folder missing or empty.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: is no folder; name the one that holds the DICOM files")
    result: list[Series] = []
    n_files = 0
    for parent, paths, failure in walk(folder):
        n_files += len(paths) + bool(failure)
        if failure:
            result.append(Series(parent, refusal=Refusal(UNREADABLE, f"the folder cannot be searched ({failure})")))
        result += _folder_series(parent, paths)
    if n_files == 0:
        raise InputError(f"{folder}: holds no files; name the folder with the DICOM files")
    return _join_folders(result)


def _folder_series(folder: Path, paths: Sequence[Path]) -> list[Series]:
    images: list[ImageFile] = []
    damaged: list[DamagedFile] = []
    foreign: Counter[str] = Counter()
    for path in paths:
        try:
            image = _read(path)
        except NotDicom:
            kind = foreign_kind(path)
            if kind is not None:
                foreign[kind] += 1
                continue
            why = NO_DICOM if path.stat().st_size else "it is empty"
            damaged.append(DamagedFile(path, Refusal(UNREADABLE, why), Dataset(), is_dicom=False))
        except Refusal as refusal:
            header = refusal.header if isinstance(refusal, UnreadableDicom) else Dataset()
            damaged.append(DamagedFile(path, refusal, header, is_dicom=isinstance(refusal, UnreadableDicom)))
        else:
            if image is not None:
                images.append(image)
    groups, more_damaged = _by_series(folder, images)
    damaged += more_damaged
    names = {name_pattern(image.path) for image in images}
    for file in [file for file in damaged if not file.is_dicom]:
        if Path(name_pattern(file.path)).suffix not in DICOM_SUFFIXES and name_pattern(file.path) not in names:
            damaged.remove(file)
            foreign[""] += 1
    numbers = {path: number for number, path in enumerate(paths, 1)}
    series: list[Series] = []
    slices: list[tuple[Series, list[ImageFile]]] = []
    for uid, group in groups.items():
        images_of_series, others = _slices(group)
        if images_of_series:
            one = _series(folder, uid, images_of_series, numbers)
            series.append(one)
            slices.append((one, images_of_series))
        series += _refused_objects(folder, others)
    lacking: Counter[int] = Counter()
    for file in damaged:
        lacking.update(candidate_series(file, [group for _, group in slices]))
        location = f"file {numbers[file.path]} of {len(paths)} of its folder by name"
        detail = f"{file.refusal.detail} ({location})"
        series.append(Series(file.path, n_files=1, refusal=Refusal(file.refusal.kind, detail)))
    for index, count in lacking.items():
        one = slices[index][0]
        one.refusal = one.refusal or Refusal(
            UNREADABLE,
            f"{count} damaged {'files' if count > 1 else 'file'} beside it may belong to it, so slices may be missing: "
            "fetch them again, or move them away if they do not",
        )
    for kind, count in sorted(foreign.items()):
        series.append(Series(folder, n_files=count, refusal=Refusal("not DICOM", kind)))
    return sorted(series, key=lambda one: (one.uid == "", one.number, one.uid))


def _read(path: Path) -> ImageFile | None:
    if not path.is_file():
        dead = path.is_symlink() and not path.exists()
        raise Refusal(UNREADABLE, "a link to a file that is not there" if dead else "neither a file nor a folder")
    return read_image_file(path)


def _by_series(folder: Path, images: Sequence[ImageFile]) -> tuple[dict[str, list[ImageFile]], list[DamagedFile]]:
    """Images of each series, and damaged files: those with a damaged UID of another series, remains of intact images.

    Anonymisers give many series one UID: different series numbers are separated if the UIDs of the images are an
    anonymiser's too or that of the series is no UID.
    """
    groups: dict[str, list[ImageFile]] = defaultdict(list)
    for image in images:
        groups[image.series_uid].append(image)
    damaged: list[DamagedFile] = []
    for uid in [uid for uid, group in groups.items() if len(group) == 1 and not is_uid(uid)]:
        if any(is_uid(other) and _is_spoiled(uid, other) for other in groups):
            (image,) = groups.pop(uid)
            refusal = Refusal(UNREADABLE, "an identifier of the header is damaged")
            damaged.append(DamagedFile(image.path, refusal, image.header, is_dicom=True))
    for uid, group in groups.items():
        intact = {image.uid for image in group if image.refusal is None}
        if len(intact) > 1:  # an anonymiser's one UID for all says nothing
            groups[uid] = []
            for image in group:
                if image.refusal is not None and image.refusal.kind in (UNREADABLE, NO_PIXELS) and image.uid in intact:
                    damaged.append(DamagedFile(image.path, image.refusal, image.header, is_dicom=True))
                else:
                    groups[uid].append(image)
    result: dict[str, list[ImageFile]] = {}
    for uid, group in groups.items():
        numbered: dict[int, list[ImageFile]] = defaultdict(list)
        for image in group:
            numbered[image.series_number].append(image)
        # a single image under another number may be one of the series whose number is damaged
        unique = is_uid(uid) and len({image.uid for image in group}) == len(group)
        if len(numbered) > 1 and not unique and all(_is_many(part) for part in numbered.values()):
            result |= {f"{uid}\n{number}": part for number, part in numbered.items()}
        else:
            result[uid] = group
    return result, damaged


def _is_many(images: Sequence[ImageFile]) -> bool:
    return len(images) > 1 or len(images[0].frames) > 1


def _is_spoiled(uid: str, other: str) -> bool:
    return len(uid) == len(other) and all(a == b or not is_uid(a) for a, b in zip(uid, other, strict=True))


def _slices(images: Sequence[ImageFile]) -> tuple[list[ImageFile], list[ImageFile]]:
    """Images of a series, and other objects under its UID."""
    slices = [image for image in images if image.is_slice]
    others = [image for image in images if not image.is_slice]
    # a series of captures: images without geometry are slices too
    if slices and all(is_secondary_capture(image.header) for image in slices):
        slices += [image for image in others if image.refusal is not None and image.refusal.kind == MISSING_GEOMETRY]
        others = [image for image in others if image.refusal is None or image.refusal.kind != MISSING_GEOMETRY]
    return slices, others


def _refused_objects(folder: Path, images: Sequence[ImageFile]) -> list[Series]:
    """Refused entries of objects that are no image of a series, by kind; the series is converted without them."""
    kinds: dict[str, list[ImageFile]] = defaultdict(list)
    for image in images:
        kinds[str(image.refusal)].append(image)
    return [
        Series(
            source=same[0].path if len(same) == 1 else folder,
            number=same[0].series_number,
            header=same[0].header,
            n_files=len(same),
            refusal=same[0].refusal,
        )
        for _, same in sorted(kinds.items())
    ]


def _series(folder: Path, uid: str, images: Sequence[ImageFile], numbers: Mapping[Path, int]) -> Series:
    refused = [image for image in images if image.refusal is not None]
    refusal = None
    if refused:
        kinds = Counter((image.refusal.kind, image.refusal.detail) for image in refused if image.refusal is not None)
        (kind, detail), count = kinds.most_common(1)[0]
        refusal = Refusal(kind, detail)
        if count < len(images):
            first = next(image for image in refused if str(image.refusal) == str(refusal))
            location = (
                f"in {count} of {len(images)} files (the first is file {numbers[first.path]} of its folder by name)"
            )
            refusal = Refusal(str(refusal), location)
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
    """Join the pieces of a series in several folders."""
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
    """True if folders with one series UID share neither an image nor a slice, so that each holds a part.

    False for an anonymiser's UID, or headers of different subjects, studies or series.
    """
    if not all(is_uid(one.uid) for one in folders) or len({_identity(one.header) for one in folders}) > 1:
        return False
    images = [one.images - {""} for one in folders]
    positions = [{frame.position for frame in one.frames} for one in folders]
    return sum(map(len, images)) == len(frozenset().union(*images)) and sum(map(len, positions)) == len(
        set().union(*positions)
    )


def _identity(header: Dataset) -> tuple[str, ...]:
    keywords = ("StudyInstanceUID", "PatientID", "SeriesNumber", "SeriesDescription", "FrameOfReferenceUID")
    return tuple(optional(text, header, keyword) or "" for keyword in keywords)


def split_series(series: Series) -> list[SeriesPart]:
    """Split a series into parts that become a volume each: one for each image type and echo.

    Images of one type that are not parallel, or not of one size, are refused together, and so are parts that do not
    cover the same slices, since one of them may lack some.
    """
    if series.refusal is not None:
        return [SeriesPart(tuple(series.frames), series.refusal)]
    groups: dict[tuple[object, ...], list[Frame]] = defaultdict(list)
    for frame in series.frames:
        groups[(frame.image_type, frame.component)].append(frame)
    parts = [part for frames in groups.values() for part in _split_type(frames)]
    usable = [part for part in parts if part.refusal is None]
    refusal = _cover_the_same(usable)
    return [SeriesPart(part.frames, part.refusal or refusal) for part in parts]


def _split_type(frames: Sequence[Frame]) -> list[SeriesPart]:
    all_frames = tuple(frames)
    if "LOCALIZER" in frames[0].image_type or LOCALISER.search(frames[0].description):
        return [SeriesPart(all_frames, Refusal("localiser", f"{len(frames)} images for planning"))]
    if not same_orientation(frames) and len(stacks := _stacks(frames)) > 1:
        return [part for stack in stacks for part in _split_type(stack)]
    if not same_orientation(frames):
        normals = np.array([plane_normal(frame.orientation) for frame in frames])
        kinds = len(np.unique(np.round(normals, 2), axis=0))
        return [SeriesPart(all_frames, Refusal("mixed orientations", f"{len(frames)} images in {kinds} orientations"))]
    sizes = {(frame.rows, frame.columns) for frame in frames}
    if len(sizes) > 1:
        listed = ", ".join(f"{rows} x {columns}" for rows, columns in sorted(sizes)[:4])
        return [SeriesPart(all_frames, Refusal("inconsistent sizes", listed))]
    echoes: dict[object, list[Frame]] = defaultdict(list)
    by_number = len({frame.echo[1] for frame in frames}) > 1
    for frame in frames:
        echoes[frame.echo[by_number]].append(frame)
    return [SeriesPart(tuple(group)) for group in echoes.values()]


def _stacks(frames: Sequence[Frame]) -> list[list[Frame]]:
    """Stacks named in an enhanced file, if each has parallel frames."""
    stacks: dict[tuple[Path, str], list[Frame]] = defaultdict(list)
    for frame in frames:
        stacks[frame.path, frame.stack].append(frame)
    named = all(stack for _, stack in stacks)
    return list(stacks.values()) if named and all(map(same_orientation, stacks.values())) else []


def _cover_the_same(parts: Iterable[SeriesPart]) -> Refusal | None:
    """Refusal of parallel parts of a series, or of a stack, with different slices."""
    earlier: list[tuple[Frame, set[int]]] = []
    for part in parts:
        first = part.frames[0]
        normal = plane_normal(first.orientation)
        heights = {round(float(normal @ np.array(frame.position)) / SAME_POSITION_MM) for frame in part.frames}
        near = heights | {height + 1 for height in heights} | {height - 1 for height in heights}
        for other, theirs in earlier:
            if first.stack != other.stack and first.path == other.path:
                continue
            if same_orientation([first, other]) and not (theirs <= near and len(theirs) == len(heights)):
                return Refusal("missing slices", "image types or echoes of the series do not cover the same slices")
        earlier.append((first, heights))
    return None
