"""`ClipSet`: labelled clips as joint positions, from a store or from motions, for recognition, metrics and export."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from icube_common.errors import InputError, unknown
from motiondiff.data.store import NO_LABEL, SPLITS, MotionStore
from motiondiff.skeleton.mirror import has_mirror_images, mirror_labels, mirror_positions
from motiondiff.skeleton.motion import Motion, canonicalise
from motiondiff.skeleton.skeleton import Skeleton

Array = npt.NDArray[np.float32]
Index = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False, kw_only=True)
class ClipSet:
    """N clips of one skeleton topology and one frame rate.

    Attributes:
        positions: N arrays (T, J, 3) float32, metres, y-up, each in the common frame: in its first frame the root is
            above the origin and faces +z; the floor is at y = 0 (of generated motions: where the model thinks it is).
        labels: (N,) class numbers.
        ids: N names.
        subjects: N names of who moves; where a store was split by style, the style; "" where neither is known.
        class_names: (C,) names of the classes.
        skeleton: joint names and parents; offsets of the first clip's body.
        fps: frames per second.
        splits: N of train, validation and test, as in the store; empty where there are none.
        extra: (N,) whether a clip came with `joined`; none by default.
        weights: (N,) how often a clip is sampled relative to the others of its class, real or further ones; equally
            often by default.

    Raises:
        InputError: lengths that do not fit, a label out of range, an unknown split, positions of another shape or not
            finite.
    """

    positions: Sequence[Array]
    labels: Index
    ids: Sequence[str]
    subjects: Sequence[str]
    class_names: Sequence[str]
    skeleton: Skeleton
    fps: float
    splits: Sequence[str] = ()
    extra: npt.NDArray[np.bool_] | None = None
    weights: npt.NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        labels = np.asarray(self.labels, dtype=np.int64)
        object.__setattr__(self, "labels", labels)
        for name in ("positions", "ids", "subjects", "class_names", "splits"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        lengths = {len(self.positions), len(self.ids), len(self.subjects), len(labels), len(self.splits or labels)}
        if len(lengths) > 1 or labels.ndim != 1:
            raise InputError(
                f"clips: {len(self.positions)} positions, {len(labels)} labels, {len(self.ids)} ids, "
                f"{len(self.splits)} splits: as many of each are needed"
            )
        if len(labels) and not (labels.min() >= 0 and labels.max() < len(self.class_names)):
            raise InputError(f"clips: labels {labels.min()} to {labels.max()} of {len(self.class_names)} classes")
        if unknown_splits := set(self.splits) - set(SPLITS):
            raise unknown("split", min(unknown_splits), SPLITS)
        for name, positions in zip(self.ids, self.positions, strict=True):
            if positions.ndim != 3 or positions.shape[1:] != (len(self.skeleton), 3) or len(positions) == 0:
                raise InputError(f"{name}: positions {positions.shape}, need (frames, {len(self.skeleton)}, 3)")
            if not np.isfinite(positions).all():
                raise InputError(f"{name}: positions that are NaN or infinite")

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def counts(self) -> Index:
        """(C,) how many clips each class has."""
        return np.bincount(self.labels, minlength=len(self.class_names))

    def take(self, rows: npt.ArrayLike) -> ClipSet:
        """Some of the clips, in the given order."""
        chosen = np.asarray(rows, dtype=np.int64)
        return replace(
            self,
            positions=[self.positions[row] for row in chosen],
            labels=self.labels[chosen],
            ids=[self.ids[row] for row in chosen],
            subjects=[self.subjects[row] for row in chosen],
            splits=[self.splits[row] for row in chosen if self.splits],
            extra=self.is_extra[chosen],
            weights=None if self.weights is None else self.weights[chosen],
        )

    def with_classes(self, names: Sequence[str]) -> ClipSet:
        """The clips of the named classes alone, numbered in that order.

        Raises:
            InputError: none of the clips is of these classes.
        """
        place = {name: number for number, name in enumerate(names)}
        rows = [row for row, label in enumerate(self.labels) if self.class_names[label] in place]
        if not rows:
            raise InputError(f"clips: none is of the classes {', '.join(names) or '(none)'}")
        chosen = self.take(rows)
        labels = np.array([place[self.class_names[label]] for label in chosen.labels])
        return replace(chosen, labels=labels, class_names=tuple(names))

    @property
    def is_extra(self) -> npt.NDArray[np.bool_]:
        """(N,) whether a clip came with `joined`."""
        return np.zeros(len(self), dtype=bool) if self.extra is None else self.extra

    def joined(self, other: ClipSet) -> ClipSet:
        """The clips of both; ids of the other that are taken already get a ``+`` before them.

        Raises:
            InputError: another skeleton, frame rate or list of classes.
        """
        self.check_same_skeleton(other.skeleton, other.fps, "the second set")
        if self.class_names != other.class_names:
            raise InputError(f"clips: classes {list(self.class_names)} and {list(other.class_names)} cannot be joined")
        taken = set(self.ids)
        return replace(
            self,
            positions=[*self.positions, *other.positions],
            labels=np.concatenate([self.labels, other.labels]),
            ids=[*self.ids, *(f"+{name}" if name in taken else name for name in other.ids)],
            extra=np.concatenate([self.is_extra, np.ones(len(other), dtype=bool)]),
            weights=self._joined_weights(other),
            splits=[*self.splits, *other.splits] if self.splits and other.splits else (),
            subjects=[*self.subjects, *other.subjects],
        )

    def _joined_weights(self, other: ClipSet) -> npt.NDArray[np.float64] | None:
        if self.weights is None and other.weights is None:
            return None
        parts = [np.ones(len(clips)) if clips.weights is None else clips.weights for clips in (self, other)]
        return np.concatenate(parts)

    def with_mirror_images(self, mode: str = "always") -> ClipSet:
        """The clips and, after them, the mirror image of each that did not come with `joined`.

        Labels that name a side are exchanged (`motiondiff.skeleton.mirror.mirror_labels`).

        Args:
            mode: as `motiondiff.skeleton.mirror.has_mirror_images`.

        Raises:
            InputError: with ``always``, a class names a side without a class of the other side, or no joint has a side.
        """
        rows = np.flatnonzero(~self.is_extra)
        if not len(rows) or not has_mirror_images(mode, self.class_names, self.skeleton.names):
            return self
        codes = mirror_labels(self.class_names, range(len(self.class_names)), "action", "classifier.mirror=always")
        images = replace(
            self.take(rows),
            positions=[mirror_positions(self.positions[row], self.skeleton.mirror_indices) for row in rows.tolist()],
            labels=codes[self.labels[rows]],
            ids=[f"{self.ids[row]} mirrored" for row in rows.tolist()],
        )
        return replace(self.joined(images), extra=np.concatenate([self.is_extra, np.zeros(len(rows), dtype=bool)]))

    def check_same_skeleton(self, skeleton: Skeleton, fps: float, where: str) -> None:
        """Hold another set's joints and frame rate against this one's.

        Raises:
            InputError: they differ.
        """
        if not self.skeleton.same_topology(skeleton):
            raise InputError(
                f"{where}: its {len(skeleton)} joints are not the {len(self.skeleton)} joints of the training clips"
            )
        if abs(self.fps - fps) > 1e-3:
            raise InputError(f"{where}: {fps:g} fps, the training clips have {self.fps:g}: prepare with --fps")

    @classmethod
    def from_store(
        cls,
        store: MotionStore,
        *,
        split: str | None = None,
        rows: npt.ArrayLike | None = None,
        class_names: Sequence[str] | None = None,
    ) -> ClipSet:
        """Clips of a store that have an action.

        Args:
            store: the prepared data.
            split: one of its splits; all clips by default.
            rows: indices of clips, instead of a split.
            class_names: the classes and their order; the store's actions by default.

        Raises:
            InputError: the split or the rows hold no clip with an action, an action that is none of the classes, or a
                broken store.
        """
        chosen = store.select(split) if rows is None else np.asarray(rows, dtype=np.int64)
        chosen = chosen[store.columns["action"][chosen] != NO_LABEL]
        if not len(chosen):
            raise InputError(f"{store.path}: no clip{f' of the split {split!r}' if split else ''} has an action")
        names = tuple(store.actions if class_names is None else class_names)
        return cls(
            positions=[store[int(row)].positions for row in chosen],
            labels=_numbers(store.names("action", chosen), names),
            ids=[store.clip_ids[row] for row in chosen],
            subjects=store.names("style" if store.header.get("split_by") == "style" else "subject", chosen),
            class_names=names,
            skeleton=store.skeleton(int(chosen[0])),
            fps=store.fps,
            splits=store.names("split", chosen),
        )

    @classmethod
    def from_motions(
        cls, motions: Iterable[Motion], class_names: Sequence[str], *, ids: Sequence[str] | None = None
    ) -> ClipSet:
        """Motions with an action, turned and moved along the floor into the common frame; heights stay as they are.

        Args:
            motions: of one skeleton topology and frame rate.
            class_names: the classes and their order.
            ids: one name each; by default the action and a number.

        Raises:
            InputError: no motion, one without an action or with one that is none of the classes, or another skeleton
                or frame rate.
        """
        listed = list(motions)
        if not listed:
            raise InputError("clips: no motion given")
        first = listed[0]
        for motion in listed:
            if not motion.skeleton.same_topology(first.skeleton) or abs(motion.fps - first.fps) > 1e-3:
                raise InputError(f"{motion.source or 'motion'}: another skeleton or frame rate than the first motion")
            if motion.action is None:
                raise InputError(f"{motion.source or 'motion'}: has no action")
        return cls(
            positions=[canonicalise(motion, floor=0.0)[0].positions for motion in listed],
            labels=_numbers([motion.action or "" for motion in listed], class_names),
            ids=ids or [f"{motion.action}-{number}" for number, motion in enumerate(listed)],
            subjects=[motion.subject or "" for motion in listed],
            class_names=class_names,
            skeleton=first.skeleton,
            fps=first.fps,
        )


def check_subject_overlap(train: ClipSet, test: ClipSet) -> None:
    """A person on both sides makes a test of remembering, not of recognising.

    Raises:
        InputError: a subject (or style) is in both; the first is named.
    """
    shared = sorted((set(train.subjects) & set(test.subjects)) - {""})
    if shared:
        raise InputError(
            f"subject {shared[0]!r} is in the training and in the test clips ({len(shared)} such): hold them apart "
            "with `motiondiff prepare --test-groups`"
        )


def _numbers(actions: Sequence[str], names: Sequence[str]) -> Index:
    place = {name: number for number, name in enumerate(names)}
    for action in actions:
        if action not in place:
            raise unknown("action", action, names)
    return np.array([place[action] for action in actions])
