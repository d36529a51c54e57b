"""The ``motiondiff`` command: options in, one library call, one result out.

No module here imports torch before a command runs.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from icube_common import cli
from motiondiff import __version__
from motiondiff.cli import augmentation, data, evaluation, sampling, training


def _demo_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", default="demo/motiondiff", metavar="DIR", help="folder to make (demo/motiondiff)")
    parser.add_argument("--steps", type=int, default=None, help="number of training steps (default: about two minutes)")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing folder")


def _demo(args: argparse.Namespace) -> Mapping[str, Any]:
    from motiondiff.cli.demo import demo

    return demo(args.out, steps=args.steps, overwrite=args.overwrite)


COMMANDS: Mapping[str, cli.Command] = {
    **data.COMMANDS,
    **training.COMMANDS,
    **sampling.COMMANDS,
    **evaluation.COMMANDS,
    **augmentation.COMMANDS,
    "demo": cli.Command("prepare, train, sample and report on simulated motions", _demo, _demo_arguments),
}


def main(argv: list[str] | None = None) -> int:
    """Entry point of the ``motiondiff`` command; returns the exit status."""
    return cli.main("motiondiff", "3D human motion diffusion on skeletons", __version__, COMMANDS, argv)
