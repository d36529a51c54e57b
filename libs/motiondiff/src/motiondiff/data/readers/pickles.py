"""Restricted unpickling of foreign files without code execution: containers, numbers, text and NumPy arrays."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np

from icube_common.errors import InputError

MAX_FILE_BYTES = 4 * 1024**3
"""Bytes; published sets of poses are a few hundred MB."""


def _encode(text: str, encoding: str = "latin1") -> bytes:
    """Replacement of ``_codecs.encode``, which pickles of protocol 2 call for the bytes of an array."""
    if encoding != "latin1":
        raise InputError(f"encodes text as {encoding!r}, not used by arrays")
    return text.encode("latin1")


# functions and classes that a pickled array names, under NumPy 1's and NumPy 2's module
_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): _encode,
    **{
        (module, name): function
        for module in ("numpy.core.multiarray", "numpy._core.multiarray")
        for name, function in (
            ("_reconstruct", np.empty(0).__reduce__()[0]),
            ("scalar", np.float64(0).__reduce__()[0]),
        )
    },
    **{
        (module, "_frombuffer"): np.zeros(1).__reduce_ex__(5)[0]
        for module in ("numpy.core.numeric", "numpy._core.numeric")
    },
}


class RestrictedUnpickler(pickle.Unpickler):
    """Unpickler of containers, numbers, texts and NumPy arrays; any other name in the pickle is an error."""

    def find_class(self, module: str, name: str) -> Any:
        """The allowed object of a name.

        Raises:
            InputError: any other name.
        """
        if (module, name) not in _ALLOWED:
            raise InputError(
                f"the pickle names {module}.{name}; only arrays and plain values are read, and nothing in it was "
                "executed: do not open this file elsewhere"
            )
        return _ALLOWED[module, name]

    def persistent_load(self, pid: Any) -> Any:
        """Refuse objects outside the file.

        Raises:
            InputError: always.
        """
        raise InputError("the pickle points outside itself")


def load_restricted(path: str | Path) -> Any:
    """Unpickle plain data.

    Raises:
        InputError: not readable, no pickle, larger than `MAX_FILE_BYTES`, or not plain data.
    """
    return _load(Path(path), lambda handle: RestrictedUnpickler(handle, encoding="latin1").load())


def load_npy(path: str | Path) -> Any:
    """The array of an ``.npy`` file, or the object that was saved as one (``numpy.save(path, {...})``).

    Raises:
        InputError: as `load_restricted`, or no ``.npy`` file.
    """
    return _load(Path(path), _read_npy)


def _read_npy(handle: IO[bytes]) -> Any:
    version = np.lib.format.read_magic(handle)
    if version not in ((1, 0), (2, 0)):
        raise InputError(f"version {version} of .npy, 1 and 2 are read")
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    dtype = read_header(handle)[2]
    if not dtype.hasobject:
        handle.seek(0)
        return np.lib.format.read_array(handle, allow_pickle=False)
    array = RestrictedUnpickler(handle, encoding="latin1").load()
    return array.item() if isinstance(array, np.ndarray) and array.ndim == 0 else array


def _load(path: Path, read: Callable[[IO[bytes]], Any]) -> Any:
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise InputError(f"{size} bytes, at most {MAX_FILE_BYTES} are read")
        with path.open("rb") as handle:
            return read(handle)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    except Exception as error:  # a damaged pickle raises many types of errors
        kind = "pickle" if read is not _read_npy else ".npy file"
        raise InputError(f"{path}: not a readable {kind} ({type(error).__name__}: {error})") from error
