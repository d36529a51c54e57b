"""Frames of a DICOM image file."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from pydicom import Dataset
from pydicom.uid import MediaStorageDirectoryStorage

from debian_mri.dicom.files import dicom_io
from debian_mri.dicom.files.mosaic import is_mosaic, split_mosaic
from debian_mri.dicom.files.multiframe import frame_headers, is_multiframe
from debian_mri.dicom.files.object_kinds import is_private_without_size, is_secondary_capture, kind_without_image
from debian_mri.dicom.frames import Frame, Refusal, Vector, check_orientation

# private attributes, found by their creator's name since the block number may differ
GE_IMAGE_KIND = (0x0043, "GEMS_PARM_01", 0x2F)
PHILIPS_SLOPE = (0x2005, "PHILIPS MR IMAGING DD 001", 0x0E)
CREATORS = range(0x10, 0x100)
SERIES_UID = 0x0020000E
MISSING_GEOMETRY = "missing geometry"
NO_PIXELS = "no pixel data"
NO_UID = "series without a UID"
SERIES_WORDS = (
    *("StudyInstanceUID", "PatientID", "SeriesNumber", "SeriesDescription", "ProtocolName", "SequenceName"),
    *("FrameOfReferenceUID", "MRAcquisitionType", "RepetitionTime", "FlipAngle"),
)


@dataclass(frozen=True)
class ImageFile:
    """Frames of a file, or the reason for a refusal.

    Attributes:
        path: file.
        uid: UID of the image, empty if absent.
        series_uid: UID of the series; other identifying values of the header if absent.
        series_number: sort key of the result.
        frames: planes.
        header: header without pixels, for the sidecar.
        refusal: reason for the absence of frames.
        is_slice: false for an object that is no image of the series, so that the series is complete without it.
    """

    path: Path
    uid: str
    series_uid: str
    series_number: int
    frames: tuple[Frame, ...]
    header: Dataset
    refusal: Refusal | None
    is_slice: bool = True


@dicom_io.quiet()
def read_image_file(path: Path) -> ImageFile | None:
    """Read the frames of a file.

    Returns:
        None for an index of a medium (DICOMDIR), which is no image.

    Raises:
        NotDicom: other kind of file.
        UnreadableDicom: damaged file of an unknown series.
        Refusal: file cannot be opened.
    """
    damage: dicom_io.UnreadableDicom | None = None
    has_pixels = True
    try:
        header, has_pixels = dicom_io.read(path, pixels=False)
    except dicom_io.UnreadableDicom as damaged:
        header, damage = damaged.header, damaged
    kind = kind_without_image(header)
    try:
        series_uid = dicom_io.uid(header, "SeriesInstanceUID")
    except Refusal as refusal:
        raise dicom_io.UnreadableDicom(refusal, header) from None
    if not series_uid:
        if dicom_io.meta_uid(header, "MediaStorageSOPClassUID") == MediaStorageDirectoryStorage:
            return None
        if kind is None and (damage is not None or not has_pixels):
            ended = not header or max(header.keys()) < SERIES_UID
            reason = dicom_io.CUT_SHORT if ended else "no series is named in the header"
            raise damage or dicom_io.UnreadableDicom(Refusal(dicom_io.UNREADABLE, reason), header)
        series_uid = _series_words(header)
    series_number = dicom_io.optional(dicom_io.whole_number, header, "SeriesNumber") or 0
    image_uid = dicom_io.optional(dicom_io.uid, header, "SOPInstanceUID") or ""
    file = ImageFile(path, image_uid, series_uid, series_number, (), header, damage)
    if kind is not None or (not has_pixels and is_private_without_size(header)):
        without = dicom_io.NOT_A_SCAN if has_pixels and damage is None else NO_PIXELS
        return replace(file, refusal=Refusal(without, kind or "an object of a maker's own kind"), is_slice=False)
    if damage is not None:
        return file
    if not has_pixels:
        return replace(file, refusal=Refusal(NO_PIXELS), is_slice=not is_secondary_capture(header))
    try:
        with dicom_io.failures(dicom_io.UNREADABLE, "a value of the header is damaged"):
            return replace(file, frames=tuple(_frames(path, header)))
    except Refusal as refusal:
        is_capture = is_secondary_capture(header) or (
            refusal.kind == dicom_io.NOT_A_SCAN and "ImagePositionPatient" not in header
        )
        return replace(file, refusal=refusal, is_slice=not is_capture)


def _series_words(header: Dataset) -> str:
    """Header values that distinguish series in files without a UID; no UID itself."""
    words = (dicom_io.optional(dicom_io.text, header, keyword) for keyword in SERIES_WORDS)
    return "\n".join([NO_UID, *(word for word in words if word is not None)])


def _frames(path: Path, header: Dataset) -> list[Frame]:
    if is_multiframe(header):
        headers = frame_headers(header)
        return [_frame(path, header, frame, index) for index, frame in enumerate(headers)]
    whole = _frame(path, header, header, 0)
    return split_mosaic(header, whole) if is_mosaic(whole) else [whole]


def _frame(path: Path, file: Dataset, frame: Dataset, index: int) -> Frame:
    """Frame from the headers of the file and of the frame.

    Raises:
        Refusal: missing or invalid geometry.
    """
    rows, columns = dicom_io.check_image(file)
    orientation = dicom_io.numbers(frame, "ImageOrientationPatient", 6)
    position = dicom_io.numbers(frame, "ImagePositionPatient", 3)
    spacing = dicom_io.numbers(frame, "PixelSpacing", 2)
    geometry = {"orientation": orientation, "position": position, "pixel spacing": spacing}
    if orientation is None or position is None or spacing is None:
        raise Refusal(MISSING_GEOMETRY, "no " + ", no ".join(name for name, value in geometry.items() if not value))
    if min(spacing) <= 0:
        raise Refusal(MISSING_GEOMETRY, "the pixel spacing is not above zero")
    image_type = dicom_io.words(frame, "ImageType") or dicom_io.words(file, "ImageType")
    component = private_number(file, *GE_IMAGE_KIND)
    return Frame(
        path=path,
        index=index,
        rows=rows,
        columns=columns,
        orientation=check_orientation(orientation),
        position=position,
        spacing=spacing,
        thickness=dicom_io.number(frame, "SliceThickness"),
        slice_spacing=dicom_io.number(frame, "SpacingBetweenSlices"),
        image_type=(*image_type, *dicom_io.words(frame, "ComplexImageComponent")),
        component=None if component is None else int(component),
        echo=(dicom_io.number(frame, "EchoTime"), dicom_io.text(frame, "EchoNumbers") or None),
        times=_times(frame),
        instance=dicom_io.optional(dicom_io.whole_number, file, "InstanceNumber"),
        uid=dicom_io.uid(file, "SOPInstanceUID"),
        stack=dicom_io.text(frame, "StackID") if frame is not file else "",
        scale=_scale(file, frame),
        # a protocol may be that of the whole examination, which begins with localisers
        description=(dicom_io.text(file, "SeriesDescription") or dicom_io.text(file, "ProtocolName")).lower(),
    )


def _times(header: Dataset) -> dict[str, Vector]:
    """Attributes that may distinguish the volumes of a 4-D series, by source."""
    times: dict[str, Vector] = {}
    for source, keyword in (("temporal position", "TemporalPositionIdentifier"), ("trigger time", "TriggerTime")):
        if (value := dicom_io.number(header, keyword)) is not None:
            times[source] = (value,)
    if (acquisition := dicom_io.optional(dicom_io.whole_number, header, "AcquisitionNumber")) is not None:
        times["acquisition number"] = (acquisition,)
    clock = dicom_io.text(header, "AcquisitionTime").replace(":", "")
    if clock.replace(".", "", 1).isdigit():
        times["acquisition time"] = (float(clock),)
    weighting = dicom_io.number(header, "DiffusionBValue")
    if weighting is not None:
        direction = dicom_io.numbers(header, "DiffusionGradientOrientation", 3) or (0.0, 0.0, 0.0)
        # an average over directions is another volume than the image without weighting
        kind = float(dicom_io.text(header, "DiffusionDirectionality") == "ISOTROPIC")
        times["diffusion"] = (weighting, *direction, kind)
    indices = dicom_io.value(header, "DimensionIndexValues")
    if indices is not None:
        values = [indices] if isinstance(indices, int) else indices
        times["dimensions"] = tuple(float(item) for item in values)
    return times


def _scale(file: Dataset, frame: Dataset) -> tuple[float, float]:
    """Slope and intercept from stored values to those that are written.

    DICOM's rescaling gives displayed values; those of Philips are brought back to the scanner's, which compare between
    series: (stored x RS + RI) / (RS x SS), Chenevert et al., Transl. Oncol. 2014, doi 10.1593/tlo.13811.

    Raises:
        Refusal: a slope is zero.
    """
    slope = dicom_io.number(frame, "RescaleSlope")
    slope = dicom_io.number(file, "RescaleSlope") if slope is None else slope
    intercept = dicom_io.number(frame, "RescaleIntercept")
    intercept = dicom_io.number(file, "RescaleIntercept") if intercept is None else intercept
    slope, intercept = 1.0 if slope is None else slope, intercept or 0.0
    if slope == 0:
        raise Refusal("invalid header", "a rescale slope of zero")
    philips = private_number(frame, *PHILIPS_SLOPE)
    philips = private_number(file, *PHILIPS_SLOPE) if philips is None else philips
    if philips is None:
        return slope, intercept
    if philips == 0:
        raise Refusal("invalid header", "a Philips scale slope of zero")
    return 1 / philips, intercept / (slope * philips)


def private_number(header: Dataset, group: int, creator: str, element: int) -> float | None:
    """A private number of a maker, None where the maker did not write it."""
    # the elements that are there, not all that there may be: this is asked of every file
    first, last = group << 16 | CREATORS[0], group << 16 | CREATORS[-1]
    for number in sorted(tag for tag in map(int, header.keys()) if first <= tag <= last):
        block = number & 0xFFFF
        owner = dicom_io.value(header, (group, block))
        if isinstance(owner, str) and owner.strip().upper() == creator:
            tag = (group, block << 8 | element)
            return dicom_io.number(header, tag) if tag in header else None
    return None
