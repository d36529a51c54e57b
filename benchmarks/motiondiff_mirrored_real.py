"""Mirroring of real clips as augmentation of a classifier: the part of the effect of generated motions due to it.

Usage: OMP_NUM_THREADS=1 python benchmarks/motiondiff_mirrored_real.py STORE --test-subjects s04,s06 [--fraction 0.25]
       [--seeds 5] [--draw-seed 0] [--out FILE.json]

The control of an augmentation study whose generator was trained with ``data.mirror``: the same share of the real clips,
the same held-out subjects, and classifiers (GRU) that are shown the mirrored clips for half of the draws, as they are
shown generated ones there. Top-1 and its difference from the real clips alone, paired over classifier seeds (t).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from motiondiff.augmentation.subsets import sample_subset, split_real_and_test

from icube_common.evaluation import mean_interval
from icube_common.io.runs import write_json
from motiondiff.config import ClassifierConfig
from motiondiff.data.clips import ClipSet
from motiondiff.data.store import MotionStore
from motiondiff.recognition import fit_classifier
from motiondiff.skeleton.mirror import mirror

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store")
    parser.add_argument("--test-subjects", required=True)
    parser.add_argument("--fraction", type=float, default=0.25)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--draw-seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=None)
    arguments = parser.parse_args()
    store = MotionStore(arguments.store)
    real, test = split_real_and_test(store, arguments.test_subjects.split(","))
    rows = sample_subset(store, real, arguments.fraction, arguments.subset_seed)
    clips, held_out = ClipSet.from_store(store, rows=rows), ClipSet.from_store(store, rows=test)
    mirrored = ClipSet.from_motions([mirror(store[int(row)]) for row in rows], clips.class_names)
    found: dict[str, list[float]] = {"real": [], "real + mirrored": []}
    for seed in range(arguments.seeds):
        for name, training in (("real", clips), ("real + mirrored", clips.joined(mirrored))):
            named = fit_classifier(training, ClassifierConfig(), seed).predict(held_out).argmax(axis=1)
            found[name].append(float((named == held_out.labels).mean()))
    differences = np.subtract(found["real + mirrored"], found["real"]).tolist()
    result = {
        **{name: {"values": values, **mean_interval(values).to_dict()} for name, values in found.items()},
        "difference": mean_interval(differences).to_dict(),
        "clips": len(rows),
        "test_clips": len(test),
    }
    print(json.dumps(result, indent=1))
    if arguments.out:
        write_json(arguments.out, result)
