"""Metrics of motions made from texts alone: R-precision, MM-distance, and accuracy of an action classifier.

Guo et al., CVPR 2022, rank a motion's own description among 32. Where captions are made of labels, no motion can
distinguish two captions of one action: a pool then holds one caption for each action, 32 at most. Its size is reported
with the metrics, since chance depends on it.
"""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from icube_common.errors import InputError
from icube_common.evaluation import find_metric, mean_interval
from icube_common.vlm.features import FeatureCache
from motiondiff.config import EvaluateOptions, TextConfig
from motiondiff.data.captions import EmbeddedCaptions, store_captions
from motiondiff.data.clips import ClipSet
from motiondiff.data.store import MotionStore
from motiondiff.evaluation.metrics import MotionEvaluator
from motiondiff.evaluation.text_to_motion.matching import Matcher, fit_matcher, rank_own
from motiondiff.pipelines.motion_diffusion import MotionDiffusionPipeline
from motiondiff.pipelines.sampling import SampleOptions, generate

logger = logging.getLogger(__name__)

Index = npt.NDArray[np.int64]

MAX_POOL = 32
MAX_CAPTIONS = 300
"""Captions that motions are made of from one seed, at most."""
TOP = (1, 2, 3)
MEANING = {
    **{f"r_precision_top{k}": f"share of motions whose caption is among the {k} nearest of the pool" for k in TOP},
    "mm_distance": "distance of a motion and its caption in the space of the matching model",
    "accuracy": "share that the independent classifier assigns to the caption's action, mean over classes",
}


def meanings_of(store: MotionStore, rows: Index) -> Index:
    """(N,) what each clip's captions are about: its action where they are made of it, else the clip itself."""
    actions = store.columns["action"]
    texts = store.texts
    return np.array([len(store.actions) + row if texts[row] else actions[row] for row in rows], dtype=np.int64)


def sample_pools(meanings: Index, size: int, generator: np.random.Generator) -> Index:
    """(N, P) rows whose meanings all differ, each row's own first.

    Args:
        meanings: (N,).
        size: P, at most as many as there are meanings.
        generator: of the draw.
    """
    groups = {meaning: np.flatnonzero(meanings == meaning) for meaning in np.unique(meanings).tolist()}
    pools = np.empty((len(meanings), size), dtype=np.int64)
    for row, meaning_of_row in enumerate(meanings.tolist()):
        others = generator.permutation([meaning for meaning in groups if meaning != meaning_of_row])[: size - 1]
        pools[row] = [row, *(generator.choice(groups[meaning]) for meaning in others.tolist())]
    return pools


def evaluate_texts(
    pipeline: MotionDiffusionPipeline,
    store: MotionStore,
    evaluator: MotionEvaluator,
    options: EvaluateOptions,
    cache: Path,
) -> dict[str, Any]:
    """Motions made of the captions of held-out clips, without an action, beside those clips.

    Args:
        pipeline: trained with text.
        store: the run's data.
        evaluator: holds training and held-out clips, and the independent classifier.
        options: seeds, and the settings of the matching model's training: those of the classifier.
        cache: the run's embeddings of captions.

    Returns:
        The figures of `MEANING` as ``{"mean", "ci95", ...}`` over seeds, each with its own captions; ``real``;
        ``chance``; ``pool`` and ``captions``, their numbers.

    Raises:
        InputError: fewer than two meanings among the held-out clips, or an encoder that is not the run's.
    """
    encoder = pipeline.text_encoder
    captions = store_captions(store)
    vectors = encoder.embed(captions.texts, FeatureCache(cache) if cache.is_dir() else None).numpy()
    row_of = {name: row for row, name in enumerate(store.clip_ids)}
    train, held_out = evaluator.train.clips, evaluator.held_out.clips
    train_rows, rows = (np.array([row_of[name] for name in clips.ids]) for clips in (train, held_out))
    meanings = meanings_of(store, rows)
    pool = min(MAX_POOL, len(set(meanings.tolist())))
    if pool < 2:
        raise InputError(f"text figures: the held-out clips of {store.path} all mean the same")
    varied = TextConfig()
    embedded = EmbeddedCaptions(captions, vectors, noise=varied.noise, blend=varied.blend)
    matcher = fit_matcher(
        train,
        train_rows.tolist(),
        meanings_of(store, train_rows),
        embedded,
        options.classifier,
        options.evaluator_seed,
    )
    by_seed: list[dict[str, float]] = []
    real: list[dict[str, float]] = []
    count = 0
    for seed in range(options.seeds):
        generator = np.random.default_rng([seed, 29])
        chosen = np.sort(generator.permutation(len(rows))[:MAX_CAPTIONS])
        drawn = np.array([_sample_caption(captions.clip_indices[row], generator) for row in rows[chosen]])
        pools = sample_pools(meanings[chosen], min(pool, len(set(meanings[chosen].tolist()))), generator)
        texts = [captions.texts[number] for number in drawn]
        motions = list(
            generate(
                pipeline,
                SampleOptions.from_sampler(options, texts=texts, count=1, per_action=None, seed=options.seed + seed),
            )
        )
        clips = held_out.take(chosen)
        labelled = [
            dataclasses.replace(motion, action=held_out.class_names[label])
            for motion, label in zip(motions, clips.labels, strict=True)
        ]
        made = ClipSet.from_motions(labelled, held_out.class_names)
        embedded_texts = matcher.texts(vectors[drawn])
        by_seed.append(_figures(matcher, evaluator, made, embedded_texts, pools))
        real.append(_figures(matcher, evaluator, clips, embedded_texts, pools))
        count = len(texts)
        logger.info("texts: %d of %d sets of motions", seed + 1, options.seeds)
    return {
        **{name: mean_interval([row[name] for row in by_seed]).to_dict() for name in MEANING},
        "real": {name: mean_interval([row[name] for row in real]).to_dict() for name in MEANING},
        "chance": {f"r_precision_top{k}": min(1.0, k / pool) for k in TOP}
        | {"accuracy": 1 / len(held_out.class_names)},
        "pool": pool,
        "captions": count,
        "encoder": encoder.facts,
    }


def _sample_caption(captions: Index, generator: np.random.Generator) -> int:
    return int(generator.choice(captions))


def _figures(
    matcher: Matcher, evaluator: MotionEvaluator, clips: ClipSet, texts: npt.NDArray[np.float64], pools: Index
) -> dict[str, float]:
    """The figures of motions, each with the text of the same row."""
    motions = matcher.motions(clips)
    place = rank_own(motions, texts, pools)
    probabilities = evaluator.predict(clips)
    return {
        **{f"r_precision_top{k}": float((place < k).mean()) for k in TOP},
        "mm_distance": float(np.linalg.norm(motions - texts, axis=1).mean()),
        "accuracy": find_metric("mean_class_accuracy")(clips.labels, probabilities),
    }
