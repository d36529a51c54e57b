"""The demo: the whole way, from volumes to pages, on simulated brains and in a few minutes of CPU."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from debian_mri import RESEARCH_ONLY
from debian_mri.config import ConceptConfig, DemographicsConfig, MriConfig, VisualConfig
from debian_mri.data.manifest import Manifest, Scan
from debian_mri.data.qc import write_qc_page
from debian_mri.evaluation.explanation_eval import evaluate_explanations
from debian_mri.evaluation.runner import evaluate
from debian_mri.imaging.preprocess import PreprocessConfig
from debian_mri.imaging.slices import SliceConfig
from debian_mri.imaging.volume_cache import preprocess_all
from debian_mri.inference.pipeline import predict
from debian_mri.simulation.cohort import CohortConfig, simulate_cohort
from debian_mri.training.run import train
from icube_common.errors import InputError
from icube_common.io.runs import check_output_path

logger = logging.getLogger(__name__)

NOTE = "simulated brains: the ICBM152 template, deformed by formulas; of no person"
SUBJECTS = 48
# of each class as many are not trained on
HELD_OUT = 8
CLASSES = ("CN", "AD")
# as configs/mni_volumes.yaml
CONFIG = MriConfig(
    visual=VisualConfig(enabled=False),
    concepts=ConceptConfig(
        biomarkers=[
            "hippocampal_volume_loss",
            "medial_temporal_atrophy",
            "ventricular_enlargement",
            "parietal_atrophy",
        ],
        covariate_adjusted=True,
    ),
    demographics=DemographicsConfig(mode="linear", columns=["age", "sex"]),
    preprocess=PreprocessConfig(spacing=2.0),
    slices=SliceConfig(mode="even", planes=["coronal"], count=24),
)


def demo(
    out: str | Path,
    *,
    subjects: int | None = None,
    spacing: float | None = None,
    workers: int = 2,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Simulate a cohort, look at it, train, evaluate, predict for people left out, test the reasons; what to open.

    Args:
        out: folder for the cohort, run, evaluation, predictions and pages.
        subjects: people; by default what takes about two minutes on two CPU cores.
        spacing: mm between voxels, 2 by default.
        workers: local processes that simulate.
        overwrite: replace what an earlier demo left in ``out``.

    Raises:
        InputError: ``out`` exists, or too few people.
    """
    out = check_output_path(out, overwrite=overwrite)
    subjects = SUBJECTS if subjects is None else subjects
    least = 2 * (HELD_OUT + 6)
    if subjects < least:
        raise InputError(f"subjects {subjects}: at least {least} are needed")
    begun = time.monotonic()
    config = CONFIG
    if spacing is not None:
        config = replace(config, preprocess=replace(config.preprocess, spacing=spacing))
    logger.info("Simulating %d brains (%s)", subjects, NOTE)
    cohort = CohortConfig(subjects=subjects, classes=list(CLASSES), spacing=config.preprocess.spacing)
    manifest = simulate_cohort(out / "data", cohort, workers=workers, overwrite=overwrite)
    logger.info("Preparing the simulated volumes")
    preprocess_all(manifest, config.preprocess, workers=workers, strict=True)
    write_qc_page(out / "data", out / "qc.html", config.preprocess, overwrite=overwrite)
    held_out = _held_out(manifest)
    logger.info("Training on %d of the simulated people", subjects - len(held_out))
    trained = train(
        config, out / "data", out / "run", exclude_subjects=[scan.subject for scan in held_out], overwrite=overwrite
    )
    logger.info("Leaving a fifth of the people out in turn, beside images alone and a table alone")
    judged = evaluate(
        out / "data", config, out / "evaluation", comparisons="image,table", overwrite=overwrite
    ).to_dict()
    chosen = next(scan for scan in held_out if scan.label == CLASSES[-1])
    logger.info("Predicting for %s, a simulated person that nothing was trained on", chosen.id)
    page = out / "prediction.html"
    prediction = predict(
        trained.model,
        data=out / "data",
        scan_id=chosen.id,
        html=page,
        report=out / "prediction.json",
        overwrite=overwrite,
    )
    logger.info("Holding explanations against what was changed in the simulated brains")
    tested = evaluate_explanations(out / "run", out / "data", out / "explanation", overwrite=overwrite)
    return {
        "notice": RESEARCH_ONLY,
        "note": NOTE,
        "simulated": True,
        "people": subjects,
        "auc on simulated people left out": judged["auc"],
        "auc of the others on the same folds": {
            name: row["auc"]["mean"] for name, row in judged["comparisons"].items()
        },
        "prediction": {
            "scan": chosen.id,
            "simulated as": chosen.label,
            "predicted": prediction.label,
            "probability": round(prediction.probability, 3),
        },
        "named slices show what was changed, times chance": tested["location"]["ratio"],
        "seconds": round(time.monotonic() - begun, 1),
        "open": {
            "all simulated scans": str(out / "qc.html"),
            "training": str(trained.run.report),
            "evaluation": judged["report"],
            "a prediction with its reasons": str(page),
            "explanations beside the truth": tested["report"],
        },
    }


def _held_out(manifest: Manifest) -> list[Scan]:
    """The last people of each class."""
    scans: list[Scan] = []
    for label in CLASSES:
        scans += [scan for scan in manifest.scans if scan.label == label][-HELD_OUT:]
    return scans


def render(result: Mapping[str, Any]) -> str:
    """A result for a terminal; what to open comes last."""
    auc, ratio = result["auc on simulated people left out"], result["named slices show what was changed, times chance"]
    person = result["prediction"]
    others = ", ".join(f"{name} {value:.3f}" for name, value in result["auc of the others on the same folds"].items())
    lines = [
        f"Done in {result['seconds']:.0f} s: {result['people']} {result['note']}.",
        f"AUC on simulated people left out: {_with_ends(auc)} ({others})",
        f"{person['scan']}, simulated as {person['simulated as']}: {person['predicted']} with a probability of "
        f"{person['probability']:.2f}",
        f"Slices that explanations name show what was changed {_with_ends(ratio)} times as often as chance",
        result["notice"],
        "",
        "To open:",
    ]
    width = max(map(len, result["open"]))
    return "\n".join([*lines, *(f"  {words:<{width}}  {path}" for words, path in result["open"].items())])


def _with_ends(metric: Mapping[str, Any]) -> str:
    low, high = metric["ci95"]
    return f"{metric['mean']:.3f}" + ("" if low is None else f" [{low:.3f}, {high:.3f}]")
