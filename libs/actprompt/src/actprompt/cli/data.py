"""Data commands: prepare, info, extract. Heavy modules are imported inside them."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

from actprompt.config import ExtractConfig
from actprompt.data.readers import FORMATS
from icube_common import cli


def _prepare_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source", nargs="*", metavar="SOURCE", help="folder of the set; for csv one list, or several named train, test"
    )
    parser.add_argument("--format", required=True, help=f"format of the set: {', '.join(FORMATS)}")
    parser.add_argument("--out", required=True, metavar="DATA", help="folder to make")
    parser.add_argument("--splits", metavar="FOLDER", help="folder of the official split files (default: below SOURCE)")
    parser.add_argument(
        "--split",
        action="append",
        default=[],
        metavar="PART=LIST",
        help="list of a part (train, val, test) of csv; repeatable",
    )
    parser.add_argument("--root", metavar="FOLDER", help="base of relative paths of csv (default: the list's folder)")
    parser.add_argument(
        "--class-names", metavar="FILE", help="file of class names for labels that are numbers or codes, one a line"
    )
    parser.add_argument("--frame-rate", type=float, metavar="FPS", help="frames per second of folders of frames")
    parser.add_argument("--strict", action="store_true", help="stop at the first clip that cannot be used")
    parser.add_argument(
        "--keep-damaged", action="store_true", help="use the decodable frames of truncated and damaged files"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing folder")


def _prepare(args: argparse.Namespace) -> Mapping[str, Any]:
    from actprompt.data.manifest import describe
    from actprompt.data.prepare import prepare

    prepare(
        args.format,
        _source(args.format, args.source, args.split),
        args.out,
        **cli.options_of(args, "splits", "root", "class_names", "frame_rate", "strict", "overwrite", "keep_damaged"),
    )
    return describe(args.out)


def _source(format: str, sources: Sequence[str], splits: Sequence[str]) -> str | dict[str, str]:
    """Source of a set: a folder or a list, or part of a split -> its list."""
    from icube_common.errors import InputError

    if format in FORMATS and not FORMATS[format].lists and (splits or len(sources) != 1):
        argument = f"--split {splits[0]}: goes with --format csv only" if splits else f"{len(sources)} sources"
        raise InputError(f"{argument}: format {format!r} takes one folder, SOURCE")
    if not splits and len(sources) == 1:
        return sources[0]
    if splits and sources:
        raise InputError(f"{sources[0]}: beside --split {splits[0]}: name each list with --split PART=LIST")
    from actprompt.data.readers.lists.splits import part_of, part_of_file

    lists: dict[str, str] = {}
    for text in splits or sources:
        word, _, path = text.partition("=") if splits else ("", "", text)
        part = part_of(word) if splits else part_of_file(path)
        if part is None or not path:
            argument = f"--split {text}" if splits else text
            raise InputError(f"{argument}: no part of a split; name it with --split train=LIST --split test=LIST")
        if part in lists:
            raise InputError(f"{path}: a second list of the part {part}, beside {lists[part]}: join them")
        lists[part] = path
    if not lists:
        raise InputError("no SOURCE: name a list, or the lists of a split with --split train=LIST --split test=LIST")
    return lists


def _info_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", metavar="DATA", help="prepared folder")


def data_set(args: argparse.Namespace) -> Any:
    """The prepared set of a command, opened here where its videos have moved."""
    if args.root is None:
        return args.data
    from actprompt.data.dataset import VideoDataset

    return VideoDataset(args.data, root=args.root)


def _pose_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", metavar="DATA", help="prepared folder, to which the poses of its videos are added")
    parser.add_argument(
        "--fetch-models", action="store_true", help="fetch the pose networks by pip into the cache folder, once"
    )
    parser.add_argument("--pose-models", metavar="DIR", help="folder of the pose networks (default: the cache folder)")
    cli.add_parallel_arguments(parser, "clips", workers=None)
    parser.add_argument("--no-smoothing", action="store_true", help="landmarks without the one-euro filter")
    parser.add_argument("--root", metavar="FOLDER", help="folder of the videos, if they have moved")
    parser.add_argument("--strict", action="store_true", help="stop at the first clip without a person")


def _pose(args: argparse.Namespace) -> Mapping[str, Any]:
    from icube_common.errors import InputError

    if not args.data and not args.fetch_models:
        raise InputError("--data DATA or --fetch-models is required")
    from icube_common.pose import fetch_models

    files = fetch_models(args.pose_models) if args.fetch_models else None
    if not args.data:
        assert files is not None
        return {"pose_models": str(files.detector.parent), "fingerprint": files.fingerprint}
    from actprompt.data.pose.estimate import estimate_poses
    from icube_common.data.processes import open_executor, parse_shard

    shard = parse_shard(args.shard)
    # local processes are left to the function: it starts none for a single clip
    cluster = open_executor(args.workers, args.dask) if args.dask else contextlib.nullcontext((None, args.workers))
    with cluster as (executor, workers):
        return estimate_poses(
            data_set(args),
            models=args.pose_models,
            smooth=not args.no_smoothing,
            workers=workers,
            executor=executor,
            shard=shard,
            strict=args.strict,
        )


def _extract_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", required=True, metavar="DATA", help="prepared folder")
    parser.add_argument("--out", required=True, metavar="FEATURES", help="feature folder to make or to continue")
    cli.add_parallel_arguments(parser, "clips")
    parser.add_argument("--device", help="torch device (default: a GPU where there is one)")
    parser.add_argument(
        "--batch-size", type=int, help="frames in a forward pass of the tower (default: vlm.batch_size, 64)"
    )
    parser.add_argument("--root", metavar="FOLDER", help="folder of the videos, if they have moved")
    parser.add_argument("--strict", action="store_true", help="stop at the first clip that cannot be used")


def _extract(args: argparse.Namespace) -> Mapping[str, Any]:
    from icube_common.config import load_config

    config = load_config(ExtractConfig, file=args.config, overrides=args.overrides)
    from icube_common.data.processes import open_executor, parse_shard

    shard = parse_shard(args.shard)
    from actprompt.data.extract import extract

    with open_executor(args.workers, args.dask) as (executor, workers):
        return extract(
            data_set(args),
            vlm=config.vlm,
            sampling=config.video.sampling,
            shard=shard,
            executor=executor,
            workers=workers,
            **cli.options_of(args, "out", "device", "strict", "batch_size"),
        )


DATA_COMMANDS: Mapping[str, cli.Command] = {
    "prepare": cli.Command("prepare a set of videos: manifest, checked files, skeletons", _prepare, _prepare_arguments),
    "info": cli.Command(
        "summarise a prepared set",
        lambda args: cli.lazy("actprompt.data.manifest", "describe")(args.data),
        _info_arguments,
    ),
    "pose": cli.Command("estimate the poses of a prepared set's videos once", _pose, _pose_arguments),
    "extract": cli.Command(
        "compute the features of the frozen image tower once", _extract, _extract_arguments, config=ExtractConfig
    ),
}
