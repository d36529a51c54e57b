"""Interface of readers: references to clips, clips, rejections; loading of arrays, resampling in time."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from icube_common.errors import InputError
from icube_common.io.arrays import open_arrays
from motiondiff.skeleton.motion import Motion

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ReaderInfo:
    """A format: name, module of its reader below `motiondiff.data.readers`, one-line description.

    Attributes:
        single_file: every reference is one recording, the first of its files.
    """

    name: str
    module: str
    description: str
    single_file: bool = False


@dataclass(frozen=True)
class ClipRef:
    """One unit of reading, which can be pickled for other processes.

    A unit is a file, or a subject where clips are fitted with the subject's own bone lengths.

    Attributes:
        format: name of the reader.
        clip_id: unique and stable within the folder; the id of the clip in a unit of one clip, else the prefix of
            its clips' ids.
        files: paths to read, at least one.
        subject: identifier of the person, or None.
        options: further arguments of ``read_clips``, chosen for the folder as a whole.
    """

    format: str
    clip_id: str
    files: tuple[Path, ...]
    subject: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, eq=False)
class Clip:
    """A clip with its id; ``label`` is its action before the label map."""

    clip_id: str
    motion: Motion
    label: str | None = None


@dataclass(frozen=True)
class Rejection:
    """A rejected clip with the reason in one line; ``label`` is its action where it was read."""

    clip_id: str
    reason: str
    label: str | None = None


def make_rejection(clip_id: str, error: Exception, file: Path | None = None) -> Rejection:
    """The rejection of a clip for an exception of any type, in one line.

    Args:
        clip_id: of the clip.
        error: an `InputError`, whose message is the reason, or an unexpected exception.
        file: prefix of a message without a file name.
    """
    reason = " ".join(str(error).split())
    if not isinstance(error, InputError):
        logger.debug("%s: unexpected error", file or clip_id, exc_info=error)
        reason = f"cannot be read ({type(error).__name__}: {reason})"
    if file is not None and file.name not in reason:
        reason = f"{file}: {reason}"
    return Rejection(clip_id, reason)


class Reader(Protocol):
    """Interface of a reader module.

    A format without up axis and unit of length in its files also has ``choose_conventions`` (see `bvh.reader`), which
    chooses both for a folder before its clips are read.
    """

    def find_clips(self, folder: Path) -> list[ClipRef]:
        """Units below a folder, sorted; cheap. InputError where nothing of the format is there."""
        ...

    def read_clips(self, ref: ClipRef, fps: float | None = None, **options: Any) -> list[Clip | Rejection]:
        """The clips of a unit, in the world, at ``fps`` where given.

        InputError where the unit as a whole is broken; a `Rejection` for one clip among several.
        """
        ...


def find_files(folder: Path, suffix: str, expected: str) -> list[Path]:
    """Files below a folder with a suffix in any case, sorted; or the file itself.

    Raises:
        InputError: no such folder, or no such file in it.
    """
    folder = Path(folder)
    if folder.is_file() and folder.name.lower().endswith(suffix.lower()):
        return [folder]
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; expected {expected}")
    files = sorted(path for path in folder.rglob("*") if path.name.lower().endswith(suffix.lower()) and path.is_file())
    if not files:
        raise InputError(f"{folder}: holds no {expected}")
    return files


def file_ids(files: Iterable[Path], folder: Path) -> dict[Path, str]:
    """Id of each file: its stem where it is unique, else its path below the folder, with the suffix."""
    files = list(files)
    base = folder if folder.is_dir() else folder.parent
    times = Counter(path.stem for path in files)
    return {path: path.stem if times[path.stem] == 1 else path.relative_to(base).as_posix() for path in files}


def file_references(format: str, folder: Path, suffix: str, expected: str) -> list[ClipRef]:
    """One reference per file with a suffix below a folder, or for the file itself; errors as `find_files`."""
    files = find_files(folder, suffix, expected)
    ids = file_ids(files, Path(folder))
    return [ClipRef(format, ids[path], (path,)) for path in files]


def subject_references(
    format: str, files: Iterable[Path], subject: Callable[[Path], str | None], common: tuple[Path, ...] = ()
) -> list[ClipRef]:
    """One reference per subject, sorted: the ``common`` files, then the subject's; a file without one is alone."""
    units: dict[str, list[Path]] = {}
    for path in files:
        units.setdefault(subject(path) or path.stem, []).append(path)
    return [ClipRef(format, unit, (*common, *paths), unit) for unit, paths in sorted(units.items())]


def parse_numbers(words: Iterable[str], where: str) -> list[float]:
    """Numbers of words.

    Raises:
        InputError: a word is not a number; the message begins with ``where``.
    """
    try:
        return [float(word) for word in words]
    except ValueError as error:
        raise InputError(f"{where}: {error}") from error


def load_array(path: Path) -> npt.NDArray[Any]:
    """The finite numbers of an .npy file; nothing is unpickled.

    Raises:
        InputError: missing, damaged, or no array of finite numbers.
    """
    with open_arrays(path, "not a readable .npy without object arrays", archive=False) as array:
        pass
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
        raise InputError(f"{path}: not an array of numbers")
    if not np.isfinite(array).all():
        raise InputError(f"{path}: holds NaN or infinite values")
    return array


def load_arrays(path: Path, keys: Collection[str], *, max_bytes: int) -> dict[str, npt.NDArray[Any]]:
    """The arrays of an .npz file that are among ``keys``; nothing is unpickled.

    Args:
        path: the file.
        keys: names of arrays; missing ones are left out.
        max_bytes: maximum size, unpacked.

    Raises:
        InputError: missing, damaged, too large, or one of the arrays holds objects.
    """
    with open_arrays(path, "not a readable .npz without object arrays") as arrays:
        size = sum(member.file_size for member in arrays.zip.infolist())
        if size > max_bytes:
            raise InputError(f"{path}: {size} bytes unpacked, at most {max_bytes} are accepted")
        return {key: arrays[key] for key in arrays.files if key in keys}


def frame_times(seconds: float, fps: float) -> npt.NDArray[np.float64]:
    """Times 0, 1/fps, 2/fps ... up to ``seconds`` inclusive."""
    return np.arange(int(np.floor(seconds * fps + 1e-6)) + 1) / fps


def check_fps(fps: float | None) -> None:
    """InputError unless a frame rate is None or positive and finite."""
    if fps is not None and not (np.isfinite(fps) and fps > 0):
        raise InputError(f"fps {fps}: must be positive; give frames per second, or None for the source's")


def resample(motion: Motion, fps: float | None) -> Motion:
    """The motion at another frame rate: slerp for rotations, linear for the root; same start, never extrapolated.

    A rate within 0.1 % of the motion's own only changes the number (a BVH of 30 fps has a frame time of 0.0333333 s).

    Raises:
        InputError: ``fps`` is not positive.
    """
    check_fps(fps)
    if fps is None:
        return motion
    if abs(fps - motion.fps) <= 1e-3 * fps:
        return replace(motion, fps=float(fps))
    if len(motion) == 1:
        return replace(motion, fps=float(fps))
    from scipy.spatial.transform import Rotation, Slerp

    source = np.arange(len(motion)) / motion.fps
    times = np.minimum(frame_times(source[-1], fps), source[-1])
    root = np.stack([np.interp(times, source, motion.root[:, axis]) for axis in range(3)], axis=-1)
    rotations = np.stack(
        [
            Slerp(source, Rotation.from_matrix(motion.rotations[:, joint]))(times).as_matrix()
            for joint in range(len(motion.skeleton))
        ],
        axis=1,
    )
    return replace(motion, root=root, rotations=rotations, fps=float(fps))
