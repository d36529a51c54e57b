"""Feature extraction: features of the frozen image tower for the frames of videos, computed once and stored.

Threads decode and preprocess the next videos (PyAV and Pillow release the interpreter lock) while the tower is busy.
Batches join the frames of several clips. A clip's features depend on what else is in its batch by rounding alone: one
run, several shards and a run that was killed and started again agree to the precision of stored features.

Shapes: T frames of a view, D width of the space that images and texts share, W width of the features for learned
heads, which is D where the tower has no others; T = 1 for an encoder of clips.
"""

from __future__ import annotations

import logging
import os
import time
from collections import Counter, deque
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from actprompt.data.dataset import VideoDataset
from actprompt.data.feature_store import FeatureFolder, FeatureRecord
from actprompt.data.frame_sampling import Sampling
from actprompt.data.manifest import Clip, Manifest
from actprompt.data.video import VideoError, decoder_key
from actprompt.data.video.frame_folder import clip_digest, clip_status
from actprompt.data.video.pixels import by_view, check_encoder, read_pixels, tower_inputs
from icube_common.errors import InputError
from icube_common.io.progress import progress_bar
from icube_common.vlm import (
    FeatureCache,
    FrozenVLM,
    ImageOutput,
    VLMConfig,
    check_joint_space,
    encode_frames,
    encode_items,
    feature_fingerprint,
    feature_key,
    select_output,
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ClipFeatures:
    """Features of one clip, or the reason of their absence in its record.

    Attributes:
        clip: the clip.
        record: its row in the tables of the folder.
        features: outputs of the tower by name, each ``(views, T, W)`` or ``(views, T, D)``, float16 on the CPU.
        cached: whether they were there already.
        decode_seconds: of hashing, decoding and preprocessing, in its thread.
        tower_seconds: of the tower.
    """

    clip: Clip
    record: FeatureRecord
    features: dict[str, Tensor] | None
    cached: bool
    decode_seconds: float
    tower_seconds: float


@dataclass(frozen=True, kw_only=True)
class DecodedClip:
    """Decoded clip: stored features, or pixels ``(views, T, 3, H, W)``, or neither and the reason in its record."""

    clip: Clip
    record: FeatureRecord
    features: dict[str, Tensor] | None
    pixels: Tensor | None
    seconds: float


def extract(
    data: VideoDataset | str | Path,
    out: str | Path,
    *,
    vlm: VLMConfig,
    sampling: Sampling,
    device: str | None = None,
    shard: tuple[int, int] = (0, 1),
    strict: bool = False,
    batch_size: int | None = None,
) -> dict[str, Any]:
    """Compute and store the features of a prepared set's clips.

    Clips that cannot be decoded are listed in ``rejected.csv`` of the folder. Started again, also after a kill, it
    computes only what is missing. Several shards may run at once, on several machines, into one folder.

    Args:
        data: data set or prepared folder.
        out: the folder of features (see `actprompt.data.feature_store`), new or of the same backbone and sampling.
        vlm: the backbone.
        sampling: the frames of a clip.
        device: of the tower; by default accelerate's device, a GPU where there is one.
        shard: ``(i, n)``: only each n-th clip, from the i-th on (from 0).
        strict: stop at the first clip that cannot be used.
        batch_size: frames in a forward pass of the tower, of one clip or several; by default ``vlm.batch_size``.

    Returns:
        Counts of clips (computed, there already, rejected), seconds in all, of decoding (summed over threads) and of
        the tower, clips computed a second.

    Raises:
        InputError: frames at random; ``out`` is of another backbone, other frames, or something else; a shard that is
            none; no frame in a batch; no clip that can be used, or (strict) one that cannot.
    """
    number, shards = shard
    if not 0 <= number < shards:
        raise InputError(f"shard {number}/{shards}: must be I/N with I from 0 to N-1")
    if batch_size is not None and batch_size < 1:
        raise InputError(f"batch size {batch_size}: must be at least 1")
    sampling = check_deterministic(sampling)
    manifest = VideoDataset.open(data).manifest
    clips = manifest.clips[number::shards]
    tower = vlm.load(device)
    check_encoder(tower, sampling.frames)
    folder = FeatureFolder(out, vlm=tower, sampling=sampling)
    count: Counter[str] = Counter()
    decode_seconds = tower_seconds = 0.0
    first = ""
    start = time.perf_counter()
    results = _computed(manifest, clips, tower, sampling, folder, f"{number}-of-{shards}", batch_size)
    with closing(results):
        for result in results:
            decode_seconds += result.decode_seconds
            tower_seconds += result.tower_seconds
            count["rejected" if result.features is None else "cached" if result.cached else "computed"] += 1
            if result.features is None:
                reason = f"{manifest.video(result.clip)}: {result.record.reason}"
                if strict:
                    raise InputError(reason)
                first = first or reason
    elapsed = time.perf_counter() - start
    if count["cached"]:
        logger.info("%d of %d clips were there already", count["cached"], len(clips))
    if first:
        listed = folder.path / "rejected.csv"
        if count["rejected"] == len(clips):
            raise InputError(
                f"{manifest.folder}: none of its {len(clips)} clips can be used ({listed}); the first, {first}"
            )
        logger.warning("%d clips could not be used: see %s", count["rejected"], listed)
    return {
        "features": str(folder.path),
        "backbone": str(tower.origin),
        "clips": len(clips),
        "computed": count["computed"],
        "there_already": count["cached"],
        "rejected": count["rejected"],
        "shape": [sampling.views, 1 if tower.kind == "clip" else sampling.frames, tower.feature_dim],
        "seconds": round(elapsed, 3),
        "clips_per_second": round(count["computed"] / elapsed, 3),
        "decode_seconds": round(decode_seconds, 3),
        "tower_seconds": round(tower_seconds, 3),
    }


def video_features(
    manifest: Manifest,
    clips: Sequence[Clip],
    vlm: FrozenVLM,
    sampling: Sampling,
    *,
    folder: str | Path | None = None,
    strict: bool = True,
    batch_size: int | None = None,
    output: ImageOutput = "features",
) -> dict[str, Float[Tensor, "views frames w"]]:
    """The features of clips, from a folder where they are there, computed otherwise; the same values either way.

    A clip's features in the folder are taken where its video has the size and date that it had, or is not there; where
    these differ, by its content.

    Args:
        manifest: the set.
        clips: which of its clips.
        vlm: the backbone.
        sampling: which frames.
        folder: of features, made by ``actprompt extract`` or by this function; what is computed is stored there.
            None: nothing is stored.
        strict: a clip that cannot be used is an error; otherwise it is left out, with a warning.
        batch_size: frames in a forward pass of the tower, of one clip or several; by default ``vlm.batch_size``.
        output: ``"features"`` for learned heads, or ``"joint"``: those that compare with texts.

    Returns:
        Clip id -> features, float32 (of float16 precision) on the CPU, in the order of ``clips``.

    Raises:
        InputError: frames at random; the folder is of another backbone, other frames, or something else; (strict) a
            clip that cannot be used.
    """
    check_deterministic(sampling)
    check_encoder(vlm, sampling.frames)
    if output == "joint":
        check_joint_space(vlm)
    features: dict[str, Tensor] = {}
    store = None if folder is None else FeatureFolder(folder, vlm=vlm, sampling=sampling)
    if store is not None:
        records = store.records(manifest)
        for clip in clips:
            record = records.get(clip.id)
            if record is not None and record.fits(manifest.video(clip)):
                stored = store.cache.get(record.key)
                if stored is not None:
                    features[clip.id] = select_output(stored, output).float()
    missing = [clip for clip in clips if clip.id not in features]
    if missing:
        results = _computed(manifest, missing, vlm, sampling, store, "as-needed", batch_size)
        with closing(results):
            for result in results:
                if result.features is not None:
                    features[result.clip.id] = select_output(result.features, output).float()
                elif strict:
                    raise InputError(f"{manifest.video(result.clip)}: {result.record.reason}: prepare the set again")
                else:
                    logger.warning("%s: left out: %s", manifest.video(result.clip), result.record.reason)
    return {clip.id: features[clip.id] for clip in clips if clip.id in features}


def check_deterministic(sampling: Sampling) -> Sampling:
    """Check that a sampling always gives the same frames; returns it.

    Raises:
        InputError: it samples frames at random.
    """
    if sampling.mode == "random":
        raise InputError(
            "video.mode=random: features are stored for one choice of frames, and random samples others each time; use "
            "uniform or dense"
        )
    return sampling


# decoding threads, and decoded clips that wait for the tower for each of them
_MAX_THREADS, _AHEAD = 16, 2


def decoding_threads() -> int:
    """Number of decoding threads: one for each processor of this process, within bounds."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(usable, _MAX_THREADS)


def encode_clip(
    pixels: Float[Tensor, "views frames 3 height width"],
    vlm: FrozenVLM,
    *,
    batch_size: int | None = None,
    output: ImageOutput = "features",
) -> Float[Tensor, "views frames w"]:
    """The frozen tower's features of a clip's preprocessed frames, float16 on the CPU: as stored."""
    return by_view(encode_frames(vlm, tower_inputs(pixels, vlm), batch_size=batch_size, output=output), len(pixels))


def prefetched(
    manifest: Manifest,
    clips: Iterable[Clip],
    vlm: FrozenVLM,
    sampling: Sampling,
    *,
    cache: FeatureCache | None,
    threads: int | None = None,
) -> Generator[DecodedClip]:
    """Clips in their order, looked up or decoded by threads that run a little ahead of the consumer."""
    decoder = decoder_key()
    fingerprint = feature_fingerprint(vlm) if cache is not None else ""

    def work(clip: Clip) -> DecodedClip:
        start = time.perf_counter()
        path = manifest.video(clip)
        features = pixels = None
        record = FeatureRecord(clip.id, clip.path)
        try:
            if cache is not None:
                if not path.exists():
                    raise VideoError(f"{path}: no such file")
                # the date before the content: a file that changes in between is looked into again next time
                size, modified = clip_status(path)
                extra = {**decoder, "n_frames": clip.n_frames, "variable_rate": clip.variable_rate}
                key = feature_key(fingerprint, clip_digest(path), sampling.key(), extra)
                record = replace(record, key=key, size=size, modified=modified)
                features = cache.get(key)
            if features is None:
                pixels = read_pixels(path, clip, sampling, vlm)
        except Exception as error:
            # a damaged file may bring up any error in a decoder; the path has a column of its own
            kind = "" if isinstance(error, InputError) else f"{type(error).__name__}: "
            record = FeatureRecord(
                clip.id, clip.path, reason=kind + " ".join(str(error).removeprefix(f"{path}: ").split())
            )
        record = replace(record, seen=time.time_ns())
        return DecodedClip(
            clip=clip, record=record, features=features, pixels=pixels, seconds=time.perf_counter() - start
        )

    count = threads or decoding_threads()
    waiting: deque[Future[DecodedClip]] = deque()
    pool = ThreadPoolExecutor(count, thread_name_prefix="decode")
    try:
        for clip in clips:
            waiting.append(pool.submit(work, clip))
            if len(waiting) > count * _AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _encoded(
    manifest: Manifest,
    clips: Sequence[Clip],
    vlm: FrozenVLM,
    sampling: Sampling,
    cache: FeatureCache | None,
    batch_size: int | None,
) -> Generator[ClipFeatures]:
    """Each clip's features, from the cache or the tower, with a progress bar."""
    decoded = prefetched(manifest, clips, vlm, sampling, cache=cache)
    items = ((item, None if item.pixels is None else tower_inputs(item.pixels, vlm)) for item in decoded)
    encoded = encode_items(vlm, items, batch_size=batch_size)
    with (
        closing(decoded),
        closing(encoded),
        progress_bar(encoded, desc="features", unit="clip", total=len(clips)) as results,
    ):
        for result in results:
            item, features = result.item, result.item.features
            if item.pixels is not None:
                features = {name: by_view(value, len(item.pixels)) for name, value in result.tensors.items()}
                if cache is not None:
                    features = cache.put(item.record.key, features)
            yield ClipFeatures(
                clip=item.clip,
                record=item.record,
                features=features,
                cached=item.features is not None,
                decode_seconds=item.seconds,
                tower_seconds=result.seconds,
            )


def _computed(
    manifest: Manifest,
    clips: Sequence[Clip],
    vlm: FrozenVLM,
    sampling: Sampling,
    store: FeatureFolder | None,
    job: str,
    batch_size: int | None,
) -> Generator[ClipFeatures]:
    """Each clip's features; where there is a folder, stored in it and recorded by the job of that name."""
    cache = None if store is None else store.cache
    with nullcontext() if store is None else store.job(manifest, job) as record:
        results = _encoded(manifest, clips, vlm, sampling, cache, batch_size)
        with closing(results):
            for result in results:
                if record is not None:
                    record.add(result.record)
                yield result
