"""Clips as rows of a batch: for training with a copy and a view drawn for each, for prediction whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from actprompt.captions import Captioner
from actprompt.courses import Course
from actprompt.inputs import Inputs
from icube_common.training import SampleRef
from icube_common.vlm import FrozenVLM


@dataclass(frozen=True, eq=False)
class Tables:
    """The rows of some clips, in their order; a fold's views of `Inputs`.

    Attributes:
        ids: N of them.
        frames: as `Inputs.frames`, or None.
        pixels: as `Inputs.pixels`, or None.
        courses: (N, copies, F), NaN for a clip without skeleton, or None; the first copy is the clip as it is.
        parameters: (N, P), or None.
        captions: (N, D) features of what is told of the parameters, NaN where nothing is; or None.
    """

    ids: tuple[str, ...]
    frames: Mapping[str, Tensor] | None
    pixels: Mapping[str, Tensor] | None
    courses: Float[Tensor, "n k f"] | None
    parameters: Float[Tensor, "n p"] | None
    captions: Float[Tensor, "n d"] | None = None

    @classmethod
    def of(
        cls,
        ids: Sequence[str],
        inputs: Inputs,
        course: Course | None,
        captioner: Captioner | None,
        vlm: FrozenVLM,
        *,
        copies: int = 0,
        jitter: float = 0.0,
        seed: int = 0,
    ) -> Tables:
        """Tables of clips.

        Args:
            ids: which, in which order.
            inputs: whose tables hold at least these.
            course: turns skeletons into vectors; None where they do not enter.
            captioner: turns parameters into sentences; None where these do not enter.
            vlm: whose text tower reads the sentences.
            copies: changed copies of each course.
            jitter: of the copies.
            seed: what a clip's copies are drawn from, with its place.
        """
        courses = None
        if course is not None and inputs.skeletons is not None:
            courses = _courses(ids, inputs.skeletons, course, copies, jitter, seed)
        parameters = captions = None
        if inputs.parameters is not None:
            values = inputs.parameters.rows(ids)
            parameters = torch.from_numpy(values).float()
            captions = None if captioner is None else captioner.features(vlm, values)
        return cls(tuple(ids), inputs.frames, inputs.pixels, courses, parameters, captions)

    def row(self, place: int, *, view: int = 0, copy: int = 0) -> dict[str, Tensor]:
        """One clip, as a row of a batch."""
        name = self.ids[place]
        found: dict[str, Tensor] = {}
        if self.frames is not None:
            found["frames"] = self.frames[name][view]
        if self.pixels is not None:
            found["pixels"] = self.pixels[name][view]
        if self.courses is not None:
            found["course"] = self.courses[place, copy]
        if self.parameters is not None:
            found["parameters"] = self.parameters[place]
        if self.captions is not None:
            found["caption"] = self.captions[place]
        return found

    def views(self, place: int) -> int:
        """How many views of its video a clip has."""
        pictures = self.frames if self.frames is not None else self.pixels
        return 1 if pictures is None else len(pictures[self.ids[place]])

    def batches(self, size: int, *, copy: int = 0, view: int = 0) -> Iterator[dict[str, Tensor]]:
        """All clips in their order; a clip with fewer views gives its last one."""
        for start in range(0, len(self.ids), size):
            places = range(start, min(start + size, len(self.ids)))
            rows = [self.row(place, view=min(view, self.views(place) - 1), copy=copy) for place in places]
            yield {key: torch.stack([row[key] for row in rows]) for key in rows[0]}


class TrainingClips:
    """The data set that `icube_common.training.fit` draws from.

    Args:
        tables: of the training rows.
        labels: (N,) places of their classes.
    """

    def __init__(self, tables: Tables, labels: Sequence[int]) -> None:
        self._tables = tables
        self._labels = torch.as_tensor(labels)

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, draw: SampleRef) -> dict[str, Tensor]:
        generator = np.random.default_rng(draw.seed)
        view = int(generator.integers(self._tables.views(draw.index)))
        courses = self._tables.courses
        copy = 0 if courses is None else int(generator.integers(courses.shape[1]))
        return {**self._tables.row(draw.index, view=view, copy=copy), "label": self._labels[draw.index]}


def _courses(
    ids: Sequence[str], skeletons: Mapping[str, object], course: Course, copies: int, jitter: float, seed: int
) -> Float[Tensor, "n k f"]:
    rows: list[np.ndarray | None] = []
    for place, name in enumerate(ids):
        joints = np.asarray(skeletons[name])
        generator = np.random.default_rng([seed, place])
        rows.append(course.copies(joints, copies, generator, jitter=jitter) if len(joints) else None)
    width = next((row.shape[1] for row in rows if row is not None), 1)
    absent = np.full((1 + copies, width), np.nan, dtype=np.float32)
    return torch.from_numpy(np.stack([absent if row is None else row for row in rows]))
