"""A library's ``train`` command by one process and by two on CPUs (gloo), for the tests of each library.

The bound of `assert_same_losses`: a loss is a mean over a batch in float32. One process and two add the same terms in
another order, which differs by at most u log2(N) of their size for N terms in pairwise sums, with u = 2^-24: 1e-6 for
N = 2^16, at the first step, before any update. An AdamW update moves every weight by the learning rate times a ratio
near 1, whose relative error is that of the gradient; through S updates the weights, and with them the losses, differ by
S times that error, times the condition of the gradient, for which a factor of ten is allowed: 1e-5 S.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from icube_common.io.runs import RunFolder, read_json

FIRST_STEP, EACH_STEP = 1e-6, 1e-5
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
# without --multi_gpu, accelerate starts one process on CPUs, unless there is an mpirun
ACCELERATE = ("-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1")
SOURCES = [str(path) for path in Path(__file__).resolve().parents[2].glob("*/src")]


def train(library: str, words: Sequence[str], launcher: Sequence[str] = ()) -> str:
    """Run ``train`` of a library in processes of its own and return what they wrote to stdout."""
    done = subprocess.run(
        [sys.executable, *launcher, "-m", library, "train", *words, "--json"],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(SOURCES),
            "OMP_NUM_THREADS": "1",
            "TQDM_DISABLE": "1",
            "ACCELERATE_USE_CPU": "true",
            "ACCELERATE_MIXED_PRECISION": "no",
        },
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


def assert_same_losses(one: Path, two: Path) -> None:
    """Every logged term of two runs at every step, within the bound of the module's docstring."""
    first, second = (
        {
            (record["step"], name): value
            for record in RunFolder(path).read_metrics()
            for name, value in record.items()
            if name not in ("step", "seconds", "samples_per_second")
        }
        for path in (one, two)
    )
    assert read_json(two / "environment.json")["processes"] == 2
    assert first.keys() == second.keys() and any(name == "loss" for _, name in first)
    for (step, name), value in first.items():
        bound = FIRST_STEP + EACH_STEP * (step - 1)
        assert second[step, name] == pytest.approx(value, rel=bound, abs=bound), (step, name)
