"""Pseudonyms of subjects and objects: keyed hashes with a secret of the project, its salt.

A subject or UID has the same key everywhere in a project, and another one in any other project. An unkeyed hash is not
enough: hospital numbers are few enough to hash them all and look them up.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path

from icube_common.errors import InputError

SALT_BYTES = 16
STANDARD_UIDS = "1.2.840.10008."  # classes, transfer syntaxes, code systems: the same in all files


def project_salt(path: str | Path) -> bytes:
    """Salt of a file (32 bytes as hexadecimal text), generated if the file does not exist.

    With the salt a known id can be looked up in the data: it stays with the project and is never published.

    Raises:
        InputError: the file cannot be read or made, or holds no salt of at least `SALT_BYTES` bytes.
    """
    path = Path(path)
    try:
        # mode 0600 from the first moment on; fails where the file exists
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        pass
    except OSError as error:
        raise InputError(f"{path}: the salt cannot be written ({error.strerror})") from error
    else:
        with os.fdopen(handle, "w") as file:
            file.write(secrets.token_hex(32) + "\n")
    try:
        salt = bytes.fromhex(path.read_text().strip())
    except OSError as error:
        raise InputError(f"{path}: the salt cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise InputError(f"{path}: holds no salt (hexadecimal text is expected)") from error
    return check_salt(salt)


def check_salt(salt: bytes) -> bytes:
    """Check the length of a salt against exhaustive search.

    Raises:
        InputError: less than `SALT_BYTES` bytes.
    """
    if len(salt) < SALT_BYTES:
        raise InputError(f"a salt of {len(salt)} bytes is too short: {SALT_BYTES} at least")
    return salt


def _digest(kind: str, text: str, salt: bytes) -> bytes:
    return hmac.new(check_salt(salt), f"{kind}\0{text}".encode(), hashlib.sha256).digest()


def hash_subject(key: str, salt: bytes) -> str:
    """Pseudonym of a subject: ``sub-`` and 16 hexadecimal digits (64 bits of HMAC-SHA256).

    Raises:
        InputError: blank key, or a salt that is too short.
    """
    if not key.strip():
        raise InputError("a subject without an id cannot be distinguished from another: add an id")
    return "sub-" + _digest("subject", key.strip(), salt).hex()[:16]


def remap_uid(uid: str, salt: bytes) -> str:
    """Replacement of a UID, the same each time: ``2.25.`` and 122 bits of HMAC-SHA256 (PS3.5 B.2).

    UIDs of the standard itself (classes, transfer syntaxes) and empty ones stay.

    Raises:
        InputError: the salt is too short.
    """
    uid = uid.strip("\0 ")
    if not uid or uid.startswith(STANDARD_UIDS):
        return uid
    return f"2.25.{int.from_bytes(_digest('uid', uid, salt)[:16], 'big') >> 6}"


def date_shift_days(patient_id: str, salt: bytes) -> int:
    """Shift of a subject's dates: 1 to 3650 days back, the same for all dates of the subject.

    Raises:
        InputError: the salt is too short.
    """
    return 1 + int.from_bytes(_digest("dates", patient_id.strip(), salt)[:8], "big") % 3650
