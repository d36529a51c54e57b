"""Model commands: train, evaluate, zeroshot, predict, ablate, tune, compare, compare-methods, demo.

Heavy modules are imported inside them.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from actprompt.cli.data import data_set
from actprompt.config import ActConfig, ZeroShotConfig, unused_keys
from icube_common import cli
from icube_common.errors import InputError
from icube_common.experiments.commands import (
    ablate_command,
    compare_command,
    compare_methods_command,
    tune_command,
)

if TYPE_CHECKING:
    from icube_common.experiments.results.method_comparison import MethodComparison
    from icube_common.experiments.runner.trial_run import Run


def _data_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", required=True, metavar="DATA", help="prepared folder")
    parser.add_argument("--features", metavar="FOLDER", help="folder of frame features (default: below DATA)")


def _moved_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--root", metavar="FOLDER", help="folder of the videos, if they have moved")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing folder")


def _train_arguments(parser: argparse.ArgumentParser) -> None:
    _data_arguments(parser)
    parser.add_argument("--out", required=True, metavar="RUN", help="run folder to make")
    parser.add_argument(
        "--protocol", metavar="NAME", help="published split to take the training side of (default: all clips)"
    )
    parser.add_argument("--exclude-subjects", metavar="A,B", default="", help="subjects to exclude from the training")
    parser.add_argument("--resume", action="store_true", help="resume from the newest whole checkpoint of RUN")
    _moved_arguments(parser)


def _train(args: argparse.Namespace) -> Mapping[str, Any]:
    from icube_common.config import load_config

    saved = Path(args.out) / "config.yaml"
    # a resumed run keeps its own settings
    file = saved if args.resume and args.config is None and saved.is_file() else args.config
    config = load_config(ActConfig, file=file, overrides=args.overrides)
    from actprompt.training.run import train

    result = train(
        config,
        data_set(args),
        exclude_subjects=_names(args.exclude_subjects),
        **cli.options_of(args, "out", "protocol", "features", "resume", "overwrite"),
    )
    return result.to_dict()


def _protocol_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--protocol",
        metavar="NAME",
        help="leave-one-subject-out (default), k-fold, few-shot, base-to-new, official, or one of the set's own",
    )
    parser.add_argument("--folds", type=int, metavar="N", help="number of folds of k-fold (default 5)")
    parser.add_argument("--repeats", type=int, metavar="N", help="repeats of k-fold (default 1)")
    parser.add_argument("--shots", metavar="1,2,...", help="training clips a class of few-shot (default 1,2,4,8,16)")
    parser.add_argument(
        "--draws",
        type=int,
        metavar="N",
        help="samples of the clips of few-shot (3) or of the classes of base-to-new (10)",
    )
    parser.add_argument("--new-classes", type=int, metavar="N", help="new classes of base-to-new (default: half)")
    parser.add_argument("--protocol-seed", type=int, metavar="N", help="seed of a sampled protocol (default 0)")


def _evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", nargs="?", metavar="RUN", help="trained run (default: train a model for each fold)")
    _data_arguments(parser)
    parser.add_argument("--out", required=True, metavar="EVAL", help="folder to make or to resume")
    _protocol_arguments(parser)
    parser.add_argument(
        "--comparisons",
        action="store_true",
        help="compare with images only, skeletons only, shuffled class texts and plain baselines, by paired tests",
    )
    parser.add_argument(
        "--subjects", metavar="A,B", default="", help="subjects of DATA to evaluate RUN on (default: all)"
    )
    _moved_arguments(parser)


# options of an evaluation that trains
_OPTIONS = ("protocol", "folds", "repeats", "shots", "draws", "new_classes", "protocol_seed")


def _evaluate(args: argparse.Namespace) -> Mapping[str, Any]:
    from icube_common.config import load_config

    if args.run is not None and "=" in args.run and not Path(args.run).exists():
        # argparse takes the first word that is no option for RUN, also a setting
        args.overrides, args.run = [args.run, *args.overrides], None
    set_options = [name for name in _OPTIONS if getattr(args, name) is not None]
    if args.run is not None:
        if args.config or args.overrides or args.comparisons or set_options:
            extra = [*args.overrides, *(f"--{name.replace('_', '-')}" for name in set_options)]
            extra += ["--config"] if args.config else []
            extra += ["--comparisons"] if args.comparisons else []
            raise InputError(f"{extra[0]}: a trained RUN has its settings; leave RUN away to train for each fold")
        from actprompt.evaluation.runner import evaluate_run

        options = cli.options_of(args, "out", "features", "overwrite")
        return evaluate_run(args.run, data_set(args), subjects=_names(args.subjects), **options).to_dict()
    if args.subjects:
        raise InputError(f"--subjects {args.subjects}: goes with a trained RUN only")
    config = load_config(ActConfig, file=args.config, overrides=args.overrides)
    from actprompt.evaluation.runner import evaluate

    return evaluate(
        data_set(args),
        config,
        **_protocol_options(args),
        **cli.options_of(args, "out", "comparisons", "features", "overwrite"),
    ).to_dict()


def _protocol_options(args: argparse.Namespace) -> dict[str, Any]:
    """Protocol and its options as keyword arguments."""
    shots = _shots(args.shots) if args.shots else None
    from actprompt.evaluation.protocols import ProtocolOptions

    protocol = args.protocol or "leave-one-subject-out"
    draws = args.draws if args.draws is not None else (10 if protocol == "base-to-new" else 3)
    settings = {
        "folds": args.folds,
        "repeats": args.repeats,
        "shots": shots,
        "draws": draws,
        "new_classes": args.new_classes,
        "seed": args.protocol_seed,
    }
    options = ProtocolOptions(**{name: value for name, value in settings.items() if value is not None})
    return {"protocol": protocol, "options": options}


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
    parser.add_argument("run", metavar="RUN", help="trained run")
    parser.add_argument("video", metavar="VIDEO", help="video file, or folder of frames (img_00001.jpg, ...)")
    parser.add_argument("--frame-rate", type=float, metavar="FPS", help="frames per second of a folder of frames")
    parser.add_argument(
        "--skeleton", metavar="FILE", help="skeleton file: .npz with joints (T, J, 3) and time (T,) in s"
    )
    parser.add_argument("--data", metavar="DATA", help="prepared set that holds VIDEO and its skeleton")
    parser.add_argument("--pose-models", metavar="DIR", help="folder of the pose networks (default: the cache folder)")
    parser.add_argument(
        "--window",
        type=float,
        metavar="SECONDS",
        help="length of the windows of a long VIDEO (default: usual clip)",
    )
    parser.add_argument("--stride", type=float, metavar="SECONDS", help="step of the windows (default: half a window)")
    parser.add_argument(
        "--threshold", type=float, metavar="P", help="probability below which it is none of these (default: RUN's)"
    )
    parser.add_argument("--top", type=int, default=5, metavar="K", help="number of actions to list (default 5)")
    parser.add_argument("--html", metavar="FILE", help="page to write: frames, bars, sentences")
    parser.add_argument(
        "--keep-damaged", action="store_true", help="use the decodable frames of a truncated or damaged VIDEO"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing page")


def _predict(args: argparse.Namespace) -> Mapping[str, Any]:
    from actprompt.inference.pipeline import predict

    names = (
        "run",
        "video",
        "skeleton",
        "data",
        "frame_rate",
        "top",
        "html",
        "overwrite",
        "keep_damaged",
        "pose_models",
        "window",
        "stride",
        "threshold",
    )
    prediction = predict(**cli.options_of(args, *names))
    return {**prediction.to_dict(args.top), "html": args.html}


def _study_arguments(parser: argparse.ArgumentParser) -> None:
    _data_arguments(parser)
    parser.add_argument(
        "--protocol", default="leave-one-subject-out", metavar="NAME", help="protocol (default leave-one-subject-out)"
    )


def _make_run(args: argparse.Namespace) -> Run:
    from actprompt.evaluation.experiment import run_trial

    return functools.partial(run_trial, **cli.options_of(args, "data", "protocol", "features"))


def _zeroshot_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", required=True, metavar="DATA", help="prepared folder")
    parser.add_argument("--out", required=True, metavar="EVAL", help="folder to make")
    parser.add_argument("--features", metavar="FOLDER", help="folder of actprompt extract, to read and to complete")
    parser.add_argument(
        "--knowledge", metavar="FILE", help="class descriptions: a file or a shipped name (default: the data set's own)"
    )
    parser.add_argument(
        "--protocol", metavar="NAME", help="published split to take the test clips of (default: all clips)"
    )
    parser.add_argument("--device", help="torch device (default: a GPU where there is one)")
    parser.add_argument("--root", metavar="FOLDER", help="folder of the videos, if they have moved")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing folder")


def _zeroshot(args: argparse.Namespace) -> Mapping[str, Any]:
    from icube_common.config import load_config

    config = load_config(ZeroShotConfig, file=args.config, overrides=args.overrides)
    from actprompt.evaluation.zero_shot import evaluate_zero_shot

    options = cli.options_of(args, "out", "features", "knowledge", "protocol", "device", "overwrite")
    return evaluate_zero_shot(data_set(args), config=config, **options).to_dict()


def _methods_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", required=True, metavar="DATA", help="prepared folder")
    _protocol_arguments(parser)
    parser.add_argument(
        "--features", default="images", choices=("images", "pose"), help="input of all methods (default images)"
    )
    parser.add_argument("--features-folder", metavar="FOLDER", help="folder of frame features (default: below DATA)")
    parser.add_argument("--root", metavar="FOLDER", help="folder of the videos, if they have moved")


def _methods_options(args: argparse.Namespace) -> dict[str, Any]:
    names = cli.options_of(args, "features", "features_folder")
    return {"data": data_set(args), **_protocol_options(args), **names}


def _compare_methods(**options: Any) -> MethodComparison:
    from actprompt.evaluation.methods import compare_methods

    return compare_methods(**options)


MODEL_COMMANDS: Mapping[str, cli.Command] = {
    "train": cli.Command("train on a prepared set", _train, _train_arguments, config=ActConfig),
    "zeroshot": cli.Command(
        "recognise actions without training, by class prompts", _zeroshot, _zeroshot_arguments, config=ZeroShotConfig
    ),
    "evaluate": cli.Command(
        "evaluate on unseen people: train for each fold, or a trained run",
        _evaluate,
        _evaluate_arguments,
        config=ActConfig,
    ),
    "predict": cli.Command(
        "recognise the action of a video, with an explanation",
        _predict,
        _predict_arguments,
        cli.lazy("actprompt.inference.terminal", "render"),
    ),
    "ablate": ablate_command(_make_run, ActConfig, add_arguments=_study_arguments, unused=unused_keys),
    "tune": tune_command(_make_run, ActConfig, add_arguments=_study_arguments, unused=unused_keys),
    "compare": compare_command(),
    "compare-methods": compare_methods_command(
        _compare_methods, ActConfig, add_arguments=_methods_arguments, options=_methods_options
    ),
    "demo": cli.demo_command(
        "run everything on simulated videos: prepare, train, evaluate, predict", "actprompt.cli.demo", "demo/actprompt"
    ),
}
