"""The commands around training data: train-actor, augment, augmentation-study, ablate, tune.

Nothing heavy is imported before one runs.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from icube_common import cli
from icube_common.experiments.commands import ablate_command, tune_command
from motiondiff.actor.config import ActorConfig
from motiondiff.augmentation.config import AugmentConfig, CellConfig, FilterConfig, StudyConfig, unused_keys

if TYPE_CHECKING:
    from icube_common.experiments.runner.trial_run import Run


def _train_actor_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", required=True, metavar="STORE", help="a prepared store")
    parser.add_argument("--out", required=True, metavar="RUN", help="the run folder to make")
    parser.add_argument("--resume", action="store_true", help="go on from RUN's newest whole checkpoint")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing run folder")


def _train_actor(args: argparse.Namespace) -> Mapping[str, Any]:
    from icube_common.config import load_config

    saved = Path(args.out) / "config.yaml"
    # a run that goes on keeps its own settings unless told otherwise
    file = saved if args.resume and args.config is None and saved.is_file() else args.config
    config = load_config(ActorConfig, file=file, overrides=args.overrides)
    from motiondiff.actor.train import train_actor

    return train_actor(args.data, args.out, config, resume=args.resume, overwrite=args.overwrite)


# option -> key of `FilterConfig`, with the type of its value
_FILTER_OPTIONS: Mapping[str, type] = {
    "per_class": int,
    "overgenerate": float,
    "min_confidence": float,
    "quantile": float,
    "slack": float,
    "copy_share": float,
    "strength": float,
    "mirror": float,
    "steps": int,
    "guidance": float,
    "scheduler": str,
    "device": str,
    "seed": int,
}

_FILTER_SWITCHES = ("fill", "mix_styles")


def _augment_arguments(parser: argparse.ArgumentParser) -> None:
    from dataclasses import fields

    parser.add_argument("run", metavar="RUN", help="a run folder of `train` or `train-actor`")
    parser.add_argument("--data", required=True, metavar="STORE", help="the store that RUN was trained on")
    parser.add_argument("--out", required=True, metavar="STORE2", help="the store to make")
    known = {field.name: field for field in fields(FilterConfig)}
    for name, kind in _FILTER_OPTIONS.items():
        field = known[name]
        option = f"--{name.replace('_', '-')}"
        meaning = f"{field.metadata['meaning']} (default {field.default})".replace("%", "%%")
        parser.add_argument(option, type=kind, metavar="N" if kind is not str else "NAME", help=meaning)
    for name in _FILTER_SWITCHES:
        option = f"--{name.replace('_', '-')}"
        parser.add_argument(option, action="store_true", help=str(known[name].metadata["meaning"]))
    parser.add_argument("--render", action="store_true", help="also draw STORE2/videos/<class>/<clip>.mp4")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing store")


def _augment(args: argparse.Namespace) -> Mapping[str, Any]:
    from icube_common.config import load_config

    given = {name: getattr(args, name) for name in _FILTER_OPTIONS if getattr(args, name) is not None}
    words = [f"filter.{name}={value}" for name, value in given.items()]
    words += [f"filter.{name}=true" for name in _FILTER_SWITCHES if getattr(args, name)]
    config = load_config(AugmentConfig, file=args.config, overrides=[*args.overrides, *words])
    from motiondiff.augmentation.augment import augment

    return augment(
        args.run,
        args.data,
        args.out,
        config.filter,
        recogniser=config.recogniser,
        render=args.render,
        overwrite=args.overwrite,
    )


def _study_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", required=True, metavar="STORE", help="a prepared store")
    parser.add_argument("--out", required=True, metavar="STUDY", help="the folder to make, or to go on in")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="cells at the same time (default 1)")
    parser.add_argument("--retry-failed", action="store_true", help="run cells again that failed")
    parser.add_argument("--overwrite", action="store_true", help="delete the study that is there and start afresh")


def _study(args: argparse.Namespace) -> Mapping[str, Any]:
    from icube_common.config import load_config

    config = load_config(StudyConfig, file=args.config, overrides=args.overrides)
    from icube_common.experiments.runner.executors import open_executor
    from motiondiff.augmentation.study import augmentation_study

    with open_executor(args.workers) as (executor, workers):
        summary = augmentation_study(
            args.data,
            args.out,
            config,
            executor=executor,
            workers=workers,
            retry_failed=args.retry_failed,
            overwrite=args.overwrite,
        )
    return summary.to_dict()


def _render_study(result: Mapping[str, Any]) -> str:
    return f"{result['table']}\n{result['report']}"


def _data_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", required=True, metavar="STORE", help="a prepared store with a validation split")


def _make_run(args: argparse.Namespace) -> Run:
    from motiondiff.augmentation.cells import run_cell

    return functools.partial(run_cell, data=args.data)


AUGMENTATION_COMMANDS: Mapping[str, cli.Command] = {
    "train-actor": cli.Command(
        "train ACTOR, a published method, on the same data", _train_actor, _train_actor_arguments, config=ActorConfig
    ),
    "augment": cli.Command(
        "a balanced, filtered set of generated motions", _augment, _augment_arguments, config=AugmentConfig
    ),
    "augmentation-study": cli.Command(
        "does generated motion help recognition?", _study, _study_arguments, _render_study, config=StudyConfig
    ),
    "ablate": ablate_command(_make_run, CellConfig, add_arguments=_data_argument, unused=unused_keys),
    "tune": tune_command(_make_run, CellConfig, add_arguments=_data_argument, unused=unused_keys),
}
