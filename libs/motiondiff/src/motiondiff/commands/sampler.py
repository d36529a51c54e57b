"""The options that every command has which runs a diffusion sampler."""

from __future__ import annotations

import argparse

from motiondiff.schedulers import SCHEDULERS


def add_sampler_arguments(parser: argparse.ArgumentParser, *, steps: int = 20, guidance: float = 2.5) -> None:
    """``--steps``, ``--scheduler``, ``--guidance``; None, not given, leaves them to the run."""
    parser.add_argument("--steps", type=int, help=f"denoising steps (default {steps}; of a distilled run 4)")
    parser.add_argument(
        "--scheduler", help=f"one of: {', '.join(SCHEDULERS)} (default dpmsolver++; of a distilled run lcm)"
    )
    parser.add_argument(
        "--guidance",
        type=float,
        help=f"classifier-free guidance, 1 = none (default {guidance:g}; distilled: 1)",
    )
