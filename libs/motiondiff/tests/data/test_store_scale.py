"""A store of many clips opens without torch and is read without being kept; the large one is benchmarked."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from motiondiff.data.store_writer import StoreWriter
from motiondiff.data.synthetic import simulate_clips
from motiondiff.skeleton.motion import canonicalise

CLIPS, DISTINCT, BODIES = 5000, 20, 4

INFO = """
import json, sys
from motiondiff.cli import main
status = main(["info", sys.argv[1], "--json"])
print(json.dumps([status, sorted({"torch", "pandas", "scipy", "diffusers"} & set(sys.modules))]), file=sys.stderr)
"""

LOADER = """
import json, sys
from pathlib import Path
import torch.utils.data
from icube_common.training.sampler import BatchOrder, MicroBatches
from motiondiff.config import DataConfig
from motiondiff.data.store import MotionStore
from motiondiff.data.dataset import MotionDataset, class_balanced_weights, collate

def resident(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) * 1024

before = resident("VmRSS")
Path("/proc/self/clear_refs").write_text("5")
store = MotionStore(sys.argv[1])
clips = store.select("train")
weights = class_balanced_weights(store.columns["action"][clips], 0.5)
order = BatchOrder(len(clips), seed=0, weights=weights)
steps = 2 * len(clips) // 64
sampler = MicroBatches(order, batch_size=64, gradient_accumulation_steps=1, rows=slice(0, 64), start=0, stop=steps)
windows = MotionDataset(store, clips, DataConfig(), augment=True)
rows = batches = 0
for batch in torch.utils.data.DataLoader(windows, batch_sampler=sampler, collate_fn=collate):
    rows, batches = rows + int(batch["mask"].sum()), batches + 1
print(json.dumps({"growth": resident("VmHWM") - before, "frames": rows, "batches": batches}))
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scale")
    motions = [canonicalise(clip.motion) for clip in simulate_clips(DISTINCT, subjects=BODIES)]
    writer = StoreWriter(folder)
    for number in range(CLIPS):
        writer.append(*motions[number % DISTINCT], clip_id=f"simulated-{number:06d}")
    writer.finish(description={"format": "simulated", "split_by": "none", "simulated": True})
    return folder


def run_python(code: str, *arguments: str) -> tuple[Any, str]:
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


def test_info_counts_every_clip_without_torch(store: Path) -> None:
    info, log = run_python(INFO, str(store))
    status, heavy = json.loads(log.splitlines()[-1])
    assert (status, heavy) == (0, [])
    assert info["clips"] == CLIPS
    assert info["bodies"] == BODIES
    assert info["actions"] == dict.fromkeys(("pick up", "run", "sit down", "walk", "wave"), CLIPS // 5)
    assert info["subjects"] == {f"simulated-{subject}": CLIPS // BODIES for subject in range(BODIES)}
    assert info["frames"] * (3 + 6 * 18 + 1) * 4 == pytest.approx((store / "frames.npy").stat().st_size, abs=256)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peak memory is read from Linux's /proc")
def test_two_epochs_of_batches_leave_no_store_in_memory(store: Path) -> None:
    read, _ = run_python(LOADER, str(store))
    size = (store / "frames.npy").stat().st_size
    assert read["batches"] == 2 * CLIPS // 64
    assert read["frames"] * (3 + 6 * 18 + 1) * 4 > size, "the loader read less than the store holds: nothing is shown"
    assert read["growth"] < size / 2
