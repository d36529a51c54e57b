"""The commands that build on a trained model: edit, compose, distill. Nothing heavy is imported before one runs."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from icube_common import cli
from motiondiff.commands.sampler import add_sampler_arguments
from motiondiff.config import DistillConfig
from motiondiff.export import FORMATS


def _output_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", required=True, metavar="DIR", help="the folder to make")
    parser.add_argument("--formats", default="npz", help=f"comma-separated, of: {', '.join(FORMATS)}")
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same motion (default 0)")
    parser.add_argument("--device", default="cpu", help="torch device (default cpu)")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing folder")


def _edit_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="a run folder, or a saved model folder")
    parser.add_argument("file", metavar="FILE", help="the motion to edit: .bvh or .npz")
    parser.add_argument("--keep-frames", metavar="A:B,C:D", help="frames of FILE that are held, B and D exclusive")
    parser.add_argument("--keep-joints", metavar="NAME,...", help="joints whose rotations are held in all frames")
    parser.add_argument("--cut", metavar="A:B", help="edit only these frames of FILE")
    parser.add_argument("--action", metavar="NAME", help="what is done (default: left open)")
    parser.add_argument("--style", metavar="NAME", help="style")
    parser.add_argument("--seconds", type=float, help="length, to go on after the end of FILE (default: FILE's)")
    parser.add_argument("--count", type=int, default=1, help="different results (default 1)")
    add_sampler_arguments(parser, guidance=1.0)
    _output_arguments(parser)


def _edit(args: argparse.Namespace) -> Mapping[str, Any]:
    from icube_common.errors import InputError
    from motiondiff.edit import EditOptions, edit, parse_ranges
    from motiondiff.sample import parse_formats

    cuts = parse_ranges(args.cut, "--cut") if args.cut is not None else (None,)
    if len(cuts) > 1:
        raise InputError(f"--cut {args.cut}: takes one range of frames")
    options = EditOptions(
        keep_frames=parse_ranges(args.keep_frames) if args.keep_frames is not None else (),
        keep_joints=tuple(name.strip() for name in (args.keep_joints or "").split(",") if name.strip()),
        cut=cuts[0],
        action=args.action,
        style=args.style,
        seconds=args.seconds,
        count=args.count,
        steps=args.steps,
        scheduler=args.scheduler,
        guidance=args.guidance,
        seed=args.seed,
        device=args.device,
    )
    return edit(args.run, args.file, args.out, options, formats=parse_formats(args.formats), overwrite=args.overwrite)


def _compose_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="a run folder, or a saved model folder")
    parser.add_argument("timeline", metavar="TIMELINE.yaml", help="a list of {action, seconds}")
    parser.add_argument("--data", metavar="STORE", help="real motion to hold speeds against (default: the run's own)")
    parser.add_argument("--shape", metavar="FILE", help="body: YAML of bone lengths, or a .npz/.bvh to take it from")
    add_sampler_arguments(parser)
    _output_arguments(parser)


def _compose(args: argparse.Namespace) -> Mapping[str, Any]:
    from motiondiff.compose import ComposeOptions, compose
    from motiondiff.sample import parse_formats

    options = ComposeOptions(
        shape=args.shape,
        steps=args.steps,
        scheduler=args.scheduler,
        guidance=args.guidance,
        seed=args.seed,
        device=args.device,
    )
    return compose(
        args.run,
        args.timeline,
        args.out,
        options,
        data=args.data,
        formats=parse_formats(args.formats),
        overwrite=args.overwrite,
    )


def _distill_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="the run folder of the teacher")
    parser.add_argument("--out", required=True, metavar="RUN2", help="the run folder to make")
    parser.add_argument("--data", metavar="STORE", help="the store RUN was trained on (default: where it was)")
    parser.add_argument("--resume", action="store_true", help="go on from RUN2's newest whole checkpoint")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing run folder")


def _distill(args: argparse.Namespace) -> Mapping[str, Any]:
    from icube_common.config import load_config

    config = load_config(DistillConfig, file=args.config, overrides=args.overrides)
    from motiondiff.distill import distill

    return distill(args.run, args.out, config, data=args.data, resume=args.resume, overwrite=args.overwrite)


EDITING_COMMANDS: Mapping[str, cli.Command] = {
    "edit": cli.Command("hold frames or joints of a motion file, make the rest", _edit, _edit_arguments),
    "compose": cli.Command("a long motion from a timeline of actions", _compose, _compose_arguments),
    "distill": cli.Command(
        "teach a trained model to sample in 1 to 4 steps", _distill, _distill_arguments, config=DistillConfig
    ),
}
