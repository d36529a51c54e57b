"""Commands on training data for recognition: augment, augmentation-study; and studies of settings: ablate, tune."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from icube_common import cli
from icube_common.experiments.commands import ablate_command, tune_command
from motiondiff.augmentation.config import AugmentConfig, FilterConfig, TrialConfig, unused_keys
from motiondiff.augmentation.study.config import StudyConfig
from motiondiff.cli.options import SAMPLER, add_options, config_of, given

if TYPE_CHECKING:
    from icube_common.experiments.runner.trial_run import Run

_FILTER = (
    "per_class", "oversample_factor", "min_confidence", "quantile", "tolerance", "copy_threshold", "noise_strength",
    "mirror", *SAMPLER, "fill", "mix_styles",
)  # fmt: skip


def _augment_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="run folder of `train` or `train-actor`")
    parser.add_argument("--data", required=True, metavar="STORE", help="store that RUN was trained on")
    parser.add_argument("--out", required=True, metavar="STORE2", help="store to make")
    add_options(parser, FilterConfig, _FILTER)
    cli.add_parallel_arguments(parser, "batches of motions")
    parser.add_argument(
        "--render", action="store_true", help="write STORE2/videos/<class>/<clip>.mp4 and .npz (skeleton) as well"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing store")


def _augment(args: argparse.Namespace) -> Mapping[str, Any]:
    config = config_of(args, AugmentConfig, *(f"filter.{name}={value}" for name, value in given(args, _FILTER).items()))
    from icube_common.data.processes import open_executor, parse_shard

    shard = parse_shard(args.shard)
    from motiondiff.augmentation.augment import augment

    with open_executor(args.workers, args.dask) as (executor, workers):
        return augment(
            args.run,
            args.data,
            args.out,
            config.filter,
            classifier=config.classifier,
            render=args.render,
            overwrite=args.overwrite,
            executor=executor,
            workers=workers,
            shard=shard,
        )


def _study_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", required=True, metavar="STORE", help="a prepared store")
    parser.add_argument("--out", required=True, metavar="STUDY", help="the folder to make, or to go on in")
    cli.add_parallel_arguments(parser, "cells", shard=False)
    parser.add_argument("--retry-failed", action="store_true", help="run cells again that failed")
    parser.add_argument("--estimate", action="store_true", help="print the number of trainings and the hours, and stop")
    parser.add_argument("--overwrite", action="store_true", help="delete the study that is there and start afresh")


def _study(args: argparse.Namespace) -> Mapping[str, Any]:
    config = config_of(args, StudyConfig)
    from icube_common.data.processes import open_executor
    from motiondiff.augmentation.study.runner import augmentation_study

    with open_executor(args.workers, args.dask) as (executor, workers):
        summary = augmentation_study(
            args.data,
            args.out,
            config,
            executor=executor,
            workers=workers,
            retry_failed=args.retry_failed,
            overwrite=args.overwrite,
            estimate=args.estimate,
        )
    return summary if isinstance(summary, dict) else summary.to_dict()


def _render_study(result: Mapping[str, Any]) -> str:
    if "table" not in result:
        return "\n".join(f"{name}: {value:g}" for name, value in result.items())
    return f"{result['table']}\n{result['report']}"


def _data_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", required=True, metavar="STORE", help="a prepared store with a validation split")


def _make_run(args: argparse.Namespace) -> Run:
    from motiondiff.augmentation.experiment import run_trial

    return functools.partial(run_trial, data=args.data)


COMMANDS: Mapping[str, cli.Command] = {
    "augment": cli.Command(
        "make a balanced, filtered set of generated motions", _augment, _augment_arguments, config=AugmentConfig
    ),
    "augmentation-study": cli.Command(
        "measure the effect of generated motion on recognition",
        _study,
        _study_arguments,
        _render_study,
        config=StudyConfig,
    ),
    "ablate": ablate_command(_make_run, TrialConfig, add_arguments=_data_argument, unused=unused_keys),
    "tune": tune_command(_make_run, TrialConfig, add_arguments=_data_argument, unused=unused_keys),
}
