"""Decoding ahead: threads that look up or decode the next clips while the image tower is busy."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

from torch import Tensor

from actprompt.data.feature_store import FeatureRecord
from actprompt.data.frame_sampling import Sampling
from actprompt.data.manifest import Clip, Manifest
from actprompt.data.video import VideoError, decoder_key
from actprompt.data.video.frame_folder import clip_digest, clip_status
from actprompt.data.video.pixels import read_pixels
from icube_common.data.processes import available_cores
from icube_common.errors import InputError
from icube_common.vlm import FeatureCache, FrozenVLM, feature_fingerprint, feature_key


@dataclass(frozen=True, kw_only=True)
class DecodedClip:
    """Decoded clip: stored features, or pixels ``(views, T, 3, H, W)``, or neither and the reason in its record."""

    clip: Clip
    record: FeatureRecord
    features: dict[str, Tensor] | None
    pixels: Tensor | None
    seconds: float


# decoding threads, and decoded clips that wait for the tower for each of them
_MAX_THREADS, _AHEAD = 16, 2


def decoding_threads() -> int:
    """Number of decoding threads: one for each processor of this process, within bounds."""
    return min(available_cores(), _MAX_THREADS)


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
