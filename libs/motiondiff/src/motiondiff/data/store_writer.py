"""`StoreWriter`: clips written one by one, in memory that does not grow with the number of frames."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from icube_common.errors import InputError
from motiondiff.data.store import COLUMNS, FORMAT_VERSION, NO_LABEL, SPLITS, frame_size
from motiondiff.skeleton.skeleton import Skeleton

if TYPE_CHECKING:
    from motiondiff.skeleton.motion import Motion, RigidTransform

Array = npt.NDArray[np.float32]


class StoreWriter:
    """Writer of a store into a folder, clip by clip.

    The first clip fixes frame rate and skeleton topology. The end of the ``with`` block closes the file, also without
    `finish`.

    Args:
        folder: an empty folder (see `icube_common.io.runs.atomic_folder`).
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._fps = 0.0
        self._skeleton: Skeleton | None = None
        self._bodies: dict[bytes, int] = {}
        self._offsets: list[Array] = []
        self._labels: dict[str, dict[str, int]] = {"action": {}, "style": {}, "subject": {}}
        self._columns: dict[str, list[Any]] = {name: [] for name in COLUMNS}
        self._clip_ids: list[str] = []
        self._texts: list[Sequence[str]] = []
        self._ids: set[str] = set()
        self._statures: list[float] = []
        self._rows = 0
        self._digest = hashlib.sha256()
        self._file = (folder / "frames.npy").open("wb+")

    def __enter__(self) -> StoreWriter:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def append(self, motion: Motion, placement: RigidTransform | None = None, *, clip_id: str) -> None:
        """Add one clip in the common frame, with its transform back to the recording's world.

        Raises:
            InputError: another skeleton topology or fps than the earlier clips, or a repeated id.
        """
        if self._skeleton is None:
            self._skeleton, self._fps = motion.skeleton, motion.fps
            self._write_header(0)
        if not motion.skeleton.same_topology(self._skeleton):
            raise InputError(
                f"{motion.source}: its {len(motion.skeleton)} joints differ from the {len(self._skeleton)} "
                "of the clips before it; one store holds one skeleton topology"
            )
        if abs(motion.fps - self._fps) > 1e-3:
            raise InputError(
                f"{motion.source}: {motion.fps:g} fps in a store of {self._fps:g} fps: give one with --fps"
            )
        if clip_id in self._ids:
            raise InputError(f"{motion.source}: the clip id {clip_id!r} is already taken")
        self._ids.add(clip_id)
        rows = pack_frames(motion)
        self._digest.update(rows.tobytes())
        self._file.write(rows.tobytes())
        body = self._bodies.setdefault(motion.skeleton.offsets.tobytes(), len(self._bodies))
        if body == len(self._offsets):
            self._offsets.append(np.asarray(motion.skeleton.offsets))
        values = {
            "start": self._rows,
            "length": len(motion),
            "skeleton": body,
            "placement": (placement.yaw, *placement.translation) if placement else (0.0, 0.0, 0.0, 0.0),
            "residual": motion.residual,
        }
        for kind, table in self._labels.items():
            label = getattr(motion, kind)
            values[kind] = NO_LABEL if label is None else table.setdefault(label, len(table))
        for name, value in values.items():
            self._columns[name].append(value)
        self._clip_ids.append(clip_id)
        self._texts.append(motion.texts)
        heights = motion.positions[..., 1]
        self._statures.append(float(np.median(np.ptp(heights, axis=1))))
        self._rows += len(motion)

    def finish(
        self,
        *,
        description: Mapping[str, Any],
        splits: Sequence[str] | None = None,
        rejected: Sequence[tuple[str, str]] = (),
    ) -> None:
        """Write index, skeletons and ``rejected.csv``.

        Args:
            description: provenance in ``store.json``: ``format``, ``split_by``, ``simulated``.
            splits: one of `SPLITS` for each clip; all train by default.
            rejected: (clip, reason) of each rejected clip.

        Raises:
            InputError: no clips.
        """
        if self._skeleton is None:
            raise InputError("no clips to store")
        self._write_header(self._rows)
        self._file.close()
        self._columns["split"] = [SPLITS.index(split) for split in splits or ["train"] * len(self._clip_ids)]
        columns = {name: np.asarray(self._columns[name], dtype=kind) for name, kind in COLUMNS.items()}
        ids = np.array([clip_id.encode() for clip_id in self._clip_ids])
        for name in ("action", "style", "subject"):
            columns[name], self._labels[name] = _sort_labels(columns[name], self._labels[name])
        vocabularies = {name: list(table) for name, table in self._labels.items()}
        body = {"fps": self._fps, "names": self._skeleton.names, "parents": self._skeleton.parents, **vocabularies}
        self._digest.update(json.dumps(body).encode())
        for array in (*columns.values(), ids, *self._offsets):
            self._digest.update(array.tobytes())
        if any(self._texts):
            texts = json.dumps(self._texts, ensure_ascii=False)
            self._digest.update(texts.encode())
            (self._folder / "texts.json").write_text(texts + "\n", encoding="utf-8")
        arrays: dict[str, Any] = {**columns, "clip_id": ids}
        np.savez(self._folder / "clips.npz", **arrays)
        np.save(self._folder / "skeletons.npy", np.stack(self._offsets))
        header = {
            "version": FORMAT_VERSION,
            "fps": self._fps,
            "clips": len(self._clip_ids),
            "frames": self._rows,
            "joint_names": self._skeleton.names,
            "parents": self._skeleton.parents,
            "actions": list(self._labels["action"]),
            "styles": list(self._labels["style"]),
            "subjects": list(self._labels["subject"]),
            "rejected": len(rejected),
            "fingerprint": self._digest.hexdigest(),
            "stature_m": self._summarise_statures(columns["subject"]),
            **description,
        }
        (self._folder / "store.json").write_text(json.dumps(header, indent=2) + "\n")
        with (self._folder / "rejected.csv").open("w", newline="") as handle:
            writer = csv.writer(handle)
            writer.writerow(("clip", "reason"))
            writer.writerows(rejected)

    def _summarise_statures(self, subjects: npt.NDArray[Any]) -> dict[str, Any]:
        """Median over clips of the median height from the lowest to the highest joint, of all and of each subject."""
        statures = np.array(self._statures)
        by_subject = {name: statures[subjects == code] for code, name in enumerate(self._labels["subject"])}
        return {
            "median": round(float(np.median(statures)), 3),
            "subjects": {name: round(float(np.median(of_one)), 3) for name, of_one in by_subject.items()},
        }

    def _write_header(self, rows: int) -> None:
        """(Re)write the .npy header: NumPy pads it, so that the number of frames can grow in place."""
        assert self._skeleton is not None
        end = self._file.tell()
        self._file.seek(0)
        shape = (rows, frame_size(len(self._skeleton)))
        np.lib.format.write_array_header_1_0(
            self._file, {"descr": np.lib.format.dtype_to_descr(np.dtype("<f4")), "fortran_order": False, "shape": shape}
        )
        if rows:
            self._file.seek(end)


def _sort_labels(column: npt.NDArray[Any], table: dict[str, int]) -> tuple[npt.NDArray[Any], dict[str, int]]:
    """Vocabulary in alphabetical order, independent of the order of clips."""
    order = sorted(table)
    renumber = np.full(len(table) + 1, NO_LABEL, dtype=column.dtype)  # the last entry serves NO_LABEL = -1
    for new, label in enumerate(order):
        renumber[table[label]] = new
    return renumber[column], {label: new for new, label in enumerate(order)}


def pack_frames(motion: Motion) -> Array:
    """(T, 3 + 6 J + 1) float32: root, rotations as 6D, heading of every frame."""
    from einops import rearrange

    from motiondiff.skeleton.motion import headings

    rotations = rearrange(motion.rotations[..., :2], "frames joints row column -> frames (joints column row)")
    return np.concatenate([motion.root, rotations, headings(motion)[:, None]], axis=1, dtype=np.float32)
