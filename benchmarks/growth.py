"""Growth of time and memory with the data: clips of a store, scans of a manifest, classes of a prompt learner.

    OMP_NUM_THREADS=1 python benchmarks/growth.py --out FOLDER

Simulated data throughout. Each size is measured in a process of its own, forked from one that has imported everything:

- clips (1,000 to 100,000): 20 simulated motions under new ids, written into a store; then one epoch of
  `MotionDataset`, every window read once;
- scans (100 to 10,000): a manifest with five variables, written and read; then the rows as samples;
- classes (10 to 1,000): `PromptLearner` of a description each on ``icube-tiny``, the features of all classes once, and
  the cosines of 256 images.

Seconds are processor time; memory is the largest anonymous resident size of a part above that at its start, in MB:
pages of mapped files, which the system takes back, do not count. ``growth.json`` and ``growth.svg`` come to lie in
FOLDER. A line of slope 1 in the plot is linear growth; ``slope`` is the exponent between the two largest sizes.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from debian_mri.data.clinical_variables import VARIABLES
from debian_mri.data.manifest import Manifest, Scan, write_manifest
from icube_common.prompts import ClassTexts, PromptConfig
from icube_common.vlm import load_vlm
from motiondiff.config import DataConfig
from motiondiff.data.dataset import MotionDataset
from motiondiff.data.store import MotionStore
from motiondiff.data.store_writer import StoreWriter
from motiondiff.data.synthetic import simulate_clips
from motiondiff.skeleton.motion import canonicalise

SIZES = {"clips": (1_000, 10_000, 100_000), "scans": (100, 1_000, 10_000), "classes": (10, 100, 1_000)}


class Part:
    """Seconds and memory of a part of the work."""

    def __init__(self) -> None:
        self.start, self.before = time.process_time(), anonymous_mb()
        self.peak = self.before

    def sample(self) -> None:
        """Look at the memory."""
        self.peak = max(self.peak, anonymous_mb())

    def result(self) -> dict[str, float]:
        """What was measured."""
        self.sample()
        return {"seconds": round(time.process_time() - self.start, 4), "mb": round(self.peak - self.before, 1)}


def anonymous_mb() -> float:
    """Anonymous resident memory of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return float(next(line for line in lines if line.startswith("RssAnon")).split()[1]) / 1024


def clips(count: int, folder: Path) -> dict[str, dict[str, float]]:
    """A store of so many clips, and an epoch of it."""
    motions = [canonicalise(clip.motion) for clip in simulate_clips(20)]
    folder.mkdir()
    writing = Part()
    with StoreWriter(folder) as writer:
        for number in range(count):
            writer.append(*motions[number % len(motions)], clip_id=f"clip-{number:06d}")
            if number % 1000 == 0:
                writing.sample()
        description = {"format": "simulated", "source": "simulated", "simulated": True, "split_by": "none"}
        writer.finish(splits=["train"] * count, rejected=[], description=description)
    result = {"write a store": writing.result()}
    reading = Part()
    data = MotionDataset(MotionStore(folder), config=DataConfig())
    for number in range(count):
        data[number]
        if number % 1000 == 0:
            reading.sample()
    return {**result, "an epoch of windows": reading.result()}


def scans(count: int, folder: Path) -> dict[str, dict[str, float]]:
    """A manifest of so many scans."""
    folder.mkdir()
    names = ("age", "sex", "education", "MMSE", "nWBV")
    part = Part()
    rows = [
        Scan(id=f"s{n}", subject=f"p{n // 2}", label=("CN", "AD")[n % 2], paths=(f"{n}.nii.gz",), sha256=f"{n:064x}")
        for n in range(count)
    ]
    values = {row.id: dict(zip(names, ("70.0", "F", "12", "29", "0.75"), strict=True)) for row in rows}
    description = {"format": "simulated", "title": "Simulated", "root": ".", "class_names": ["CN", "AD"]}
    write_manifest(folder, description, rows, values, columns=[VARIABLES[name] for name in names])
    part.sample()
    result = {"write a manifest": part.result()}
    part = Part()
    manifest = Manifest.load(folder)
    assert len(manifest.samples()) == count
    return {**result, "read a manifest": part.result()}


def classes(count: int, folder: Path) -> dict[str, dict[str, float]]:
    """Prompts of so many classes."""
    names = {f"c{number}": f"class {number}" for number in range(count)}
    texts = ClassTexts(names, {label: f"a person does {name}" for label, name in names.items()}, {})
    part = Part()
    with torch.no_grad():
        prompts = texts.prompts(VLM, list(names), PromptConfig(init="descriptions"))
        part.sample()
        features = torch.nn.functional.normalize(prompts(), dim=-1)
        (torch.randn(256, features.shape[-1]) @ features.T).argmax(1)
    return {"encode classes and compare": part.result()}


WORK: dict[str, Callable[[int, Path], dict[str, dict[str, float]]]] = {
    "clips": clips,
    "scans": scans,
    "classes": classes,
}
VLM = load_vlm("icube-tiny")


def measure(kind: str, count: int, folder: Path, queue: Any) -> None:
    """One size, in a process of its own."""
    torch.set_num_threads(1)
    queue.put(WORK[kind](count, folder))
    shutil.rmtree(folder, ignore_errors=True)


def plot(results: dict[str, dict[str, dict[str, dict[str, float]]]], path: Path) -> None:
    """Seconds and memory over the size, for each kind."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 6), layout="constrained")
    axes = figure.subplots(2, len(results), squeeze=False)
    for column, (kind, sizes) in enumerate(results.items()):
        for part in next(iter(sizes.values())):
            x = [int(size) for size in sizes]
            axes[0, column].loglog(x, [sizes[str(size)][part]["seconds"] for size in x], "o-", label=part)
            axes[1, column].semilogx(x, [sizes[str(size)][part]["mb"] for size in x], "o-", label=part)
        axes[0, column].set(title=kind, ylabel="processor seconds" if not column else "")
        axes[1, column].set(xlabel=kind, ylabel="MB above the start" if not column else "", ylim=(0, None))
        axes[0, column].legend(fontsize=8)
    figure.savefig(path)


def main() -> None:
    """Print the figures as JSON and draw them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--kinds", nargs="*", choices=tuple(SIZES), default=list(SIZES))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("fork")
    results: dict[str, dict[str, dict[str, dict[str, float]]]] = {}
    for kind in args.kinds:
        for size in SIZES[kind]:
            queue = context.Queue()
            process = context.Process(target=measure, args=(kind, size, args.out / f"{kind}-{size}", queue))
            process.start()
            results.setdefault(kind, {})[str(size)] = queue.get(timeout=3600)
            process.join()
            print(kind, size, results[kind][str(size)], flush=True)
    slopes = {
        part: round(
            math.log10(results[kind][str(large)][part]["seconds"] / results[kind][str(small)][part]["seconds"])
            / math.log10(large / small),
            2,
        )
        for kind in args.kinds
        for small, large in [SIZES[kind][-2:]]
        for part in results[kind][str(large)]
    }
    (args.out / "growth.json").write_text(json.dumps({"slope": slopes, **results}, indent=1) + "\n")
    plot(results, args.out / "growth.svg")
    print(json.dumps(slopes))


if __name__ == "__main__":
    main()
