"""The manifest: one row a clip, with its label, its subject and its place in the set's official protocols.

A prepared folder holds

- ``manifest.csv``: id, path, label, subject, camera, setup, one column a split, n_frames, fps, duration, variable_rate,
  and damage where files are used that are not whole (``--keep-damaged``);
- ``dataset.json``: format, root, class names and their texts, protocols, counts, where it all comes from;
- ``parameters.csv``: named parameters a clip, where the set has a skeleton (units in ``dataset.json``);
- ``skeleton/<id>.npz``: ``joints`` (T, J, 3) float32 with NaN where a joint was not tracked, and ``time`` (T,) in s;
- ``rejected.csv``: what could not be used, and why.

Written by `actprompt.data.prepare`; reading needs neither torch nor pandas.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from actprompt.skeleton.features import read_parameters
from actprompt.skeleton.io import Skeleton, read_skeleton, skeleton_file
from icube_common.data.manifest import (
    DESCRIPTION,
    MANIFEST,
    PreparedSet,
    read_description,
    read_manifest_rows,
    write_description,
    write_rows,
)
from icube_common.errors import InputError, unknown
from icube_common.io.csv import file_digest
from icube_common.tabular import TabularData

if TYPE_CHECKING:
    from icube_common.evaluation import Samples

FIXED = ("id", "path", "label", "subject", "camera", "setup")
MEASURED = ("n_frames", "fps", "duration", "variable_rate")
DAMAGE = "damage"
"""Column that a manifest has only where a damaged file is used."""
PARTS = ("train", "validation", "test")
KINDS = ("split", "leave-one-group-out")
METRICS = ("accuracy", "mean_class_accuracy")
GROUP_COLUMNS = ("subject", "camera", "setup")


@dataclass(frozen=True, kw_only=True)
class Clip:
    """One video of the set.

    Attributes:
        id: the source's own file name; below the root, with folders, where the name alone is not unique.
        path: relative to the manifest's root, or absolute.
        label: the class, as the set spells it.
        subject: who acts, or the group that UCF101 calls so.
        camera: the set's number of the camera.
        setup: NTU's number of the setup, ETRI's of the camera group.
        splits: column -> "train", "validation" or "test"; a column in which the clip has no part is left out.
        n_frames: frames that decode.
        fps: mean frames per second.
        duration: seconds.
        variable_rate: whether the frames are unevenly spaced in time.
        damage: the reason why the file is not whole, and is used as far as it decodes; "" for a whole one.
    """

    id: str
    path: str
    label: str
    subject: str | None = None
    camera: str | None = None
    setup: str | None = None
    splits: Mapping[str, str] = field(default_factory=dict)
    n_frames: int = 0
    fps: float = 0.0
    duration: float = 0.0
    variable_rate: bool = False
    damage: str = ""


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Published evaluation protocol of a set.

    Attributes:
        name: e.g. ``"cross-subject"``.
        kind: "split" (a column of parts) or "leave-one-group-out" (a column of groups).
        column: the column of the manifest with the parts or groups.
        metric: "accuracy" (top-1) or "mean_class_accuracy".
        source: the paper or file that defines it.
    """

    name: str
    kind: str
    column: str
    metric: str = "accuracy"
    source: str = ""


class Manifest(PreparedSet[Clip]):
    """A prepared set of clips; see `PreparedSet` for its arguments."""

    @classmethod
    def load(cls, folder: str | Path, *, root: str | Path | None = None) -> Manifest:
        """Read and check a prepared folder.

        Args:
            folder: what ``actprompt prepare`` made.
            root: folder of the videos, where they have moved.

        Raises:
            InputError: a file is missing or damaged; the file, the line and the value are named.
        """
        description = read_about(folder)
        rows = list(_read_rows(folder, description["class_names"]))
        columns = {*GROUP_COLUMNS, *(column for clip in rows for column in clip.splits)}
        for protocol in description["protocols"]:
            if protocol["column"] not in columns:
                where = Path(folder) / DESCRIPTION
                raise InputError(f"{where}: protocol {protocol['name']!r}: no clip has a {protocol['column']!r}")
        return cls(folder, description, rows, root=root)

    @property
    def clips(self) -> tuple[Clip, ...]:
        """The clips, in the order of ``manifest.csv``."""
        return self.rows

    @cached_property
    def protocols(self) -> dict[str, Protocol]:
        """Published protocols by name."""
        return {row["name"]: Protocol(**row) for row in self.description["protocols"]}

    @property
    def class_texts(self) -> dict[str, str]:
        """Class -> its name in words (``BandMarching`` -> ``band marching``)."""
        return dict(self.description["class_texts"])

    @property
    def title(self) -> str:
        """The set's name, or its format."""
        return str(self.description.get("title") or self.description["format"])

    def samples(self) -> Samples:
        """Samples of an evaluation; a clip without subject is a group of its own."""
        return self.make_samples([clip.subject or clip.id for clip in self.clips])

    def video(self, clip: Clip) -> Path:
        """Path of the clip's file."""
        return self.root / clip.path

    def protocol(self, name: str) -> Protocol:
        """A protocol by name.

        Raises:
            InputError: the set has none of that name; the nearest is given.
        """
        if name not in self.protocols:
            raise unknown("protocol", name, self.protocols)
        return self.protocols[name]

    def split(self, name: str) -> dict[str, list[int]]:
        """Rows of each part ("train", "validation", "test") of a protocol of kind "split"; clips outside are left out.

        Raises:
            InputError: no such protocol, or it holds groups out instead.
        """
        protocol = self.protocol(name)
        if protocol.kind != "split":
            raise InputError(f"protocol {name!r} leaves one {protocol.column} out: ask for its groups")
        parts: dict[str, list[int]] = {part: [] for part in PARTS}
        for row, clip in enumerate(self.clips):
            if protocol.column in clip.splits:
                parts[clip.splits[protocol.column]].append(row)
        return parts

    def groups(self, name: str) -> list[str]:
        """Each clip's group in a protocol of kind "leave-one-group-out".

        Raises:
            InputError: no such protocol, it has fixed parts instead, or a clip names no group.
        """
        protocol = self.protocol(name)
        if protocol.kind == "split":
            raise InputError(f"protocol {name!r} has fixed parts: ask for its split")
        groups = [getattr(clip, protocol.column) for clip in self.clips]
        for clip, group in zip(self.clips, groups, strict=True):
            if group is None:
                raise InputError(f"{self.folder / 'manifest.csv'}: {clip.id} names no {protocol.column}")
        return groups

    def parameters(self) -> TabularData:
        """The named parameters, one row a clip in the manifest's order; a clip without any has a row of NaN.

        Raises:
            InputError: the set has none, or ``parameters.csv`` is damaged.
        """
        if "parameters" not in self.description:
            reason = "earlier format: prepare it again" if "skeleton" in self.description else "no skeletons"
            raise InputError(f"{self.folder}: this set has no named parameters ({reason})")
        ids = [clip.id for clip in self.clips]
        return read_parameters(self.folder / "parameters.csv", ids, self.description["parameters"])

    def joint_names(self) -> tuple[str, ...]:
        """The joints of the set's skeletons.

        Raises:
            InputError: the set has no skeletons.
        """
        if "skeleton" not in self.description:
            raise InputError(f"{self.folder}: this set has no skeletons; set skeleton.trajectory=false")
        return tuple(self.description["skeleton"]["joints"])

    def skeleton(self, clip: Clip) -> Skeleton | None:
        """The clip's joints (T, J, 3), NaN where not tracked, and their times (T,) in s; None where it has none.

        Names and unit are in ``description["skeleton"]``.

        Raises:
            InputError: the file is damaged.
        """
        path = self.folder / "skeleton" / skeleton_file(clip.id)
        if not path.is_file():
            return None
        return read_skeleton(path, remedy="prepare the set again")


def read_about(folder: str | Path) -> dict[str, Any]:
    """``dataset.json`` of a prepared folder, checked.

    Raises:
        InputError: no such folder, or keys are missing or not what they should be.
    """
    kinds = {"format": str, "root": str, "class_names": list, "class_texts": dict, "protocols": list, "counts": dict}
    description = read_description(folder, {**kinds, "manifest_sha256": str}, command="actprompt prepare")
    path = Path(folder) / DESCRIPTION
    keys = set(asdict(Protocol(name="", kind="", column="")))
    for row in description["protocols"]:
        if not isinstance(row, dict) or set(row) != keys:
            raise InputError(f"{path}: protocols: {row!r} must have exactly the keys {', '.join(sorted(keys))}")
        for key, choices in (("kind", KINDS), ("metric", METRICS)):
            if row[key] not in choices:
                raise InputError(f"{path}: protocol {row['name']!r}: {unknown(key, str(row[key]), choices)}")
    return description


def describe(folder: str | Path) -> dict[str, Any]:
    """Summary of a prepared folder, from counts in ``dataset.json``: no slower for 300,000 clips than for ten.

    Raises:
        InputError: as `Manifest.load`.
    """
    description = read_about(folder)
    manifest = Path(folder) / "manifest.csv"
    edited = file_digest(manifest) != description["manifest_sha256"]
    counts = count_clips(Manifest.load(folder).clips) if edited else description["counts"]
    shown = ("format", "title", "citation", "root", "simulated")
    return {
        "data": str(folder),
        **{key: description[key] for key in shown if key in description},
        **{key: value for key, value in counts.items() if key != "classes"},
        "damaged": counts.get("damaged", 0),  # absent in sets that were prepared before
        "rejected": description["counts"].get("rejected", 0),
        "side_files": description["counts"].get("side_files", 0),
        "warnings": description.get("warnings", []),
        "edited_by_hand": edited,
        "classes": counts["classes"],
        "protocols": {
            row["name"]: f"{row['kind']} by {row['column']}, {row['metric']} ({row['source']})"
            for row in description["protocols"]
        },
        "parameters": len(description["parameters"]["units"]) if "parameters" in description else 0,
        "skeletons": description["skeleton"]["clips"] if "skeleton" in description else 0,
    }


def count_clips(clips: Sequence[Clip]) -> dict[str, Any]:
    """Numbers of clips, frames, seconds, subjects, cameras, and of clips in each part and class."""
    columns = sorted({column for clip in clips for column in clip.splits})
    return {
        "clips": len(clips),
        "frames": sum(clip.n_frames for clip in clips),
        "seconds": round(sum(clip.duration for clip in clips), 3),
        "variable_rate": sum(clip.variable_rate for clip in clips),
        "damaged": sum(bool(clip.damage) for clip in clips),
        "subjects": len({clip.subject for clip in clips} - {None}),
        "cameras": len({clip.camera for clip in clips} - {None}),
        "splits": {
            column: dict(Counter(clip.splits[column] for clip in clips if column in clip.splits)) for column in columns
        },
        "classes": dict(Counter(clip.label for clip in clips)),
    }


def _read_rows(folder: str | Path, classes: Sequence[str]) -> Iterator[Clip]:
    """The clips of a ``manifest.csv``; InputError names the line of the first bad value."""
    columns = (*FIXED, *MEASURED)
    for where, row in read_manifest_rows(folder, columns, filled=("id", "path", "label"), classes=classes, strip=False):
        others = (*FIXED, *MEASURED, DAMAGE)
        splits = {name: part for name, part in row.items() if part and name not in others}
        for name, part in splits.items():
            if part not in PARTS:
                raise InputError(f"{where}: {name}: {part!r} is none of {', '.join(PARTS)}, nor empty")
        try:
            frames, flag = int(row["n_frames"]), int(row["variable_rate"])
            fps, duration = float(row["fps"]), float(row["duration"])
        except ValueError as error:
            raise InputError(f"{where}: {error}") from error
        if frames < 1 or flag not in (0, 1) or not (0 < fps < math.inf and 0 < duration < math.inf):
            raise InputError(
                f"{where}: n_frames {frames}, fps {fps:g}, duration {duration:g}, variable_rate {flag}:"
                " must be positive, the last 0 or 1"
            )
        yield Clip(
            id=row["id"],
            path=row["path"],
            label=row["label"],
            subject=row["subject"] or None,
            camera=row["camera"] or None,
            setup=row["setup"] or None,
            splits=splits,
            n_frames=frames,
            fps=fps,
            duration=duration,
            variable_rate=bool(flag),
            damage=row.get(DAMAGE) or "",
        )


def write_manifest(folder: Path, clips: Sequence[Clip], description: Mapping[str, Any]) -> None:
    """Write ``manifest.csv`` and ``dataset.json`` into a folder that is still being made.

    Args:
        folder: the (temporary) folder.
        clips: the rows; ids are unique.
        description: format, root, class_names, protocols and whatever else belongs there; counts and texts are added.
    """
    assert len({clip.id for clip in clips}) == len(clips)
    columns = sorted({column for clip in clips for column in clip.splits})
    damaged = [DAMAGE] if any(clip.damage for clip in clips) else []
    rows = []
    for clip in clips:
        fixed = [getattr(clip, name) for name in FIXED]
        parts = [clip.splits.get(column, "") for column in columns]
        measured = [clip.n_frames, f"{clip.fps:.6g}", f"{clip.duration:.6g}", int(clip.variable_rate)]
        rows.append([*fixed, *parts, *measured, *([clip.damage] if damaged else [])])
    write_rows(folder / MANIFEST, [*FIXED, *columns, *MEASURED, *damaged], rows)
    names = list(description["class_names"])
    description = {
        **description,
        "class_texts": {name: description.get("class_texts", {}).get(name) or readable(name) for name in names},
        "counts": {**count_clips(clips), **description.get("counts", {})},
    }
    write_description(folder, description)


def readable(label: str) -> str:
    """A class name in words: ``ApplyEyeMakeup``, ``brush_hair`` -> ``apply eye makeup``, ``brush hair``.

    A name that holds spaces already is in words and stays as it is.
    """
    if " " in label.strip():
        return label.strip()
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", label)
    return re.sub(r"[\s._-]+", " ", parted).strip().lower()
