"""Commands that sample motions: sample, edit, compose."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from icube_common import cli
from icube_common.errors import InputError
from motiondiff.cli.options import SAMPLER, add_options, as_options, given
from motiondiff.export import FORMATS
from motiondiff.pipelines.editing import EditOptions, edit, parse_ranges
from motiondiff.pipelines.long_motion import ComposeOptions, compose
from motiondiff.pipelines.sampling import SampleOptions, guidance_text, parse_formats, sample

_SAMPLE = (
    "text_weights", "count", "per_action", "unconditional", "style", "mix_styles", "shape", "seconds", *SAMPLER,
    "pin_feet", "batch_size",
)  # fmt: skip
_EDIT = ("action", "style", "seconds", "count", *SAMPLER)
_COMPOSE = ("shape", *SAMPLER)


def _output_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", required=True, metavar="DIR", help="folder to make")
    parser.add_argument(
        "--formats", default="npz", help=f"formats of the files, separated by commas: {', '.join(FORMATS)}"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing folder")


def _sample_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="run folder, or a saved model folder")
    parser.add_argument(
        "--action", action="append", default=[], metavar="NAME", help="action of the motions; repeatable"
    )
    parser.add_argument("--text", action="append", default=[], metavar="WORDS", help="text of the motions; repeatable")
    add_options(parser, SampleOptions, _SAMPLE)
    _output_arguments(parser)


def _sample(args: argparse.Namespace) -> Mapping[str, Any]:
    formats = parse_formats(args.formats)
    with as_options():
        options = SampleOptions(actions=args.action, texts=args.text, **given(args, _SAMPLE))
    return sample(args.run, args.out, options, formats=formats, overwrite=args.overwrite)


def _render_samples(result: Mapping[str, Any]) -> str:
    lines = [
        f"{result['motions']} motions, {result['scheduler']} {result['steps']} steps, "
        f"guidance {guidance_text(result['guidance'])}, seed {result['seed']}, {result['denoising_seconds']} s"
        + (" (model trained on simulated motions)" if result["simulated_training_data"] else "")
    ]
    lines += [f"  {path}" for row in result["samples"] for path in row["files"].values()]
    if "viewer" in result:
        lines.append(f"viewer page: {result['viewer']}")
    return "\n".join(lines)


def _edit_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="run folder, or a saved model folder")
    parser.add_argument("file", metavar="FILE", help="motion to edit: .bvh or .npz")
    add_options(parser, EditOptions, ("keep_frames", "keep_joints", "cut", *_EDIT))
    _output_arguments(parser)


def _edit(args: argparse.Namespace) -> Mapping[str, Any]:
    cuts = parse_ranges(args.cut, "--cut") if args.cut is not None else (None,)
    if len(cuts) > 1:
        raise InputError(f"--cut {args.cut}: takes one range of frames")
    formats = parse_formats(args.formats)
    with as_options():
        options = EditOptions(
            keep_frames=parse_ranges(args.keep_frames) if args.keep_frames is not None else (),
            keep_joints=tuple(name.strip() for name in (args.keep_joints or "").split(",") if name.strip()),
            cut=cuts[0],
            **given(args, _EDIT),
        )
    return edit(args.run, args.file, args.out, options, formats=formats, overwrite=args.overwrite)


def _compose_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="run folder, or a saved model folder")
    parser.add_argument("timeline", metavar="TIMELINE.yaml", help="list of {action, seconds}")
    parser.add_argument("--data", metavar="STORE", help="real motion to compare speeds with (default: the run's own)")
    add_options(parser, ComposeOptions, _COMPOSE)
    _output_arguments(parser)


def _compose(args: argparse.Namespace) -> Mapping[str, Any]:
    formats = parse_formats(args.formats)
    with as_options():
        options = ComposeOptions(**given(args, _COMPOSE))
    return compose(
        args.run, args.timeline, args.out, options, data=args.data, formats=formats, overwrite=args.overwrite
    )


COMMANDS: Mapping[str, cli.Command] = {
    "sample": cli.Command("generate motions with a trained model", _sample, _sample_arguments, _render_samples),
    "edit": cli.Command("keep frames or joints of a motion file, make the rest", _edit, _edit_arguments),
    "compose": cli.Command("make a long motion from a timeline of actions", _compose, _compose_arguments),
}
