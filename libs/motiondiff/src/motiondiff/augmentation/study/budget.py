"""Budget of a study before it starts: its cells, the number of trainings, and their time by a probe.

The probe trains each recipe for a few steps on the clips of one cell, the recipes in turn and twice, and takes the
faster time of each: a busy machine slows single trials down. Its times are kept in ``probe.json`` and decide the steps
of methods with equal time, so that a resumed study has the same.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from icube_common.io.runs import read_json, write_json
from motiondiff.augmentation.generators import load_generator
from motiondiff.augmentation.study.arms import CHOSEN, Source, StudyArm, study_arms
from motiondiff.augmentation.study.config import CROSS_SET, SDEDIT, StudyConfig
from motiondiff.augmentation.study.mixture import candidates
from motiondiff.augmentation.study.sources import architecture_of, generator_config, steps_of, train_generator
from motiondiff.augmentation.study.subsets import PeopleFold, cell_clips, inner_parts, write_subset
from motiondiff.data.clips import ClipSet
from motiondiff.data.store import MotionStore
from motiondiff.recognition.training import fit_classifier

PROBE = "probe.json"
RECIPES = ("motiondiff", "mdm", "actor")
TURNS = 2
PROBE_MOTIONS = 4
CLASSIFIER = "classifier"


@dataclass(frozen=True, kw_only=True)
class StudyPlan:
    """Cells of a study.

    Attributes:
        arms: rows of the table.
        sources: generators of the rows, methods in turn, so that a study that is stopped early has whole methods.
        inner: generators without a part of the training people, for choices of mixtures.
        choices: (fold, fraction, method) of these choices.
    """

    arms: tuple[StudyArm, ...]
    sources: tuple[Source, ...]
    inner: tuple[Source, ...]
    choices: tuple[tuple[int, float, str], ...]


def plan(store: MotionStore, folds: Sequence[PeopleFold], config: StudyConfig, *, mirrored: bool) -> StudyPlan:
    """All cells of a study."""
    arms = study_arms(config, mirrored=mirrored)
    places = [(fold, fraction) for fraction in config.fractions for fold in folds]
    sources = [
        Source(fold=fold.number, fraction=fraction, method=method)
        for method in config.labels
        for fold, fraction in places
    ]
    choices = [(fold.number, fraction, method) for method in config.chosen_labels for fold, fraction in places]
    inner = [
        Source(fold=fold.number, fraction=fraction, method=method, part=part)
        for method in config.chosen_labels
        for fold, fraction in places
        for part in range(len(inner_parts(store, cell_clips(store, fold, config, fraction), config)))
    ]
    return StudyPlan(arms=tuple(arms), sources=tuple(sources), inner=tuple(inner), choices=tuple(choices))


def probe(study: Path, store: MotionStore, fold: PeopleFold, config: StudyConfig) -> dict[str, float]:
    """Seconds of an optimiser step of each recipe and of the classifier, and of a motion of each (``motion ...``).

    Args:
        study: folder of the study; times that are there are taken.
        store: the data.
        fold: whose training clips are used.
        config: of the study.
    """
    if (study / PROBE).is_file():
        times: dict[str, float] = read_json(study / PROBE)
        return times
    rows = cell_clips(store, fold, config, config.fractions[-1])
    measured: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(dir=study) as scratch:
        share = write_subset(store, rows, Path(scratch) / "real")
        for turn in range(TURNS):
            for recipe in RECIPES:
                settings = generator_config(recipe, config, 0, {})
                short = replace(settings, train=replace(settings.train, max_steps=config.probe_steps))
                run = Path(scratch) / f"{recipe}-{turn}"
                steps, seconds = train_generator(short, share.path, run)
                measured.setdefault(recipe, []).append(max(seconds, 1e-3) / steps)
                if turn == 0:
                    generator, _ = load_generator(run, config.filter, share)
                    start = time.monotonic()
                    list(generator.generate(generator.actions[:1] * PROBE_MOTIONS, range(PROBE_MOTIONS), 0))
                    measured[f"motion {recipe}"] = [(time.monotonic() - start) / PROBE_MOTIONS]
        clips = ClipSet.from_store(share)
        fit_classifier(clips, replace(config.classifier, steps=1))  # what is loaded once is no time of a step
        start = time.monotonic()
        fit_classifier(clips, replace(config.classifier, steps=config.probe_steps))
        measured[CLASSIFIER] = [(time.monotonic() - start) / config.probe_steps]
    times = {name: min(values) for name, values in measured.items()}
    write_json(study / PROBE, times)
    return times


def budget(
    cells: StudyPlan, config: StudyConfig, times: Mapping[str, float], *, folds: int, classes: int
) -> dict[str, Any]:
    """Number of trainings of each kind, and the hours that they take on the machine of the probe.

    Args:
        cells: of `plan`.
        config: of the study.
        times: of `probe`.
        folds: number of folds.
        classes: number of classes.
    """
    trained = [one for one in [*cells.sources, *cells.inner] if not one.method.startswith(SDEDIT)]
    made = [*cells.sources, *cells.inner]
    seeds = config.generator_seeds
    generators = Counter({"generators": seeds * len(trained)})
    generators["pre-trainings"] = seeds if CROSS_SET in config.methods else 0
    options = candidates(config.mixture)
    fits_of_options = len(options) + sum(option.pretrain for option in options)
    counts = {
        **generators,
        "sets of motions": seeds * len(made),
        "classifiers of rows": sum(folds * config.seeds * (seeds if arm.method else 1) for arm in cells.arms),
        "classifiers of choices": seeds * len(cells.inner) * config.mixture.inner_seeds * fits_of_options,
        "classifiers of filters": seeds * len(made),
    }
    pretrained_twice = sum(
        folds * config.seeds * seeds for arm in cells.arms if arm.kind == CHOSEN and config.mixture.pretrain
    )
    fits = counts["classifiers of rows"] + counts["classifiers of choices"] + counts["classifiers of filters"]
    seconds = (fits + pretrained_twice) * config.classifier.steps * times[CLASSIFIER]
    for one in trained:
        seconds += seeds * steps_of(one.method, config, times) * times[architecture_of(one.method)]
    motions = math.ceil(config.filter.per_class * config.filter.oversample_factor) * classes
    for one in made:
        seconds += seeds * motions * times[f"motion {architecture_of(one.method)}"]
    seconds += counts["pre-trainings"] * config.pretraining_steps * times["motiondiff"]
    return {**counts, "hours": round(seconds / 3600, 2)}
