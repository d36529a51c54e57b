"""Reading of numpy's files (``.npz``, ``.npy``): nothing is unpickled, and damage is an error of one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from icube_common.errors import InputError


@contextmanager
def open_arrays(path: str | Path, problem: str, *, remedy: str = "", archive: bool = True) -> Iterator[Any]:
    """Open the arrays of an ``.npz`` by name, or the one array of an ``.npy``.

    Args:
        path: the file.
        problem: beginning of the message: ``"not a skeleton file"``.
        remedy: end of the message.
        archive: refuse an ``.npy``.

    Raises:
        InputError: the file is missing or damaged, has object arrays, or the block raises any error at its content:
            ``PATH: PROBLEM (ERROR)REMEDY``.
    """
    try:
        with Path(path).open("rb") as handle:  # numpy leaves a file open that is no archive
            loaded = np.load(handle, allow_pickle=False)
            if isinstance(loaded, np.lib.npyio.NpzFile):
                with loaded:
                    yield loaded
            elif archive:
                raise ValueError("one array, not an .npz of several")
            else:
                yield loaded
    except InputError:
        raise
    except Exception as error:  # a damaged archive or array header raises many types of errors
        raise InputError(f"{path}: {problem} ({error}){remedy}") from error
