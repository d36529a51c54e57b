"""``motiondiff augment``: a balanced, filtered set of generated motions as a store."""

from __future__ import annotations

import logging
import math
from collections import Counter
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path

from icube_common.config import config_to_dict
from icube_common.data.processes import WORKER_DIED, InlineExecutor
from icube_common.errors import InputError
from icube_common.io.runs import atomic_folder, check_output_path, write_json
from motiondiff.augmentation.config import FilterConfig
from motiondiff.augmentation.filter import FilterDecision, MotionFilter, choose
from motiondiff.augmentation.generators import Batches, Generator, load_generator
from motiondiff.config import MIN_CLIPS, ClassifierConfig
from motiondiff.data.store import MotionStore
from motiondiff.data.store_writer import StoreWriter
from motiondiff.export.datasets.video_folder import write_video_folder
from motiondiff.pipelines.sampling import slug
from motiondiff.results import Results
from motiondiff.skeleton.motion import Motion, canonicalise
from motiondiff.training.diffusion import check_same_data

logger = logging.getLogger(__name__)

ROUNDS = 3
"""Times that a class which falls short is generated for again, unless it is filled."""
VIDEOS = "videos"
FACTS = "augment.json"
CONFIDENCE = "confidence"
"""Key of `FACTS`: probability of each kept motion's class by the filter's classifier."""


def augment(
    run: str | Path,
    data: str | Path,
    out: str | Path,
    config: FilterConfig | None = None,
    *,
    classifier: ClassifierConfig | None = None,
    render: bool = False,
    fewest: int = MIN_CLIPS,
    overwrite: bool = False,
    executor: Executor | None = None,
    workers: int | None = None,
    shard: tuple[int, int] = (0, 1),
) -> Results:
    """Generate motions of every class, keep those that pass, and write them as a store.

    The classifier, the physical limits and the distance to training come from the training split of ``data`` alone.
    ``rejected.csv`` of the store lists every other motion with the reason; ``augment.json`` holds the limits and
    counts.

    Args:
        run: a run folder of either generator.
        data: the store that it was trained on.
        out: the store to make.
        config: how many, and how strict.
        classifier: settings of the filter's classifier.
        render: also draw each kept motion, into ``videos/<class>/<clip>.mp4``, with its skeleton in ``<clip>.npz``.
        fewest: training clips that every class must have.
        overwrite: replace an existing ``out``.
        executor: where batches of motions are generated, each worker with a model of its own and with all folders on a
            disk that it reads; by default here. The motions are the same. A batch whose worker was killed twice is
            rejected.
        workers: batches at the same time; by default as many as the executor has.
        shard: ``(i, n)``: generate only each n-th batch of the first round, from the i-th on (from 0), into
            ``<out>.shards``. A run without a shard reads them, generates what is missing and writes the store.

    Returns:
        Where the store is, how many of each class were generated and kept, and what the others were rejected for.

    Raises:
        InputError: a bad run, store or setting, another store than the run's, or a class of which too few pass (with
            ``fill``: of which all are copies); nothing is written then.
    """
    config, classifier = config or FilterConfig(), classifier or ClassifierConfig()
    check_output_path(out, overwrite=overwrite)
    store = MotionStore(data)
    check_same_data(run, store)
    generator, kind = load_generator(run, config, store)
    batches = Batches(run, store, config, generator, Path(f"{out}.shards"), executor or InlineExecutor(), workers)
    if shard[1] > 1:
        generated = batches.store_shard(_requests(generator, config), shard)
        return Results(shard=f"{shard[0]}/{shard[1]}", generated=generated)
    motion_filter = MotionFilter(store, config, classifier, fewest=fewest)
    motions, decisions, lost = _generate(generator, motion_filter, config, batches)
    actions = [str(motion.action) for motion in motions]
    accepted, filled, left_out = choose(decisions, actions, config.per_class, fill=config.fill)
    _check_complete(accepted, actions, decisions, config, generator.actions)
    names = _names(actions)
    rejected = [(names[row], left_out[row]) for row in sorted(left_out)]
    rejected += [(f"generated-{slug(action)}-lost-{number:04d}", WORKER_DIED) for action, number in lost]
    counts = Counter(decision.kind or "passed" for decision in decisions)
    facts = {
        "generator": kind,
        "noise_strength": config.noise_strength,
        "trained_on": store.fingerprint,
        "generated": len(motions),
        "kept": len(accepted),
        "filled": len(filled),
        "share_passed": counts["passed"] / len(decisions),
        "first_reason": {name: count for name, count in counts.items() if name != "passed"},
        "per_class": {
            action: {
                "generated": actions.count(action),
                "passed": sum(not decisions[row].kind for row, label in enumerate(actions) if label == action),
                "kept": sum(actions[row] == action for row in accepted),
                "filled": sum(actions[row] == action for row in filled),
            }
            for action in generator.actions
        },
        "limits": motion_filter.to_dict(),
    }
    description = {
        "format": "generated",
        "source": f"{kind} model",
        "generated": True,
        "simulated": bool(store.header.get("simulated", False)),
        "split_by": "none",
    }
    with atomic_folder(out, overwrite=overwrite) as folder:
        with StoreWriter(folder) as writer:
            for row in accepted:
                motion, placement = canonicalise(motions[row], floor=0.0)
                writer.append(replace(motion, source="generated"), placement, clip_id=names[row])
            writer.finish(description=description, rejected=rejected)
        settings = {"filter": config_to_dict(config), "classifier": config_to_dict(classifier)}
        confidence = {names[row]: round(decisions[row].confidence, 6) for row in accepted}
        write_json(folder / FACTS, {**facts, "settings": settings, CONFIDENCE: confidence})
        if render:
            write_video_folder(MotionStore(folder), folder / VIDEOS)
    batches.remove_shards()
    result = Results({"store": str(out), **facts})
    if render:
        result["videos"] = str(Path(out) / VIDEOS)
    return result


def _requests(generator: Generator, config: FilterConfig) -> list[str]:
    """Actions of the first round."""
    amount = math.ceil(config.per_class * config.oversample_factor)
    return [action for action in generator.actions for _ in range(amount)]


def _generate(
    generator: Generator, motion_filter: MotionFilter, config: FilterConfig, batches: Batches
) -> tuple[list[Motion], list[FilterDecision], list[tuple[str, int]]]:
    """Motions of every class, class by class, and more of those that fall short; and (action, number) of lost ones."""
    requests = _requests(generator, config)
    amount = len(requests) // len(generator.actions)
    motions: list[Motion] = []
    decisions: list[FilterDecision] = []
    lost: list[tuple[str, int]] = []
    for turn in range(1 if config.fill else ROUNDS):
        first = len(motions) + len(lost)
        made = batches.generate(requests, range(first, first + len(requests)))
        lost += [(requests[row], first + row) for row, motion in enumerate(made) if motion is None]
        new = [motion for motion in made if motion is not None]
        motions += new
        decisions += motion_filter.decisions(new)
        passed = Counter(
            motion.action for motion, decision in zip(motions, decisions, strict=True) if not decision.kind
        )
        short = [action for action in generator.actions if passed[action] < config.per_class]
        if not short:
            break
        logger.info("round %d: short of %s", turn + 1, ", ".join(f"{a} ({passed[a]})" for a in short))
        requests = [action for action in short for _ in range(amount)]
    return motions, decisions, lost


def _check_complete(
    accepted: list[int], actions: list[str], decisions: list[FilterDecision], config: FilterConfig, required: list[str]
) -> None:
    """InputError for the first class that has too few."""
    counts = Counter(actions[row] for row in accepted)
    for action in required:
        if counts[action] < config.per_class:
            rows = [row for row, label in enumerate(actions) if label == action]
            reasons = Counter(decisions[row].kind for row in rows if decisions[row].kind)
            reasons_text = ", ".join(f"{name} {count}" for name, count in reasons.most_common())
            raise InputError(
                f"class {action!r}: {counts[action]} of {len(rows)} generated motions pass, {config.per_class} wanted "
                f"(rejected for: {reasons_text}); train longer, loosen --min-confidence or --tolerance, or take --fill"
            )


def _names(actions: list[str]) -> list[str]:
    """Ids of generated clips: ``generated-walk-007``."""
    numbers: Counter[str] = Counter()
    names = []
    for action in actions:
        stem = slug(action)
        names.append(f"generated-{stem}-{numbers[stem]:04d}")
        numbers[stem] += 1
    return names
