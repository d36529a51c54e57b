"""The commands around models: train. Nothing heavy is imported before one runs."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from debian_mri.config import MriConfig
from icube_common.cli import Command


def _train_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", required=True, metavar="DATA", help="a prepared folder")
    parser.add_argument("--features", metavar="FOLDER", help="of slice features (default: below DATA)")
    parser.add_argument("--out", required=True, metavar="RUN", help="the run folder to make")
    parser.add_argument("--leave-out", metavar="A,B", default="", help="subjects that are not trained on")
    parser.add_argument("--resume", action="store_true", help="go on from RUN's newest whole checkpoint")
    parser.add_argument("--image-root", metavar="FOLDER", help="where the images lie now, if they moved")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing folder")


def _train(args: argparse.Namespace) -> Mapping[str, Any]:
    from icube_common.config import load_config

    saved = Path(args.out) / "config.yaml"
    # a run that goes on keeps its own settings unless told otherwise
    file = saved if args.resume and args.config is None and saved.is_file() else args.config
    config = load_config(MriConfig, file=file, overrides=args.overrides)
    from debian_mri.training.run import train

    return train(
        args.data,
        args.out,
        config,
        leave_out=tuple(name for name in args.leave_out.split(",") if name),
        features=args.features,
        root=args.image_root,
        resume=args.resume,
        overwrite=args.overwrite,
    )


COMMANDS: Mapping[str, Command] = {
    "train": Command("train on a prepared set", _train, _train_arguments, config=MriConfig),
}
