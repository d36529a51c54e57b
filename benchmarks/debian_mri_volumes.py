"""Volumes by registration on a simulated cohort: what DLB spares, and models on volumes beside models on images.

    debian-mri simulate --subjects 250 --classes CN,MCI,AD,DLB,PD --seed 23 --out S
    debian-mri volumes S --atlas neuromorphometrics --out volumes.csv
    OMP_NUM_THREADS=1 python benchmarks/debian_mri_volumes.py S volumes.csv --out OUT

Parts of the run, each resumed where OUT has it:

- ``sparing``: w-scores of structures, ``log(volume / intracranial volume)`` given age and sex among CN, and the
  difference of mean w-scores between classes with a 95 % interval over people; the regression of each resample is its
  own. Beside it the same of the true volumes.
- ``pair``: CN against AD, five folds of people: the image branch on pixels, slice signs, volumes, logistic regression
  on the volumes and the age, and the 3-D network of DAFT at 2 mm, with DeLong's test of "volumes minus it".
- ``classes``: one against one of all classes, with Hand and Till's macro AUC.

The registration's template is that of the atlas, and not the one that the simulation deforms.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from debian_mri.biomarkers.volumes import VolumeTable
from debian_mri.config import MriConfig
from debian_mri.data.manifest import Manifest, write_manifest
from debian_mri.evaluation import comparisons
from debian_mri.evaluation.runner import evaluate
from debian_mri.evaluation.statistics.roc_analysis import delong_test, pairwise_auc
from icube_common.config import load_config
from icube_common.evaluation import Predictions
from icube_common.evaluation.intervals import interval_of

Array = npt.NDArray[np.float64]
CONFIG = Path(__file__).resolve().parents[1] / "libs" / "debian_mri" / "configs" / "mni_volumes.yaml"
# structures of a table -> structure of the simulation's truth
SUMS = {
    "hippocampus": (("hippocampus",), "hippocampus"),
    "medial temporal lobe": (
        ("hippocampus", "amygdala", "entorhinal_cortex", "parahippocampal_gyrus"),
        "medial_temporal",
    ),
    "lateral ventricles": (("lateral_ventricle", "inferior_lateral_ventricle"), "lateral_ventricles"),
}
PIXELS = ("visual.enabled=true", "visual.encoder=pixels", "concepts.enabled=false", "demographics.mode=none")


def w_scores(values: Array, covariates: Array, controls: npt.NDArray[np.bool_], weights: Array) -> Array:
    """w-scores relative to weighted controls' regression on covariates (N, Q)."""
    design = np.column_stack([np.ones(len(values)), covariates])
    share = weights * controls
    system = design.T @ (share[:, None] * design)
    expected = design @ np.linalg.solve(system, design.T @ (share * values))
    spread = np.sqrt((share * (values - expected) ** 2).sum() / share.sum())
    scores: Array = (values - expected) / spread
    return scores


def difference(
    values: Array, covariates: Array, labels: npt.NDArray[np.str_], first: str, second: str
) -> Callable[[Array], Array]:
    """Mean w-score of one class minus another's, as a function of how often each person is drawn (B, N)."""

    def statistic(draws: Array) -> Array:
        results = []
        for weights in draws:
            scores = w_scores(values, covariates, labels == "CN", weights)
            one, two = (np.average(scores, weights=weights * (labels == name)) for name in (first, second))
            results.append(one - two)
        return np.array(results)

    return statistic


def sparing(manifest: Manifest, table: VolumeTable) -> None:
    """Print the table of DLB, AD and CN."""
    scans = [scan for scan in manifest.scans if scan.id in table.ids]
    ids, labels = [scan.id for scan in scans], np.array([scan.label for scan in scans])
    people = manifest.participants()
    order = [people.ids.index(name) for name in ids]
    age, sex = (people.values[order, people.names.index(name)] for name in ("age", "sex"))
    print(f"people: {', '.join(f'{name} {int((labels == name).sum())}' for name in sorted(set(labels.tolist())))}")
    rows = [table.ids.index(name) for name in ids]
    truths = [json.loads((manifest.folder / "truth" / f"{name}.json").read_text()) for name in ids]
    used = np.isin(labels, ["CN", "AD", "DLB"])
    covariates = np.column_stack([age, sex])[used]
    print("| structure | volumes | DLB minus AD | DLB minus CN | AD minus CN |\n|---|---|---|---|---|")
    for name, (structures, truth) in SUMS.items():
        there = [one for one in structures if set(columns(one)) <= set(table.names)]
        measured = np.log(sum(table.relative(one) for one in there)[rows])
        skull = np.array([one["volumes_ml"]["brain"] for one in truths])
        true = np.log(np.array([one["volumes_ml"][truth] for one in truths]) / skull)
        for kind, values in (("measured", measured), ("true", true)):
            cells = []
            for first, second in (("DLB", "AD"), ("DLB", "CN"), ("AD", "CN")):
                statistic = difference(values[used], covariates, labels[used], first, second)
                interval = interval_of(statistic, np.array(ids)[used].tolist())
                cells.append(f"{interval.mean:+.2f} [{interval.low:+.2f}, {interval.high:+.2f}]")
            print(f"| {name} | {kind} | {' | '.join(cells)} |", flush=True)


def columns(structure: str) -> tuple[str, ...]:
    """Columns of a structure."""
    from debian_mri.biomarkers.volumes import STRUCTURES

    return tuple(STRUCTURES[structure].columns)


def subset(manifest: Manifest, labels: Sequence[str], table: VolumeTable, out: Path) -> Path:
    """A prepared folder of the scans of some classes that have volumes, with the cached images of the whole."""
    if not (out / "dataset.json").is_file():
        out.mkdir(parents=True)
        people = manifest.participants()
        scans = [scan for scan in manifest.scans if scan.label in labels and scan.id in table.ids]
        rows = {
            name: {
                column.name: column.values[int(value)] if column.kind == "category" else repr(float(value))
                for column, value in zip(people.columns, row, strict=True)
                if not np.isnan(value)
            }
            for name, row in zip(people.ids, people.values, strict=True)
        }
        description = {
            name: manifest.description[name] for name in ("format", "title", "citation", "simulated", "space")
        }
        description |= {"root": str(manifest.folder.resolve()), "class_names": list(labels)}
        write_manifest(out, description, scans, rows, columns=people.columns)
        (manifest.folder / "volumes").mkdir(exist_ok=True)
        (out / "volumes").symlink_to((manifest.folder / "volumes").resolve())
    return out


def run_rows(data: Path, volumes: Path, out: Path, *, network: bool) -> dict[str, Predictions]:
    """Predictions of each row of a table, on the same folds."""
    settings = {
        "image: pixels of 24 slices": (PIXELS, "none"),
        "slice signs, age and sex": ((), "cnn-3d" if network else "none"),
        "volumes, age and sex": ((f"concepts.volumes={volumes}",), "logistic-biomarkers"),
    }
    rows: dict[str, Predictions] = {}
    for name, (overrides, compared) in settings.items():
        config = load_config(MriConfig, file=CONFIG, overrides=[*overrides, "train.device=cpu"])
        folder = out / name.split(",")[0].split(":")[0].replace(" ", "_")
        if not (folder / "predictions.csv").is_file():
            evaluate(data, config, folder, comparisons=compared)
        rows[name] = Predictions.read_csv(folder / "predictions.csv")
        for other, title in (
            ("logistic-biomarkers", "logistic regression, volumes and age"),
            ("cnn-3d", "3-D network"),
        ):
            if other in compared:
                rows[title] = Predictions.read_csv(folder / "comparisons" / f"{other}.csv")
    return rows


def text(value: dict[str, Any]) -> str:
    """Value with its interval."""
    low, high = value["ci95"]
    return f"{value['mean']:.3f} [{low:.3f}, {high:.3f}]"


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("volumes", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--parts", default="sparing,pair,classes")
    parser.add_argument("--cnn-steps", type=int, default=150, help="steps of the 3-D network, batches of 8; 0: none")
    args = parser.parse_args(arguments)
    parts = args.parts.split(",")
    manifest, table = Manifest.load(args.data), VolumeTable.read(args.volumes)
    if args.cnn_steps:
        comparisons.CNN_SETTINGS = replace(comparisons.CNN_SETTINGS, max_steps=args.cnn_steps, eval_steps=8)
    if "sparing" in parts:
        sparing(manifest, table)
    if "pair" in parts:
        data = subset(manifest, ("CN", "AD"), table, args.out / "CN_AD")
        rows = run_rows(data, args.volumes, args.out / "pair", network=args.cnn_steps > 0)
        print("\n| CN against AD | AUC | volumes minus it, DeLong | p |\n|---|---|---|---|")
        for name, predictions in rows.items():
            cells = [text(predictions.metrics(["auc"])["auc"].to_dict()), "", ""]
            if name != "volumes, age and sex":
                test = delong_test(rows["volumes, age and sex"], predictions)
                cells[1:] = [f"{test.difference:+.3f} [{test.low:+.3f}, {test.high:+.3f}]", f"{test.p_value:.3f}"]
            print(f"| {name} | {' | '.join(cells)} |", flush=True)
    if "classes" in parts:
        data = subset(manifest, manifest.description["class_names"], table, args.out / "all")
        tables = {
            name: {" / ".join(row["classes"]): row["auc"] for row in pairwise_auc(predictions)}
            for name, predictions in run_rows(data, args.volumes, args.out / "classes", network=False).items()
        }
        print(f"\n| pair | {' | '.join(tables)} |\n|---|{'---|' * len(tables)}")
        for pair in next(iter(tables.values())):
            print(f"| {pair} | {' | '.join(text(table[pair]) for table in tables.values())} |", flush=True)


if __name__ == "__main__":
    main()
