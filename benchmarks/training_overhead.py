"""What the training loop costs per step: `icube_common.training.fit` against the shortest loop in plain torch.

    OMP_NUM_THREADS=1 python benchmarks/training_overhead.py --steps 300

Both train the same model with AdamW and clipping on batches of one data set; `fit` adds the reproducible order,
logging every 50 steps, EMA where named, and no checkpoint but the last, whose time is not counted.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from icube_common.training import SampleRef, StepRandom, TrainConfig, fit, open_run

MODELS: dict[str, Callable[[], nn.Module]] = {
    "mlp 64-128-64": lambda: nn.Sequential(nn.Linear(64, 128), nn.GELU(), nn.Linear(128, 64)),
    "transformer 4x128": lambda: nn.TransformerEncoder(
        nn.TransformerEncoderLayer(128, 4, 256, dropout=0.1, batch_first=True, norm_first=True),
        num_layers=4,
        enable_nested_tensor=False,
    ),
}
SHAPES = {"mlp 64-128-64": (64,), "transformer 4x128": (60, 128)}


class Data:
    """Points in memory: loading costs next to nothing, so that the loop is what is measured."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.values = torch.randn(512, *shape)

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, draw: SampleRef) -> Tensor:
        return self.values[draw.index]


def bare(model: nn.Module, data: Data, config: TrainConfig) -> float:
    """Seconds per step of the plain loop."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, fused=True)
    model.train()
    begun = time.perf_counter()
    for _ in range(config.max_steps):
        rows = torch.randint(len(data), (config.batch_size,)).tolist()
        x = torch.stack([data.values[row] for row in rows])
        loss = (model(x + torch.randn_like(x)) - x).square().mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
    return (time.perf_counter() - begun) / config.max_steps


def with_fit(model: nn.Module, data: Data, config: TrainConfig) -> float:
    """Seconds per step of `fit`."""

    def step(module: nn.Module, x: Tensor, random: StepRandom) -> dict[str, Tensor]:
        return {"loss": (module(x + random.normal(*x.shape[1:])) - x).square().mean()}

    with tempfile.TemporaryDirectory() as folder:
        run = open_run(Path(folder) / "run", config=config, config_yaml="")
        return fit(model, step, data, config=config, run=run).seconds / config.max_steps


def main() -> None:
    """Print one line per model and variant, the best of three runs each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=300)
    steps = parser.parse_args().steps
    common: dict[str, Any] = {
        "max_steps": steps, "checkpointing_steps": steps, "batch_size": 16, "device": "cpu", "report_to": "none",
    }  # fmt: skip
    for name, make in MODELS.items():
        data = Data(SHAPES[name])
        variants = {"bare": (bare, {}), "fit": (with_fit, {}), "fit, EMA": (with_fit, {"ema_decay": 0.999})}
        for variant, (run, extra) in variants.items():
            best = min(run(make(), data, TrainConfig(**common, **extra)) for _ in range(3))
            print(f"{name:<20} {variant:<10} {best * 1e3:8.3f} ms/step", flush=True)


if __name__ == "__main__":
    main()
