"""Whatever makes motions of an action, behind one call: the diffusion pipeline, or ACTOR."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np

from icube_common.config import config_to_dict
from icube_common.data.processes import InlineExecutor, map_items, take_shard
from icube_common.errors import InputError
from icube_common.io.progress import progress_bar
from icube_common.vlm.device import named_device
from motiondiff.augmentation.config import FilterConfig
from motiondiff.data.store import MotionStore
from motiondiff.export.npz import write_npz
from motiondiff.pipelines.actor import FOLDER as ACTOR_FOLDER
from motiondiff.pipelines.actor import ActorGenerator
from motiondiff.pipelines.motion_diffusion import MotionDiffusionPipeline
from motiondiff.pipelines.sampling import STEPS, clip_generator, load_pipeline, move_to, resolve, sample_style
from motiondiff.skeleton.mirror import mirror, mirror_labels
from motiondiff.skeleton.motion import Motion
from motiondiff.skeleton.skeleton import Skeleton

Batch = tuple[tuple[str, ...], tuple[int, ...]]
"""Actions and numbers of the motions of a batch."""
SOURCE_STREAM = 2
"""Clips to vary are drawn from random numbers of their own."""


class Generator(Protocol):
    """Generator of motions of a vocabulary of actions."""

    @property
    def actions(self) -> list[str]:
        """Vocabulary of actions."""
        ...

    def generate(self, actions: Sequence[str], numbers: Sequence[int], seed: int) -> Iterator[Motion]:
        """A motion for each action; motion i depends on (seed, numbers[i]) and its action alone."""
        ...


class DiffusionGenerator:
    """Our pipeline with a filter's sampling settings.

    Args:
        pipeline: trained with actions.
        config: settings of the filter; with a ``noise_strength`` below 1 a motion starts from a training clip of its
            action, as in DA-Fusion (Trabucco et al., "Effective Data Augmentation With Diffusion Models", ICLR 2024).
        store: whose training split these clips are from.
    """

    def __init__(
        self, pipeline: MotionDiffusionPipeline, config: FilterConfig, store: MotionStore | None = None
    ) -> None:
        self.pipeline = pipeline
        move_to(pipeline, config.device)
        self.config = config
        self.styles = list(pipeline.denoiser.config.styles) if config.mix_styles else []
        self.sources: dict[str, list[Motion]] = {}
        if config.noise_strength < 1:
            if store is None:
                raise InputError(
                    f"noise_strength {config.noise_strength:g}: variations need the clips that they are of"
                )
            for clip in store.select("train").tolist():
                motion = store[clip]
                self.sources.setdefault(str(motion.action), []).append(motion)
        self.mirrored: dict[str, str] = {}
        if self.sources and config.mirror:
            names = list(self.sources)
            codes = mirror_labels(names, range(len(names)), "action", f"mirror={config.mirror:g}")
            self.mirrored = {name: names[code] for name, code in zip(names, codes, strict=True)}

    @property
    def actions(self) -> list[str]:
        """Vocabulary of actions."""
        return list(self.pipeline.denoiser.config.actions)

    def generate(self, requests: Sequence[str], numbers: Sequence[int], seed: int) -> Iterator[Motion]:
        """A motion for each action; see `Generator`."""
        for rows in _batches(len(requests), self.config.batch_size):
            varied = [self._source(requests[row], numbers[row], seed) for row in rows] if self.sources else None
            output = self.pipeline(
                actions=[requests[row] for row in rows],
                styles=[sample_style(self.styles, seed, numbers[row]) for row in rows],
                num_inference_steps=self.config.steps or STEPS,
                guidance_scale=self.config.guidance,
                init_motions=varied,
                noise_strength=self.config.noise_strength,
                generator=[clip_generator(seed, numbers[row]) for row in rows],
                return_dict=False,
            )
            yield from output[0]

    def _source(self, action: str, number: int, seed: int) -> Motion:
        """The clip that motion ``number`` begins from: by (seed, number) alone."""
        clips, rng = self.sources[action], np.random.default_rng([seed, number, SOURCE_STREAM])
        source = clips[int(rng.integers(len(clips)))]
        if rng.random() >= self.config.mirror:
            return source
        other = self.mirrored[action]
        if other != action:  # a wave of the left hand is one of the right hand in the mirror
            source = self.sources[other][int(rng.integers(len(self.sources[other])))]
        return mirror(source)


class VaeGenerator:
    """ACTOR."""

    def __init__(self, model: ActorGenerator, config: FilterConfig) -> None:
        self.model = model
        self.config = config

    @property
    def actions(self) -> list[str]:
        """Vocabulary of actions."""
        return self.model.actions

    def generate(self, requests: Sequence[str], numbers: Sequence[int], seed: int) -> Iterator[Motion]:
        """A motion for each action; see `Generator`."""
        for rows in _batches(len(requests), self.config.batch_size):
            yield from self.model([requests[row] for row in rows], [clip_generator(seed, numbers[row]) for row in rows])


def load_generator(run: str | Path, config: FilterConfig, store: MotionStore) -> tuple[Generator, str]:
    """The generator of a run folder, of either kind, and the kind's name.

    Args:
        run: the run folder.
        config: how motions are made.
        store: what the run was trained on.

    Raises:
        InputError: no trained model is there, or one that was trained without actions; variations by ACTOR.
    """
    for folder in (Path(run) / "model", Path(run)):
        if (folder / ACTOR_FOLDER).is_dir():
            if config.noise_strength < 1:
                raise InputError(
                    f"noise_strength {config.noise_strength:g}: ACTOR makes no variations of clips; leave it at 1"
                )
            model = ActorGenerator.from_pretrained(folder)
            model.vae.to(named_device(config.device))
            return VaeGenerator(model, config), "ACTOR"
    config = resolve(run, config)
    generator = DiffusionGenerator(load_pipeline(run, config.scheduler), config, store)
    if not generator.actions:
        raise InputError(f"{run}: was trained without actions: it cannot make a set of labelled motions")
    return generator, "diffusion"


class Batches:
    """Batches of generated motions: made here, by workers with a model each, or in shards on several machines.

    A batch holds the same motions wherever it is generated, so all ways give the same bytes.

    Args:
        run: run folder of the generator.
        store: what it was trained on.
        config: how motions are made.
        generator: that of ``run``, for this process.
        shards: folder of what other runs have generated.
        executor: where batches are generated.
        workers: how many at the same time.
    """

    def __init__(
        self,
        run: str | Path,
        store: MotionStore,
        config: FilterConfig,
        generator: Generator,
        shards: Path,
        executor: Executor,
        workers: int | None,
    ) -> None:
        self._config, self._generator = config, generator
        self._executor, self._workers = executor, workers
        self._work = partial(_generate_in_worker, str(run), str(store.path), config)
        files = sorted(path for path in Path(run).rglob("*.safetensors"))
        status = [(str(path.relative_to(run)), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
        parts = [store.fingerprint, config_to_dict(config), status]
        self._shards = shards
        self._stored = shards / hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()[:16]

    def generate(self, requests: Sequence[str], numbers: Sequence[int]) -> list[Motion | None]:
        """A motion for each action, None for those of a batch whose worker was killed twice."""
        batches = self._split(requests, numbers)
        missing = [batch for batch in batches if not self._is_stored(batch)]
        made = dict(zip(missing, self._made(missing), strict=True))
        return [motion for batch in batches for motion in (made[batch] if batch in made else map(self._load, batch[1]))]

    def store_shard(self, requests: Sequence[str], shard: tuple[int, int]) -> int:
        """Generate a shard of the batches into files; returns the number of motions there.

        Raises:
            InputError: no such shard.
        """
        batches = take_shard(self._split(requests, range(len(requests))), shard)
        missing = [batch for batch in batches if not self._is_stored(batch)]
        self._stored.mkdir(parents=True, exist_ok=True)
        for batch, motions in zip(missing, self._made(missing), strict=True):
            for number, motion in zip(batch[1], motions, strict=True):
                if motion is not None:
                    write_npz(motion, self._path(number))
        return sum(self._path(number).is_file() for batch in batches for number in batch[1])

    def remove_shards(self) -> None:
        """Delete the files of shards, whose motions are in the store."""
        if self._shards.is_dir():
            shutil.rmtree(self._shards)

    def _split(self, requests: Sequence[str], numbers: Sequence[int]) -> list[Batch]:
        size = self._config.batch_size
        return [
            (tuple(requests[first : first + size]), tuple(numbers[first : first + size]))
            for first in range(0, len(requests), size)
        ]

    def _made(self, batches: Sequence[Batch]) -> list[list[Motion | None]]:
        if isinstance(self._executor, InlineExecutor):
            return [list(self._generator.generate(*batch, self._config.seed)) for batch in batches]
        results = map_items(
            self._work,
            batches,
            executor=self._executor,
            workers=self._workers,
            chunksize=1,
            lost=lambda batch: [None] * len(batch[0]),
        )
        return list(progress_bar(results, desc="generate", unit="batch", total=len(batches), leave=False))

    def _path(self, number: int) -> Path:
        return self._stored / f"{number:06d}.npz"

    def _is_stored(self, batch: Batch) -> bool:
        return all(self._path(number).is_file() for number in batch[1])

    def _load(self, number: int) -> Motion:
        with np.load(self._path(number), allow_pickle=False) as arrays:
            skeleton = Skeleton(
                tuple(map(str, arrays["joint_names"])), tuple(map(int, arrays["parents"])), arrays["offsets"]
            )
            action, style = (str(arrays[name]) or None for name in ("action", "tag"))
            return Motion(
                arrays["root"], arrays["rotations"], skeleton, float(arrays["fps"]), action=action, style=style
            )


# a worker loads its model once
_loaded: dict[str, Generator] = {}


def _generate_in_worker(run: str, data: str, config: FilterConfig, batch: Batch) -> list[Motion | None]:
    key = repr((run, data, config))
    if key not in _loaded:
        _loaded.clear()
        _loaded[key] = load_generator(run, config, MotionStore(data))[0]
    return list(_loaded[key].generate(*batch, config.seed))


def _batches(count: int, size: int) -> Iterator[range]:
    with progress_bar(total=count, desc="generate", unit="motion", leave=False) as bar:
        for first in range(0, count, size):
            rows = range(first, min(first + size, count))
            yield rows
            bar.update(len(rows))
