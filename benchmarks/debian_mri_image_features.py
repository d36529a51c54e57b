"""Slice features of the image branch on the slices of OASIS-1: pixels against the frozen image encoder.

    debian-mri prepare --format oasis-slices oasis1_slices --out DATA
    OMP_NUM_THREADS=1 python benchmarks/debian_mri_image_features.py DATA --repeats 3

Every model is trained by the library for each outer fold of people. Its inner loss and AUC come from inner folds of the
training people of that outer fold (`TrainedFold.inner`, with the fitted temperature). The choice of a fold is the model
of the smallest inner loss; the outer AUC, on people that neither the training nor the choice has read, is reported for
each model and for the choice. The image branch stands alone in the first pair, beside the configured biomarkers and age
in the second.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from debian_mri.config import MriConfig
from debian_mri.data.inputs import load_inputs
from debian_mri.data.manifest import Manifest
from debian_mri.evaluation.protocols import ProtocolOptions, folds_of
from debian_mri.models.class_texts import MriTexts
from debian_mri.training.trainer import predict_test, train_fold
from icube_common.config import load_config
from icube_common.evaluation import Predictions, make_predictions
from icube_common.evaluation.predictions import concatenate
from icube_common.io.runs import RunFolder
from icube_common.training import load_backbone

CONFIG = Path(__file__).resolve().parents[1] / "libs" / "debian_mri" / "configs" / "oasis_slices.yaml"
ALONE = ("concepts.enabled=false", "demographics.mode=none")
FAMILIES = (("image: pixels", "image: encoder"), ("configured", "configured + pixels", "configured + encoder"))
KEYS = {
    "image: pixels": ("visual.enabled=true", "visual.encoder=pixels", *ALONE),
    "image: encoder": ("visual.enabled=true", "visual.encoder=vlm", *ALONE),
    "configured": ("visual.enabled=false",),
    "configured + pixels": ("visual.enabled=true", "visual.encoder=pixels"),
    "configured + encoder": ("visual.enabled=true", "visual.encoder=vlm"),
}


def auc(labels: npt.NDArray[np.int64], scores: npt.NDArray[np.float64]) -> float:
    """Area under the ROC curve of class 1."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(labels, scores))


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args(arguments)
    manifest = Manifest.load(args.data)
    samples = manifest.samples()
    configs = {
        name: load_config(MriConfig, file=CONFIG, overrides=[*keys, "train.device=cpu"]) for name, keys in KEYS.items()
    }
    vlm = load_backbone(configs["image: encoder"].vlm, configs["image: encoder"].train)
    inputs = {name: load_inputs(manifest, config, vlm) for name, config in configs.items()}
    folds = folds_of(samples, "group-kfold", ProtocolOptions(folds=args.folds, repeats=args.repeats))
    outer: dict[str, list[Predictions]] = {name: [] for name in [*KEYS, *(f"chosen of {f}" for f in FAMILIES)]}
    inner: dict[str, list[tuple[float, float]]] = {name: [] for name in KEYS}
    choices: dict[tuple[str, ...], list[str]] = {family: [] for family in FAMILIES}
    for fold in folds:
        predicted = {}
        for name, config in configs.items():
            with tempfile.TemporaryDirectory() as folder:
                run = RunFolder.create(Path(folder) / "run", config_yaml="", environment={})
                texts = MriTexts.of(manifest, config)
                trained = train_fold(inputs[name], fold, config, vlm if config.needs_encoder else None, texts, run)
            probabilities = trained.model.calibration.probabilities(trained.inner)
            labels = fold.train_labels
            loss = -float(np.log(probabilities[np.arange(len(labels)), labels]).mean())
            inner[name].append((loss, auc(labels, probabilities[:, 1])))
            predicted[name] = make_predictions(samples, fold, predict_test(trained, inputs[name], fold))
            outer[name].append(predicted[name])
        for family in FAMILIES:
            choice = min(family, key=lambda name: inner[name][-1][0])
            choices[family].append(choice)
            outer[f"chosen of {family}"].append(predicted[choice])
        line = ", ".join(f"{name} {inner[name][-1][0]:.4f} / {inner[name][-1][1]:.3f}" for name in KEYS)
        print(f"repeat {fold.repeat} fold {fold.number}: inner loss / AUC: {line}", flush=True)
    print("\n| model | inner loss | inner AUC | outer AUC | 95 % interval |\n|---|---|---|---|---|")
    whole = {name: concatenate(parts) for name, parts in outer.items()}
    for name, predictions in whole.items():
        interval = predictions.metrics(["auc"])["auc"].to_dict()
        low, high = interval["ci95"]
        means = "| {:.4f} | {:.3f} ".format(*np.mean(inner[name], axis=0)) if name in inner else "|  |  "
        print(f"| {name} {means}| {interval['mean']:.3f} | {low:.3f} to {high:.3f} |")
    for family in FAMILIES:
        first = whole[family[0]]
        for other in family[1:]:
            difference = first.compare(whole[other], ["auc"])["auc"].to_dict()
            print(f"AUC of {family[0]} minus {other}: {difference}")
        print(f"choices: {dict(Counter(choices[family]))}")


if __name__ == "__main__":
    main()
