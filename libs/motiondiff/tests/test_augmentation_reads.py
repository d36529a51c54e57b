"""No cell of a study reads a clip of its test people until the final test: every read of a whole study is watched.

Watched are the frames and bodies of the studied store, by whatever part of the library, and of the stores below the
study's folder: a generator, filter, statistic, mirror image, spectrum or choice of one fold that used what was made of
another would show there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from study_helpers import tiny_study

from icube_common.experiments.runner import trial_run
from motiondiff.augmentation.study import mixture
from motiondiff.augmentation.study.arms import CHOSEN
from motiondiff.augmentation.study.config import StudyConfig
from motiondiff.augmentation.study.runner import augmentation_study
from motiondiff.augmentation.study.subsets import cell_clips, inner_parts, people_folds
from motiondiff.config import MotionDiffConfig
from motiondiff.data import store as store_module
from motiondiff.data.store import MotionStore


@dataclass
class Cell:
    """Reads of a cell, in order: clips of the studied store, other stores, and the end of each training."""

    name: str
    overrides: dict[str, Any]
    events: list[tuple[str, Any]] = field(default_factory=list)

    def clips(self, *, after_training: bool) -> set[int]:
        """Clips of the studied store read before, or after, the end of the last training of a classifier."""
        ends = [number for number, (kind, _) in enumerate(self.events) if kind == "trained"]
        last = ends[-1] if ends else len(self.events)
        rows = self.events[last:] if after_training else self.events[:last]
        return {value for kind, value in rows if kind == "clip"}

    @property
    def stores(self) -> set[Path]:
        return {value for kind, value in self.events if kind == "store"}


@pytest.fixture(scope="module")
def config(tiny_config: Callable[..., MotionDiffConfig]) -> StudyConfig:
    return tiny_study(tiny_config)


@pytest.fixture(scope="module")
def watched(store_path: Path, config: StudyConfig, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Cell]]:
    """All cells of a study with their reads; the first is what happens outside cells."""
    cells = [Cell("outside", {})]
    current = cells[0]
    studied = store_path.resolve()
    plain_reads: list[str] = []
    frames, skeleton, execute, fit = (
        MotionStore.frames, MotionStore.skeleton, trial_run.execute_trial_run, mixture.fit_classifier,
    )  # fmt: skip
    from_file = np.fromfile

    def note(store: MotionStore, clip: int) -> None:
        path = store.path.resolve()
        current.events.append(("clip", int(clip)) if path == studied else ("store", path))

    def watched_frames(store: MotionStore, clip: int, start: int = 0, stop: int | None = None) -> np.ndarray:
        note(store, clip)
        return frames(store, clip, start, stop)

    def watched_skeleton(store: MotionStore, clip: int) -> Any:
        note(store, clip)
        return skeleton(store, clip)

    def watched_fit(*args: Any, **options: Any) -> Any:
        result = fit(*args, **options)
        current.events.append(("trained", None))
        return result

    def watched_file(path: Any, *args: Any, **options: Any) -> np.ndarray:
        plain_reads.append(str(path))
        return from_file(path, *args, **options)

    def watched_cell(run: Any, cell: Any) -> Any:
        nonlocal current
        current = Cell(cell.name, dict(cell.overrides))
        cells.append(current)
        try:
            return execute(run, cell)
        finally:
            current = cells[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MotionStore, "frames", watched_frames)
        patch.setattr(MotionStore, "skeleton", watched_skeleton)
        patch.setattr(trial_run, "execute_trial_run", watched_cell)
        patch.setattr(mixture, "fit_classifier", watched_fit)
        patch.setattr(store_module.np, "fromfile", watched_file)
        summary = augmentation_study(store_path, tmp_path_factory.mktemp("watched") / "study", config)
    assert not isinstance(summary, dict) and not any(row.errors for row in summary.rows)
    # no frame comes from the file past `frames`
    through_frames = sum(kind != "trained" for cell in cells for kind, _ in cell.events)
    assert 0 < len(plain_reads) <= through_frames
    yield cells


def test_generators_read_the_clips_of_their_cell_alone(
    watched: list[Cell], store: MotionStore, config: StudyConfig
) -> None:
    folds = people_folds(store, config)
    sources = [cell for cell in watched if "part" in cell.overrides]
    assert len(sources) == 12 and {cell.overrides["method"] for cell in sources} == set(config.labels)
    for cell in sources:
        fold = folds[cell.overrides["fold"]]
        clips = cell_clips(store, fold, config, cell.overrides["fraction"])
        part = cell.overrides["part"]
        if part >= 0:
            clips = np.setdiff1d(clips, inner_parts(store, clips, config)[part])
        read = {value for kind, value in cell.events if kind == "clip"}
        assert read == set(clips.tolist())
        assert not read & set(fold.test.tolist())
        # and besides those the copy of these clips in the cell's own folder
        assert {path.name for path in cell.stores} == {"real"} and len(cell.stores) == 1
        (copy,) = cell.stores
        assert sorted(MotionStore(copy).clip_ids) == sorted(store.clip_ids[clip] for clip in clips)


def test_choices_read_training_people_alone(watched: list[Cell], store: MotionStore, config: StudyConfig) -> None:
    folds = people_folds(store, config)
    choices = [cell for cell in watched if "choice" in cell.name]
    assert len(choices) == config.folds
    for cell in choices:
        fold = folds[cell.overrides["fold"]]
        read = {value for kind, value in cell.events if kind == "clip"}
        assert read and read <= set(cell_clips(store, fold, config, cell.overrides["fraction"]).tolist())
        assert not set(store.names("subject", sorted(read))) & set(fold.people)
        check_sets(cell, inner=True)


def test_rows_read_test_people_after_the_last_training(
    watched: list[Cell], store: MotionStore, config: StudyConfig
) -> None:
    folds = people_folds(store, config)
    rows = [cell for cell in watched if "kind" in cell.overrides]
    assert len(rows) == config.folds * config.seeds * 11
    for cell in rows:
        fold = folds[cell.overrides["fold"]]
        before, after = cell.clips(after_training=False), cell.clips(after_training=True)
        share = set(cell_clips(store, fold, config, cell.overrides["fraction"]).tolist())
        assert before == (set() if cell.overrides["kind"] == "synthetic" else share)
        assert after == set(fold.test.tolist())
        check_sets(cell, inner=False)
        assert bool(cell.stores) == bool(cell.overrides["method"])
    assert any(cell.overrides["kind"] == CHOSEN for cell in rows)


def check_sets(cell: Cell, *, inner: bool) -> None:
    """Sets of motions of the cell's fold and share, by a generator without inner people where one is needed."""
    for path in cell.stores:
        assert path.name == "synthetic"
        match = re.match(r"fold-(\d)-([\d.]+)-generator-", path.parent.parent.name)
        assert match and (int(match[1]), float(match[2])) == (cell.overrides["fold"], cell.overrides["fraction"])
        assert ("without-part" in path.parent.parent.name) == inner


def test_probe_and_summary_read_no_test_clip(watched: list[Cell], store: MotionStore, config: StudyConfig) -> None:
    outside = {value for kind, value in watched[0].events if kind == "clip"}
    fold = people_folds(store, config)[0]
    assert outside == set(cell_clips(store, fold, config, config.fractions[-1]).tolist())
    assert not outside & set(fold.test.tolist())
