"""Folders of video features: which backbone and which frames they are of, what is in them, reading them.

A folder of features holds

- ``features.json``: backbone with its fingerprint, sampling, decoder, the manifest's fingerprint, shape, counts;
- ``index.csv``: id, key of each clip whose features are there; ``rejected.csv``: id, path, reason of the others;
- ``ab/ab12....half.safetensors``: the features of each key, ``(views, T, D)`` in float16
  (`icube_common.vlm.FeatureCache`); the key is of the video's content, so a changed file has another one;
- ``shards/<manifest>/<shard>.csv``: what each job has done. Several may write at once, each its own file; the two
  tables above are these files merged, the newest row of a clip counting.

Shapes: T frames of a view, D width of the space that images and texts share.
"""

from __future__ import annotations

import csv
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from actprompt.data.frame_sampling import Sampling
from actprompt.data.manifest import Manifest
from actprompt.data.video import decoder_key
from actprompt.data.video.frame_folder import clip_status
from icube_common.errors import InputError
from icube_common.io.csv import read_table
from icube_common.io.runs import atomic_file, write_json
from icube_common.vlm import FeatureCache, FrozenVLM
from icube_common.vlm.features import HEAD, check_same_backbone, describe_backbone, read_head

_COLUMNS = ("id", "path", "key", "size", "modified", "seen", "reason")
# seconds between two writings of the tables while a job runs
_FLUSH_SECONDS = 20.0


@dataclass(frozen=True)
class FeatureRecord:
    """Record of a clip's feature extraction.

    Attributes:
        id: the clip's.
        path: the clip's, as the manifest has it.
        key: of its features; empty without features.
        size: bytes of the video.
        modified: the video's date, in ns.
        seen: time of the extraction, in ns since 1970.
        reason: of missing features.
    """

    id: str
    path: str
    key: str = ""
    size: int = 0
    modified: int = 0
    seen: int = 0
    reason: str = ""

    def fits(self, video: Path) -> bool:
        """True where size and date of the video are those of the features, or the video is away."""
        try:
            status = clip_status(video)
        except OSError:
            return bool(self.key)
        return bool(self.key) and status == (self.size, self.modified)


class FeatureFolder:
    """A folder of features that jobs write into.

    Args:
        path: the folder; nothing is written before `create`.
        vlm: the backbone.
        sampling: which frames.

    Raises:
        InputError: the folder is of another backbone or other frames, or something else is in it.
    """

    def __init__(self, path: str | Path, *, vlm: FrozenVLM, sampling: Sampling) -> None:
        self.path = Path(path)
        self.cache = FeatureCache(self.path, half=True)
        self.description = {"backbone": describe_backbone(vlm), "sampling": sampling.key(), "decoder": decoder_key()}
        recorded = read_head(self.path, tuple(self.description))
        if recorded is None:
            return
        if recorded["sampling"] != self.description["sampling"]:
            raise InputError(
                f"{self.path}: its features are of the frames {_words(recorded['sampling'])}; wanted are "
                f"{_words(self.description['sampling'])}; choose those, or another folder for these"
            )
        check_same_backbone(self.path, recorded["backbone"], vlm)

    def create(self, manifest: Manifest) -> None:
        """Make the folder and its head, where it is not there yet.

        Raises:
            InputError: what is there was decoded by another decoder; reading it is no mistake, adding to it is.
        """
        recorded = read_head(self.path, tuple(self.description))
        if recorded is None:
            self._write_head(manifest, features=0, rejected=0)
        elif recorded["decoder"] != self.description["decoder"]:
            raise InputError(
                f"{self.path}: its frames were decoded by {_words(recorded['decoder'])}, here it is "
                f"{_words(self.description['decoder'])}; name another folder, or delete this one"
            )

    def _write_head(self, manifest: Manifest, **counts: int) -> None:
        head = {
            **self.description,
            "manifest": manifest.fingerprint,
            "counts": {"clips": len(manifest.clips), **counts},
        }
        write_json(self.path / HEAD, head)

    def records(self, manifest: Manifest, *, only: str = "*") -> dict[str, FeatureRecord]:
        """Clip id -> what jobs on this manifest (or ``only`` that job) have found out, the newest of several.

        Raises:
            InputError: a job's file is damaged.
        """
        newest: dict[str, FeatureRecord] = {}
        for part in self._parts(manifest, only):
            for line, row in read_table(part, _COLUMNS, strip=False):
                try:
                    numbers = {name: int(row[name]) for name in ("size", "modified", "seen")}
                except ValueError as error:
                    raise InputError(f"{part}: line {line}: {error}; delete this file and extract again") from error
                record = FeatureRecord(row["id"], row["path"], row["key"], reason=row["reason"], **numbers)
                if record.id not in newest or newest[record.id].seen <= record.seen:
                    newest[record.id] = record
        return {clip.id: newest[clip.id] for clip in manifest.clips if clip.id in newest}

    @contextmanager
    def job(self, manifest: Manifest, name: str) -> Iterator[Recorder]:
        """Recorder of a job, which writes the tables at intervals and at the end, also after an error.

        Args:
            manifest: the set.
            name: of the job's file. Of two that write one at once the last one's rows stay; features never get lost.

        Raises:
            InputError: as `create`.
        """
        self.create(manifest)
        recorder = Recorder(self, manifest, name)
        try:
            yield recorder
        finally:
            recorder.flush()

    def write_part(self, manifest: Manifest, name: str, records: Iterable[FeatureRecord]) -> None:
        """Write one job's file."""
        rows = (astuple(record) for record in records)
        _write_table(self._shards(manifest) / f"{name}.csv", _COLUMNS, rows)

    def merge(self, manifest: Manifest) -> None:
        """Write ``index.csv``, ``rejected.csv`` and the counts from the files of all jobs.

        Jobs that end together may overwrite each other's tables: each looks again afterwards, so the last table
        written holds what all have found.
        """
        stamp = None
        while stamp != (stamp := self._stamp(manifest)):
            records = self.records(manifest).values()
            index = [(record.id, record.key) for record in records if record.key]
            rejected = [(record.id, record.path, record.reason) for record in records if not record.key]
            _write_table(self.path / "index.csv", ("id", "key"), index)
            _write_table(self.path / "rejected.csv", ("id", "path", "reason"), rejected)
            self._write_head(manifest, features=len(index), rejected=len(rejected))

    def _shards(self, manifest: Manifest) -> Path:
        # of another manifest an id may be another clip's
        return self.path / "shards" / manifest.fingerprint[:16]

    def _parts(self, manifest: Manifest, name: str = "*") -> list[Path]:
        """The files of all jobs, or of one; not those that are being written."""
        return sorted(part for part in self._shards(manifest).glob(f"{name}.csv") if not part.name.startswith("."))

    def _stamp(self, manifest: Manifest) -> list[tuple[str, int, int]]:
        """Changes when a job's file is written."""
        statuses = [(part.name, part.stat()) for part in self._parts(manifest)]
        return [(name, status.st_ino, status.st_mtime_ns) for name, status in statuses]


class Recorder:
    """Takes the entries of one job; `FeatureFolder.job` makes it.

    Args:
        folder: where the tables go.
        manifest: the set.
        name: of the job's file; what is in it from before is replaced clip by clip.
    """

    def __init__(self, folder: FeatureFolder, manifest: Manifest, name: str) -> None:
        self._folder, self._manifest, self._name = folder, manifest, name
        self._entries = folder.records(manifest, only=name)
        self._flushed = time.monotonic()

    def add(self, record: FeatureRecord) -> None:
        """Take an entry; the tables are written when the last writing is a while ago."""
        self._entries[record.id] = record
        if time.monotonic() - self._flushed > _FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write the tables."""
        self._folder.write_part(self._manifest, self._name, self._entries.values())
        self._folder.merge(self._manifest)
        self._flushed = time.monotonic()


def _words(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in values.items())


def _write_table(path: Path, columns: Iterable[str], rows: Iterable[Iterable[Any]]) -> None:
    with atomic_file(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
