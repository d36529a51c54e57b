"""Commands that train: train, train-actor, distill."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from icube_common import cli
from motiondiff.cli.options import add_training_options, config_of, run_config
from motiondiff.config import ActorConfig, DistillConfig, MotionDiffConfig


def _train_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", required=True, metavar="STORE", help="prepared store")
    parser.add_argument("--init-from", metavar="RUN0", help="run whose weights the training starts with")
    add_training_options(parser)


def _train(args: argparse.Namespace) -> Mapping[str, Any]:
    config = run_config(args, MotionDiffConfig)
    from motiondiff.training.diffusion import train

    result = train(
        None,
        args.data,
        config,
        out=args.out,
        init_from=args.init_from,
        resume=args.resume,
        overwrite=args.overwrite,
    )
    return result.to_dict()


def _train_actor(args: argparse.Namespace) -> Mapping[str, Any]:
    config = run_config(args, ActorConfig)
    from motiondiff.training.actor import train_actor

    return train_actor(args.data, args.out, config, resume=args.resume, overwrite=args.overwrite).to_dict()


def _distill_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="run folder of the teacher")
    parser.add_argument("--data", metavar="STORE", help="store that RUN was trained on (default: its folder then)")
    add_training_options(parser, out="RUN2")


def _distill(args: argparse.Namespace) -> Mapping[str, Any]:
    config = config_of(args, DistillConfig)
    from motiondiff.training.distillation import distill

    return distill(args.run, args.out, config, data=args.data, resume=args.resume, overwrite=args.overwrite).to_dict()


COMMANDS: Mapping[str, cli.Command] = {
    "train": cli.Command("train a motion diffusion model", _train, _train_arguments, config=MotionDiffConfig),
    "train-actor": cli.Command(
        "train ACTOR, a published method, on the same data", _train_actor, _train_arguments, config=ActorConfig
    ),
    "distill": cli.Command(
        "distil a trained model into one that samples in 1 to 4 steps",
        _distill,
        _distill_arguments,
        config=DistillConfig,
    ),
}
