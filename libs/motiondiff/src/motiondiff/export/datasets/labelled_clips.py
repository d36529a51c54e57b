"""`LabelledClips`: joint positions with classes and splits, as recognition code takes them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from icube_common.errors import InputError
from icube_common.io.runs import atomic_file
from motiondiff.data.store import NO_LABEL, SPLITS, MotionStore

Array = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelledClips:
    """Joint positions with labels and splits.

    Attributes:
        ids: (N,) unique.
        positions: N arrays (T, J, 3) float32, metres, y up, in the common frame (above the origin, facing +z).
        labels: (N,) indices into ``class_names``.
        class_names: in index order.
        splits: (N,) each one of train, validation, test.
        subjects: (N,) names, None where unknown.

    Raises:
        InputError: no clip, lengths that differ, clips with different joints, or a label without a name.
    """

    ids: tuple[str, ...]
    positions: tuple[Array, ...]
    labels: tuple[int, ...]
    class_names: tuple[str, ...]
    splits: tuple[str, ...]
    subjects: tuple[str | None, ...]

    def __post_init__(self) -> None:
        counts = {len(values) for values in (self.ids, self.positions, self.labels, self.splits, self.subjects)}
        if counts == {0} or len(counts) != 1:
            raise InputError(f"labelled clips: {sorted(counts)} ids, positions, labels ...: as many of each, and some")
        if len(set(self.ids)) < len(self.ids):
            raise InputError("labelled clips: an id is there twice")
        joints = {clip.shape[1:] for clip in self.positions}
        if len(joints) != 1 or next(iter(joints))[-1:] != (3,):
            raise InputError(f"labelled clips: frames {sorted(joints)} differ: (joints, 3) is wanted, the same in all")
        if not all(0 <= label < len(self.class_names) for label in self.labels):
            raise InputError("labelled clips: a label has no class name")

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def joints(self) -> int:
        """J."""
        return int(self.positions[0].shape[1])

    @classmethod
    def from_store(cls, store: MotionStore, split: str | None = None) -> LabelledClips:
        """The clips of a store, or of one of its splits.

        Raises:
            InputError: a clip without an action: these formats hold labelled clips.
        """
        clips = store.select(split)
        columns = store.columns
        actions, subjects = columns["action"][clips], columns["subject"][clips]
        if (actions == NO_LABEL).any():
            first = store.clip_ids[int(clips[int((actions == NO_LABEL).argmax())])]
            raise InputError(f"{store.path}: clip {first!r} has no action; recognition formats require labels")
        return cls(
            ids=tuple(store.clip_ids[clip] for clip in clips),
            positions=tuple(store[int(clip)].positions for clip in clips),
            labels=tuple(int(code) for code in actions),
            class_names=tuple(store.actions),
            splits=tuple(SPLITS[code] for code in columns["split"][clips]),
            subjects=tuple(None if code == NO_LABEL else store.subjects[code] for code in subjects),
        )


def class_names_file(path: str | Path) -> Path:
    """Path of the class names of a file: ``set.pkl`` -> ``set.pkl.classes.txt``."""
    return Path(path).with_name(f"{Path(path).name}.classes.txt")


def write_class_names(path: str | Path, names: tuple[str, ...]) -> None:
    """Write one class name a line, in index order, as in pyskl's label maps.

    Raises:
        InputError: a name of several lines.
    """
    for name in names:
        if len(name.splitlines()) != 1:
            raise InputError(f"class name {name!r}: must be one line of text")
    with atomic_file(path) as temporary:
        temporary.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")


def read_class_names(path: str | Path) -> tuple[str, ...]:
    """Read a file of `write_class_names`.

    Raises:
        InputError: missing or not UTF-8.
    """
    try:
        return tuple(Path(path).read_text(encoding="utf-8").splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: the class names cannot be read ({error})") from error
