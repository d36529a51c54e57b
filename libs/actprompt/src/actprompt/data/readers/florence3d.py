"""Florence 3D Actions (Seidenari et al., CVPR Workshops 2013): 9 daily actions by 10 actors, one Kinect v1.

Expected: ``index.csv`` (clip, actor, category, action, feature_idvideo), the clips in ``clips/`` or beside it, and, if
there, ``features.txt``: lines ``idvideo actor category``, 24 coordinates of 8 joints, normalised time. The protocol of
the paper leaves one actor out. In the features each joint is a unit vector (see `actprompt.skeleton.joint_angles`);
a joint that the Kinect lost is ``5 5 5``, which is read as missing.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from actprompt.data.manifest import Clip, Protocol
from actprompt.data.readers.base import ReaderResult, Rejection, Skeletons, scan_folder
from actprompt.data.readers.lists.splits import lines_of
from actprompt.skeleton.joint_angles import LIMB_JOINTS
from icube_common.data.reader import require_folder
from icube_common.errors import InputError
from icube_common.io.csv import read_table

CITATION = (
    "Seidenari et al.: Recognizing Actions from Depth Cameras as Weakly Aligned Multi-Part Bag-of-Poses, CVPRW 2013"
)
LOST = 5.0
"""Coordinate of a joint without tracking."""
COLUMNS = ("clip", "actor", "category", "action", "feature_idvideo")

Features = dict[int, tuple[int, int, npt.NDArray[np.float32], npt.NDArray[np.float32]]]


def find(source: Path, splits: Path | None = None) -> ReaderResult:
    """One clip a row of ``index.csv``; rows that contradict ``features.txt`` are rejected.

    Raises:
        InputError: no ``index.csv``, or it or ``features.txt`` is damaged.
    """
    root = require_folder(source, "Florence 3D Actions: index.csv, clips/ and features.txt")
    index = root / "index.csv"
    features = read_features(root / "features.txt") if (root / "features.txt").is_file() else {}
    clips: dict[str, Clip] = {}
    rejected: list[Rejection] = []
    sequences, times = {}, {}
    categories: dict[str, int] = {}
    for line, row in read_table(index, COLUMNS):
        name = row["clip"]
        path = f"clips/{name}" if (root / "clips").is_dir() else name
        reason = _problem(row, clips, features, categories)
        if reason:
            rejected.append(Rejection(name, path, f"index.csv: line {line}: {reason}"))
            continue
        categories[row["action"]] = int(row["category"])
        clips[name] = Clip(id=name, path=path, label=row["action"], subject=row["actor"])
        if row["feature_idvideo"]:
            _, _, sequences[name], times[name] = features[int(row["feature_idvideo"])]
    folder = root / "clips" if (root / "clips").is_dir() else root
    scan = scan_folder(folder)
    listed = {(root / path).resolve() for path in [clip.path for clip in clips.values()] + [r.path for r in rejected]}
    rejected += [
        Rejection(path.name, path.relative_to(root).as_posix(), "not in index.csv")
        for path in [*scan.files, *scan.images, *scan.sounds]
        if path.resolve() not in listed
    ]
    skeletons = Skeletons(joint_names=LIMB_JOINTS, unit="unit directions", sequences=sequences, times=times)
    return ReaderResult(
        title="Florence 3D Actions",
        citation=CITATION,
        root=root,
        clips=list(clips.values()),
        rejected=rejected,
        class_names=sorted(categories, key=lambda label: categories[label]),
        protocols=[Protocol(name="leave-one-actor-out", kind="leave-one-group-out", column="subject", source=CITATION)],
        skeletons=skeletons if sequences else None,
    )


def read_features(path: Path) -> Features:
    """``features.txt``: idvideo -> (actor, category, joints (T, 8, 3) with NaN where lost, shares of time (T,)).

    Raises:
        InputError: a line without 28 finite numbers, or a video whose actor, category or time goes back and forth.
    """
    rows: dict[int, list[npt.NDArray[np.float64]]] = {}
    for line, text in lines_of(path):
        where = f"{path}: line {line}"
        try:
            row = np.array([float(word) for word in text.split()])
        except ValueError as error:
            raise InputError(f"{where}: {error}") from error
        if row.shape != (28,) or not np.isfinite(row).all():
            raise InputError(f"{where}: {len(row)} numbers, 28 finite ones expected (idvideo actor category, 24, time)")
        before = rows.setdefault(int(row[0]), [])
        if before and not ((row[:3] == before[-1][:3]).all() and row[27] > before[-1][27]):
            raise InputError(f"{where}: video {int(row[0])} has another actor, category or an earlier time than before")
        before.append(row)
    features: Features = {}
    for video, lines in rows.items():
        table = np.stack(lines)
        joints = table[:, 3:27].reshape(len(table), 8, 3).astype(np.float32)
        joints[(joints == LOST).all(axis=2)] = np.nan
        features[video] = (int(table[0, 1]), int(table[0, 2]), joints, table[:, 27].astype(np.float32))
    return features


def _problem(row: dict[str, str], clips: dict[str, Clip], features: Features, categories: dict[str, int]) -> str | None:
    """Fault of a row of the index, or None."""
    if not row["clip"] or not row["action"]:
        return f"{'clip' if not row['clip'] else 'action'} is empty"
    if row["clip"] in clips:
        return "the clip is listed before"
    for column in ("actor", "category", "feature_idvideo"):
        if not row[column].isdigit() and (row[column] or column != "feature_idvideo"):
            return f"{column} {row[column]!r} is no number"
    if categories.get(row["action"], int(row["category"])) != int(row["category"]):
        return f"action {row['action']!r} has category {row['category']}, and {categories[row['action']]} before"
    if not (row["feature_idvideo"] and features):
        return None if not row["feature_idvideo"] else "feature_idvideo is given, features.txt is not there"
    if int(row["feature_idvideo"]) not in features:
        return f"features.txt has no video {row['feature_idvideo']}"
    actor, category, _, _ = features[int(row["feature_idvideo"])]
    if (actor, category) != (int(row["actor"]), int(row["category"])):
        return f"features.txt has actor {actor}, category {category} of video {row['feature_idvideo']}"
    return None
