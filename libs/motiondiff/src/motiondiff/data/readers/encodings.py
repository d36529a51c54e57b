"""Text encodings of motion files: UTF-8 and UTF-16, and the older ones that joint names are written in."""

from __future__ import annotations

import re

_HIGH = re.compile(rb"[\x80-\xff]+")
_HALF_WIDTH = re.compile("[\uff61-\uff9f]")


def decode_text(data: bytes) -> str:
    r"""Text of any common encoding, without byte order mark, lines ended by ``\n``, padding at the end removed.

    UTF-16 is recognised by its byte order mark. Bytes that are no UTF-8 are Latin-1 where accented letters stand alone
    between ASCII letters, else Shift-JIS, else GBK: their characters are pairs of bytes, and the second may be a brace.
    """
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        text = data.decode("utf-16", errors="replace")
    else:
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = _decode_legacy(data)
    return text.replace("\r\n", "\n").replace("\r", "\n").rstrip("\x00\x1a \t\n") + "\n"


def _decode_legacy(data: bytes) -> str:
    """Latin-1, Shift-JIS or GBK."""
    runs = _HIGH.findall(data)
    if all(len(run) == 1 and run >= b"\xc0" for run in runs):
        return data.decode("latin-1")
    japanese = _decode(data, "cp932")
    if japanese is not None and not _HALF_WIDTH.search(japanese):
        return japanese
    chinese = _decode(data, "gbk")
    return next(text for text in (chinese, japanese, data.decode("latin-1")) if text is not None)


def _decode(data: bytes, encoding: str) -> str | None:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        return None
