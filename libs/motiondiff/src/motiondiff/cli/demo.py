"""Demo: from clips to animations on simulated motions, in a few minutes of CPU."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from icube_common.errors import InputError
from icube_common.io.runs import check_output_path
from icube_common.training import TrainConfig
from motiondiff.config import DataConfig, ModelConfig, MotionDiffConfig
from motiondiff.data.prepare import PrepareOptions, write_store
from motiondiff.data.synthetic import ACTIONS, simulate_clips
from motiondiff.pipelines.sampling import SampleOptions, sample
from motiondiff.training.diffusion import train

logger = logging.getLogger(__name__)

CLIPS = 400
CONFIG = MotionDiffConfig(
    train=TrainConfig(
        max_steps=700,
        batch_size=32,
        learning_rate=1e-3,
        warmup_steps=50,
        lr_scheduler="cosine",
        ema_decay=0.99,
        mixed_precision="bf16",
        checkpointing_steps=400,
        logging_steps=20,
    ),
    model=ModelConfig(num_layers=4, width=128, feedforward=512, dropout=0.0),
    data=DataConfig(max_frames=72),
)


def demo(out: str | Path, *, steps: int | None = None, overwrite: bool = False) -> dict[str, Any]:
    """Simulate clips, train a small model on them, sample every action, and list the files to open.

    Args:
        out: folder for store, run and samples.
        steps: training steps; by default what takes about two minutes on two CPU cores.
        overwrite: replace what an earlier demo left in ``out``.

    Raises:
        InputError: ``out`` exists, or ``steps`` is not positive.
    """
    out = check_output_path(out, overwrite=overwrite)
    if steps is not None and steps < 1:
        raise InputError(f"--steps {steps}: must be at least 1")
    config = CONFIG if steps is None else replace(CONFIG, train=replace(CONFIG.train, max_steps=steps))
    logger.info("Simulating %d clips of %s (formulas, not recordings of people)", CLIPS, ", ".join(ACTIONS))
    description = {"format": "simulated", "source": "motiondiff demo", "simulated": True}
    store = write_store(
        simulate_clips(CLIPS), out / "store", PrepareOptions(), description=description, overwrite=overwrite
    )
    logger.info("Training for %d steps", config.train.max_steps)
    trained = train(None, store.path, config, out=out / "run", overwrite=overwrite)
    logger.info("Sampling two motions of every action")
    samples = sample(
        out / "run",
        out / "samples",
        SampleOptions(per_action=2, steps=10, guidance=2.5),
        formats=("bvh", "npz", "gif", "html"),
        overwrite=overwrite,
    )
    animations = [row["files"]["gif"] for row in samples["samples"]]
    return {
        "note": "simulated motions: made by formulas, not recordings of people",
        "store": str(store.path),
        "training_seconds": round(trained.fit.seconds, 1),
        "open": {
            "report": str(trained.run.report),
            "animations": animations,
            "in Blender (File > Import > BVH)": [row["files"]["bvh"] for row in samples["samples"]][::2],
        },
    }
