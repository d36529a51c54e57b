"""Commands on data: prepare, info, export, retarget."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from icube_common import cli
from motiondiff.cli.options import values_of
from motiondiff.data.readers import FORMATS as READER_FORMATS
from motiondiff.export import FORMATS as EXPORT_FORMATS
from motiondiff.export.datasets import FORMATS as SET_FORMATS


def _coordinate_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of how files are read that name neither up axis nor unit of length."""
    parser.add_argument(
        "--up",
        default="auto",
        metavar="AXIS",
        help="BVH: up axis, x, y or z (--up=-y for down), or auto: by the standing body (default)",
    )
    parser.add_argument(
        "--unit",
        default="auto",
        metavar="UNIT",
        help="BVH: m, cm, mm, inch, or the metres in one unit, or auto: by the length of the legs (default)",
    )
    parser.add_argument(
        "--source-fps", type=float, metavar="FPS", help="BVH: frames per second of the files, instead of their own"
    )


def _prepare_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="DIR", nargs="?", help="folder of the recordings")
    parser.add_argument("--format", help=f"one of: {', '.join(READER_FORMATS)}")
    parser.add_argument("--merge", metavar="SOURCES.yaml", help="instead of DIR: several sources onto one skeleton")
    parser.add_argument("--out", required=True, metavar="STORE", help="the store to make")
    parser.add_argument("--fps", type=float, default=20.0, help="frames per second of the store (default 20)")
    _coordinate_arguments(parser)
    parser.add_argument(
        "--labels", metavar="MAP", help="residential (daily actions in homes), or a YAML file: source label -> action"
    )
    parser.add_argument(
        "--action-from",
        metavar="folder|parent",
        help="the action is the name of the folder just below DIR, or of the folder that the file lies in",
    )
    parser.add_argument(
        "--metadata", metavar="FILE.csv", help="labels in a table: columns file, action, subject, style, text"
    )
    parser.add_argument(
        "--exclude",
        action="append",
        default=[],
        metavar="LIST.txt",
        help="samples to leave out, one a line; repeatable",
    )
    parser.add_argument(
        "--split-by", metavar="subject|style", help="default: subject where there are several, else style"
    )
    parser.add_argument("--test-groups", metavar="A,B", default="", help="subjects or styles held out for testing")
    parser.add_argument("--split-seed", type=int, default=0, help="random seed of held-out groups that are not named")
    parser.add_argument("--strict", action="store_true", help="stop at the first clip that cannot be used")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing store")


def _prepare(args: argparse.Namespace) -> Mapping[str, Any]:
    from icube_common.errors import InputError
    from motiondiff.data.labels.label_map import LabelMap
    from motiondiff.data.merge import count_sources, prepare_merged
    from motiondiff.data.prepare import PrepareOptions, prepare, read_exclusion_lists

    if args.merge and (args.source or args.format):
        raise InputError("--merge names its sources: give neither a folder nor --format with it")
    if not args.merge and not (args.source and args.format):
        raise InputError("give a folder and --format, or --merge SOURCES.yaml")
    if args.merge and (args.up, args.unit, args.source_fps) != ("auto", "auto", None):
        raise InputError(
            "--up, --unit and --source-fps with --merge: write `up:`, `unit:`, `source_fps:` into the file"
        )
    if args.merge and args.labels:
        raise InputError("--labels with --merge: write `labels:` into the file")
    if args.merge and (args.action_from or args.metadata):
        raise InputError("--action-from and --metadata with --merge: write `action_from:`, `metadata:` into the file")
    if not 0 < args.fps <= 1000:
        raise InputError(f"--fps {args.fps}: must be positive (at most 1000)")
    has_labels = bool(args.action_from or args.metadata)
    options = PrepareOptions(
        labels=LabelMap.load(args.labels, args.format, user_labels=has_labels) if args.labels else None,
        exclude=read_exclusion_lists(args.exclude),
        test_groups=tuple(name for name in args.test_groups.split(",") if name),
        **values_of(
            args, "fps", "split_by", "split_seed", "strict", "action_from", "metadata", "up", "unit", "source_fps"
        ),
    )
    if args.merge:
        store = prepare_merged(args.merge, args.out, options, overwrite=args.overwrite)
        return {"store": str(store.path), "sources": count_sources(store), **store.info()}
    store = prepare(args.format, args.source, args.out, options, overwrite=args.overwrite)
    return {"store": str(store.path), **store.info()}


def _info_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("store", metavar="STORE", help="a prepared store")


def _info(args: argparse.Namespace) -> Mapping[str, Any]:
    from motiondiff.data.store import MotionStore

    return MotionStore(args.store).info()


def _export_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="FILE_OR_STORE", help="an .npz, .bvh or .npy file, or a store")
    parser.add_argument("more", nargs="*", metavar="FILE2", help="further files, for html: two are shown side by side")
    formats = f"one of: {', '.join(EXPORT_FORMATS)}; a store also as: {', '.join(SET_FORMATS)}"
    parser.add_argument("--to", required=True, metavar="FORMAT", help=formats)
    parser.add_argument(
        "--out",
        required=True,
        metavar="PATH",
        help="the file to write; the folder for a store or a file of several motions (html: one page)",
    )
    parser.add_argument(
        "--scale", type=float, default=1.0, help="file units per metre of a bvh (default 1; 100: centimetres)"
    )
    parser.add_argument("--split", help="only this split of a store: train, validation or test")
    _coordinate_arguments(parser)
    parser.add_argument("--world", action="store_true", help="a store's clips where they were recorded")
    parser.add_argument("--pin-feet", action="store_true", help="move the root so that standing feet stay in place")
    parser.add_argument("--overwrite", action="store_true", help="replace what is there")


def _export(args: argparse.Namespace) -> Mapping[str, Any]:
    from motiondiff.export.convert import export_files

    return export_files(
        args.source,
        args.out,
        args.to,
        **values_of(args, "more", "split", "world", "scale", "pin_feet", "overwrite", "up", "unit", "source_fps"),
    )


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
    parser.add_argument("--out", required=True, metavar="OUT", help=f"the file to write: .{', .'.join(EXPORT_FORMATS)}")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing file")


def _retarget(args: argparse.Namespace) -> Mapping[str, Any]:
    from motiondiff.export.convert import retarget_file

    return retarget_file(args.source, args.out, args.target, joint_map=args.map, overwrite=args.overwrite)


def _render_retarget(result: Mapping[str, Any]) -> str:
    lines = [f"{result['out']}: {result['frames']} frames, residual {result['residual_mm']:g} mm"]
    lines += [f"  {name}: from {row['source']}, {row['residual_mm']:g} mm" for name, row in result["joints"].items()]
    return "\n".join(lines)


COMMANDS: Mapping[str, cli.Command] = {
    "prepare": cli.Command("make a store of a folder of recordings", _prepare, _prepare_arguments),
    "info": cli.Command("summarise a store", _info, _info_arguments),
    "export": cli.Command("write a motion file or a store in another format", _export, _export_arguments),
    "retarget": cli.Command("put a motion file on another skeleton", _retarget, _retarget_arguments, _render_retarget),
}
