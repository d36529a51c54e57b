"""Seeds derived from numbers, the same on every machine, process and version."""

from __future__ import annotations

import hashlib


def mix(*numbers: int) -> int:
    """A 63-bit seed from any integers: neighbouring inputs give unrelated seeds."""
    text = ",".join(map(str, numbers)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 1
