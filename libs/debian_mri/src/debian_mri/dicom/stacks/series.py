"""Finding the series below a folder, and the parts of a series that become one volume each."""

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
from debian_mri.dicom.files.dicom_io import UNREADABLE, NotDicom, UnreadableDicom, is_uid, text
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
    """The files of one series in one folder.

    Attributes:
        source: the folder; the common parent where a series is spread over several; a damaged file itself.
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
class SeriesPart:
    """Frames of a series that are of one kind, or why there are none.

    Attributes:
        frames: of one image type and echo.
        refusal: why the part cannot be converted.
    """

    frames: tuple[Frame, ...]
    refusal: Refusal | None = None


def find_series(folder: str | Path) -> list[Series]:
    """All series below a folder, in the order of folders, series numbers and UIDs.

    Hidden files are left out; everything else is answered for: what is no DICOM file, or no image of a scan, comes as a
    refused entry of its folder, a damaged file as one of its own. A series spread over folders is put together unless
    the folders hold copies of the same images or slices.

    Raises:
        InputError: the folder does not exist or holds no file.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: is no folder; name the one that holds the DICOM files")
    found: list[Series] = []
    n_files = 0
    for parent, paths, failure in walk(folder):
        n_files += len(paths) + bool(failure)
        if failure:
            found.append(Series(parent, refusal=Refusal(UNREADABLE, f"the folder cannot be searched ({failure})")))
        found += _folder_series(parent, paths)
    if n_files == 0:
        raise InputError(f"{folder}: holds no files; name the folder with the DICOM files")
    return _join_folders(found)


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
    groups, strange = _by_series(folder, images)
    damaged += strange
    names = {name_pattern(image.path) for image in images}
    for file in [file for file in damaged if not file.is_dicom]:
        if Path(name_pattern(file.path)).suffix not in DICOM_SUFFIXES and name_pattern(file.path) not in names:
            damaged.remove(file)
            foreign[""] += 1
    places = {path: place for place, path in enumerate(paths, 1)}
    series: list[Series] = []
    slices: list[tuple[Series, list[ImageFile]]] = []
    for uid, group in groups.items():
        kept, others = _slices(group)
        if kept:
            one = _series(folder, uid, kept, places)
            series.append(one)
            slices.append((one, kept))
        series += _left_aside(folder, others)
    lacking: Counter[int] = Counter()
    for file in damaged:
        lacking.update(candidate_series(file, [group for _, group in slices]))
        where = f"file {places[file.path]} of {len(paths)} of its folder by name"
        detail = f"{file.refusal.detail} ({where})"
        series.append(Series(file.path, n_files=1, refusal=Refusal(file.refusal.kind, detail)))
    for place, count in lacking.items():
        one = slices[place][0]
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
    """The images of each series; and damaged files: of another series' UID with letters in it, remains of whole images.

    Anonymisers give many series one UID: those with different series numbers are taken apart, where the UIDs of the
    images are an anonymiser's as well or the series' is no UID.
    """
    groups: dict[str, list[ImageFile]] = defaultdict(list)
    for image in images:
        groups[image.series_uid].append(image)
    strange: list[DamagedFile] = []
    for uid in [uid for uid, group in groups.items() if len(group) == 1 and not is_uid(uid)]:
        if any(is_uid(other) and _is_spoiled(uid, other) for other in groups):
            (image,) = groups.pop(uid)
            refusal = Refusal(UNREADABLE, "an identifier of the header is damaged")
            strange.append(DamagedFile(image.path, refusal, image.header, is_dicom=True))
    for uid, group in groups.items():
        whole = {image.uid for image in group if image.refusal is None}
        if len(whole) > 1:  # an anonymiser's one UID for all says nothing
            groups[uid] = []
            for image in group:
                if image.refusal is not None and image.refusal.kind in (UNREADABLE, NO_PIXELS) and image.uid in whole:
                    strange.append(DamagedFile(image.path, image.refusal, image.header, is_dicom=True))
                else:
                    groups[uid].append(image)
    answer: dict[str, list[ImageFile]] = {}
    for uid, group in groups.items():
        numbered: dict[int, list[ImageFile]] = defaultdict(list)
        for image in group:
            numbered[image.series_number].append(image)
        # a single image under another number may be one of the series whose number is damaged
        own = is_uid(uid) and len({image.uid for image in group}) == len(group)
        if len(numbered) > 1 and not own and all(_is_many(part) for part in numbered.values()):
            answer |= {f"{uid}\n{number}": part for number, part in numbered.items()}
        else:
            answer[uid] = group
    return answer, strange


def _is_many(images: Sequence[ImageFile]) -> bool:
    return len(images) > 1 or len(images[0].frames) > 1


def _is_spoiled(uid: str, other: str) -> bool:
    return len(uid) == len(other) and all(a == b or not is_uid(a) for a, b in zip(uid, other, strict=True))


def _slices(images: Sequence[ImageFile]) -> tuple[list[ImageFile], list[ImageFile]]:
    """The images that a series consists of, and what only bears its UID."""
    kept = [image for image in images if image.is_slice]
    others = [image for image in images if not image.is_slice]
    if kept and all(
        is_secondary_capture(image.header) for image in kept
    ):  # slices stored as captures: each of these is one
        kept += [image for image in others if image.refusal is not None and image.refusal.kind == MISSING_GEOMETRY]
        others = [image for image in others if image.refusal is None or image.refusal.kind != MISSING_GEOMETRY]
    return kept, others


def _left_aside(folder: Path, images: Sequence[ImageFile]) -> list[Series]:
    """Objects that are no image of a series, by kind: the series goes on without them."""
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


def _series(folder: Path, uid: str, images: Sequence[ImageFile], places: Mapping[Path, int]) -> Series:
    refused = [image for image in images if image.refusal is not None]
    refusal = None
    if refused:
        kinds = Counter((image.refusal.kind, image.refusal.detail) for image in refused if image.refusal is not None)
        (kind, detail), count = kinds.most_common(1)[0]
        refusal = Refusal(kind, detail)
        if count < len(images):
            first = next(image for image in refused if str(image.refusal) == str(refusal))
            where = f"in {count} of {len(images)} files (the first is file {places[first.path]} of its folder by name)"
            refusal = Refusal(str(refusal), where)
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
    """Whether folders with the same series UID share neither an image nor a slice: then each has a part of it.

    Not so where an anonymiser wrote the UID, or the headers are of different people, studies or series.
    """
    if not all(is_uid(one.uid) for one in folders) or len({_identity(one.header) for one in folders}) > 1:
        return False
    images = [one.images - {""} for one in folders]
    places = [{frame.position for frame in one.frames} for one in folders]
    return sum(map(len, images)) == len(frozenset().union(*images)) and sum(map(len, places)) == len(
        set().union(*places)
    )


def _identity(header: Dataset) -> tuple[str, ...]:
    answer = []
    for keyword in ("StudyInstanceUID", "PatientID", "SeriesNumber", "SeriesDescription", "FrameOfReferenceUID"):
        try:
            answer.append(text(header, keyword))
        except Refusal:
            answer.append("")
    return tuple(answer)


def split_series(series: Series) -> list[SeriesPart]:
    """The parts of a series that become a volume each: one for each image type and echo.

    Images of one type that are not parallel, or not of one size, are refused together: which of them belong to a
    volume would be a guess. So are parts that do not cover the same slices: one of them may lack some.

    Args:
        series: one of `find_series`.
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
        found = ", ".join(f"{rows} x {columns}" for rows, columns in sorted(sizes)[:4])
        return [SeriesPart(all_frames, Refusal("inconsistent sizes", found))]
    echoes: dict[object, list[Frame]] = defaultdict(list)
    by_number = len({frame.echo[1] for frame in frames}) > 1
    for frame in frames:
        echoes[frame.echo[by_number]].append(frame)
    return [SeriesPart(tuple(group)) for group in echoes.values()]


def _stacks(frames: Sequence[Frame]) -> list[list[Frame]]:
    """The stacks that an enhanced file says its frames to be of, where each is of parallel frames."""
    stacks: dict[tuple[Path, str], list[Frame]] = defaultdict(list)
    for frame in frames:
        stacks[frame.path, frame.stack].append(frame)
    named = all(stack for _, stack in stacks)
    return list(stacks.values()) if named and all(map(same_orientation, stacks.values())) else []


def _cover_the_same(parts: Iterable[SeriesPart]) -> Refusal | None:
    """A refusal where parallel parts of a series, or of a stack, do not have the same slices."""
    seen: list[tuple[Frame, set[int]]] = []
    for part in parts:
        first = part.frames[0]
        normal = plane_normal(first.orientation)
        heights = {round(float(normal @ np.array(frame.position)) / SAME_POSITION_MM) for frame in part.frames}
        near = heights | {height + 1 for height in heights} | {height - 1 for height in heights}
        for other, theirs in seen:
            if first.stack != other.stack and first.path == other.path:
                continue
            if same_orientation([first, other]) and not (theirs <= near and len(theirs) == len(heights)):
                return Refusal("missing slices", "image types or echoes of the series do not cover the same slices")
        seen.append((first, heights))
    return None
