"""Files of official splits: lines that begin with a clip's path, one file for each part of each split."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from icube_common.errors import InputError
from icube_common.io.csv import read_text

# whwu95/BIKE, MIT (train_rgb_split_1.txt, val_rgb_split_1.txt), and mmaction2 (ucf101_train_split_1_videos.txt)
FLAT = re.compile(r"(?:\w+_)?(?P<part>train|val|test)(?:_rgb)?_split_?(?P<number>[123])(?:_videos|_rawframes)?\.txt")

PART_NAMES = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validate": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}
"""The words for the parts of a split, in lower case, and the parts."""


def part_of(word: str) -> str | None:
    """The part ("train", "validation", "test") that a word means, whatever its case; None for other words."""
    return PART_NAMES.get(word.strip().lower())


def part_of_file(path: str) -> str | None:
    """The part of a split that a list's name holds (``hmdb51_train_split_1.txt``, ``testlist01.txt``), if but one."""
    words = "|".join(sorted(PART_NAMES, key=len, reverse=True))
    words_in_name = re.findall(rf"(?<![a-z])({words})(?:list|split|set)?(?![a-z])", PurePosixPath(path).stem.lower())
    parts = {PART_NAMES[word] for word in words_in_name}
    return parts.pop() if len(parts) == 1 else None


@dataclass
class Splits:
    """Parts of the clips in each split.

    Attributes:
        parts: number of the split -> (class in lower case, file stem in lower case) -> "train" or "test".
        labels: the same key -> the class as the files spell it.
        origin: number of the split -> the files that define it.
    """

    parts: dict[int, dict[tuple[str, str], str]] = field(default_factory=dict)
    labels: dict[tuple[str, str], str] = field(default_factory=dict)
    origin: dict[int, list[str]] = field(default_factory=dict)

    def put(self, number: int, label: str, name: str, part: str, where: str) -> None:
        """Record one line.

        Raises:
            InputError: the clip is in the other part of the same split already.
        """
        key = (
            label.lower(),
            PurePosixPath(name).stem.lower() if name.lower().endswith((".avi", ".mp4")) else name.lower(),
        )
        before = self.parts.setdefault(number, {}).setdefault(key, part)
        if before != part:
            raise InputError(f"{where}: {label}/{name} is in the {before} part of split {number} already")
        self.labels[key] = label

    def columns(self, key: tuple[str, str]) -> dict[str, str]:
        """``split_<number>`` -> part, of one clip."""
        return {f"split_{number}": parts[key] for number, parts in sorted(self.parts.items()) if key in parts}

    def check(self, folder: Path) -> None:
        """InputError where a split has but one part."""
        for number, parts in self.parts.items():
            if set(parts.values()) != {"train", "test"}:
                only = next(iter(parts.values()), "no")
                raise InputError(f"{folder}: split {number} has only a {only} part: both its files are needed")


def find_split_files(folders: Iterable[Path], pattern: re.Pattern[str]) -> list[tuple[Path, re.Match[str]]]:
    """Files below the first of some folders that has any whose name fits, with the matches, sorted by name."""
    for folder in folders:
        names = ((path, pattern.fullmatch(path.name)) for path in folder.rglob("*.txt"))
        files = sorted(((path, match) for path, match in names if match), key=lambda item: item[0].name)
        if files:
            return files
    return []


def read_lines(path: Path, expected: str) -> str:
    """Text of a file whose lines end with a line feed; errors as `icube_common.io.csv.read_text`."""
    return read_text(path, expected=expected).replace("\r\n", "\n").replace("\r", "\n")


def lines_of(path: Path) -> list[tuple[int, str]]:
    """(line number, text) of the lines that are not empty.

    Raises:
        InputError: it cannot be read, or is not UTF-8 text.
    """
    return [(number, line.strip()) for number, line in enumerate(read_text(path).splitlines(), start=1) if line.strip()]


def read_class_lists(files: Iterable[tuple[Path, Mapping[str, str | None] | re.Match[str]]]) -> Splits:
    """Files of lines ``class/name.avi [more]``, one file a part; "val" is these lists' word for the test part.

    Raises:
        InputError: a line of another form, or a clip in both parts of a split.
    """
    splits = Splits()
    for path, match in files:
        number, part = int(str(match["number"])), "train" if match["part"] == "train" else "test"
        splits.origin.setdefault(number, []).append(path.name)
        for line, text in lines_of(path):
            label, slash, rest = text.partition("/")
            name = rest.split()[0] if rest.split() else ""
            if not (label and slash and name) or "/" in name:
                raise InputError(f"{path}: line {line}: {text!r} does not begin with class/name")
            splits.put(number, label, name, part, f"{path}: line {line}")
    return splits
