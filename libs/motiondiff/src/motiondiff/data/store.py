"""`MotionStore`: all clips of a data set in one flat array on disk, with a columnar index.

A store folder holds

- ``store.json``: fps, skeleton topology, vocabularies, counts, provenance;
- ``frames.npy``: (N, 3 + 6 J + 1) float32, all clips one after the other; a frame is root position (m), J local
  rotations as 6D (Zhou et al., CVPR 2019), and the heading (rad);
- ``clips.npz``: one column per property of a clip (first frame, length, action, ...);
- ``skeletons.npy``: (K, J, 3) float32 rest offsets in metres, one for each body;
- ``texts.json``: a list of captions for each clip, where the source has some;
- ``rejected.csv``: rejected clips with the reason.

Clips stand in the common frame (`motiondiff.skeleton.motion.canonicalise`); their place in the recording's world is
kept. Reading needs numpy only: no torch, no pandas.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from icube_common.config import as_list
from icube_common.errors import InputError
from icube_common.io.arrays import open_arrays
from icube_common.io.runs import read_json
from motiondiff.skeleton.skeleton import Skeleton

if TYPE_CHECKING:
    from motiondiff.skeleton.motion import Motion, RigidTransform

Array = npt.NDArray[np.float32]
Index = npt.NDArray[np.int64]
T = TypeVar("T")

FORMAT_VERSION = 2
SPLITS = ("train", "validation", "test")
NO_LABEL = -1

COLUMNS: dict[str, Any] = {
    "start": np.int64,
    "length": np.int64,
    "action": np.int32,
    "style": np.int32,
    "subject": np.int32,
    "split": np.int8,
    "skeleton": np.int32,
    "placement": np.float32,
    "residual": np.float32,
}


def _data_offset(frames: Path, shape: tuple[int, int]) -> int:
    """Offset of the data in a ``frames.npy`` of the given shape, bytes.

    Raises:
        InputError: missing, of another shape, or cut short.
    """
    try:
        with frames.open("rb") as handle:
            np.lib.format.read_magic(handle)
            actual, _, kind = np.lib.format.read_array_header_1_0(handle)
            start = handle.tell()
    except (OSError, ValueError) as error:
        raise InputError(f"{frames}: missing or broken ({error}); prepare the store again") from error
    whole = start + shape[0] * shape[1] * 4
    if actual != shape or kind != np.dtype("<f4") or frames.stat().st_size != whole:
        raise InputError(
            f"{frames}: {frames.stat().st_size} bytes of {actual} {kind}, {whole} bytes of {shape} float32 expected: "
            "cut short or another store's; prepare the store again"
        )
    return start


def _load(path: Path, read: Callable[[Any], T]) -> T:
    """Result of ``read`` on the content of an .npy or .npz file.

    Raises:
        InputError: the file is missing or broken.
    """
    with open_arrays(path, "missing or broken", remedy="; prepare the store again", archive=False) as loaded:
        return read(loaded)


def frame_size(joints: int) -> int:
    """Numbers in one frame of ``frames.npy``."""
    return 3 + 6 * joints + 1


class MotionStore:
    """A prepared data set on disk, opened for reading.

    Args:
        path: the store folder.

    Raises:
        InputError: not a store, or written by another version of the format.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not (self.path / "store.json").is_file():
            state = "is not a motion store (no store.json)" if self.path.is_dir() else "does not exist"
            raise InputError(f"{self.path}: {state}; `motiondiff prepare` makes one")
        self.header: dict[str, Any] = read_json(self.path / "store.json")
        version = self.header.get("version") if isinstance(self.header, dict) else None
        if version != FORMAT_VERSION:
            raise InputError(
                f"{self.path}: store format {version!r}, this version reads {FORMAT_VERSION}: prepare it again"
            )
        self.fps = float(self.header["fps"])
        self.actions: list[str] = self.header["actions"]
        self.styles: list[str] = self.header["styles"]
        self.subjects: list[str] = self.header["subjects"]
        self.joint_names = tuple(self.header["joint_names"])
        self.parents = tuple(self.header["parents"])
        self.fingerprint: str = self.header["fingerprint"]
        self._width = frame_size(len(self.joint_names))
        self._data_start = _data_offset(self.path / "frames.npy", (int(self.header["frames"]), self._width))

    def __len__(self) -> int:
        return int(self.header["clips"])

    @cached_property
    def columns(self) -> dict[str, npt.NDArray[Any]]:
        """Numeric columns of the clip index (`COLUMNS`)."""
        return _load(self.path / "clips.npz", lambda archive: {name: archive[name] for name in COLUMNS})

    @cached_property
    def clip_ids(self) -> list[str]:
        """Id of every clip."""
        return _load(self.path / "clips.npz", lambda archive: [raw.decode() for raw in archive["clip_id"]])

    @cached_property
    def texts(self) -> list[tuple[str, ...]]:
        """Captions of each clip; empty tuples where the store has no ``texts.json``.

        Raises:
            InputError: the file is broken or another store's.
        """
        path = self.path / "texts.json"
        if not path.is_file():
            return [()] * len(self)
        texts = read_json(path)
        if not isinstance(texts, list) or len(texts) != len(self):
            raise InputError(f"{path}: not a list of {len(self)} lists of texts; prepare the store again")
        return [tuple(str(text) for text in as_list(entry)) for entry in texts]

    @cached_property
    def offsets(self) -> Array:
        """(K, J, 3) metres: rest offsets of every body in the store."""
        return _load(self.path / "skeletons.npy", np.asarray)

    def skeleton(self, clip: int) -> Skeleton:
        """The skeleton of one clip."""
        return Skeleton(self.joint_names, self.parents, self.offsets[self.columns["skeleton"][clip]])

    def select(self, split: str | None = None) -> Index:
        """Indices of the clips of one split, or of all.

        Raises:
            InputError: an unknown or empty split.
        """
        if split is None:
            return np.arange(len(self))
        if split not in SPLITS:
            raise InputError(f"unknown split {split!r} (known: {', '.join(SPLITS)})")
        clips = np.flatnonzero(self.columns["split"] == SPLITS.index(split))
        if len(clips) == 0:
            raise InputError(f"{self.path}: the split {split!r} holds no clip (split by: {self.header['split_by']})")
        return clips

    def names(self, column: str, clips: npt.ArrayLike) -> list[str]:
        """Action, style, subject or split of clips, "" where unknown; ``column`` is one of these words."""
        tables = {"action": self.actions, "style": self.styles, "subject": self.subjects, "split": SPLITS}
        return [
            "" if code == NO_LABEL else tables[column][code]
            for code in self.columns[column][np.asarray(clips)].tolist()
        ]

    def check_actions(self, clips: Index, reason: str) -> None:
        """Check that clips have an action.

        Raises:
            InputError: the first clip without one, with the reason why it needs one.
        """
        if len(without := clips[self.columns["action"][clips] == NO_LABEL]):
            raise InputError(f"{self.path}: clip {self.clip_ids[without[0]]!r} names no action: {reason}")

    def frames(self, clip: int, start: int = 0, stop: int | None = None) -> Array:
        """(T, 3 + 6 J + 1) frames of one clip, read from disk.

        Plain reads rather than a memory map, whose touched pages count as memory of the process for as long as it is
        open: for a large store that is all of it.
        """
        first, length = int(self.columns["start"][clip]), int(self.columns["length"][clip])
        stop = length if stop is None else min(stop, length)
        return np.fromfile(
            self.path / "frames.npy",
            dtype="<f4",
            count=(stop - start) * self._width,
            offset=self._data_start + (first + start) * self._width * 4,
        ).reshape(stop - start, self._width)

    def __getitem__(self, clip: int) -> Motion:
        """One clip as a `Motion` in the common frame."""
        import torch
        from einops import rearrange

        from motiondiff.skeleton.kinematics import rotation_6d_to_matrix
        from motiondiff.skeleton.motion import Motion

        rows = self.frames(clip)
        features = rearrange(torch.from_numpy(rows[:, 3:-1]), "frames (joints six) -> frames joints six", six=6)
        labels = {name: self.names(name, [clip])[0] or None for name in ("action", "style", "subject")}
        return Motion(
            root=rows[:, :3],
            rotations=rotation_6d_to_matrix(features).numpy(),
            skeleton=self.skeleton(clip),
            fps=self.fps,
            source=f"{self.path.name}/{self.clip_ids[clip]}",
            residual=float(self.columns["residual"][clip]),
            texts=self.texts[clip],
            **labels,
        )

    def world_transform(self, clip: int) -> RigidTransform:
        """Transform of a clip back to its place in the recording (`motiondiff.skeleton.motion.apply_transform`)."""
        from motiondiff.skeleton.motion import RigidTransform

        yaw, x, y, z = (float(value) for value in self.columns["placement"][clip])
        return RigidTransform(yaw, (x, y, z))

    def info(self) -> dict[str, Any]:
        """Summary: clips, frames, actions, subjects, styles, splits, fps, joints, stature."""
        lengths = self.columns["length"]

        def count(name: str, labels: Sequence[str]) -> dict[str, int]:
            column = self.columns[name]
            counts = np.bincount(column[column >= 0], minlength=len(labels))
            return {label: int(number) for label, number in zip(labels, counts, strict=True)}

        residual = self.columns["residual"]
        return {
            "clips": len(self),
            "frames": int(self.header["frames"]),
            "seconds": round(float(self.header["frames"]) / self.fps, 3),
            "fps": self.fps,
            "joints": len(self.joint_names),
            "bodies": len(self.offsets),
            "actions": count("action", self.actions),
            "styles": count("style", self.styles),
            "subjects": count("subject", self.subjects),
            "splits": {name: number for name, number in count("split", SPLITS).items() if number},
            "split_by": self.header["split_by"],
            "frames_per_clip": {
                "min": int(lengths.min()),
                "median": float(np.median(lengths)),
                "max": int(lengths.max()),
            },
            "residual_mm": {
                "mean": round(float(residual.mean()) * 1000, 2),
                "p95": round(float(np.percentile(residual, 95)) * 1000, 2),
            },
            # median height of the recorded body; stores of earlier versions do not hold it
            "stature_m": self.header.get("stature_m"),
            "rejected": int(self.header["rejected"]),
            "simulated": bool(self.header.get("simulated", False)),
            "generated": bool(self.header.get("generated", False)),
            "format": self.header.get("format"),
            "fingerprint": self.fingerprint,
        }
