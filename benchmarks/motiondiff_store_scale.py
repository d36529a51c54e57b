"""Scale of a store of 100,000 clips: time to open, memory of loading, and throughput of training.

    python benchmarks/motiondiff_store_scale.py FOLDER [--clips 100000]

Makes ``FOLDER/store-<clips>`` where it is not there yet: 500 simulated motions of 50 bodies, written again and again
under new ids (20 fps, 2 to 3.5 s each). Every measurement runs in a fresh process; one JSON object is printed:

- ``info``: wall seconds and peak memory of ``motiondiff info STORE --json``, imports included;
- ``loader_memory``: what reading 300 batches adds to a process that has imported all it needs, over the border of an
  epoch, with the default settings of ``motiondiff train`` and batches of 64. ``peak_mb`` is the growth of the largest
  resident size (VmHWM), ``kept_mb`` of the resident size at the end (VmRSS);
- ``rates``: batches per second of that loader and optimiser steps per second of the default model in bf16, in turns in
  one process, so that both see the same machine; medians over the turns, and the ratio at its least favourable.

Linux only: memory is read from /proc. The store's pages are in the system's cache, as they are after the first epoch.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from typing import Any

# torch and numpy are imported by the measuring processes only: a child's peak memory counts that of the process
# which started it, so this one has to stay small

DISTINCT, BODIES = 500, 50
INFO_RUNS = 5
BATCH_SIZE, BATCHES = 64, 300
TURNS, BATCHES_A_TURN, STEPS_A_TURN = 7, 40, 3
TARGETS = {"info_seconds": 1.0, "info_peak_mb": 200.0, "loader_peak_mb": 200.0, "loader_over_step": 3.0}


def make_store(path: Path, clips: int) -> None:
    """Write a store of ``clips`` simulated motions with distinct ids."""
    from icube_common.io.runs import atomic_folder
    from motiondiff.data.store_writer import StoreWriter
    from motiondiff.data.synthetic import simulate_clips
    from motiondiff.skeleton.motion import canonicalise

    motions = [canonicalise(clip.motion) for clip in simulate_clips(DISTINCT, subjects=BODIES)]
    with atomic_folder(path) as folder:
        writer = StoreWriter(folder)
        for number in range(clips):
            writer.append(*motions[number % DISTINCT], clip_id=f"simulated-{number:08d}")
        writer.finish(description={"format": "simulated", "split_by": "none", "simulated": True})


def measure_info(store: Path) -> dict[str, Any]:
    """Seconds and peak resident size of the command, from its start to its end."""
    seconds, peaks = [], []
    for _ in range(INFO_RUNS):
        begun = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "motiondiff", "info", str(store), "--json"], stdout=subprocess.DEVNULL
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds.append(time.perf_counter() - begun)
        peaks.append(usage.ru_maxrss / 1024)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"motiondiff info {store}: exit status {process.returncode}")
    return {
        "best_seconds": round(min(seconds), 3),
        "median_seconds": round(statistics.median(seconds), 3),
        "peak_mb": round(max(peaks), 1),
    }


def batches(store: Path, start: int, count: int) -> Iterator[Any]:
    """Batches as `icube_common.training.fit` loads them for ``motiondiff train`` with default settings."""
    import torch

    from icube_common.training.sampler import BatchOrder, MicroBatches
    from motiondiff.config import DataConfig
    from motiondiff.data.dataset import MotionDataset, class_balanced_weights, collate
    from motiondiff.data.store import MotionStore

    config = DataConfig()
    opened = MotionStore(store)
    clips = opened.select("train")
    order = BatchOrder(
        len(clips), seed=0, weights=class_balanced_weights(opened.columns["action"][clips], config.balance)
    )
    sampler = MicroBatches(
        order,
        batch_size=BATCH_SIZE,
        gradient_accumulation_steps=1,
        rows=slice(0, BATCH_SIZE),
        start=start,
        stop=start + count,
    )
    windows = MotionDataset(opened, clips, config, augment=True)
    return iter(
        torch.utils.data.DataLoader(
            windows, batch_sampler=sampler, collate_fn=collate, generator=torch.Generator().manual_seed(0)
        )
    )


def resident_mb(field: str) -> float:
    """VmRSS or VmHWM of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return float(next(line for line in lines if line.startswith(field)).split()[1]) / 1024


def measure_loader_memory(store: Path, clips: int) -> dict[str, Any]:
    """Growth of the resident size over `BATCHES` batches, the middle one of which crosses into the next epoch."""
    import_module("motiondiff.data.dataset")  # and with it torch and the batch order: code does not count as data
    before = resident_mb("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak of the imports is over: VmHWM starts again from VmRSS
    start = max(0, clips // BATCH_SIZE - BATCHES // 2)
    frames = sum(int(batch["mask"].sum()) for batch in batches(store, start, BATCHES))
    return {
        "imports_mb": round(before, 1),
        "peak_mb": round(resident_mb("VmHWM") - before, 1),
        "kept_mb": round(resident_mb("VmRSS") - before, 1),
        "batches": BATCHES,
        "frames_per_window": round(frames / BATCHES / BATCH_SIZE, 1),
    }


def stepper(store: Path) -> Callable[[Any, int], None]:
    """One optimiser step of the default model in bf16, as ``motiondiff train`` takes it."""
    import torch
    from accelerate import Accelerator

    from icube_common.training import StepRandom
    from motiondiff.config import MotionDiffConfig
    from motiondiff.data.dataset import MotionDataset
    from motiondiff.data.store import MotionStore
    from motiondiff.training.diffusion import make_denoiser
    from motiondiff.training.diffusion_loss import DiffusionLoss, make_noise_schedule
    from motiondiff.training.statistics import fit_representation

    config = MotionDiffConfig()
    opened = MotionStore(store)
    representation = fit_representation(opened, opened.select("train")[:DISTINCT], config.data)
    denoiser = make_denoiser(None, MotionDataset(opened, config=config.data), config)
    accelerator = Accelerator(mixed_precision="bf16", cpu=True)
    optimizer = torch.optim.AdamW(denoiser.parameters(), lr=config.train.learning_rate, fused=True)
    model, optimizer = accelerator.prepare(denoiser, optimizer)
    model.train()
    losses = DiffusionLoss(
        representation, make_noise_schedule(config.diffusion), config.diffusion, config.data.max_frames
    )

    def step(batch: Any, number: int) -> None:
        terms = losses(model, batch, StepRandom(0, number, 0, rows=slice(0, BATCH_SIZE), total=BATCH_SIZE))
        accelerator.backward(terms["loss"])
        accelerator.clip_grad_norm_(model.parameters(), config.train.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()

    return step


def measure_rates(store: Path) -> dict[str, Any]:
    """Loader and training step in turns."""
    step = stepper(store)
    stream = batches(store, 0, 1 + TURNS * (BATCHES_A_TURN + 1))
    step(next(stream), 0)  # the first step builds what later ones reuse
    loading, stepping = [], []
    for turn in range(TURNS):
        begun = time.perf_counter()
        loaded = [next(stream) for _ in range(BATCHES_A_TURN)]
        loading.append((time.perf_counter() - begun) / BATCHES_A_TURN)
        begun = time.perf_counter()
        for number in range(STEPS_A_TURN):
            step(loaded[number], turn * STEPS_A_TURN + number)
        stepping.append((time.perf_counter() - begun) / STEPS_A_TURN)
    load, optimise = statistics.median(loading), statistics.median(stepping)
    return {
        "loader_batches_per_second": round(1 / load, 1),
        "steps_per_second": round(1 / optimise, 3),
        "loader_over_step": round(optimise / load, 1),
        # other work on the machine slows a step of many threads more than the loader's one: this bound is free of that
        "loader_over_step_slowest_load_fastest_step": round(min(stepping) / max(loading), 1),
        "turns": TURNS,
    }


def in_fresh_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """Result of the function in a fresh process."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def run(folder: Path, clips: int) -> dict[str, Any]:
    """All metrics, each with its target."""
    store = folder / f"store-{clips}"
    if not store.exists():
        print(f"writing {clips} simulated clips to {store}", file=sys.stderr)
        in_fresh_process(make_store, store, clips)
    info = measure_info(store)
    memory = in_fresh_process(measure_loader_memory, store, clips)
    rates = in_fresh_process(measure_rates, store)
    measured = {
        "info_seconds": info["median_seconds"],
        "info_peak_mb": info["peak_mb"],
        "loader_peak_mb": memory["peak_mb"],
        "loader_over_step": rates["loader_over_step"],
    }
    return {
        "clips": clips,
        "store_gb": round(sum(file.stat().st_size for file in store.iterdir()) / 1e9, 2),
        "batch_size": BATCH_SIZE,
        "info": info,
        "loader_memory": memory,
        "rates": rates,
        "goals_met": {
            name: measured[name] >= goal if name == "loader_over_step" else measured[name] < goal
            for name, goal in TARGETS.items()
        },
        "simulated": True,
        "cpus": os.cpu_count(),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the store is kept; about 2.5 GB for 100,000 clips")
    parser.add_argument("--clips", type=int, default=100_000)
    arguments = parser.parse_args()
    print(json.dumps(run(arguments.folder, arguments.clips), indent=2))
