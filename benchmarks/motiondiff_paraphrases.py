"""Generalisation to paraphrases: accuracy of motions sampled from texts without words of the training captions.

Usage: OMP_NUM_THREADS=1 python benchmarks/motiondiff_paraphrases.py STORE RUN [--count 20] [--steps 10]
       [--guidance 2.5] [--seed 0] [--out FILE.json]

For each action of a run with text: ``count`` motions of its class name, given as text, and as many of the paraphrases
of `HELD_OUT` in turn, text alone, no action. A GRU classifier that was trained on the run's training split names them.
``share`` is the share named as meant; ``chance`` one over the number of classes; ``ratio`` that of the paraphrases'
share to the class names'. Goals: at least three times chance, and a ratio of at least 0.6. ``by_action`` names the
action with the same motions asked for by ``--action``. ``paraphrases_ci95`` is a 95 % t-interval of the mean over
paraphrases, of which there are more than actions and fewer than motions. ``nearest_caption`` is no motion at all: the
share of paraphrases whose nearest training caption, by the encoder alone, is one of the action meant;
``share_where_nearest`` is the motions' share for these, ``share_where_not`` for the others.

A paraphrase that occurs in a training caption of the store, in whatever form, ends the run: a test of the repository
also refuses any of their telling words in the captions that are made of labels.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from icube_common.errors import InputError
from icube_common.evaluation import mean_interval
from icube_common.io.runs import describe_environment, write_json
from motiondiff.config import ClassifierConfig
from motiondiff.data.clips import ClipSet
from motiondiff.data.labels.captions import Captions, store_captions
from motiondiff.data.store import MotionStore
from motiondiff.pipelines.motion_diffusion import MotionDiffusionPipeline
from motiondiff.pipelines.sampling import SampleOptions, generate, load_pipeline
from motiondiff.recognition import ActionClassifier, fit_classifier
from motiondiff.training.diffusion import check_same_data

TARGETS = {"over_chance": 3.0, "ratio": 0.6}

HELD_OUT: dict[str, tuple[str, ...]] = {
    "walk": ("strolling", "a person saunters through the hall", "someone is pacing back and forth", "ambling along"),
    "sit down": (
        "taking a seat",
        "a person settles into an armchair",
        "someone perches on a stool",
        "lowering oneself onto the couch",
    ),
    "stand up": (
        "getting to one's feet",
        "a person rises from the armchair",
        "someone arises after a long meeting",
        "leaving one's seat",
    ),
    "pick up": (
        "retrieving keys lying on the carpet",
        "a person scoops a toy from below",
        "someone stoops to collect a dropped coin",
        "fetching a fallen book",
    ),
    "carry": (
        "lugging a heavy suitcase",
        "a person transports a crate",
        "someone is hauling groceries along the corridor",
        "bringing a parcel over",
    ),
    "throw": ("hurling a stone", "someone tosses a bottle", "a person flings a frisbee", "pitching a baseball"),
    "push": (
        "shoving a wardrobe",
        "a person presses hard against a wall",
        "someone thrusts a trolley onward",
        "nudging a drawer shut",
    ),
    "pull": (
        "tugging on a cord",
        "a person yanks a lever",
        "someone drags a sack closer",
        "heaving a net out of the water",
    ),
    "wave hands": (
        "greeting friends from afar",
        "a person bids farewell with both arms",
        "someone signals for attention overhead",
        "saying goodbye to a departing train",
    ),
    "clap hands": (
        "applauding",
        "a person gives a round of applause",
        "someone shows appreciation after a concert",
        "giving an ovation",
    ),
}
"""Written before any model was trained with text, and not changed since."""


def check_unseen(held_out: dict[str, tuple[str, ...]], captions: Captions) -> None:
    """Raise InputError for a text of the training captions.

    Raises:
        InputError: a paraphrase is, or stands in, a caption.
    """
    for paraphrase in (text for texts in held_out.values() for text in texts):
        seen = next((caption for caption in captions.texts if paraphrase.lower() in caption.lower()), None)
        if seen is not None:
            raise InputError(f"{paraphrase!r} occurs in the training caption {seen!r}")


def shares(
    pipeline: MotionDiffusionPipeline,
    classifier: ActionClassifier,
    requests: dict[str, Sequence[str]],
    options: SampleOptions,
    *,
    as_action: bool = False,
) -> dict[str, dict[str, float]]:
    """Action -> text -> fraction of its motions that the classifier assigns to the action.

    Args:
        pipeline: trained with text.
        classifier: trained on the run's training clips.
        requests: action -> what is asked for, each equally often, ``options.count`` motions in all.
        options: seed, steps, guidance.
        as_action: ask by the action's name as the action condition, with no text.
    """
    found: dict[str, dict[str, float]] = {}
    names = tuple(classifier.class_names)
    for number, (action, texts) in enumerate(requests.items()):
        found[action] = {}
        for place, text in enumerate(texts):
            wanted = {"actions": (action,)} if as_action else {"texts": (text,)}
            one = dataclasses.replace(
                options, count=options.count // len(texts), seed=options.seed + 1000 * number + place, **wanted
            )
            motions = [dataclasses.replace(motion, action=action) for motion in generate(pipeline, one)]
            clips = ClipSet.from_motions(motions, names)
            named = classifier.predict(clips).argmax(axis=1) == clips.labels
            found[action][text] = float(named.mean())
    return found


def mean_share(found: dict[str, dict[str, float]]) -> float:
    """Mean over texts, then over actions."""
    return float(np.mean([np.mean(list(texts.values())) for texts in found.values()]))


def nearest_caption(
    pipeline: MotionDiffusionPipeline, store: MotionStore, captions: Captions, held_out: dict[str, tuple[str, ...]]
) -> dict[str, bool]:
    """Paraphrase -> True where its nearest caption belongs to a clip of its action."""
    encoder = pipeline.text_encoder
    vectors = encoder.embed(captions.texts).numpy()
    action_of = {
        int(text): store.actions[action]
        for clip_indices, action in zip(captions.clip_indices, store.columns["action"], strict=True)
        for text in clip_indices
    }
    found: dict[str, bool] = {}
    for action, texts in held_out.items():
        near = (encoder.embed(texts).numpy() @ vectors.T).argmax(axis=1)
        found |= {text: action_of[int(caption)] == action for text, caption in zip(texts, near, strict=True)}
    return found


def run(store_path: str, run_path: str, options: SampleOptions) -> dict[str, Any]:
    """The whole table."""
    store = MotionStore(store_path)
    check_same_data(run_path, store)
    pipeline = load_pipeline(run_path, options.scheduler)
    if not pipeline.takes_text:
        raise InputError(f"{run_path}: takes no text; train with text.enabled=true")
    captions = store_captions(store)
    held_out = {action: texts for action, texts in HELD_OUT.items() if action in store.actions}
    if not held_out:
        raise InputError(f"{store_path}: none of its actions is among {', '.join(HELD_OUT)}")
    check_unseen(held_out, captions)
    classifier = fit_classifier(ClipSet.from_store(store, split="train"), ClassifierConfig(), 0)
    test = ClipSet.from_store(store, split="test")
    real = classifier.predict(test).argmax(axis=1) == test.labels
    names = {action: (action,) for action in held_out}
    by_name = shares(pipeline, classifier, names, options)
    by_paraphrase = shares(pipeline, classifier, held_out, options)
    by_action = shares(pipeline, classifier, names, options, as_action=True)
    chance = 1 / len(classifier.class_names)
    share, reference = mean_share(by_paraphrase), mean_share(by_name)
    each = {text: value for texts in by_paraphrase.values() for text, value in texts.items()}
    near = nearest_caption(pipeline, store, captions, held_out)
    return {
        "class_name": reference,
        "paraphrases": share,
        "by_action": mean_share(by_action),
        "real_test_clips": float(real.mean()),
        "paraphrases_ci95": mean_interval(list(each.values())).to_dict()["ci95"],
        "nearest_caption": float(np.mean(list(near.values()))),
        **{
            name: float(np.mean(values)) if (values := [each[text] for text in each if near[text] is hit]) else None
            for name, hit in (("share_where_nearest", True), ("share_where_not", False))
        },
        "chance": chance,
        "over_chance": share / chance,
        "ratio": share / reference if reference else None,
        "targets": {
            "over_chance": share / chance >= TARGETS["over_chance"],
            "ratio": bool(reference) and share / reference >= TARGETS["ratio"],
        },
        "actions": {
            action: {
                "class_name": by_name[action][action],
                "by_action": by_action[action][action],
                "paraphrases": float(np.mean(list(texts.values()))),
                "each": texts,
            }
            for action, texts in by_paraphrase.items()
        },
        "settings": {
            "count": options.count,
            "steps": options.steps,
            "guidance": options.guidance,
            "scheduler": options.scheduler,
            "seed": options.seed,
        },
        "encoder": dict(pipeline.denoiser.config.text_encoder),
        "environment": describe_environment(),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store")
    parser.add_argument("run")
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--guidance", type=float, default=2.5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=None)
    parsed = parser.parse_args()
    table = run(
        parsed.store,
        parsed.run,
        SampleOptions(count=parsed.count, steps=parsed.steps, guidance=parsed.guidance, seed=parsed.seed),
    )
    if parsed.out:
        write_json(parsed.out, table)
    print(json.dumps({name: value for name, value in table.items() if name != "environment"}, indent=2))
