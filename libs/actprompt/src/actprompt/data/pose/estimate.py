"""Poses of a prepared set's videos: estimated once, stored in its folder ``pose``.

- ``pose/<id>.npz``: landmarks of a clip's frames (`icube_common.pose.PoseSequence`), with the key of video, networks
  and settings; a clip whose key is the same is not computed again;
- ``pose/pose.json``: networks, settings, counts; ``pose/rejected.csv``: clips without a person or that do not decode.

Shapes: T frames, J joints, 3 coordinates.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import time
from concurrent.futures import Executor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from actprompt.data.dataset import VideoDataset
from actprompt.data.manifest import Clip, Manifest
from actprompt.data.video import VideoInfo, decoder_key, iterate_frames, probe
from actprompt.data.video.frame_folder import clip_digest
from actprompt.skeleton.io import Skeleton, skeleton_file
from icube_common.data.manifest import write_rows
from icube_common.data.processes import WORKER_DIED, map_items, take_shard
from icube_common.errors import InputError
from icube_common.io.progress import progress_bar
from icube_common.io.runs import atomic_file, read_json, write_json
from icube_common.pose import SKELETON_JOINTS, PoseGates, PoseModels, PoseSequence, PoseTracker, find_models, read_poses

logger = logging.getLogger(__name__)

FOLDER, DESCRIPTION = "pose", "pose.json"
POSE_JOINTS = tuple(SKELETON_JOINTS)
"""Joints of the estimated skeletons."""


class PoseFolder:
    """Poses of a prepared set.

    Args:
        manifest: the set.
    """

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self.path = manifest.folder / FOLDER

    @property
    def exists(self) -> bool:
        """True after ``actprompt pose``."""
        return (self.path / DESCRIPTION).is_file()

    def sequence(self, clip: Clip) -> PoseSequence | None:
        """Landmarks of a clip after the gates; None where it has none.

        Raises:
            InputError: the file is damaged.
        """
        path = self.path / skeleton_file(clip.id)
        return PoseSequence.load(path).gated(self._gates) if path.is_file() else None

    def skeleton(self, clip: Clip) -> Skeleton | None:
        """Joints (T, J, 3) in metres named `POSE_JOINTS`, NaN where not detected, and times (T,) in s; or None."""
        sequence = self.sequence(clip)
        if sequence is None or not sequence.detected.any():
            return None
        return sequence.skeleton, sequence.times.astype(np.float32)

    @functools.cached_property
    def _gates(self) -> PoseGates:
        return PoseGates(**read_json(self.path / DESCRIPTION)["gates"])


class PoseResult(NamedTuple):
    """Result of one clip: frames and frames with a person, or the reason of its rejection."""

    clip: Clip
    frames: int
    detected: int
    cached: bool
    reason: str


@dataclass(frozen=True)
class _Work:
    """Estimation of one clip in a worker process."""

    folder: Path
    root: Path
    models: PoseModels
    models_key: str
    smooth: bool
    gates: PoseGates

    def __call__(self, clip: Clip) -> PoseResult:
        path = self.root / clip.path
        target = self.folder / skeleton_file(clip.id)
        try:
            key = self._key(path)
            sequence = _stored(target, key)
            cached = sequence is not None
            if sequence is None:
                info = probe(path, frame_rate=clip.fps, keep_damaged=bool(clip.damage))
                sequence = track_video(path, info, _tracker(self.models, self.smooth), keep_damaged=bool(clip.damage))
                with atomic_file(target) as partial:
                    sequence.save(partial, key=key)
        except InputError as error:
            return PoseResult(clip, 0, 0, False, str(error).removeprefix(f"{path}: "))
        detected = int(sequence.gated(self.gates).detected.sum())
        reason = "" if detected else "no person was found"
        return PoseResult(clip, len(sequence.times), detected, cached, reason)

    def _key(self, path: Path) -> str:
        parts = {"video": clip_digest(path), "models": self.models_key, "smooth": self.smooth, **decoder_key()}
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def track_video(path: str | Path, info: VideoInfo, tracker: PoseTracker, *, keep_damaged: bool = False) -> PoseSequence:
    """Poses of every frame of a video, at the times of `actprompt.data.video.probe`.

    Raises:
        VideoError: a video that does not decode.
    """
    return tracker.track(iterate_frames(path, keep_damaged=keep_damaged), info.times)


def estimate_poses(
    data: VideoDataset | str | Path,
    *,
    models: str | Path | None = None,
    smooth: bool = True,
    gates: PoseGates | None = None,
    workers: int | None = None,
    executor: Executor | None = None,
    shard: tuple[int, int] = (0, 1),
    strict: bool = False,
) -> dict[str, Any]:
    """Estimate the poses of a prepared set's videos and store them in its folder.

    Started again, also after a kill, it computes only what is missing or has changed. Several shards may run at once,
    on several machines; a run without a shard afterwards completes the folder and writes its tables.

    Args:
        data: data set or prepared folder.
        models: folder of the networks (default: `icube_common.pose.find_models`).
        smooth: one-euro filter of the landmarks.
        gates: thresholds of a person, applied where poses are read.
        workers: processes; by default one for each core. With ``executor``, clips at the same time.
        executor: where; by default local processes.
        shard: ``(i, n)``: only each n-th clip, from the i-th on (from 0).
        strict: stop at the first clip without a person or that does not decode.

    Returns:
        Counts of clips and frames, share of frames with a person, seconds.

    Raises:
        InputError: missing networks; no clip with a person, or (strict) one without.
    """
    files, gates = find_models(models), gates or PoseGates()
    manifest = VideoDataset.open(data).manifest
    folder = manifest.folder / FOLDER
    folder.mkdir(exist_ok=True)
    work = _Work(folder, manifest.root, files, files.fingerprint, smooth, gates)
    start = time.perf_counter()
    results = []
    clips = take_shard(manifest.clips, shard)
    tracked = map_items(
        work,
        clips,
        executor=executor,
        workers=workers,
        worth_a_pool=2,
        chunksize=1,
        lost=lambda clip: PoseResult(clip, 0, 0, False, WORKER_DIED),
    )
    with progress_bar(tracked, desc="poses", unit="clip", total=len(clips)) as items:
        for item in items:
            if strict and item.reason:
                raise InputError(f"{manifest.video(item.clip)}: {item.reason}")
            results.append(item)
    rejected = [item for item in results if item.reason]
    part = "rejected.csv" if shard[1] == 1 else f"rejected-{shard[0]}-of-{shard[1]}.csv"
    write_rows(folder / part, ["id", "path", "reason"], [[r.clip.id, r.clip.path, r.reason] for r in rejected])
    if len(rejected) == len(results) and shard[1] == 1:
        raise InputError(
            f"{manifest.folder}: no clip with a person; the first, {rejected[0].clip.id}: {rejected[0].reason}"
        )
    frames, detected = (sum(getattr(item, name) for item in results) for name in ("frames", "detected"))
    counts = {"clips": len(results) - len(rejected), "rejected": len(rejected), "frames": frames, "detected": detected}
    about = {"models": files.fingerprint, "smooth": smooth, "gates": asdict(gates), "joints": list(POSE_JOINTS)}
    if shard[1] == 1:
        write_json(folder / DESCRIPTION, {**about, "unit": "m", **counts})
        for earlier in folder.glob("rejected-*-of-*.csv"):
            earlier.unlink()
    if rejected:
        logger.warning("%d clips without a pose: see %s", len(rejected), folder / part)
    return {
        "poses": str(folder),
        **counts,
        "there_already": sum(item.cached for item in results),
        "detected_share": round(detected / max(frames, 1), 4),
        "seconds": round(time.perf_counter() - start, 3),
    }


@functools.cache
def _tracker(models: PoseModels, smooth: bool) -> PoseTracker:
    return PoseTracker(models, smooth=smooth)


def _stored(path: Path, key: str) -> PoseSequence | None:
    """Poses on disk of the same video, networks and settings; None without any."""
    try:
        sequence, texts = read_poses(path)
    except InputError:
        return None
    return sequence if texts.get("key") == key else None
