"""The commands around models: train, evaluate, zeroshot, predict, ablate, tune, compare, demo.

Nothing heavy is imported before one runs.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from actprompt.config import ActConfig, ZeroShotConfig, unused_keys
from icube_common import cli
from icube_common.errors import InputError
from icube_common.experiments.commands import ablate_command, compare_command, tune_command

if TYPE_CHECKING:
    from icube_common.experiments.runner.trial_run import Run


def _data_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", required=True, metavar="DATA", help="a prepared folder")
    parser.add_argument("--features", metavar="FOLDER", help="of frame features (default: below DATA)")


def _moved_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--root", metavar="FOLDER", help="where the videos lie now, if they moved")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing folder")


def _train_arguments(parser: argparse.ArgumentParser) -> None:
    _data_arguments(parser)
    parser.add_argument("--out", required=True, metavar="RUN", help="the run folder to make")
    parser.add_argument("--protocol", metavar="NAME", help="of the set: train on its training side (default: all)")
    parser.add_argument("--leave-out", metavar="A,B", default="", help="subjects that are not trained on")
    parser.add_argument("--resume", action="store_true", help="go on from RUN's newest whole checkpoint")
    _moved_arguments(parser)


def _train(args: argparse.Namespace) -> Mapping[str, Any]:
    from icube_common.config import load_config

    saved = Path(args.out) / "config.yaml"
    # a run that goes on keeps its own settings unless told otherwise
    file = saved if args.resume and args.config is None and saved.is_file() else args.config
    config = load_config(ActConfig, file=file, overrides=args.overrides)
    from actprompt.train import train

    return train(
        args.data,
        args.out,
        config,
        protocol=args.protocol,
        leave_out=_names(args.leave_out),
        features=args.features,
        root=args.root,
        resume=args.resume,
        overwrite=args.overwrite,
    )


def _evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", nargs="?", metavar="RUN", help="a trained run; without it, models are trained per fold")
    _data_arguments(parser)
    parser.add_argument("--out", required=True, metavar="EVAL", help="the folder to make, or to go on with")
    parser.add_argument(
        "--protocol",
        metavar="NAME",
        help="leave-one-subject-out (default), k-fold, few-shot, base-to-new, official, or one of the set's own",
    )
    parser.add_argument("--folds", type=int, metavar="N", help="of k-fold (default 5)")
    parser.add_argument("--repeats", type=int, metavar="N", help="of k-fold (default 1)")
    parser.add_argument("--shots", metavar="1,2,...", help="of few-shot: training clips a class (default 1,2,4,8,16)")
    parser.add_argument("--draws", type=int, metavar="N", help="of few-shot's clips (3), of base-to-new's classes (10)")
    parser.add_argument("--new-classes", type=int, metavar="N", help="classes that base-to-new leaves out (half)")
    parser.add_argument("--protocol-seed", type=int, metavar="N", help="of all draws of a protocol (default 0)")
    parser.add_argument(
        "--comparisons",
        action="store_true",
        help="also picture only, numbers only, exchanged class texts and plain baselines, with paired tests",
    )
    parser.add_argument("--subjects", metavar="A,B", default="", help="with RUN: only these people of DATA")
    _moved_arguments(parser)


# what only an evaluation that trains takes
_OPTIONS = ("protocol", "folds", "repeats", "shots", "draws", "new_classes", "protocol_seed")


def _evaluate(args: argparse.Namespace) -> Mapping[str, Any]:
    from icube_common.config import load_config

    if args.run is not None and "=" in args.run and not Path(args.run).exists():
        # the first word that is no option is taken for RUN by argparse, and this one is a setting
        args.overrides, args.run = [args.run, *args.overrides], None
    given = [name for name in _OPTIONS if getattr(args, name) is not None]
    if args.run is not None:
        if args.config or args.overrides or args.comparisons or given:
            extra = [*args.overrides, *(f"--{name.replace('_', '-')}" for name in given)]
            extra += ["--config"] if args.config else []
            extra += ["--comparisons"] if args.comparisons else []
            raise InputError(f"{extra[0]}: a trained RUN has its settings; leave RUN away to train for each fold")
        from actprompt.evaluate import evaluate_run

        return evaluate_run(
            args.run,
            args.data,
            args.out,
            subjects=_names(args.subjects),
            features=args.features,
            root=args.root,
            overwrite=args.overwrite,
        )
    if args.subjects:
        raise InputError(f"--subjects {args.subjects}: goes with a trained RUN only")
    config = load_config(ActConfig, file=args.config, overrides=args.overrides)
    shots = _shots(args.shots) if args.shots else None
    from actprompt.evaluate import evaluate
    from actprompt.protocols import ProtocolOptions

    protocol = args.protocol or "leave-one-subject-out"
    draws = args.draws if args.draws is not None else (10 if protocol == "base-to-new" else 3)
    found = {
        "folds": args.folds,
        "repeats": args.repeats,
        "shots": shots,
        "draws": draws,
        "new_classes": args.new_classes,
        "seed": args.protocol_seed,
    }
    return evaluate(
        args.data,
        args.out,
        config,
        protocol=protocol,
        options=ProtocolOptions(**{name: value for name, value in found.items() if value is not None}),
        comparisons=args.comparisons,
        features=args.features,
        root=args.root,
        overwrite=args.overwrite,
    )


def _shots(text: str) -> tuple[int, ...]:
    try:
        shots = tuple(sorted({int(word) for word in text.split(",")}))
    except ValueError:
        shots = (0,)
    if shots[0] < 1:
        raise InputError(f"--shots {text}: must be positive whole numbers, such as 1,2,4")
    return shots


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for name in text.split(",") if name)


def _predict_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="a trained run")
    parser.add_argument("video", metavar="VIDEO", help="a video file, or a folder of frames (img_00001.jpg, ...)")
    parser.add_argument("--frame-rate", type=float, metavar="FPS", help="frames per second of a folder of frames")
    parser.add_argument("--skeleton", metavar="FILE", help=".npz with joints (T, J, 3) and time (T,) in s")
    parser.add_argument("--data", metavar="DATA", help="a prepared set that VIDEO is of: its skeleton is taken")
    parser.add_argument("--top", type=int, default=5, metavar="K", help="actions to name (default 5)")
    parser.add_argument("--html", metavar="FILE", help="also write a page: frames, bars, sentences")
    parser.add_argument(
        "--keep-damaged", action="store_true", help="use the decodable frames of a truncated or damaged VIDEO"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing page")


def _predict(args: argparse.Namespace) -> Mapping[str, Any]:
    from actprompt.predict import predict_video

    return predict_video(
        args.run,
        args.video,
        skeleton=args.skeleton,
        data=args.data,
        frame_rate=args.frame_rate,
        top=args.top,
        html=args.html,
        overwrite=args.overwrite,
        keep_damaged=args.keep_damaged,
    )


def _render_prediction(result: Mapping[str, Any]) -> str:
    from actprompt.predict import render

    return render(result)


def _study_arguments(parser: argparse.ArgumentParser) -> None:
    _data_arguments(parser)
    parser.add_argument(
        "--protocol", default="leave-one-subject-out", metavar="NAME", help="default leave-one-subject-out"
    )


def _make_run(args: argparse.Namespace) -> Run:
    from actprompt.study import run_cell

    return functools.partial(run_cell, data=args.data, protocol=args.protocol, features=args.features)


def _demo_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", default="demo/actprompt", metavar="DIR", help="folder to make (demo/actprompt)")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing folder")


def _demo(args: argparse.Namespace) -> Mapping[str, Any]:
    from actprompt.demo import demo

    return demo(args.out, overwrite=args.overwrite)


def _zeroshot_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", required=True, metavar="DATA", help="a prepared folder")
    parser.add_argument("--out", required=True, metavar="EVAL", help="the folder to make")
    parser.add_argument("--features", metavar="FOLDER", help="of actprompt extract; missing ones are stored there")
    parser.add_argument(
        "--knowledge", metavar="FILE", help="class descriptions: a file or a shipped name (default: the data set's own)"
    )
    parser.add_argument("--protocol", metavar="NAME", help="of the set; only its test clips (default: all clips)")
    parser.add_argument("--device", help="torch device (default: a GPU where there is one)")
    parser.add_argument("--root", metavar="FOLDER", help="where the videos lie now, if they moved")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing folder")


def _zeroshot(args: argparse.Namespace) -> Mapping[str, Any]:
    from icube_common.config import load_config

    config = load_config(ZeroShotConfig, file=args.config, overrides=args.overrides)
    from actprompt.zeroshot import zeroshot

    return zeroshot(
        args.data,
        args.out,
        config,
        features=args.features,
        knowledge=args.knowledge,
        protocol=args.protocol,
        device=args.device,
        root=args.root,
        overwrite=args.overwrite,
    )


MODEL_COMMANDS: Mapping[str, cli.Command] = {
    "train": cli.Command("train on a prepared set", _train, _train_arguments, config=ActConfig),
    "zeroshot": cli.Command(
        "recognise without any training, by class prompts alone", _zeroshot, _zeroshot_arguments, config=ZeroShotConfig
    ),
    "evaluate": cli.Command(
        "judge on unseen people: retrain for each fold, or a trained run",
        _evaluate,
        _evaluate_arguments,
        config=ActConfig,
    ),
    "predict": cli.Command(
        "name the action of a video, with reasons", _predict, _predict_arguments, render=_render_prediction
    ),
    "ablate": ablate_command(_make_run, ActConfig, add_arguments=_study_arguments, unused=unused_keys),
    "tune": tune_command(_make_run, ActConfig, add_arguments=_study_arguments, unused=unused_keys),
    "compare": compare_command(),
    "demo": cli.Command("simulated videos: prepare, train, evaluate, predict, pages", _demo, _demo_arguments),
}
