"""Reading of DICOM files by pydicom: headers, numbers and pixels, with every failure as a `Refusal` and no output.

Warnings of pydicom quote values, which may be a name or a date: they are suppressed here.
"""

from __future__ import annotations

import contextlib
import functools
import gzip
import io
import math
import re
import threading
import warnings
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import pydicom
from pydicom import Dataset
from pydicom.dataelem import RawDataElement
from pydicom.errors import InvalidDicomError
from pydicom.tag import BaseTag, Tag
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ExplicitVRLittleEndian
from pydicom.uid import ImplicitVRLittleEndian as ImplicitVR

from debian_mri.dicom.frames import Refusal, Vector

T = TypeVar("T")

PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
PIXEL_TAGS = (b"\xe0\x7f\x10\x00", b"\xe0\x7f\x08\x00", b"\xe0\x7f\x09\x00")
PIXEL_TAGS_BIG_ENDIAN = (b"\x7f\xe0\x00\x10", b"\x7f\xe0\x00\x08", b"\x7f\xe0\x00\x09")
UNDEFINED_LENGTH = 0xFFFFFFFF
MAX_UID_LENGTH = 128  # twice that of the standard, for those of anonymisers
MAX_PIXELS = 2**26  # 8192 x 8192 pixels
UNREADABLE = "unreadable file"
NOT_A_SCAN = "not a scan"
CUT_SHORT = "it is cut short"
# the header is read up to one of these where it fails further on; the first ends after the series' identity
PARTS = (0x00200011, 0x0018FFFF, 0x0010FFFF, 0x00081050, 0x00080018, 0x0007FFFF)


class NotDicom(Exception):
    """Error for a file that is not DICOM."""


class UnreadableDicom(Refusal):
    """Refusal of a file that cannot be read to its end.

    Args:
        refusal: reason.
        header: readable elements before the damage.
    """

    def __init__(self, refusal: Refusal, header: Dataset) -> None:
        super().__init__(refusal.kind, refusal.detail)
        self.header = header


_state = threading.local()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Context without warnings and value checks of pydicom; values are checked on use. Nested ones are free."""
    if getattr(_state, "is_quiet", False):
        yield
        return
    with warnings.catch_warnings(), pydicom.config.disable_value_validation():
        warnings.simplefilter("ignore")
        _state.is_quiet = True
        try:
            yield
        finally:
            _state.is_quiet = False


@contextlib.contextmanager
def failures(kind: str, detail: str) -> Iterator[None]:
    """Context that turns any failure of pydicom and its decoders on a damaged file into a refusal."""
    try:
        with quiet():
            yield
    except (Refusal, NotDicom):
        raise
    except Exception as error:  # its text may quote the header
        raise Refusal(kind, f"{detail} ({type(error).__name__})") from None


def _open(path: Path) -> tuple[BinaryIO, Refusal | None]:
    """Open a file, unzipped if gzipped, with the refusal of a damaged archive.

    Raises:
        Refusal: it cannot be opened.
    """
    try:
        handle = path.open("rb")
        if handle.read(2) == b"\x1f\x8b":
            with handle:
                handle.seek(0)
                return _unzipped(handle.read())
        handle.seek(0)
        return handle, None
    except OSError as error:
        raise Refusal(UNREADABLE, f"cannot be read ({type(error).__name__})") from None


def _unzipped(content: bytes) -> tuple[BinaryIO, Refusal | None]:
    try:
        return io.BytesIO(gzip.decompress(content)), None
    except (OSError, EOFError, zlib.error) as error:
        refusal = Refusal(UNREADABLE, f"cannot be unzipped ({type(error).__name__})")
    try:
        return io.BytesIO(zlib.decompressobj(wbits=31).decompress(content)), refusal
    except zlib.error:
        return io.BytesIO(), refusal


def first_bytes(path: Path, count: int) -> bytes:
    """First bytes of a file, unzipped if gzipped.

    Raises:
        Refusal: it cannot be opened.
    """
    handle, _ = _open(path)
    with handle:
        return handle.read(count)


def read(path: Path, *, pixels: bool) -> tuple[Dataset, bool]:
    """Read a file's header, or all of it.

    Returns:
        Data set, and true for a file with pixel data.

    Raises:
        NotDicom: neither the preamble nor a first element of DICOM.
        Refusal: file cannot be opened or unzipped.
        UnreadableDicom: file cannot be read to its end.
    """
    handle, damage = _open(path)
    with handle:
        start = handle.read(132)
        handle.seek(0)
        if start[128:] != b"DICM" and start[:2] not in (b"\x02\0", b"\x08\0"):
            if damage is not None:
                raise damage
            raise NotDicom
        try:
            if damage is not None:
                raise damage
            with failures(UNREADABLE, "the header is damaged"):
                return _read(handle, start[128:] != b"DICM", pixels=pixels)
        except Refusal as refusal:
            raise UnreadableDicom(refusal, _readable_part(handle)) from None


def _read(handle: BinaryIO, force: bool, *, pixels: bool) -> tuple[Dataset, bool]:
    try:
        dataset = pydicom.dcmread(handle, stop_before_pixels=not pixels, force=force)
    except InvalidDicomError:
        raise NotDicom from None
    syntax = transfer_syntax(dataset)
    _check_whole(dataset)
    if pixels:
        return dataset, any(keyword in dataset for keyword in PIXELS)
    if syntax == DeflatedExplicitVRLittleEndian:
        handle.seek(0)
        whole = pydicom.dcmread(handle)
        return dataset, any(keyword in whole for keyword in PIXELS)
    tags = PIXEL_TAGS_BIG_ENDIAN if syntax == ExplicitVRBigEndian else PIXEL_TAGS
    return dataset, handle.read(4) in tags


def _readable_part(handle: BinaryIO) -> Dataset:
    """Header elements before a damage, from the first parts that are readable."""
    for last in PARTS:
        handle.seek(0)
        with contextlib.suppress(Exception), quiet():  # a damaged file fails anywhere in pydicom
            part = pydicom.filereader.read_partial(handle, lambda tag, *_: tag > last, force=True)  # noqa: B023
            with contextlib.suppress(Refusal):
                _check_whole(part)
                return part
            del part[max(part.keys())]
            return part
    return Dataset()


def _check_whole(dataset: Dataset) -> None:
    """Check that the last element is complete: pydicom accepts a file that ends inside an element, such as a UID."""
    for tag in list(dataset.keys())[-1:]:
        element: Any = dataset.get_item(tag)
        if not isinstance(element, RawDataElement) or element.length == UNDEFINED_LENGTH:
            continue
        if len(element.value or b"") != element.length:
            raise Refusal(UNREADABLE, CUT_SHORT)


def meta_uid(dataset: Dataset, keyword: str) -> str:
    """UID of the file meta header, empty if absent."""
    with quiet():
        return str(getattr(dataset, "file_meta", {}).get(keyword, ""))


def transfer_syntax(dataset: Dataset) -> UID:
    """Transfer syntax of a file; without a meta header by the encoding of its elements, else the standard's default."""
    with quiet():
        if named := meta_uid(dataset, "TransferSyntaxUID"):
            return UID(named)
    implicit, little = dataset.original_encoding
    if implicit is False:
        return ExplicitVRLittleEndian if little else ExplicitVRBigEndian
    return ImplicitVR


@functools.cache
def _tag(keyword: str | int | tuple[int, int]) -> BaseTag:
    """Tag of a keyword of the standard, or of numbers."""
    return Tag(keyword)


def value(dataset: Dataset, keyword: str | int | tuple[int, int]) -> Any:
    """Value of an element, None if absent or empty.

    Raises:
        Refusal: unreadable value.
    """
    tag = _tag(keyword)
    if tag not in dataset.keys():  # noqa: SIM118  the view of a data set is its dictionary's, and much faster
        return None
    with failures(UNREADABLE, "a value of the header is damaged"):
        content = dataset[tag].value
        return None if content is None or (hasattr(content, "__len__") and len(content) == 0) else content


def optional(read: Callable[..., T], *args: Any) -> T | None:
    """Result of a function that reads a header, None where it refuses."""
    try:
        return read(*args)
    except Refusal:
        return None


def text(dataset: Dataset, keyword: str) -> str:
    """Stripped text of an element; several values are joined as in the file."""
    content = value(dataset, keyword)
    if content is None:
        return ""
    if isinstance(content, (list, pydicom.multival.MultiValue)):
        return "\\".join(str(item) for item in content).strip("\0 ")
    return str(content).strip("\0 ")


def numbers(dataset: Dataset, keyword: str | int | tuple[int, int], count: int) -> Vector | None:
    """Element of ``count`` finite numbers, None if absent or empty.

    Raises:
        Refusal: other content.
    """
    content = value(dataset, keyword)
    if content is None:
        return None
    items = list(content) if isinstance(content, (list, tuple, pydicom.multival.MultiValue)) else [content]
    with failures("invalid header", "an element that should hold numbers holds something else"):
        read_numbers = tuple(float(item) for item in items)
    if len(read_numbers) != count or not all(math.isfinite(number) for number in read_numbers):
        raise Refusal("invalid header", f"{len(items)} values or an infinite one where {count} numbers should be")
    return read_numbers


def number(dataset: Dataset, keyword: str | int | tuple[int, int]) -> float | None:
    """Element of one finite number, None if absent or empty."""
    content = numbers(dataset, keyword, 1)
    return content[0] if content else None


def whole_number(dataset: Dataset, keyword: str | int | tuple[int, int]) -> int | None:
    """Element of one whole number, None if absent or empty."""
    content = number(dataset, keyword)
    if content is not None and content != int(content):
        raise Refusal("invalid header", "a broken number where a whole one should be")
    return None if content is None else int(content)


def words(dataset: Dataset, keyword: str) -> tuple[str, ...]:
    """Values of an element in upper case."""
    return tuple(word.strip().upper() for word in text(dataset, keyword).split("\\") if word.strip())


def uid(dataset: Dataset, keyword: str) -> str:
    """UID, or an anonymiser's text in its place; empty if absent.

    Raises:
        Refusal: not printable text.
    """
    content = text(dataset, keyword)
    if not content.isprintable() or "\ufffd" in content or len(content) > MAX_UID_LENGTH:
        raise Refusal(UNREADABLE, "an identifier of the header is damaged")
    return content


def is_uid(text: str) -> bool:
    """True for a UID of the standard's form, false for an anonymiser's text."""
    return re.fullmatch(r"[0-9.]{1,64}", text) is not None


def sequence(dataset: Dataset, keyword: str | tuple[int, int]) -> list[Dataset]:
    """Items of a sequence, none if absent."""
    content = value(dataset, keyword)
    if content is None:
        return []
    if not isinstance(content, pydicom.Sequence):
        raise Refusal(UNREADABLE, "a sequence of the header is damaged")
    return list(content)


def check_image(dataset: Dataset) -> tuple[int, int]:
    """Rows and columns of a greyscale image.

    Raises:
        Refusal: missing or implausible size, colour image, or burnt-in annotation.
    """
    rows, columns = whole_number(dataset, "Rows"), whole_number(dataset, "Columns")
    if not rows or not columns or rows * columns > MAX_PIXELS:
        raise Refusal("no pixel data", "the image has no usable number of rows and columns")
    # one sample without any interpretation is grey: anonymisers remove the word
    colours = words(dataset, "PhotometricInterpretation")[:1]
    if (whole_number(dataset, "SamplesPerPixel") or 1) != 1 or colours not in (("MONOCHROME2",), ("MONOCHROME1",), ()):
        raise Refusal(NOT_A_SCAN, "a colour image")
    if words(dataset, "BurnedInAnnotation")[:1] == ("YES",):
        raise Refusal("burnt-in annotation", "the pixels may identify the subject")
    return rows, columns
