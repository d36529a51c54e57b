"""Commands that train: train, train-actor, distill."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from icube_common import cli
from motiondiff.cli.options import add_training_options, config_of, run_config, values_of
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


def _calibrate_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="run folder")
    parser.add_argument("--data", required=True, metavar="STORE", help="store that it was trained on")
    parser.add_argument(
        "--scales", type=float, nargs="+", metavar="SCALE", help="scales to choose from (default 1 1.5 2 2.5 3)"
    )
    parser.add_argument("--count", type=int, default=16, help="motions of each action and scale (default 16)")
    parser.add_argument("--steps", type=int, default=10, help="denoising steps (default 10)")
    parser.add_argument("--device", default="cpu", help="torch device of the generator (default cpu)")


def _calibrate(args: argparse.Namespace) -> Mapping[str, Any]:
    from motiondiff.augmentation.calibration import SCALES, calibrate_guidance

    settings = values_of(args, "count", "steps", "device")
    return calibrate_guidance(args.run, args.data, scales=args.scales or SCALES, **settings)


def _render_calibration(result: Mapping[str, Any]) -> str:
    lines = ["action: scale of guidance, generated / training movement of hands, of feet, jerk; share recognised"]
    for action, scale in result["guidance"].items():
        ratios = result["ratios"][action][f"{scale:g}"].values()
        shown = ", ".join("-" if value is None else f"{value:.2f}" for value in ratios)
        lines.append(f"  {action}: {scale:g} ({shown})")
    return "\n".join(lines)


COMMANDS: Mapping[str, cli.Command] = {
    "train": cli.Command("train a motion diffusion model", _train, _train_arguments, config=MotionDiffConfig),
    "train-actor": cli.Command(
        "train ACTOR, a published method, on the same data", _train_actor, _train_arguments, config=ActorConfig
    ),
    "calibrate": cli.Command(
        "choose the scale of guidance of each action by the movement of generated motions",
        _calibrate,
        _calibrate_arguments,
        render=_render_calibration,
    ),
    "distill": cli.Command(
        "distil a trained model into one that samples in 1 to 4 steps",
        _distill,
        _distill_arguments,
        config=DistillConfig,
    ),
}
