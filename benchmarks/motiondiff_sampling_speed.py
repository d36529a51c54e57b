"""Time of guided sampling: DPM-Solver++ with batched guidance, and a distilled model, beside MDM's recipe, in one run.

    OMP_NUM_THREADS=1 python benchmarks/motiondiff_sampling_speed.py

64 motions of 60 frames, networks of 8 layers and 512 numbers (feed-forward 1,024, 4 heads) with random weights: the
time of a step does not depend on them. The peer is the shortest loop of Tevet et al., "Human Motion Diffusion Model",
ICLR 2023: torch's transformer encoder over one token of timestep and action and the frames, 50 steps of DDPM on a
cosine schedule, each with one pass with and one without the action. Ours is `MotionDiffusionPipeline`: 10 steps of
DPM-Solver++ with both halves of the guidance in one batch, none in the last tenth of the steps; a distilled model needs
4 steps without guidance. bf16 is `torch.autocast`, for both.

All steps of the peer cost the same: ``--peer-steps`` of its 50 are timed, and multiplied.

The ways take turns, ``--rounds`` times; seconds are processor time of this process (one thread), which other work on
the machine changes little, and the median of the rounds counts.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from motiondiff.config import DataConfig, DiffusionConfig
from motiondiff.data.dataset import MotionDataset
from motiondiff.data.prepare import PrepareOptions, write_store
from motiondiff.data.synthetic import simulate_clips
from motiondiff.models.denoiser import MotionDenoiser
from motiondiff.pipelines.motion_diffusion import MotionDiffusionPipeline
from motiondiff.schedulers import make_scheduler
from motiondiff.training.diffusion_loss import make_noise_schedule
from motiondiff.training.statistics import fit_representation

MOTIONS, FRAMES, PEER_STEPS = 64, 60, 50
SIZE: dict[str, Any] = {"num_layers": 8, "width": 512, "num_heads": 4, "feedforward": 1024, "dropout": 0.0}


class Peer(nn.Module):
    """MDM: token of timestep and action in front of the frames, transformer encoder, clean frames out."""

    def __init__(self, features: int, actions: int) -> None:
        super().__init__()
        width = SIZE["width"]
        self.embed_frames = nn.Linear(features, width)
        self.position = nn.Parameter(torch.randn(1 + FRAMES, width))
        self.time = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.action = nn.Embedding(actions + 1, width)
        layer = nn.TransformerEncoderLayer(width, SIZE["num_heads"], SIZE["feedforward"], 0.0, "gelu", batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, SIZE["num_layers"], enable_nested_tensor=False)
        self.out = nn.Linear(width, features)

    def forward(self, x: Tensor, step: int, action: Tensor) -> Tensor:
        """Clean frames (B, T, D) of noisy ones at a step."""
        token = self.time(self.position.new_full((len(x), SIZE["width"]), step / 1000)) + self.action(action)
        tokens = torch.cat([token[:, None], self.embed_frames(x)], dim=1) + self.position
        return self.out(self.encoder(tokens)[:, 1:])


@torch.no_grad()
def sample_peer(model: Peer, features: int, steps: int, scale: float, generator: torch.Generator) -> Tensor:
    """Ancestral sampling of the clean prediction, Ho et al., NeurIPS 2020, eq. 7, with guidance in every step."""
    times = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    cumulative = torch.cos((times + 0.008) / 1.008 * torch.pi / 2) ** 2
    cumulative = (cumulative / cumulative[0]).clamp(min=1e-5)
    action = torch.arange(MOTIONS) % (model.action.num_embeddings - 1)
    null = torch.full_like(action, model.action.num_embeddings - 1)
    x = torch.randn(MOTIONS, FRAMES, features, generator=generator)
    for step in range(steps, 0, -1):
        with_action, without = model(x, step, action), model(x, step, null)
        clean = without + scale * (with_action - without)
        now, before = float(cumulative[step]), float(cumulative[step - 1])
        alpha = now / before
        mean = before**0.5 * (1 - alpha) / (1 - now) * clean + alpha**0.5 * (1 - before) / (1 - now) * x
        noise = torch.randn(x.shape, generator=generator) if step > 1 else torch.zeros_like(x)
        x = mean + ((1 - before) / (1 - now) * (1 - alpha)) ** 0.5 * noise
    return x


def main() -> None:
    """Print seconds of each way and their ratios to the peer, as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--convolution", type=int, default=7, help="frames of model.convolution, 0 for none, as the peer has it"
    )
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--peer-steps", type=int, default=50, help="steps of the peer that are timed, of 50")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        description = {"format": "simulated", "source": "simulated", "simulated": True}
        write_store(simulate_clips(40), Path(folder) / "store", PrepareOptions(), description=description)
        data = MotionDataset(Path(folder) / "store")
        denoiser = MotionDenoiser.for_dataset(data, max_frames=FRAMES, convolution=args.convolution, **SIZE).eval()
        representation = fit_representation(data.store, data.clips, DataConfig(max_frames=FRAMES))
    schedule = make_noise_schedule(DiffusionConfig())
    pipeline = MotionDiffusionPipeline(denoiser, representation, make_scheduler("dpmsolver++", schedule.config))
    peer = Peer(data.feature_size, len(data.store.actions)).eval()
    actions = [data.store.actions[row % len(data.store.actions)] for row in range(MOTIONS)]

    def ours(steps: int, scale: float) -> Callable[[], object]:
        return lambda: pipeline(
            actions=actions,
            num_frames=FRAMES,
            num_inference_steps=steps,
            guidance_scale=scale,
            generator=torch.Generator().manual_seed(0),
        )

    def theirs() -> object:
        return sample_peer(peer, data.feature_size, args.peer_steps, 2.5, torch.Generator().manual_seed(0))

    ways: dict[str, Callable[[], object]] = {}
    ways |= {"distilled, 4 steps": ours(4, 1.0), "10 steps": ours(10, 2.5), "MDM": theirs}
    seconds: dict[str, list[float]] = {}
    for _ in range(args.rounds):
        for name, way in ways.items():
            for precision in ("fp32", "bf16"):
                begun = time.process_time()
                with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"):
                    way()
                spent = time.process_time() - begun
                spent *= PEER_STEPS / args.peer_steps if name == "MDM" else 1.0
                seconds.setdefault(f"{name}, {precision}", []).append(spent)
                print(name, precision, round(seconds[f"{name}, {precision}"][-1], 2), flush=True)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    result = {
        name: {"seconds": round(value, 2), "times faster than MDM in fp32": round(medians["MDM, fp32"] / value, 2)}
        for name, value in medians.items()
    }
    print(
        json.dumps(
            {"convolution": args.convolution, "peer_steps": args.peer_steps, "rounds": args.rounds, **result}, indent=1
        )
    )


if __name__ == "__main__":
    main()
