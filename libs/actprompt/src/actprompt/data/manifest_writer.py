"""Writing a prepared folder's tables, for `actprompt.data.prepare`."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from actprompt.data.manifest import DAMAGE, FIXED, MEASURED, Clip, count_clips, skeleton_file
from icube_common.io.csv import file_digest
from icube_common.tabular import NumericTable


def write_manifest(folder: Path, clips: Sequence[Clip], about: Mapping[str, Any]) -> None:
    """Write ``manifest.csv`` and ``dataset.json`` into a folder that is still being made.

    Args:
        folder: the (temporary) folder.
        clips: the rows; ids are unique.
        about: format, root, class_names, protocols and whatever else belongs there; counts and texts are added.
    """
    assert len({clip.id for clip in clips}) == len(clips)
    columns = sorted({column for clip in clips for column in clip.splits})
    with (folder / "manifest.csv").open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        damaged = any(clip.damage for clip in clips)
        writer.writerow([*FIXED, *columns, *MEASURED, *([DAMAGE] if damaged else [])])
        for clip in clips:
            fixed = [getattr(clip, name) for name in FIXED]
            parts = [clip.splits.get(column, "") for column in columns]
            measured = [clip.n_frames, f"{clip.fps:.6g}", f"{clip.duration:.6g}", int(clip.variable_rate)]
            writer.writerow([*fixed, *parts, *measured, *([clip.damage] if damaged else [])])
    names = list(about["class_names"])
    about = {
        **about,
        "class_texts": {name: about.get("class_texts", {}).get(name) or readable(name) for name in names},
        "counts": {**count_clips(clips), **about.get("counts", {})},
        "manifest_sha256": file_digest(folder / "manifest.csv"),
    }
    (folder / "dataset.json").write_text(json.dumps(about, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write_numeric(folder: Path, table: NumericTable) -> dict[str, Any]:
    """Write ``numeric.csv``; returns its entry of ``dataset.json``."""
    with (folder / "numeric.csv").open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(["id", *table.names])
        for name, row in zip(table.ids, table.values, strict=True):
            writer.writerow([name, *("" if math.isnan(value) else f"{value:.6g}" for value in row)])
    return {"units": dict(zip(table.names, table.units, strict=True))}


def write_skeleton(folder: Path, clip_id: str, joints: npt.NDArray[np.float32], time: npt.NDArray[np.float32]) -> None:
    """Write ``skeleton/<id>.npz``: joints (T, J, 3), NaN where not tracked, and times (T,) in s."""
    target = folder / "skeleton" / skeleton_file(clip_id)
    target.parent.mkdir(exist_ok=True)
    np.savez(target, joints=joints.astype(np.float32), time=time.astype(np.float32))


def readable(label: str) -> str:
    """A class name in words: ``ApplyEyeMakeup``, ``brush_hair`` -> ``apply eye makeup``, ``brush hair``.

    A name that holds spaces already is in words and stays as it is.
    """
    if " " in label.strip():
        return label.strip()
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", label)
    return re.sub(r"[\s._-]+", " ", parted).strip().lower()
