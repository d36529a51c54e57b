"""CSV tables with a head line, and digests of files."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from icube_common.errors import InputError


def read_table(path: Path, required: Iterable[str], *, strip: bool = True) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows of a CSV file with a head line, as (line number, column -> text); empty lines are passed over.

    Args:
        path: the file.
        required: columns that it must have.
        strip: take spaces around values away, as people's files want it; file names keep theirs without.

    Raises:
        InputError: missing, not UTF-8, a column is missing or twice there, or a row is too short or too long.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as handle:
            reader = csv.reader(handle, strict=True)
            head = [name.strip() for name in next(reader, [])]
            missing = [name for name in required if name not in head]
            if missing or len(set(head)) < len(head):
                problem = f"no column {missing[0]!r}" if missing else "a column is there twice"
                raise InputError(f"{path}: line 1: {problem} in the head line {','.join(head)!r}")
            for row in reader:
                if not row:
                    continue
                if len(row) != len(head):
                    raise InputError(f"{path}: line {reader.line_num}: {len(row)} fields, {len(head)} expected")
                cells = [cell.strip() for cell in row] if strip else row
                yield reader.line_num, dict(zip(head, cells, strict=True))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text (byte {error.start})") from error
    except csv.Error as error:
        raise InputError(f"{path}: line {reader.line_num}: {error}") from error


def file_digest(path: Path) -> str:
    """SHA-256 of a file.

    Raises:
        InputError: it cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb") as handle:
            while block := handle.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    return digest.hexdigest()
