"""Results of an augmentation study: accuracy of each person, t intervals over people, tables.

The people are the unit: classifier and generator seeds are averaged within a person, and an interval is Student's t
over the people's means. Their training clips overlap between folds, which such an interval does not account for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from icube_common.evaluation.intervals import Interval, mean_interval
from icube_common.evaluation.predictions import Predictions
from icube_common.evaluation.significance import paired_mean_test
from icube_common.experiments.results.differences import Difference
from icube_common.experiments.results.tables import P, Table
from icube_common.experiments.runner.trial_run import TrialRunResult, trial_run_folder
from motiondiff.augmentation.study.arms import (
    BOTH,
    CHOSEN,
    METRIC,
    SYNTHETIC,
    StudyArm,
    cells_before,
    control_of,
)
from motiondiff.augmentation.study.budget import StudyPlan
from motiondiff.augmentation.study.config import StudyConfig
from motiondiff.augmentation.study.mixture import candidates
from motiondiff.augmentation.study.subsets import PeopleFold
from motiondiff.data.store import MotionStore

Results = Mapping[tuple[str, int], TrialRunResult]
PRIMARY, DESCRIPTIVE = "primary", "descriptive"


@dataclass(frozen=True, kw_only=True)
class ArmResult:
    """Results of a row.

    Attributes:
        arm: the row.
        clips: clips trained on, mean over folds, without mirror images.
        people: person -> accuracy, mean over seeds.
        trainings: number of classifiers.
        errors: why cells failed.
        interval: mean over people and 95 % t interval; None without results.
    """

    arm: StudyArm
    clips: float | None
    people: Mapping[str, float]
    trainings: int
    errors: tuple[str, ...]
    interval: Interval | None


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """A paired difference of two rows of the same fraction over people, first minus second.

    Attributes:
        first: row.
        second: row.
        difference: paired over the people that both have; its role is `PRIMARY` or `DESCRIPTIVE`; None without two.
        better: number of people whose accuracy is higher in the first row.
        worse: number of people whose accuracy is lower.
    """

    first: StudyArm
    second: StudyArm
    difference: Difference | None
    better: int
    worse: int


@dataclass(frozen=True, kw_only=True)
class StudySummary:
    """Results of a study.

    Attributes:
        folder: of the study.
        data: the store's folder and fingerprint, for the record.
        config: of the study.
        folds: names of the people of each fold.
        rows: in the order of the table.
        contrasts: for each fraction: all rows against the control, and the first method against the others; the primary
            comparison first.
        sources: results of the generators.
        choices: results of the choices of mixtures.
        budget: cells and estimated hours.
    """

    folder: Path
    data: Mapping[str, str]
    config: StudyConfig
    folds: tuple[tuple[str, ...], ...]
    rows: tuple[ArmResult, ...]
    contrasts: tuple[Contrast, ...]
    sources: tuple[TrialRunResult, ...]
    choices: tuple[TrialRunResult, ...]
    budget: Mapping[str, Any]

    @property
    def people(self) -> list[str]:
        """All test people."""
        return sorted(person for fold in self.folds for person in fold)

    def table(self) -> Table:
        """Accuracy of every row."""
        columns = ("real clips", "trained on", "clips", METRIC, "people", "classifiers")
        cells = []
        for one in self.rows:
            name = f"{100 * one.arm.fraction:g} %"
            cells.append((name, one.arm.training, one.clips, one.interval, len(one.people), one.trainings))
        mirror = " without mirror images" if self.config.classifier.mirror == "never" else " with their mirror images"
        return Table(
            columns,
            tuple(cells),
            f"{METRIC} on people that nothing in the row has been trained on ({len(self.folds)} folds): mean and 95 % "
            "t interval over people, generator and classifier seeds averaged within a person. Real clips beside "
            f"synthetic ones are taken{mirror}.",
        )

    def contrast_table(self) -> Table:
        """Paired differences at the same share of real clips."""
        columns = ("role", "real clips", "first", "second", "difference", "p", "people", "better", "worse")
        cells = []
        for one in self.contrasts:
            result = one.difference
            values = (None, None, None) if result is None else (
                result.interval, P(result.p_value) if result.role == PRIMARY else None, result.interval.groups,
            )  # fmt: skip
            role = result.role if result else ""
            name = f"{100 * one.first.fraction:g} %"
            cells.append((role, name, one.first.training, one.second.training, *values, one.better, one.worse))
        return Table(
            columns,
            tuple(cells),
            f"{METRIC}, first minus second, paired over people (95 % t interval). The primary comparison was named "
            "before the study ran and has a p-value (paired t); all others are descriptive. Better and worse: number "
            "of people.",
        )

    def people_table(self) -> Table:
        """Accuracy of each person in the two rows of the primary comparison."""
        pair = self.contrasts[0]
        values = {one.arm: one.people for one in self.rows}
        first, second = values[pair.first], values[pair.second]
        cells = [
            (person, second[person], first[person], first[person] - second[person])
            for person in self.people
            if person in first and person in second
        ]
        return Table(
            ("person", pair.second.training, pair.first.training, "difference"),
            tuple(cells),
            f"The primary comparison person by person, at {100 * pair.first.fraction:g} % of the real clips.",
        )

    def source_table(self) -> Table:
        """The generators and their sets."""
        names = ("real_clips", "steps", "training_seconds", "passed", "filled", "synthetic_clips")
        cells = [
            (one.name, one.seed, *(one.metrics.get(name) for name in names), one.error or "") for one in self.sources
        ]
        columns = (
            "generator", "seed", "real clips", "steps", "seconds", "share that passes", "filled", "motions", "failed",
        )  # fmt: skip
        caption = "Filled: kept though they do not pass, never copies. Without part: for the choice of a mixture alone."
        return Table(columns, tuple(cells), caption)

    def choice_table(self) -> Table:
        """The mixtures that were chosen on inner people."""
        options = candidates(self.config.mixture)
        cells = []
        for one in self.choices:
            chosen = one.metrics.get("chosen")
            name = one.error or str(options[int(chosen)] if chosen is not None else "")
            values = [one.metrics.get(f"inner {option}") for option in options]
            cells.append((one.name, one.seed, *values, one.metrics.get("inner_people"), name))
        return Table(
            ("cell", "seed", *map(str, options), "inner people", "chosen"),
            tuple(cells),
            "Accuracy on inner people for each share of synthetic clips; another than 0 is chosen where it is better "
            "by more than one standard error over these people.",
        )

    def to_dict(self) -> dict[str, Any]:
        """As ``--json`` prints it."""
        return {
            "study": str(self.folder),
            "data": dict(self.data),
            "folds": list(map(list, self.folds)),
            "budget": dict(self.budget),
            "failed": sum(len(one.errors) for one in self.rows),
            "rows": [
                {
                    "fraction": one.arm.fraction,
                    "kind": one.arm.kind,
                    "method": one.arm.method,
                    "training": one.arm.training,
                    "clips": one.clips,
                    "people": dict(one.people),
                    "classifiers": one.trainings,
                    METRIC: one.interval and one.interval.to_dict(),
                    "errors": list(one.errors),
                }
                for one in self.rows
            ],
            "differences": [
                {
                    "fraction": one.first.fraction,
                    "first": one.first.training,
                    "second": one.second.training,
                    "over_people": one.difference and one.difference.to_dict(),
                    "better": one.better,
                    "worse": one.worse,
                }
                for one in self.contrasts
            ],
            "generators": [{"name": one.name, "seed": one.seed, **one.metrics, "error": one.error}
                           for one in self.sources],
            "choices": [{"name": one.name, "seed": one.seed, **one.metrics, "error": one.error}
                        for one in self.choices],
            "table": self.table().to_markdown() + "\n" + self.contrast_table().to_markdown(),
            "report": str(self.folder / "report.html"),
        }  # fmt: skip


def summarise(
    folder: Path,
    store: MotionStore,
    config: StudyConfig,
    folds: Sequence[PeopleFold],
    cells: StudyPlan,
    primary: tuple[StudyArm, StudyArm],
    *,
    made: Results,
    choices: Results,
    results: Results,
    budget: Mapping[str, Any],
) -> StudySummary:
    """Bring the results of all cells together.

    Args:
        folder: of the study.
        store: the data.
        config: of the study.
        folds: of people.
        cells: of `motiondiff.augmentation.study.budget.plan`.
        primary: the two rows of the primary comparison.
        made: (name, seed) -> result of a generator.
        choices: (name, seed) -> result of a choice.
        results: (name, seed) -> result of a classifier.
        budget: of `motiondiff.augmentation.study.budget.budget`.
    """
    failed = {key: result.error for key, result in {**made, **choices}.items() if result.error}
    by_arm = {arm: _arm_result(arm, folder, config, folds, failed, results) for arm in cells.arms}
    pairs = [primary]
    for fraction in config.fractions:
        here = [arm for arm in cells.arms if arm.fraction == fraction]
        control = control_of(here, fraction)
        pairs += [(arm, control) for arm in here if arm != control]
        for kind in (SYNTHETIC, BOTH, CHOSEN):
            of_kind = [arm for arm in here if arm.kind == kind]
            pairs += [(of_kind[0], arm) for arm in of_kind[1:]]
    return StudySummary(
        folder=folder,
        data={"store": store.path.name, "fingerprint": store.fingerprint},
        config=config,
        folds=tuple(fold.people for fold in folds),
        rows=tuple(by_arm.values()),
        contrasts=tuple(
            _contrast(by_arm[first], by_arm[second], PRIMARY if (first, second) == primary else DESCRIPTIVE)
            for first, second in dict.fromkeys(pairs)
        ),
        sources=tuple(made.values()),
        choices=tuple(choices.values()),
        budget=budget,
    )


def _arm_result(
    arm: StudyArm,
    folder: Path,
    config: StudyConfig,
    folds: Sequence[PeopleFold],
    failed: Mapping[tuple[str, int], str],
    results: Results,
) -> ArmResult:
    seeds = range(config.generator_seeds if arm.method else 1)
    places = [(fold.number, seed) for fold in folds for seed in seeds]
    names = [arm.cell_name(*place) for place in places]
    cells = [results[name, seed] for name in names for seed in range(config.seeds) if (name, seed) in results]
    files = [trial_run_folder(folder, cell.name, cell.seed) / cell.predictions for cell in cells if cell.predictions]
    people = accuracy_of_people(files)
    before = {(name, seed) for fold, seed in places for name in cells_before(arm, fold)}
    errors = [cell.error for cell in cells if cell.error]
    errors += [f"{name}: {failed[name, seed]}" for name, seed in sorted(before) if (name, seed) in failed]
    counts = [value for cell in cells if (value := cell.metrics.get("training_clips")) is not None]
    return ArmResult(
        arm=arm,
        clips=round(float(np.mean(counts)), 1) if counts else None,
        people=people,
        trainings=len(files),
        errors=tuple(errors),
        interval=mean_interval(list(people.values())) if people else None,
    )


def accuracy_of_people(files: Sequence[Path]) -> dict[str, float]:
    """Accuracy of each person: the mean over the files that test the person of the share of right clips.

    Args:
        files: ``predictions.csv`` of classifiers, each with all clips of its people.
    """
    shares: dict[str, list[float]] = {}
    for file in files:
        predictions = Predictions.read_csv(file)
        right = predictions.probabilities.argmax(axis=1) == predictions.labels
        subjects = np.asarray(predictions.subjects)
        for person in sorted(set(predictions.subjects)):
            shares.setdefault(person, []).append(float(right[subjects == person].mean()))
    return {person: float(np.mean(values)) for person, values in sorted(shares.items())}


def _contrast(first: ArmResult, second: ArmResult, role: str) -> Contrast:
    people = sorted(first.people.keys() & second.people.keys())
    values = [[one.people[person] for person in people] for one in (first, second)]
    difference = None
    if len(people) > 1:
        test = paired_mean_test(*values)
        difference = Difference(interval=test.difference, p_value=test.p_value, over=f"{len(people)} people", role=role)
    change = np.array(values[0]) - np.array(values[1])
    return Contrast(
        first=first.arm,
        second=second.arm,
        difference=difference,
        better=int((change > 1e-9).sum()),
        worse=int((change < -1e-9).sum()),
    )
