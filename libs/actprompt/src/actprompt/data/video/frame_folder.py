"""Folders of frames: a clip whose frames are numbered image files, as TSN, TSM and mmaction2 ("rawframes") keep them.

``img_00001.jpg``, ``frame000001.png``, ``1.jpg``: one name with one running number, in the order of the number. Files
of optical flow beside them (``flow_x_00001.jpg``) are left out.

Shapes: T frames, H height, W width; pixels are uint8 RGB, upright (an EXIF orientation is applied).
"""

from __future__ import annotations

import hashlib
import itertools
import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from icube_common.errors import InputError
from icube_common.io.csv import file_digest

IMAGE_SUFFIXES = (".bmp", ".jfif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
# prefixes of optical flow in the folders that denseflow and TSN's tools write
_FLOW = re.compile(r"flow.*", re.IGNORECASE)
_FLOW_PAIRS = {"x": "y", "y": "x", "u": "v", "v": "u"}
# the last number of a name, with what stands before and after it
_NUMBERED = re.compile(r"(?P<prefix>.*?)(?P<number>\d+)(?P<rest>\D*)", re.DOTALL)
# modes of Pillow whose conversion to RGB keeps the picture
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")


def is_image(name: str) -> bool:
    """True for a file name with the suffix of an image."""
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def list_frames(folder: Path) -> list[Path]:
    """The frames of a folder in the order of their numbers.

    Raises:
        InputError: no image, an image without a number, a gap, a number twice, or frames of several names.
    """
    try:
        names = sorted(name for name in os.listdir(folder) if is_image(name) and not name.startswith("."))
    except OSError as error:
        raise InputError(f"{folder}: cannot be read ({error.strerror})") from error
    if not names:
        raise InputError(f"{folder}: a folder without images: expected numbered frames, such as img_00001.jpg")
    series: dict[tuple[str, str], dict[int, str]] = {}
    for name in names:
        match = _NUMBERED.fullmatch(Path(name).stem)
        if match is None:
            raise InputError(f"{folder}: {name} has no number: frames are named as img_00001.jpg")
        frames = series.setdefault((match["prefix"], match["rest"]), {})
        if (other := frames.setdefault(int(match["number"]), name)) != name:
            raise InputError(f"{folder}: {other} and {name} have the same number")
    prefixes = {prefix.rstrip("-_").lower() for prefix, _ in series}
    for prefix, rest in list(series):
        # "x_00001.jpg" is flow where "y_00001.jpg" is there too
        if _FLOW.fullmatch(prefix) or _FLOW_PAIRS.get(prefix.rstrip("-_").lower()) in prefixes:
            del series[prefix, rest]
    if not series:
        raise InputError(f"{folder}: only optical flow in it ({names[0]}): expected frames, such as img_00001.jpg")
    if len(series) > 1:
        one, two = (min(by_number.values()) for by_number in list(series.values())[:2])
        raise InputError(f"{folder}: frames of several names ({one}, {two}): give each clip a folder of its own")
    (by_number,) = series.values()
    numbers = sorted(by_number)
    for before, after in itertools.pairwise(numbers):
        if after != before + 1:
            missing = f"{after - before - 1} frames are" if after - before > 2 else "a frame is"
            raise InputError(f"{folder}: {missing} missing between {by_number[before]} and {by_number[after]}")
    return [folder / by_number[number] for number in numbers]


def measure_frames(folder: Path) -> tuple[int, int, int]:
    """Decode all frames once: their number, height and width.

    Raises:
        InputError: as `list_frames`, a damaged image, one of more than 8 bits a channel, or frames of several sizes.
    """
    size = (0, 0)
    frames = list_frames(folder)
    for path in frames:
        shape = _read_image(path).shape[:2]
        if path != frames[0] and shape != size:
            raise InputError(f"{folder}: {path.name} is {shape[1]}x{shape[0]}, {frames[0].name} {size[1]}x{size[0]}")
        size = shape[0], shape[1]
    return len(frames), *size


def read_frames(folder: Path, indices: Sequence[int]) -> npt.NDArray[np.uint8]:
    """The frames (T, H, W, 3) of ``indices``, counted from 0 in the order of their numbers.

    Raises:
        InputError: as `measure_frames`, or there are fewer frames.
    """
    frames = list_frames(folder)
    if max(indices) >= len(frames):
        raise InputError(f"{folder}: frame {max(indices)} is wanted, {len(frames)} are there: prepare the set again")
    pictures = [_read_image(frames[index]) for index in indices]
    if len({picture.shape for picture in pictures}) > 1:
        raise InputError(f"{folder}: its frames are of several sizes")
    return np.stack(pictures)


def clip_digest(path: Path) -> str:
    """SHA-256 of a video file, or of the names and contents of a folder's frames.

    Raises:
        InputError: it cannot be read.
    """
    if not path.is_dir():
        return file_digest(path)
    digest = hashlib.sha256()
    for frame in list_frames(path):
        digest.update(f"{frame.name}\0{file_digest(frame)}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def clip_status(path: Path) -> tuple[int, int]:
    """Bytes, and the date of the last change in ns, of a video file or of all images of a folder.

    Raises:
        OSError: it is not there.
    """
    status = os.stat(path)
    if not path.is_dir():
        return status.st_size, status.st_mtime_ns
    entries = [entry.stat() for entry in os.scandir(path) if is_image(entry.name)]
    return sum(entry.st_size for entry in entries), max([status.st_mtime_ns, *(e.st_mtime_ns for e in entries)])


def _read_image(path: Path) -> npt.NDArray[np.uint8]:
    """An image (H, W, 3), upright."""
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as image:
            if image.mode not in _MODES:
                raise InputError(f"{path}: an image of mode {image.mode} (a depth map?), 8 bits a channel expected")
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"), dtype=np.uint8)
    except InputError:
        raise
    # Pillow answers a damaged file with OSError, SyntaxError, ValueError or its own errors, by format
    except Exception as error:
        raise InputError(f"{path}: not a readable image ({' '.join(str(error).split())})") from error
