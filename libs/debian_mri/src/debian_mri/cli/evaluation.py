"""The commands that judge models: evaluate, ablate, tune. Nothing heavy is imported before one runs."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from debian_mri.config import MriConfig, unused_keys
from icube_common.cli import Command
from icube_common.errors import InputError
from icube_common.experiments.commands import ablate_command, compare_command, tune_command

if TYPE_CHECKING:
    from icube_common.experiments.cells import Run

# what only an evaluation that trains takes
_OPTIONS = ("protocol", "folds", "repeats", "split", "protocol_seed")


def _data_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", required=True, metavar="DATA", help="a prepared folder")
    parser.add_argument("--features", metavar="FOLDER", help="of slice features (default: below DATA)")


def _evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", nargs="?", metavar="RUN", help="a trained run; without it, models are trained per fold")
    _data_arguments(parser)
    parser.add_argument("--out", required=True, metavar="EVAL", help="the folder to make, or to go on with")
    parser.add_argument("--protocol", metavar="NAME", help="group-kfold (default), leave-one-site-out or given")
    parser.add_argument("--folds", type=int, metavar="N", help="of group-kfold (default 5)")
    parser.add_argument("--repeats", type=int, metavar="N", help="of group-kfold (default 1)")
    parser.add_argument("--split", metavar="FILE", help="of given: a table with id, fold and, where there are, repeat")
    parser.add_argument("--protocol-seed", type=int, metavar="N", help="of the draw of folds (default 0)")
    parser.add_argument(
        "--comparisons",
        default="all",
        metavar="A,B",
        help="all (default), none, or names: image, table, both, permutation, training-labels-permuted, confounds, "
        "label-from-site, site-from-image, logistic-table, logistic-pixels, logistic-pixels-plain, linear-voxels, "
        "slice-mean, daft, coop, zero-shot",
    )
    parser.add_argument("--subjects", metavar="A,B", default="", help="with RUN: only these people of DATA")
    parser.add_argument("--image-root", metavar="FOLDER", help="where the images lie now, if they moved")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing folder")


def _evaluate(args: argparse.Namespace) -> Mapping[str, Any]:
    from icube_common.config import load_config

    if args.run is not None and "=" in args.run and not Path(args.run).exists():
        # the first word that is no option is taken for RUN by argparse, and this one is a setting
        args.overrides, args.run = [args.run, *args.overrides], None
    common = {
        "comparisons": args.comparisons,
        "features": args.features,
        "root": args.image_root,
        "overwrite": args.overwrite,
    }
    given = {name: getattr(args, name) for name in _OPTIONS if getattr(args, name) is not None}
    if args.run is not None:
        if args.config or args.overrides or given:
            extra = [*args.overrides, *(f"--{name.replace('_', '-')}" for name in given)]
            extra += ["--config"] if args.config else []
            raise InputError(f"{extra[0]}: a trained RUN has its settings; leave RUN away to train for each fold")
        from debian_mri.evaluation.runner import evaluate_run

        subjects = tuple(name for name in args.subjects.split(",") if name)
        return evaluate_run(args.run, args.data, args.out, subjects=subjects, **common)
    if args.subjects:
        raise InputError(f"--subjects {args.subjects}: goes with a trained RUN only")
    config = load_config(MriConfig, file=args.config, overrides=args.overrides)
    from debian_mri.evaluation.protocols import ProtocolOptions
    from debian_mri.evaluation.runner import evaluate

    protocol = given.pop("protocol", "group-kfold")
    if "protocol_seed" in given:
        given["seed"] = given.pop("protocol_seed")
    return evaluate(args.data, args.out, config, protocol=protocol, options=ProtocolOptions(**given), **common)


def _render_evaluation(result: Mapping[str, Any]) -> str:
    """The figures of the configured model and of what it is compared with, as a table."""
    from debian_mri.evaluation.report import p_text

    lines = [
        *result["stamps"],
        *result["notes"],
        f"{'':<32}{'AUC':>7}  {'95 % interval':<16}{'model minus it':>15}{'p':>8}",
    ]
    for title, row in [("configured model", result), *((r["title"], r) for r in result["comparisons"].values())]:
        if "skipped" in row:
            lines.append(f"{title:<32}left out: {row['skipped']}")
            continue
        auc = row["auc"]
        low, high = auc["ci95"]
        ends = "" if low is None else f"{low:.3f} to {high:.3f}"
        paired = row.get("difference", {}).get("auc", {})
        value = "" if auc["mean"] is None else f"{auc['mean']:.3f}"
        difference = "" if paired.get("mean") is None else f"{paired['mean']:+.3f}"
        p = "" if paired.get("p") is None else p_text(paired["p"])
        lines.append(f"{title:<32}{value:>7}  {ends:<16}{difference:>15}{p:>8}")
    return "\n".join([*lines, result["report"], result["notice"]])


def _study_arguments(parser: argparse.ArgumentParser) -> None:
    _data_arguments(parser)
    parser.add_argument("--protocol", default="group-kfold", metavar="NAME", help="group-kfold or leave-one-site-out")
    parser.add_argument("--folds", type=int, default=5, metavar="N", help="of group-kfold (default 5)")
    parser.add_argument("--repeats", type=int, default=1, metavar="N", help="of group-kfold (default 1)")


def _make_run(args: argparse.Namespace) -> Run:
    from debian_mri.evaluation.experiment import run_cell

    return functools.partial(
        run_cell,
        data=args.data,
        protocol=args.protocol,
        folds=args.folds,
        repeats=args.repeats,
        features=args.features,
    )


COMMANDS: Mapping[str, Command] = {
    "evaluate": Command(
        "judge on unseen people: retrain for each fold, or a trained run; with baselines and checks",
        _evaluate,
        _evaluate_arguments,
        render=_render_evaluation,
        config=MriConfig,
    ),
    "ablate": ablate_command(_make_run, MriConfig, add_arguments=_study_arguments, unused=unused_keys),
    "tune": tune_command(_make_run, MriConfig, add_arguments=_study_arguments, unused=unused_keys),
    "compare": compare_command(),
}
