"""Merging of data sets: several sources in one store, on one skeleton, at one frame rate, with one vocabulary.

    skeleton: smpl-22            # kinect-v1, kinect-v2, smpl-22, or a .npz/.bvh file
    labels: residential          # optional; a map by name or file, for all sources without one
    sources:
      utkinect: {format: utkinect, path: data/utkinect}
      ntu: {format: ntu-rgbd, path: data/ntu, labels: ntu.yaml, exclude: [bad_samples.txt]}
      own: {format: bvh, path: data/own, action_from: folder, metadata: own.csv}

``up``, ``unit`` and ``source_fps`` of a source are those of ``prepare``. Paths are relative to the file. Ids and
subjects have the source's name as prefix (``utkinect/s01``), so that subjects of two sources stay distinct.
"""

from __future__ import annotations

from collections import Counter
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from icube_common.config import read_yaml
from icube_common.errors import InputError, unknown
from icube_common.io.progress import progress_bar
from icube_common.io.runs import check_output_path
from motiondiff.data.labels.label_map import BUILTIN_MAPS, LabelMap
from motiondiff.data.labels.metadata import Annotations, annotate
from motiondiff.data.prepare import (
    PrepareOptions,
    check_labels,
    read_all,
    read_and_check,
    read_exclusion_lists,
    resolve_conventions,
    warn_rejected,
    worker_pool,
    write_store,
)
from motiondiff.data.readers import get_reader
from motiondiff.data.readers.base import Clip, ClipRef, Rejection, make_rejection
from motiondiff.data.readers.body_shape import target_skeleton
from motiondiff.data.store import MotionStore
from motiondiff.skeleton.retarget import retarget
from motiondiff.skeleton.skeleton import Skeleton

_TOP = ("skeleton", "labels", "sources")
_SOURCE = ("format", "path", "labels", "exclude", "action_from", "metadata", "up", "unit", "source_fps")


@dataclass(frozen=True)
class Source:
    """One source: name, format, folder and options.

    Attributes:
        options: the store's, with the source's own labels and lists.
    """

    name: str
    format: str
    path: Path
    options: PrepareOptions


@dataclass(frozen=True)
class _Job:
    reference: ClipRef
    source: Source
    annotations: Annotations


def prepare_merged(
    file: str | Path,
    out: str | Path,
    options: PrepareOptions | None = None,
    *,
    overwrite: bool = False,
    executor: Executor | None = None,
) -> MotionStore:
    """Make one store of the sources in a YAML file.

    Args:
        file: YAML as in the module's docstring.
        out: the store to make.
        options: frame rate (required), split and checks; labels and lists of the file take precedence.
        overwrite: replace an existing ``out``.
        executor: executor for reading; by default a local process pool.

    Raises:
        InputError: an unknown key or value of the file, an empty source, or as `prepare`.
    """
    options = options or PrepareOptions()
    if options.fps is None:
        raise InputError(f"{file}: sources differ in frame rate: give one with --fps")
    skeleton, sources = read_sources(file, options)
    units = [get_reader(source.format).find_clips(source.path) for source in sources]
    annotated = {
        source.name: annotate(
            source.format,
            refs,
            source.path,
            action_from=source.options.action_from,
            metadata=source.options.metadata,
        )
        for source, refs in zip(sources, units, strict=True)
    }
    check_output_path(out, overwrite=overwrite)
    ids_by_source: dict[str, list[str]] = {source.name: [] for source in sources}
    description: dict[str, Any] = {
        "format": "merge",
        "source": Path(file).name,
        "sources": {source.name: source.format for source in sources},
        "simulated": False,
    }
    with worker_pool(sum(map(len, units)), executor) as pool:
        jobs: list[_Job] = []
        for source, refs in zip(sources, units, strict=True):
            references, rigs = resolve_conventions(source.format, refs, source.options, pool)
            jobs += [_Job(reference, source, annotated[source.name]) for reference in references]
            if rigs:
                description.setdefault("rigs", {})[source.name] = rigs
        items = check_labels(
            read_all(
                jobs, partial(_read, target=skeleton), pool, lambda job: f"{job.source.name}/{job.reference.clip_id}"
            ),
            {source.name: source.options.labels for source in sources},
            ids_by_source,
            lambda clip_id: clip_id.split("/", 1),
        )
        with progress_bar(items, desc="read", unit="clip", total=len(jobs)) as bar:
            store = write_store(bar, out, options, description=description, overwrite=overwrite)
    for name, of_source in annotated.items():
        of_source.warn_unmatched(ids_by_source[name])
    warn_rejected(store)
    return store


def count_sources(store: MotionStore) -> dict[str, int]:
    """Number of clips of each source of a merged store."""
    return dict(Counter(clip_id.split("/", 1)[0] for clip_id in store.clip_ids))


def read_sources(file: str | Path, options: PrepareOptions) -> tuple[Skeleton, list[Source]]:
    """Target skeleton and sources of a YAML file.

    Raises:
        InputError: no such file, no YAML, or an unknown key or value.
    """
    path = Path(file)
    content = read_yaml(path, option="--merge")
    _known(path, "key", content, _TOP)
    named = content.get("sources")
    if not isinstance(named, dict) or not named:
        raise InputError(f"--merge {path}: sources: a mapping of names to `format:` and `path:` expected")
    skeleton = content.get("skeleton")
    if not isinstance(skeleton, str):
        raise InputError(
            f"--merge {path}: skeleton: {skeleton!r}: kinect-v1, kinect-v2, smpl-22, or a .npz or .bvh file"
        )
    is_file = Path(skeleton).suffix.lower() in (".npz", ".bvh")
    target = target_skeleton(path.parent / skeleton if is_file else skeleton)
    sources = [_source(path, str(name), source, content.get("labels"), options) for name, source in named.items()]
    return target, sources


def _source(path: Path, name: str, content: Any, labels: Any, options: PrepareOptions) -> Source:
    where = f"--merge {path}: sources: {name}"
    if "/" in name or not name.strip():
        raise InputError(f"{where}: a name without '/' expected")
    if not isinstance(content, dict) or not isinstance(content.get("path"), str):
        raise InputError(f"{where}: `format:` and `path:` expected")
    _known(path, f"key of sources: {name}", content, _SOURCE)
    get_reader(str(content.get("format")))
    labels = content.get("labels", labels)
    exclude = content.get("exclude", [])
    action_from, metadata = content.get("action_from"), content.get("metadata")
    if not all(value is None or isinstance(value, str) for value in (action_from, metadata)):
        raise InputError(f"{where}: action_from: folder or parent expected; metadata: a file")
    if not (labels is None or isinstance(labels, str)) or not isinstance(exclude, list):
        raise InputError(f"{where}: labels: a name or a file expected; exclude: a list of files")
    source_options = replace(options, action_from=action_from, metadata=path.parent / metadata if metadata else None)
    if labels is not None:
        shipped = labels in BUILTIN_MAPS
        file, has_labels = labels if shipped else path.parent / labels, bool(action_from or metadata)
        source_options = replace(source_options, labels=LabelMap.load(file, content["format"], user_labels=has_labels))
    if exclude:
        source_options = replace(
            source_options,
            exclude=source_options.exclude | read_exclusion_lists(path.parent / str(one) for one in exclude),
        )
    if {"up", "unit", "source_fps"} & set(content):
        rate = content.get("source_fps")
        if not (rate is None or (isinstance(rate, int | float) and rate > 0)):
            raise InputError(f"{where}: source_fps: {rate!r}: frames per second expected")
        source_options = replace(
            source_options, up=str(content.get("up", "auto")), unit=str(content.get("unit", "auto")), source_fps=rate
        )
    return Source(name, content["format"], path.parent / content["path"], source_options)


def _known(path: Path, kind: str, content: dict[Any, Any], keys: tuple[str, ...]) -> None:
    for key in content:
        if key not in keys:
            raise InputError(f"--merge {path}: {unknown(kind, str(key), keys)}")


def _read(job: _Job, target: Skeleton) -> list[Clip | Rejection]:
    """Clips of one unit of a source, on the target skeleton and with the source's name as prefix."""
    name = job.source.name
    results: list[Clip | Rejection] = []
    for item in read_and_check(job.reference, job.source.options, job.annotations):
        clip_id = f"{name}/{item.clip_id}"
        if isinstance(item, Rejection):
            results.append(Rejection(clip_id, item.reason, item.label))
            continue
        motion = item.motion
        try:
            subject = None if motion.subject is None else f"{name}/{motion.subject}"
            moved = replace(retarget(motion, target), subject=subject, source=f"{name}: {motion.source}")
            if moved.residual > job.source.options.max_residual:
                raise InputError(f"mean error of {moved.residual * 100:.1f} cm on the target skeleton")
            results.append(Clip(clip_id, moved, item.label))
        except Exception as error:  # one bad clip does not stop the folder
            results.append(replace(make_rejection(clip_id, error), label=item.label))
    return results
