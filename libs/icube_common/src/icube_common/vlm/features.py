"""A cache of frozen towers' features on disk, addressed by what they were computed from.

A key is the SHA-256 of everything that decides the features (`feature_key`); its file ``ab/ab12....safetensors`` holds
the tensors and their own checksum, so that a file is written atomically, and a damaged one is noticed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor

from icube_common.errors import InputError
from icube_common.io.runs import atomic_file, read_json
from icube_common.vlm.checkpoints.fingerprint import name_difference, warn_other_versions

if TYPE_CHECKING:
    from icube_common.vlm.backbone import FrozenVLM

logger = logging.getLogger(__name__)

HEAD = "features.json"
"""Record of the backbone and of the choices that all features of a folder share."""
# beside the features in each file: SHA-256 over names, types, shapes and values, as 32 bytes
_CHECKSUM = "sha256"
_KEY = re.compile(r"[0-9a-f]{64}")
# a temporary file of this age was left by a writer that was killed
_STALE_SECONDS = 3600.0


def feature_fingerprint(vlm: FrozenVLM) -> str:
    """Fingerprint of features: that of the backbone or its encoder, and the mixed precision in which it computes."""
    fingerprint = vlm.fingerprint if vlm.encoder is None else vlm.encoder.fingerprint
    if vlm.mixed_precision == "no":
        return fingerprint
    return hashlib.sha256(f"{fingerprint} autocast {vlm.mixed_precision}".encode()).hexdigest()


def describe_backbone(vlm: FrozenVLM) -> dict[str, Any]:
    """Backbone of a folder's features, for its `HEAD`; `check_same_backbone` compares it."""
    return {**vlm.describe(), "fingerprint": feature_fingerprint(vlm), "mixed_precision": vlm.mixed_precision}


def read_head(folder: Path, keys: Sequence[str]) -> dict[str, Any] | None:
    """`HEAD` of a folder of features; None for a new or an empty folder.

    Args:
        folder: of features.
        keys: required sections, ``backbone`` among them.

    Raises:
        InputError: the folder holds something else, or a section is missing.
    """
    path = folder / HEAD
    if not path.is_file():
        # jobs may begin together: a head that another one is writing is nothing foreign
        names = [item.name for item in folder.iterdir()] if folder.is_dir() else [""] * folder.exists()
        if all(name.startswith(f".{path.stem}.") for name in names):
            return None
        if not path.is_file():  # nor has another one written it meanwhile
            raise InputError(f"{folder}: exists already and is no folder of features; name another folder")
    head = read_json(path)
    whole = isinstance(head, dict) and all(isinstance(head.get(key), dict) for key in keys)
    if not whole or not {"description", "fingerprint"} <= head["backbone"].keys():
        raise InputError(f"{path}: {' or '.join(keys)} is missing: delete the folder and compute its features again")
    return head


def check_same_backbone(folder: str | Path, recorded: Mapping[str, Any], vlm: FrozenVLM) -> None:
    """Check that a folder's features are of a backbone and of its mixed precision.

    Args:
        folder: of features.
        recorded: of `describe_backbone`; a record without ``mixed_precision`` is of ``"no"``.
        vlm: the backbone at hand.

    Raises:
        InputError: they differ; both are named, and what to do.
    """
    precision, fingerprint = recorded.get("mixed_precision", "no"), feature_fingerprint(vlm)
    if precision != vlm.mixed_precision:
        raise InputError(
            f"{folder}: its features were computed with mixed_precision={precision}, this run computes with "
            f"mixed_precision={vlm.mixed_precision} on {vlm.device.type}; set train.mixed_precision={precision}, "
            f"without a training ACCELERATE_MIXED_PRECISION={precision}, or name another folder"
        )
    if recorded["fingerprint"] != fingerprint:
        raise InputError(
            f"{folder}: its features are of {recorded['description']}, fingerprint {recorded['fingerprint'][:12]}; "
            f"this is {vlm.origin}, fingerprint {fingerprint[:12]}{name_difference(recorded, vlm)}; choose that "
            "backbone, or another folder for this one"
        )
    warn_other_versions(folder, recorded, vlm)


@dataclass(frozen=True)
class CacheStats:
    """Size of a cache's folder, and hits and misses of its object."""

    files: int
    bytes: int
    hits: int
    misses: int
    damaged: int


def feature_key(
    fingerprint: str, source: str, sampling: Mapping[str, Any], extra: Mapping[str, Any] | None = None
) -> str:
    """The key of features: SHA-256, in hexadecimal, of all that decides them.

    Args:
        fingerprint: of the backbone (weights, model configuration, preprocessing) and of the precision in which it
            computes (`feature_fingerprint`).
        source: what they are computed from: the digest of a file, or an id that changes with the content.
        sampling: how frames or slices are chosen: plain JSON values.
        extra: whatever else matters, e.g. the decoder's version.

    Raises:
        InputError: a value is no plain JSON value (text, finite number, boolean, None, list, mapping with text keys).
    """
    parts = {"fingerprint": fingerprint, "source": source, "sampling": sampling, "extra": extra or {}}
    return hashlib.sha256(json.dumps(_plain(parts, "key"), sort_keys=True, allow_nan=False).encode()).hexdigest()


def _plain(value: Any, where: str) -> Any:
    """The value as JSON takes it; no two different ones become the same."""
    if isinstance(value, Mapping):
        if wrong := [name for name in value if not isinstance(name, str)]:
            raise InputError(f"{where}: key {wrong[0]!r} of a feature's description must be text")
        return {name: _plain(item, f"{where}.{name}") for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, where) for item in value]
    if value is None or isinstance(value, (str, bool, int)) or (isinstance(value, float) and value - value == 0):
        return value
    raise InputError(f"{where}={value!r}: a feature's description takes text, finite numbers, booleans and lists")


class FeatureCache:
    """Features in a folder, by key; several processes may read and write at once.

    Writing is atomic: of two writers of one key the last one's file stays, whole. A file that is damaged counts as
    absent, with a warning, and is replaced by the next `put`.

    Args:
        folder: made on the first `put`.
        half: store floating-point tensors as float16, under names of their own, so that one folder may hold both.
    """

    def __init__(self, folder: str | Path, *, half: bool = False) -> None:
        self.folder = Path(folder)
        self.half = half
        self._hits = self._misses = self._damaged = 0

    def path(self, key: str) -> Path:
        """The file of a key, whether it exists or not.

        Raises:
            InputError: ``key`` is not what `feature_key` returns.
        """
        if not _KEY.fullmatch(key):
            raise InputError(f"{key!r}: is no key of features (64 hexadecimal digits, from feature_key)")
        return self.folder / key[:2] / f"{key}{'.half' if self.half else ''}.safetensors"

    def get(self, key: str) -> dict[str, Tensor] | None:
        """The tensors of a key as they were stored, on the CPU; None where there are none or the file is damaged.

        Raises:
            InputError: the file exists and cannot be read.
        """
        path = self.path(key)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            self._misses += 1
            return None
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror})") from error
        tensors = _read(content)
        if tensors is None:
            self._misses += 1
            self._damaged += 1
            logger.warning("%s: damaged (%d bytes), its features are computed again", path, len(content))
            return None
        self._hits += 1
        # for `prune`; a folder that is only readable serves all the same
        with contextlib.suppress(OSError):
            os.utime(path)
        return tensors

    def put(self, key: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Store tensors under a key.

        Returns:
            The tensors as `get` will return them: on the CPU, in float16 where the cache is ``half``.

        Raises:
            InputError: nothing is given, a value is not finite (in float16, where the cache is ``half``), or the folder
                cannot be written.
        """
        path = self.path(key)
        stored = {name: self._as_stored(name, value) for name, value in tensors.items()}
        if not stored or _CHECKSUM in stored:
            raise InputError(f"features {sorted(stored)}: at least one tensor, and none named {_CHECKSUM!r}")
        checked = stored | {_CHECKSUM: torch.frombuffer(bytearray(_digest(stored)), dtype=torch.uint8)}
        with atomic_file(path) as temporary:
            save_file(checked, temporary, metadata={"format": "pt"})
        return stored

    def get_or_compute(self, key: str, compute: Callable[[], Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """The tensors of a key, computed and stored if need be; the same values, types and device either way."""
        result = self.get(key)
        return self.put(key, compute()) if result is None else result

    def stats(self) -> CacheStats:
        """Files and bytes in the folder (of both precisions), hits, misses and damaged files of this object."""
        sizes = [status.st_size for _, status in self._files()]
        return CacheStats(len(sizes), sum(sizes), self._hits, self._misses, self._damaged)

    def prune(self, max_bytes: int) -> int:
        """Delete the files that have not been used for longest until ``max_bytes`` remain; returns the bytes freed.

        Also what killed writers have left. Another process computes a deleted file again.
        """
        for path in self.folder.glob("[0-9a-f][0-9a-f]/.*.safetensors"):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > _STALE_SECONDS:
                    path.unlink()
        files = sorted(self._files(), key=lambda file: (file[1].st_mtime_ns, file[0]))
        total, freed = sum(status.st_size for _, status in files), 0
        for path, status in files:
            if total - freed <= max_bytes:
                break
            path.unlink(missing_ok=True)
            freed += status.st_size
        return freed

    def _files(self) -> Iterator[tuple[Path, os.stat_result]]:
        for path in self.folder.glob("[0-9a-f][0-9a-f]/[0-9a-f]*.safetensors"):
            with contextlib.suppress(FileNotFoundError):
                yield path, path.stat()

    def _as_stored(self, name: str, value: Tensor) -> Tensor:
        value = value.detach().cpu()
        if value.is_floating_point() and self.half:
            value = value.half()
        if not torch.isfinite(value).all():
            raise InputError(f"features {name!r} hold values that are not finite{' in float16' if self.half else ''}")
        # a tensor of its own: a view would write, and return, the whole that it looks at
        return value.clone(memory_format=torch.contiguous_format)


def _digest(tensors: Mapping[str, Tensor]) -> bytes:
    digest = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        digest.update(f"{len(name)} {name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.digest()


def _read(content: bytes) -> dict[str, Tensor] | None:
    """The tensors of a file's content, None where it is torn or altered."""
    try:
        tensors = load(content)
    except (SafetensorError, KeyError, ValueError):
        return None
    checksum = tensors.pop(_CHECKSUM, None)
    if checksum is None or checksum.dtype != torch.uint8 or bytes(checksum.tolist()) != _digest(tensors):
        return None
    return tensors
