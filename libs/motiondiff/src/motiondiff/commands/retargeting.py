"""The ``retarget`` command: a motion file on another skeleton. Nothing heavy is imported before it runs."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from icube_common import cli
from motiondiff.export import FORMATS


def _retarget_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="FILE", help="the motion: .bvh or .npz")
    parser.add_argument(
        "--to",
        dest="target",
        required=True,
        metavar="SKELETON",
        help="smpl-22, kinect-v1, kinect-v2, or a .npz or .bvh file whose skeleton is taken",
    )
    parser.add_argument(
        "--map",
        metavar="JOINTS.yaml",
        help="joint map for names that are not understood: role or joint of the target -> joint of FILE",
    )
    parser.add_argument("--out", required=True, metavar="OUT", help=f"the file to write: .{', .'.join(FORMATS)}")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing file")


def _retarget(args: argparse.Namespace) -> Mapping[str, Any]:
    from motiondiff.export.convert import retarget_file

    return retarget_file(args.source, args.out, args.target, joint_map=args.map, overwrite=args.overwrite)


def _render(result: Mapping[str, Any]) -> str:
    lines = [f"{result['out']}: {result['frames']} frames, residual {result['residual_mm']:g} mm"]
    lines += [f"  {name}: from {row['source']}, {row['residual_mm']:g} mm" for name, row in result["joints"].items()]
    return "\n".join(lines)


RETARGETING_COMMANDS: Mapping[str, cli.Command] = {
    "retarget": cli.Command("put a motion file on another skeleton", _retarget, _retarget_arguments, _render),
}
