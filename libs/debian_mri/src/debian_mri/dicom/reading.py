"""pydicom behind one door: headers, numbers and pixels, with every failure as a `Refusal` and nothing printed.

pydicom warns about odd values and quotes them, and what it quotes may be a name or a date: no warning leaves this file.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import math
import re
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom import Dataset
from pydicom.dataelem import RawDataElement
from pydicom.errors import InvalidDicomError
from pydicom.pixels.utils import pixel_array
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    JPEG2000TransferSyntaxes,
    JPEGExtended12Bit,
    JPEGLSTransferSyntaxes,
    JPEGTransferSyntaxes,
    RLELossless,
)
from pydicom.uid import ImplicitVRLittleEndian as ImplicitVR

from debian_mri.dicom.frames import Refusal, Vector

PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
PIXEL_TAGS = (b"\xe0\x7f\x10\x00", b"\xe0\x7f\x08\x00", b"\xe0\x7f\x09\x00")
PIXEL_TAGS_BIG_ENDIAN = (b"\x7f\xe0\x00\x10", b"\x7f\xe0\x00\x08", b"\x7f\xe0\x00\x09")
UNDEFINED_LENGTH = 0xFFFFFFFF
LARGEST_PLANE = 2**26  # 8192 x 8192 pixels
NATIVE = (ImplicitVR, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian)
UNREADABLE = "unreadable file"
# one decoder each, so that what is installed beside them changes nothing; pydicom's own of RLE since that of
# pylibjpeg-rle panics on damaged data
DECODERS = {
    RLELossless: "pydicom",
    **dict.fromkeys(JPEGTransferSyntaxes, "gdcm"),
    **dict.fromkeys(JPEGLSTransferSyntaxes, "pyjpegls"),
    **dict.fromkeys(JPEG2000TransferSyntaxes, "pylibjpeg"),
}


class NotDicom(Exception):
    """The file is no DICOM file at all."""


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Neither warnings nor checks of values by pydicom: what is used is checked where it is used."""
    with warnings.catch_warnings(), pydicom.config.disable_value_validation():
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def failures(kind: str, detail: str) -> Iterator[None]:
    """Damaged files fail in pydicom and its decoders in any way there is: all of them are a refusal."""
    try:
        with quiet():
            yield
    except (Refusal, NotDicom):
        raise
    except Exception as error:  # its text may quote the header
        raise Refusal(kind, f"{detail} ({type(error).__name__})") from None


def _open(path: Path) -> BinaryIO:
    """The file, unzipped where it starts as gzip does."""
    try:
        handle = path.open("rb")
        if handle.read(2) == b"\x1f\x8b":
            handle.close()
            with gzip.open(path) as zipped:
                return io.BytesIO(zipped.read())
        handle.seek(0)
        return handle
    except (OSError, EOFError, zlib.error) as error:
        raise Refusal(UNREADABLE, f"cannot be read or unzipped ({type(error).__name__})") from None


def read(path: Path, *, pixels: bool) -> tuple[Dataset, bool]:
    """A file's header, or all of it.

    Args:
        path: the file, plain or gzipped.
        pixels: read the pixels as well.

    Returns:
        The data set, and whether the file has pixel data.

    Raises:
        NotDicom: there is neither the preamble nor a first element that a DICOM file without it would have.
        Refusal: the file is damaged.
    """
    with _open(path) as handle, failures(UNREADABLE, "the header is damaged"):
        start = handle.read(132)
        handle.seek(0)
        if start[128:] != b"DICM" and start[:2] not in (b"\x02\0", b"\x08\0"):
            raise NotDicom
        try:
            dataset = pydicom.dcmread(handle, stop_before_pixels=not pixels, force=start[128:] != b"DICM")
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


def _check_whole(dataset: Dataset) -> None:
    """Pydicom takes a file that ends inside an element as if the element ended there; a cut UID is another UID."""
    for tag in list(dataset.keys())[-1:]:
        element: Any = dataset.get_item(tag)
        if not isinstance(element, RawDataElement) or element.length == UNDEFINED_LENGTH:
            continue
        if len(element.value or b"") != element.length:
            raise Refusal(UNREADABLE, "it is cut short")


def meta_uid(dataset: Dataset, keyword: str) -> str:
    """A UID of the file meta header, empty where it is absent."""
    with quiet():
        return str(getattr(dataset, "file_meta", {}).get(keyword, ""))


def transfer_syntax(dataset: Dataset) -> UID:
    """The file's; a file without a meta header has the standard's default or what its elements show it to have."""
    with quiet():
        if named := meta_uid(dataset, "TransferSyntaxUID"):
            return UID(named)
    implicit, little = dataset.original_encoding
    if implicit is False:
        return ExplicitVRLittleEndian if little else ExplicitVRBigEndian
    return ImplicitVR


def value(dataset: Dataset, keyword: str | int | tuple[int, int]) -> Any:
    """An element's value, None where it is absent or empty.

    Raises:
        Refusal: it cannot be made out.
    """
    with failures(UNREADABLE, "a value of the header is damaged"):
        if isinstance(keyword, str):
            found = dataset.get(keyword)
        else:
            element = dataset.get(keyword)
            found = None if element is None else element.value
        if found is None or (hasattr(found, "__len__") and len(found) == 0):
            return None
        return found


def text(dataset: Dataset, keyword: str) -> str:
    """An element's text without blanks around it; several values are joined as in the file."""
    found = value(dataset, keyword)
    if found is None:
        return ""
    if isinstance(found, (list, pydicom.multival.MultiValue)):
        return "\\".join(str(item) for item in found).strip("\0 ")
    return str(found).strip("\0 ")


def numbers(dataset: Dataset, keyword: str | int | tuple[int, int], count: int) -> Vector | None:
    """An element of ``count`` finite numbers, None where it is absent or empty.

    Raises:
        Refusal: it holds something else.
    """
    found = value(dataset, keyword)
    if found is None:
        return None
    items = list(found) if isinstance(found, (list, tuple, pydicom.multival.MultiValue)) else [found]
    with failures("invalid header", "an element that should hold numbers holds something else"):
        read_numbers = tuple(float(item) for item in items)
    if len(read_numbers) != count or not all(math.isfinite(number) for number in read_numbers):
        raise Refusal("invalid header", f"{len(items)} values or an infinite one where {count} numbers should be")
    return read_numbers


def number(dataset: Dataset, keyword: str | int | tuple[int, int]) -> float | None:
    """An element of one finite number, None where it is absent or empty."""
    found = numbers(dataset, keyword, 1)
    return found[0] if found else None


def whole_number(dataset: Dataset, keyword: str | int | tuple[int, int]) -> int | None:
    """An element of one whole number, None where it is absent or empty."""
    found = number(dataset, keyword)
    if found is not None and found != int(found):
        raise Refusal("invalid header", "a broken number where a whole one should be")
    return None if found is None else int(found)


def words(dataset: Dataset, keyword: str) -> tuple[str, ...]:
    """An element's values in upper case."""
    return tuple(word.strip().upper() for word in text(dataset, keyword).split("\\") if word.strip())


def uid(dataset: Dataset, keyword: str) -> str:
    """A UID, empty where it is absent.

    Raises:
        Refusal: it is none.
    """
    found = text(dataset, keyword)
    if found and not re.fullmatch(r"[0-9.]{1,64}", found):
        raise Refusal(UNREADABLE, "an identifier of the header is damaged")
    return found


def sequence(dataset: Dataset, keyword: str | tuple[int, int]) -> list[Dataset]:
    """The items of a sequence, none where it is absent."""
    found = value(dataset, keyword)
    if found is None:
        return []
    if not isinstance(found, pydicom.Sequence):
        raise Refusal(UNREADABLE, "a sequence of the header is damaged")
    return list(found)


def check_image(dataset: Dataset) -> tuple[int, int]:
    """Rows and columns of an image whose pixels are plain grey values.

    Raises:
        Refusal: they are missing or absurd, or the image is in colour or has annotations burnt in.
    """
    rows, columns = whole_number(dataset, "Rows"), whole_number(dataset, "Columns")
    if not rows or not columns or rows * columns > LARGEST_PLANE:
        raise Refusal("no pixel data", "the image has no usable number of rows and columns")
    if (whole_number(dataset, "SamplesPerPixel") or 1) != 1 or words(dataset, "PhotometricInterpretation")[:1] not in (
        ("MONOCHROME2",),
        ("MONOCHROME1",),
    ):
        raise Refusal("not a scan", "a colour image")
    if words(dataset, "BurnedInAnnotation")[:1] == ("YES",):
        raise Refusal("burnt-in annotation", "the pixels themselves may tell who this is")
    return rows, columns


def pixels(path: Path) -> npt.NDArray[Any]:
    """The stored values of a file.

    Returns:
        Array of shape (frames, rows, columns).

    Raises:
        Refusal: there are none, they are cut short or damaged, or compressed in a way that cannot be decoded.
    """
    try:
        dataset, present = read(path, pixels=True)
    except NotDicom:
        raise Refusal(UNREADABLE, "the file has changed meanwhile") from None
    if not present:
        raise Refusal("no pixel data")
    rows, columns = check_image(dataset)
    frames = whole_number(dataset, "NumberOfFrames") or 1
    syntax = transfer_syntax(dataset)
    _check_decodable(syntax, whole_number(dataset, "BitsStored"))
    with failures("damaged pixels", "they cannot be decoded"):
        if getattr(dataset, "file_meta", None) is None:
            dataset.file_meta = pydicom.dataset.FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = syntax
        if "PixelData" in dataset and syntax in NATIVE:
            _check_length(dataset, frames * rows * columns)
        # raw: bits above those that are stored are looked at below, not masked away
        plugin = DECODERS.get(syntax, "")
        stored = np.asarray(pixel_array(dataset, raw=True, correct_unused_bits=False, decoding_plugin=plugin))
    stored = stored[None] if stored.ndim == 2 else stored
    if stored.shape != (frames, rows, columns):
        raise Refusal("damaged pixels", f"{stored.shape} decoded where {(frames, rows, columns)} was announced")
    return stored if stored.dtype.kind == "f" else _used_bits(dataset, stored)


def _check_decodable(syntax: UID, bits: int | None) -> None:
    if syntax not in NATIVE and syntax not in DECODERS:
        raise Refusal("unsupported compression", f"no decoder for the transfer syntax {_syntax_name(syntax)}")
    if syntax == JPEGExtended12Bit and bits != 8:
        raise Refusal("unsupported compression", "lossy JPEG of 12 bits: let dcmtk's dcmdjpeg decompress the files")


def _syntax_name(syntax: UID) -> str:
    return syntax.name if syntax.is_transfer_syntax and syntax.name != syntax else "of another maker"


def _check_length(dataset: Dataset, count: int) -> None:
    """Uncompressed pixels have to be exactly as long as announced, but for one byte that makes the length even."""
    wanted = count * (whole_number(dataset, "BitsAllocated") or 0) // 8
    found = len(cast(bytes, dataset.PixelData))
    if found not in (wanted, wanted + wanted % 2):
        raise Refusal("damaged pixels", f"{found} bytes where {wanted} were announced")


def _used_bits(dataset: Dataset, stored: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The values of integers whose sign sits in the highest stored bit.

    Raises:
        Refusal: bits above those stored are in use (overlays of old files), or the header contradicts itself.
    """
    allocated, used = whole_number(dataset, "BitsAllocated"), whole_number(dataset, "BitsStored")
    high = whole_number(dataset, "HighBit")
    if not allocated or not used or used > allocated or high not in (used - 1, None) or allocated not in (8, 16, 32):
        raise Refusal("damaged pixels", "the header contradicts itself about the bits of a pixel")
    if used == allocated:
        return stored
    if stored.dtype.kind == "u":
        if stored.max(initial=0) >> used:
            raise Refusal("damaged pixels", f"values above the {used} bits that are announced")
        return stored
    half = 1 << (used - 1)
    low, top = int(stored.min(initial=0)), int(stored.max(initial=0))
    if low >= -half and top < half:
        return stored
    if low >= 0 and top < 2 * half:  # the bits above the sign were left at zero
        return np.where(stored >= half, stored - 2 * half, stored).astype(stored.dtype)
    raise Refusal("damaged pixels", f"values above the {used} bits that are announced")
