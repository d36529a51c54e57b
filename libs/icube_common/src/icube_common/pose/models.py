"""Files of the pose networks: location, hashes, and extraction from the published wheel of MediaPipe.

The wheel ``mediapipe==0.10.21`` of PyPI holds the networks (Apache License 2.0, Copyright The MediaPipe Authors). Its
own dependencies conflict with those of this library and newer wheels hold no networks, so only the files are taken out.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import NamedTuple

from icube_common.errors import InputError
from icube_common.io.csv import file_digest
from icube_common.io.wheels import check_digest, fetch_from_wheel

WHEEL = "mediapipe==0.10.21"
WHEEL_OPTIONS = ("--python-version", "3.11", "--platform", "manylinux_2_28_x86_64")
FILES = {
    "pose_detection.tflite": "9ba9dd3d42efaaba86b4ff0122b06f29c4122e756b329d89dca1e297fd8f866c",
    "pose_landmark_full.tflite": "e9a5c5cb17f736fafd4c2ec1da3b3d331d6edbe8a0d32395855aeb2cdfd64b9f",
    "LICENSE": "8707eef0533987efc5b155d64761eeb6e20793f50b9bd1a68dad1cf4719d0ed8",
}
"""File -> SHA-256."""
_MEMBERS = {
    "pose_detection.tflite": "mediapipe/modules/pose_detection/pose_detection.tflite",
    "pose_landmark_full.tflite": "mediapipe/modules/pose_landmark/pose_landmark_full.tflite",
    "LICENSE": "mediapipe-0.10.21.dist-info/LICENSE",
}
ENVIRONMENT_VARIABLE = "ICUBE_POSE_MODELS"


class PoseModels(NamedTuple):
    """Files of the two networks; `fingerprint` changes with their content."""

    detector: Path
    landmarks: Path

    @property
    def fingerprint(self) -> str:
        """Hash of both files."""
        digest = hashlib.sha256()
        for path in self:
            digest.update(file_digest(path).encode())
        return digest.hexdigest()[:16]


def default_folder() -> Path:
    """Folder of fetched networks: ``$ICUBE_POSE_MODELS``, else ``icube/pose`` of the user's cache folder."""
    if folder := os.environ.get(ENVIRONMENT_VARIABLE):
        return Path(folder)
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "icube" / "pose"


def find_models(folder: str | Path | None = None) -> PoseModels:
    """Networks in ``folder`` (default: `default_folder`), checked by their hashes.

    Raises:
        InputError: a file is missing or has another content.
    """
    place = default_folder() if folder is None else Path(folder)
    detector, landmarks = (place / name for name in list(FILES)[:2])
    for path in (detector, landmarks):
        if not path.is_file():
            raise InputError(
                f"{path}: no such file; fetch the pose networks with `actprompt pose --fetch-models`, "
                "or give their folder with --pose-models"
            )
        check_digest(path, FILES[path.name], f"{path.name} of {WHEEL}")
    return PoseModels(detector, landmarks)


def fetch_models(folder: str | Path | None = None) -> PoseModels:
    """Take the networks and their licence out of MediaPipe's wheel, by the user's own pip configuration.

    Files that are there with the right hash are not fetched again.

    Raises:
        InputError: no pip, no such wheel in reach, or a file of another hash.
    """
    place = default_folder() if folder is None else Path(folder)
    try:
        if (place / "LICENSE").is_file():
            return find_models(place)
    except InputError:
        pass  # incomplete or damaged: fetched anew
    names = " and ".join(list(FILES)[:2])
    fetch_from_wheel(
        WHEEL,
        _MEMBERS,
        FILES,
        place,
        options=WHEEL_OPTIONS,
        remedy=f"take {names} out of that wheel by hand and give their folder with --pose-models",
    )
    return find_models(place)
