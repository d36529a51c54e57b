"""Text files in the encodings that lists come in: UTF-8 with or without byte order mark, UTF-16 with one."""

from __future__ import annotations

import codecs
from pathlib import Path

from icube_common.errors import InputError


def read_text(path: Path, expected: str) -> str:
    """The text of a file; every line ends with a line feed.

    Args:
        path: the file.
        expected: what it should be, for messages.

    Raises:
        InputError: missing, a folder, binary, or in another encoding.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; expected {expected}") from error
    except IsADirectoryError as error:
        raise InputError(f"{path}: is a folder; expected {expected}") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from error
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = content.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}: line {line}: not UTF-8 text (byte {error.start}): save it as UTF-8") from error
    if "\0" in text:
        raise InputError(f"{path}: not UTF-8 text (zero bytes in it): expected {expected}, saved as UTF-8")
    return text.replace("\r\n", "\n").replace("\r", "\n")
