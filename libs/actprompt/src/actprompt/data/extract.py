"""Feature extraction: features of the frozen image tower for the frames of videos, computed once and stored.

Threads decode and preprocess the next videos (PyAV and Pillow release the interpreter lock) while the tower is busy.
Batches join the frames of several clips. A clip's features depend on what else is in its batch by rounding alone: one
run, several shards and a run that was killed and started again agree to the precision of stored features.

Shapes: T frames of a view, D width of the space that images and texts share, W width of the features for learned
heads, which is D where the tower has no others; T = 1 for an encoder of clips.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Generator, Sequence
from concurrent.futures import Executor
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
from actprompt.data.video.pixels import by_view, check_encoder, tower_inputs
from actprompt.data.video.prefetch import decoding_threads, prefetched
from icube_common.data.processes import (
    WORKER_DIED,
    InlineExecutor,
    executor_size,
    run_each,
    take_shard,
)
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
    select_output,
)

logger = logging.getLogger(__name__)

# clips of one call of a worker
_PART_CLIPS = 32


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


def extract(
    data: VideoDataset | str | Path,
    out: str | Path,
    *,
    vlm: VLMConfig,
    sampling: Sampling,
    device: str | None = None,
    shard: tuple[int, int] = (0, 1),
    executor: Executor | None = None,
    workers: int | None = None,
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
        executor: where parts of the clips are computed, each worker with a tower of its own; by default here. All
            folders have to be on a disk that every worker reads under the same path.
        workers: parts at the same time; by default as many as the executor has.
        strict: stop at the first clip that cannot be used.
        batch_size: frames in a forward pass of the tower, of one clip or several; by default ``vlm.batch_size``.

    Returns:
        Counts of clips (computed, there already, rejected), seconds in all, of decoding (summed over threads) and of
        the tower, clips computed a second.

    Raises:
        InputError: frames at random; ``out`` is of another backbone, other frames, or something else; a shard that is
            none; no frame in a batch; no clip that can be used, or (strict) one that cannot.
    """
    if batch_size is not None and batch_size < 1:
        raise InputError(f"batch size {batch_size}: must be at least 1")
    sampling = check_deterministic(sampling)
    manifest = VideoDataset.open(data).manifest
    clips = take_shard(manifest.clips, shard)
    tower = vlm.load(device)
    check_encoder(tower, sampling.frames)
    folder = FeatureFolder(out, vlm=tower, sampling=sampling)
    part = _Part(str(manifest.folder), str(manifest.root), str(out), vlm, sampling, device, batch_size)
    count: Counter[str] = Counter()
    decode_seconds = tower_seconds = 0.0
    first = ""
    start = time.perf_counter()
    name = f"{shard[0]}-of-{shard[1]}"
    if executor is None or isinstance(executor, InlineExecutor):
        results = _computed(manifest, clips, tower, sampling, folder, name, batch_size)
    else:
        results = _computed_by_workers(manifest, clips, folder, name, part, executor, workers)
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


def encode_clip(
    pixels: Float[Tensor, "views frames 3 height width"],
    vlm: FrozenVLM,
    *,
    batch_size: int | None = None,
    output: ImageOutput = "features",
) -> Float[Tensor, "views frames w"]:
    """The frozen tower's features of a clip's preprocessed frames, float16 on the CPU: as stored."""
    return by_view(encode_frames(vlm, tower_inputs(pixels, vlm), batch_size=batch_size, output=output), len(pixels))


def _encoded(
    manifest: Manifest,
    clips: Sequence[Clip],
    vlm: FrozenVLM,
    sampling: Sampling,
    cache: FeatureCache | None,
    batch_size: int | None,
    threads: int | None = None,
    shows_progress: bool = True,
) -> Generator[ClipFeatures]:
    """Each clip's features, from the cache or the tower, with a progress bar."""
    decoded = prefetched(manifest, clips, vlm, sampling, cache=cache, threads=threads)
    items = ((item, None if item.pixels is None else tower_inputs(item.pixels, vlm)) for item in decoded)
    encoded = encode_items(vlm, items, batch_size=batch_size)
    bar: Any = (
        progress_bar(encoded, desc="features", unit="clip", total=len(clips))
        if shows_progress
        else nullcontext(encoded)
    )
    with closing(decoded), closing(encoded), bar as results:
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


@dataclass(frozen=True)
class _Part:
    """Extraction of some clips in a worker process."""

    data: str
    root: str
    out: str
    vlm: VLMConfig
    sampling: Sampling
    device: str | None
    batch_size: int | None

    def __call__(self, clips: Sequence[Clip], threads: int) -> list[ClipFeatures]:
        """Store the clips' features; those of the results are left empty."""
        manifest, tower, cache = _open_part(self)
        results = _encoded(
            manifest, clips, tower, self.sampling, cache, self.batch_size, threads=threads, shows_progress=False
        )
        with closing(results):
            return [replace(one, features=None if one.features is None else {}) for one in results]


# a worker loads its tower once
_opened: dict[str, tuple[Manifest, FrozenVLM, FeatureCache]] = {}


def _open_part(part: _Part) -> tuple[Manifest, FrozenVLM, FeatureCache]:
    if repr(part) not in _opened:
        _opened.clear()
        tower = part.vlm.load(part.device)
        cache = FeatureFolder(part.out, vlm=tower, sampling=part.sampling).cache
        _opened[repr(part)] = (Manifest.load(part.data, root=part.root), tower, cache)
    return _opened[repr(part)]


def _computed_by_workers(
    manifest: Manifest,
    clips: Sequence[Clip],
    store: FeatureFolder,
    job: str,
    part: _Part,
    executor: Executor,
    workers: int | None,
) -> Generator[ClipFeatures]:
    """As `_computed`, by workers that store the features; the tables are written here."""
    workers = workers or executor_size(executor)
    threads = max(1, decoding_threads() // workers)
    groups = [tuple(clips[start : start + _PART_CLIPS]) for start in range(0, len(clips), _PART_CLIPS)]

    def lost(group: tuple[Clip, ...]) -> list[ClipFeatures]:
        return [
            ClipFeatures(
                clip=clip,
                record=FeatureRecord(clip.id, clip.path, seen=time.time_ns(), reason=WORKER_DIED),
                features=None,
                cached=False,
                decode_seconds=0.0,
                tower_seconds=0.0,
            )
            for clip in group
        ]

    calls = ((group, (group, threads)) for group in groups)
    with store.job(manifest, job) as record, progress_bar(desc="features", unit="clip", total=len(clips)) as bar:
        results = run_each(
            part, calls, executor, workers, lost=lost, split=lambda group, _: [((one,), ((one,), 1)) for one in group]
        )
        with closing(results):
            for _, done in results:
                for result in done:
                    record.add(result.record)
                    bar.update()
                    yield result
