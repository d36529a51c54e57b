"""Stored pixel values of a file, decoded and without unused bits (PS3.5 section 8)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom import Dataset
from pydicom.pixels.utils import pixel_array
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000TransferSyntaxes,
    JPEGExtended12Bit,
    JPEGLSTransferSyntaxes,
    JPEGTransferSyntaxes,
    RLELossless,
)

from debian_mri.dicom.files import dicom_io
from debian_mri.dicom.frames import Refusal

NATIVE = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian)
NATIVE_CELLS = (*NATIVE, RLELossless)  # syntaxes that keep every bit of a cell
# one decoder each, so that what is installed beside them changes nothing; pydicom's own of RLE since that of
# pylibjpeg-rle panics on damaged data
DECODERS = {
    RLELossless: "pydicom",
    **dict.fromkeys(JPEGTransferSyntaxes, "gdcm"),
    **dict.fromkeys(JPEGLSTransferSyntaxes, "pyjpegls"),
    **dict.fromkeys(JPEG2000TransferSyntaxes, "pylibjpeg"),
}
PLAIN = (ImplicitVRLittleEndian, ExplicitVRLittleEndian)
CELLS = (8, 16, 32)  # bits of a pixel's cell that can be read


@dicom_io.quiet()
def pixels(path: Path) -> npt.NDArray[Any]:
    """Stored values of a file.

    Returns:
        Array of shape (frames, rows, columns).

    Raises:
        Refusal: there are none, they are cut short or damaged, or compressed in a way that cannot be decoded.
    """
    try:
        dataset, present = dicom_io.read(path, pixels=True)
    except dicom_io.NotDicom:
        raise Refusal(dicom_io.UNREADABLE, "the file has changed meanwhile") from None
    if not present:
        raise Refusal("no pixel data")
    rows, columns = dicom_io.check_image(dataset)
    frames = dicom_io.whole_number(dataset, "NumberOfFrames") or 1
    syntax = dicom_io.transfer_syntax(dataset)
    _check_decodable(syntax, dicom_io.whole_number(dataset, "BitsStored"))
    if "PixelData" in dataset:
        check_bits(dataset)
    with dicom_io.failures("damaged pixels", "they cannot be decoded"):
        # anonymisers remove these two; grey values of one sample are what `check_image` let pass
        dataset.SamplesPerPixel = 1
        if not dicom_io.words(dataset, "PhotometricInterpretation"):
            dataset.PhotometricInterpretation = "MONOCHROME2"
        if getattr(dataset, "file_meta", None) is None:
            dataset.file_meta = pydicom.dataset.FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = syntax
        if "PixelData" in dataset and syntax in NATIVE:
            _check_length(dataset, frames * rows * columns)
        # raw: bits around those that are stored are taken away below, as the header has them
        sign = dicom_io.value(dataset, "PixelRepresentation")
        if "PixelData" in dataset and syntax in PLAIN and dataset.BitsAllocated == 16 and sign in (0, 1):
            # cells as numpy has them: pydicom's way to the same array takes ten times as long
            cells = np.frombuffer(dataset.PixelData, "<i2" if sign else "<u2", frames * rows * columns)
            stored = cells.reshape(frames, rows, columns)
        else:
            plugin = DECODERS.get(syntax, "")
            stored = np.asarray(pixel_array(dataset, raw=True, correct_unused_bits=False, decoding_plugin=plugin))
    stored = stored[None] if stored.ndim == 2 else stored
    if stored.shape != (frames, rows, columns):
        raise Refusal("damaged pixels", f"{stored.shape} decoded where {(frames, rows, columns)} was announced")
    return stored if stored.dtype.kind == "f" else stored_values(dataset, stored, native=syntax in NATIVE_CELLS)


def _check_decodable(syntax: UID, bits: int | None) -> None:
    if syntax not in NATIVE and syntax not in DECODERS:
        raise Refusal("unsupported compression", f"no decoder for the transfer syntax {_syntax_name(syntax)}")
    if syntax == JPEGExtended12Bit and bits != 8:
        raise Refusal("unsupported compression", "lossy JPEG of 12 bits: let dcmtk's dcmdjpeg decompress the files")


def _syntax_name(syntax: UID) -> str:
    return syntax.name if syntax.is_transfer_syntax and syntax.name != syntax else "of another maker"


def _check_length(dataset: Dataset, count: int) -> None:
    """Check the length of uncompressed pixels, with at most one byte of padding."""
    expected = count * (dicom_io.whole_number(dataset, "BitsAllocated") or 0) // 8
    length = len(cast(bytes, dataset.PixelData))
    if length not in (expected, expected + expected % 2):
        raise Refusal("damaged pixels", f"{length} bytes where {expected} were announced")


def check_bits(dataset: Dataset) -> tuple[int, int, int]:
    """Bits allocated, bits stored and highest bit of a pixel.

    Raises:
        Refusal: the header lacks them or contradicts itself.
    """
    allocated, used = (dicom_io.whole_number(dataset, name) for name in ("BitsAllocated", "BitsStored"))
    if allocated is None or used is None or dicom_io.value(dataset, "PixelRepresentation") is None:
        raise Refusal("invalid header", "bits of a pixel or their sign are not given")
    if allocated not in CELLS:
        raise Refusal("invalid header", f"{allocated} bits a pixel, not one of {', '.join(map(str, CELLS))}")
    high = dicom_io.whole_number(dataset, "HighBit")
    high = used - 1 if high is None else high
    if not used - 1 <= high < allocated or used < 1:
        raise Refusal("damaged pixels", "the header contradicts itself about the bits of a pixel")
    return allocated, used, high


def stored_values(dataset: Dataset, cells: npt.NDArray[Any], *, native: bool) -> npt.NDArray[Any]:
    """Stored bits of each cell, shifted down and sign-extended.

    Unused bits may hold overlays or garbage.

    Args:
        dataset: the file's header.
        cells: integers as wide as the header's cells.
        native: the cells are as in the file; those of a decoder begin at the lowest bit.

    Raises:
        Refusal: the header contradicts itself or the pixels.
    """
    allocated, used, high = check_bits(dataset)
    if used == allocated:
        return cells
    shift = high + 1 - used
    cells = cells.astype(cells.dtype.newbyteorder("="), copy=False)
    bits = cells.view(f"u{cells.itemsize}")
    if shift:
        if not native:
            raise Refusal("damaged pixels", "the header contradicts itself about the bits of a pixel")
        if bits.max(initial=0) >> used == 0 and (bits & ((1 << shift) - 1)).any():
            # an overlay in the low bits, or a highest bit that is wrong: ambiguous
            raise Refusal("damaged pixels", "the highest bit of the header is above all values")
        bits = bits >> shift
    bits = bits & ((1 << used) - 1)
    if cells.dtype.kind == "u":
        return bits
    half = 1 << (used - 1)
    return (bits ^ half).view(cells.dtype) - half
