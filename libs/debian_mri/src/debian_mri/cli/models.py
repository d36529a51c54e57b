"""Commands for models: train, predict, evaluate, verify and studies; heavy modules are imported when one runs."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from debian_mri.cli.volumes import atlas_arguments, read_atlas
from debian_mri.config import MriConfig, unused_keys
from icube_common.cli import Command, demo_command, lazy, options_of
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

# options of an evaluation that trains
_OPTIONS = ("protocol", "folds", "repeats", "split", "protocol_seed")


def _data(args: argparse.Namespace) -> Any:
    """The prepared set of a command, opened here where its images have moved."""
    if args.data is None or args.image_root is None:
        return args.data
    from debian_mri.data.dataset import ScanDataset

    return ScanDataset(args.data, root=args.image_root)


def _train_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", required=True, metavar="DATA", help="a prepared folder")
    parser.add_argument("--features", metavar="FOLDER", help="folder of slice features (default: below DATA)")
    parser.add_argument("--out", required=True, metavar="RUN", help="the run folder to make")
    parser.add_argument("--exclude-subjects", metavar="A,B", default="", help="subjects without a part in the training")
    parser.add_argument("--resume", action="store_true", help="resume from RUN's newest whole checkpoint")
    parser.add_argument("--image-root", metavar="FOLDER", help="folder of the images, where they have moved")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing folder")


def _train(args: argparse.Namespace) -> Mapping[str, Any]:
    from icube_common.config import load_config

    saved = Path(args.out) / "config.yaml"
    # a resumed run keeps its own settings by default
    file = saved if args.resume and args.config is None and saved.is_file() else args.config
    config = load_config(MriConfig, file=file, overrides=args.overrides)
    from debian_mri.training.run import train

    return train(
        config,
        _data(args),
        args.out,
        exclude_subjects=tuple(name for name in args.exclude_subjects.split(",") if name),
        **options_of(args, "features", "resume", "overwrite"),
    ).to_dict()


def _predict_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="a trained run")
    parser.add_argument(
        "images", nargs="*", metavar="IMAGE", help="a NIfTI volume, a DICOM folder, slice images of one person; several"
    )
    parser.add_argument(
        "--planes", metavar="A,B", default="", help="planes of slice images, in their order: coronal,axial"
    )
    parser.add_argument(
        "--sequence", metavar="NAME", help="MRI sequence of the image (T1w), in place of that of its name or header"
    )
    parser.add_argument("--data", metavar="DATA", help="a prepared set: one scan of it (--id), or all (--out)")
    parser.add_argument("--id", metavar="ID", help="a scan of DATA")
    parser.add_argument(
        "--fill-nan", action="store_true", help="set NaN voxels of a volume outside the head to background"
    )
    parser.add_argument("--age", metavar="YEARS", help="age of the person")
    parser.add_argument("--sex", metavar="F|M", help="sex of the person")
    parser.add_argument("--education", metavar="YEARS", help="education of the person")
    parser.add_argument(
        "--variable",
        metavar="COLUMN=VALUE",
        action="append",
        default=[],
        help="another variable; repeatable",
    )
    parser.add_argument("--volumes", metavar="TABLE", help="volumes of the scans, for a model of concepts.volumes")
    atlas_arguments(parser)
    parser.add_argument("--html", metavar="FILE", help="write a page: slices, bars, text")
    parser.add_argument("--tsv", metavar="FILE", help="write all numbers as a table")
    parser.add_argument("--report", metavar="FILE", help="write text and numbers, for debian-mri verify")
    parser.add_argument("--out", metavar="PRED", help="folder to make, for many scans")
    parser.add_argument("--pages", action="store_true", help="write a page of each scan, with --out")
    parser.add_argument(
        "--features", metavar="FOLDER", help="folder of slice features, with --data and --out (below DATA)"
    )
    parser.add_argument(
        "--image-root", metavar="FOLDER", help="folder of the images, where they have moved (with --data)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace existing files")


def _predict(args: argparse.Namespace) -> Mapping[str, Any]:
    values = _values(args)
    planes = tuple(name.strip() for name in args.planes.split(",") if name.strip())
    if args.images and args.data:
        raise InputError(f"{args.images[0]} with --data {args.data}: give images, or a prepared set")
    if args.id is not None and args.data is None:
        raise InputError(f"--id {args.id}: goes with --data DATA")
    if args.fill_nan and args.data is not None:
        raise InputError("--fill-nan: is for images; for a prepared set, debian-mri prepare takes it")
    many = args.id is None and bool(
        args.data or (not planes and (len(args.images) > 1 or _holds_volumes(args.images[:1])))
    )
    common = {"values": values, "atlas": read_atlas(args), **options_of(args, "sequence", "volumes", "overwrite")}
    files = {"--html": args.html, "--tsv": args.tsv, "--report": args.report}
    if not many:
        if args.out or args.pages:
            raise InputError("--out, --pages: are for many scans; of one, --html, --tsv and --report name files")
        if args.features:
            raise InputError(f"--features {args.features}: goes with --data DATA --out PRED")
        from debian_mri.inference.pipeline import predict

        prediction = predict(
            args.run,
            args.images or None,
            data=_data(args),
            scan_id=args.id,
            planes=planes,
            **options_of(args, "fill_nan", "html", "tsv", "report"),
            **common,
        )
        written = {name.strip("-"): str(path) for name, path in files.items() if path is not None}
        return {**prediction.to_dict(), "files": written}
    if extra := [name for name, path in files.items() if path is not None]:
        raise InputError(f"{extra[0]}: is for one scan; of many, --out PRED names a folder, and --pages adds pages")
    if args.out is None:
        raise InputError("many scans: --out PRED names the folder to make (or --id ID one scan of --data DATA)")
    from debian_mri.inference import batch

    if args.data:
        return batch.predict_set(args.run, _data(args), args.out, features=args.features, pages=args.pages, **common)
    return batch.predict_files(args.run, args.images, args.out, fill_nan=args.fill_nan, pages=args.pages, **common)


def _values(args: argparse.Namespace) -> dict[str, str]:
    values: dict[str, str] = {}
    for pair in args.variable:
        name, separator, value = pair.partition("=")
        if not separator or not name.strip():
            raise InputError(f"--variable {pair}: must be COLUMN=VALUE")
        values[name.strip()] = value
    for name in ("age", "sex", "education"):
        value = getattr(args, name)
        if value is not None:
            if name in values:
                raise InputError(f"--variable {name}={values[name]}: --{name} gives it as well")
            values[name] = value
    return values


def _holds_volumes(images: list[str]) -> bool:
    if not images or not Path(images[0]).is_dir():
        return False
    from debian_mri.inference.batch import volumes_below

    return bool(volumes_below(Path(images[0])))


def _render_prediction(result: Mapping[str, Any]) -> str:
    if "text" not in result:
        return "\n".join(f"{key}: {value}" for key, value in result.items() if value is not None)
    return "\n".join([result["text"].rstrip(), *(f"{kind}: {path}" for kind, path in result["files"].items())])


def _test_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="a trained run")
    parser.add_argument("--data", required=True, metavar="SIMULATED", help="cohort of debian-mri simulate")
    parser.add_argument("--out", required=True, metavar="OUT", help="the folder to make")
    parser.add_argument("--draws", type=int, default=50, metavar="N", help="random choices of slices (default 50)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the choices (default 0)")
    parser.add_argument("--volumes", metavar="TABLE", help="volumes of the scans, for a model of concepts.volumes")
    parser.add_argument("--image-root", metavar="FOLDER", help="folder of the images, where they have moved")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing folder")


def _test(args: argparse.Namespace) -> Mapping[str, Any]:
    from debian_mri.evaluation.explanation_eval import evaluate_explanations

    options = options_of(args, "draws", "seed", "volumes", "overwrite")
    return evaluate_explanations(args.run, _data(args), args.out, **options)


def _verify_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("report", metavar="REPORT", help="a report (.json), or a folder that is searched for reports")


def _verify(args: argparse.Namespace) -> Mapping[str, Any]:
    from debian_mri.explanation.verify import verify_files

    result = verify_files(args.report)
    if wrong := result["problems"]:
        file, problems = next(iter(wrong.items()))
        more = sum(map(len, wrong.values())) - 1
        raise InputError(f"{file}: {problems[0]}" + (f" (and {more} more problems)" if more else ""))
    return result


def _render_verification(result: Mapping[str, Any]) -> str:
    count = result["reports"]
    return f"{count} report{'' if count == 1 else 's'}: every number agrees with the computation"


def _data_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", required=True, metavar="DATA", help="a prepared folder")
    parser.add_argument("--features", metavar="FOLDER", help="folder of slice features (default: below DATA)")


def _evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", nargs="?", metavar="RUN", help="a trained run; without it, models are trained per fold")
    _data_arguments(parser)
    parser.add_argument("--out", required=True, metavar="EVAL", help="folder to make or to resume")
    parser.add_argument("--protocol", metavar="NAME", help="group-kfold (default), leave-one-site-out or given")
    parser.add_argument("--folds", type=int, metavar="N", help="folds of group-kfold (default 5)")
    parser.add_argument("--repeats", type=int, metavar="N", help="repeats of group-kfold (default 1)")
    parser.add_argument("--split", metavar="FILE", help="table with id, fold and repeat, for the protocol given")
    parser.add_argument("--protocol-seed", type=int, metavar="N", help="seed of the folds (default 0)")
    parser.add_argument(
        "--comparisons",
        default="all",
        metavar="A,B",
        help="all (default), none, or names: image, table, both, permutation, training-labels-permuted, confounds, "
        "label-from-site, site-from-image, logistic-table, logistic-biomarkers, logistic-pixels, "
        "logistic-pixels-plain, linear-voxels, slice-mean, daft, cnn-3d, coop, zero-shot",
    )
    parser.add_argument("--subjects", metavar="A,B", default="", help="subjects of DATA to evaluate, with RUN")
    parser.add_argument(
        "--volumes", metavar="TABLE", help="volumes of the scans, with RUN, a model of concepts.volumes"
    )
    parser.add_argument("--image-root", metavar="FOLDER", help="folder of the images, where they have moved")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing folder")


def _evaluate(args: argparse.Namespace) -> Mapping[str, Any]:
    from icube_common.config import load_config

    if args.run is not None and "=" in args.run and not Path(args.run).exists():
        # the first word that is no option is taken for RUN by argparse, and this one is a setting
        args.overrides, args.run = [args.run, *args.overrides], None
    common = options_of(args, "comparisons", "features", "overwrite")
    set_options = {name: getattr(args, name) for name in _OPTIONS if getattr(args, name) is not None}
    if args.run is not None:
        if args.config or args.overrides or set_options:
            extra = [*args.overrides, *(f"--{name.replace('_', '-')}" for name in set_options)]
            extra += ["--config"] if args.config else []
            raise InputError(f"{extra[0]}: a trained RUN has its settings; leave RUN away to train for each fold")
        from debian_mri.evaluation.runner import evaluate_run

        subjects = tuple(name for name in args.subjects.split(",") if name)
        return evaluate_run(
            args.run, _data(args), args.out, subjects=subjects, volumes=args.volumes, **common
        ).to_dict()
    if args.volumes:
        raise InputError(f"--volumes {args.volumes}: goes with a trained RUN; for each fold, concepts.volumes=TABLE")
    if args.subjects:
        raise InputError(f"--subjects {args.subjects}: goes with a trained RUN only")
    config = load_config(MriConfig, file=args.config, overrides=args.overrides)
    from debian_mri.evaluation.protocols import ProtocolOptions
    from debian_mri.evaluation.runner import evaluate

    protocol = set_options.pop("protocol", "group-kfold")
    if "protocol_seed" in set_options:
        set_options["seed"] = set_options.pop("protocol_seed")
    options = ProtocolOptions(**set_options)
    return evaluate(_data(args), config, args.out, protocol=protocol, options=options, **common).to_dict()


def _render_evaluation(result: Mapping[str, Any]) -> str:
    """The figures of the configured model and of what it is compared with, as a table."""
    from debian_mri.evaluation.report import p_text

    lines = [
        *result.get("disclaimers", ()),
        *result["warnings"],
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
    parser.add_argument("--folds", type=int, default=5, metavar="N", help="folds of group-kfold (default 5)")
    parser.add_argument("--repeats", type=int, default=1, metavar="N", help="repeats of group-kfold (default 1)")


def _make_run(args: argparse.Namespace) -> Run:
    from debian_mri.evaluation.experiment import run_trial

    return functools.partial(run_trial, **options_of(args, "data", "protocol", "folds", "repeats", "features"))


def _methods_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", required=True, metavar="DATA", help="a prepared folder")
    parser.add_argument(
        "--features",
        default="images",
        choices=("images", "pixels", "biomarkers"),
        help="input of all methods (default images)",
    )
    parser.add_argument("--features-folder", metavar="FOLDER", help="folder of slice features (default: below DATA)")
    parser.add_argument(
        "--protocol",
        default="group-kfold",
        metavar="NAME",
        help="group-kfold (default), leave-one-site-out, given or few-shot",
    )
    parser.add_argument("--folds", type=int, metavar="N", help="folds of people (default 5)")
    parser.add_argument("--repeats", type=int, metavar="N", help="repeats of the folds (default 1)")
    parser.add_argument("--split", metavar="FILE", help="table with id, fold and repeat, for the protocol given")
    parser.add_argument("--shots", default="1,4,16", metavar="A,B", help="scans a class, of few-shot (default 1,4,16)")
    parser.add_argument("--protocol-seed", type=int, metavar="N", help="seed of the folds (default 0)")
    parser.add_argument("--image-root", metavar="FOLDER", help="folder of the images, where they have moved")


def _methods_options(args: argparse.Namespace) -> dict[str, Any]:
    from debian_mri.evaluation.protocols import ProtocolOptions

    chosen = {"folds": args.folds, "repeats": args.repeats, "seed": args.protocol_seed, "split": args.split}
    try:
        shots = [int(number) for number in args.shots.split(",")]
    except ValueError:
        raise InputError(f"--shots {args.shots}: must be numbers with commas") from None
    return {
        "data": _data(args),
        "shots": shots,
        "options": ProtocolOptions(**{name: value for name, value in chosen.items() if value is not None}),
        **options_of(args, "features", "features_folder", "protocol"),
    }


def _compare_methods(**options: Any) -> MethodComparison:
    from debian_mri.evaluation.methods import compare_methods

    return compare_methods(**options)


COMMANDS: Mapping[str, Command] = {
    "train": Command("train on a prepared set", _train, _train_arguments, config=MriConfig),
    "predict": Command(
        "predict the class of a scan, with an explanation", _predict, _predict_arguments, _render_prediction
    ),
    "evaluate-explanations": Command(
        "compare explanations with the truth of a simulated cohort",
        _test,
        _test_arguments,
        lazy("debian_mri.evaluation.explanation_eval", "render"),
    ),
    "demo": demo_command(
        "run everything on simulated brains: prepare, train, evaluate, predict, pages",
        "debian_mri.cli.demo",
        "demo/debian_mri",
        lazy("debian_mri.cli.demo", "render"),
    ),
    "verify": Command("check the text of reports by recomputation", _verify, _verify_arguments, _render_verification),
    "evaluate": Command(
        "evaluate on unseen people: train for each fold, or a trained run; with baselines and controls",
        _evaluate,
        _evaluate_arguments,
        render=_render_evaluation,
        config=MriConfig,
    ),
    "ablate": ablate_command(_make_run, MriConfig, add_arguments=_study_arguments, unused=unused_keys),
    "tune": tune_command(_make_run, MriConfig, add_arguments=_study_arguments, unused=unused_keys),
    "compare": compare_command(),
    "compare-methods": compare_methods_command(
        _compare_methods, MriConfig, add_arguments=_methods_arguments, options=_methods_options
    ),
}
