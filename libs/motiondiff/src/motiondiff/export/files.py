"""Where exported files are written: whole or not at all, with errors that name the file."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from icube_common.errors import InputError
from icube_common.io.runs import atomic_file


@contextlib.contextmanager
def output_file(path: str | Path) -> Iterator[Path]:
    """A temporary file that takes the name ``path`` when the block ends well; an existing file is replaced.

    Raises:
        InputError: ``path`` is a folder, or the system refuses to write there.
    """
    target = Path(path)
    if target.is_dir():
        raise InputError(f"{target}: is a folder; name a file in it")
    try:
        with atomic_file(target) as temporary:
            yield temporary
    except OSError as error:
        raise InputError(f"{target}: cannot be written ({error.strerror or error})") from error
