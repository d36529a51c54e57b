"""Kinetics (Kay et al., arXiv:1705.06950, and its versions of 400, 600 and 700 classes): CSV files and videos.

The official CSV files have the columns ``label,youtube_id,time_start,time_end,split``; a clip's file is named
``<youtube_id>_<start>_<end>.mp4``, seconds with six digits, in any folder. Many videos have vanished from the network:
rows without a file are rejected, so that a report contains the share of the set that was present. Papers report on the
validation part.
"""

from __future__ import annotations

from pathlib import Path

from actprompt.data.manifest import Clip, Protocol
from actprompt.data.readers.base import ReaderResult, Rejection, find_videos, first_of_each
from actprompt.data.readers.lists.splits import part_of
from icube_common.data.reader import require_folder
from icube_common.errors import InputError
from icube_common.io.csv import read_table

CITATION = "Kay et al.: The Kinetics Human Action Video Dataset, arXiv:1705.06950, 2017"
COLUMNS = ("label", "youtube_id", "time_start", "time_end", "split")


def find(source: Path, splits: Path | None = None) -> ReaderResult:
    """One clip a row whose video is there.

    Raises:
        InputError: no video, no CSV file with the columns, or a row with a time that is none.
    """
    root = require_folder(source, "Kinetics' videos")
    videos, media = find_videos(root, "Kinetics' videos <id>_<start>_<end>.mp4")
    files, rejected = first_of_each(videos, root)
    rejected += media
    by_stem = {path.stem: path for path in files}
    clips: dict[str, Clip] = {}
    for table in _tables(require_folder(splits, "Kinetics' CSV files") if splits else root):
        for line, row in read_table(table, COLUMNS):
            where = f"{table.name}: line {line}"
            stem = clip_name(row, f"{table}: line {line}")
            path = by_stem.get(stem)
            below = path.relative_to(root).as_posix() if path else f"{stem}.mp4"
            name = path.name if path else f"{stem}.mp4"
            if path is None:
                rejected.append(Rejection(name, below, f"{where}: listed and not there"))
            elif not row["label"]:
                rejected.append(Rejection(name, below, f"{where}: no label (the test labels were held back?)"))
            elif (part := part_of(row["split"])) is None:
                rejected.append(Rejection(name, below, f"{where}: split {row['split']!r} is unknown"))
            elif stem in clips:
                rejected.append(Rejection(name, below, f"{where}: listed before, as {clips[stem].label!r}"))
            else:
                clips[stem] = Clip(id=name, path=below, label=row["label"], splits={"split": part})
    listed = {row.id for row in rejected} | {clip.id for clip in clips.values()}
    for path in files:
        if path.name not in listed:
            rejected.append(Rejection(path.name, path.relative_to(root).as_posix(), "in no CSV file"))
    protocol = Protocol(
        name="official", kind="split", column="split", source=f"{CITATION}; papers test on the validation part"
    )
    return ReaderResult(
        title="Kinetics",
        citation=CITATION,
        root=root,
        clips=list(clips.values()),
        rejected=rejected,
        class_names=sorted({clip.label for clip in clips.values()}),
        protocols=[protocol],
    )


def clip_name(row: dict[str, str], where: str) -> str:
    """``<youtube_id>_<start>_<end>`` with six digits for each time.

    Raises:
        InputError: no id, or a time that is no whole number of seconds.
    """
    times = []
    for column in ("time_start", "time_end"):
        try:
            seconds = float(row[column])
        except ValueError as error:
            raise InputError(f"{where}: {column} {row[column]!r} is no number of seconds") from error
        if not (seconds.is_integer() and 0 <= seconds < 1e6):
            raise InputError(f"{where}: {column} {row[column]!r} is no whole number of seconds")
        times.append(int(seconds))
    if not row["youtube_id"]:
        raise InputError(f"{where}: youtube_id is empty")
    return f"{row['youtube_id']}_{times[0]:06d}_{times[1]:06d}"


def _tables(folder: Path) -> list[Path]:
    """CSV files with Kinetics' columns."""
    tables = []
    for path in sorted(folder.rglob("*.csv")):
        with path.open(encoding="utf-8-sig", errors="replace") as handle:
            head = [name.strip() for name in handle.readline().split(",")]
        if set(COLUMNS) <= set(head):
            tables.append(path)
    if not tables:
        raise InputError(f"{folder}: no CSV file with the columns {','.join(COLUMNS)}: name their folder with --splits")
    return tables
