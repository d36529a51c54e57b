"""The commands that use models: predict, explain-test, demo. Nothing heavy is imported before one runs."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from icube_common.cli import Command
from icube_common.errors import InputError


def _predict_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="a trained run")
    parser.add_argument(
        "images", nargs="*", metavar="IMAGE", help="a NIfTI volume, a DICOM folder, slice images of one person; several"
    )
    parser.add_argument("--planes", metavar="A,B", default="", help="of slice images, in their order: coronal, axial")
    parser.add_argument(
        "--sequence", metavar="NAME", help="MRI sequence of the image (T1w), in place of what its name or header says"
    )
    parser.add_argument("--data", metavar="DATA", help="a prepared set: one scan of it (--id), or all (--out)")
    parser.add_argument("--id", metavar="ID", help="a scan of DATA")
    parser.add_argument(
        "--fill-nan", action="store_true", help="of volumes: NaN voxels outside the head become background"
    )
    parser.add_argument("--age", metavar="YEARS", help="of the person")
    parser.add_argument("--sex", metavar="F|M", help="of the person")
    parser.add_argument("--education", metavar="YEARS", help="of the person")
    parser.add_argument(
        "--variable",
        metavar="COLUMN=VALUE",
        action="append",
        default=[],
        help="another variable; may be given several times",
    )
    parser.add_argument("--html", metavar="FILE", help="write a page: slices, bars, text")
    parser.add_argument("--tsv", metavar="FILE", help="write all numbers as a table")
    parser.add_argument("--report", metavar="FILE", help="write text and numbers, for debian-mri verify")
    parser.add_argument("--out", metavar="PRED", help="of many scans: the folder to make")
    parser.add_argument("--pages", action="store_true", help="with --out: a page of each scan")
    parser.add_argument("--features", metavar="FOLDER", help="with --data and --out: of slice features (below DATA)")
    parser.add_argument("--image-root", metavar="FOLDER", help="with --data: where the images lie now, if they moved")
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
    common = {"values": values, "sequence": args.sequence, "overwrite": args.overwrite}
    files = {"--html": args.html, "--tsv": args.tsv, "--report": args.report}
    if not many:
        if args.out or args.pages:
            raise InputError("--out, --pages: are for many scans; of one, --html, --tsv and --report name files")
        if args.features:
            raise InputError(f"--features {args.features}: goes with --data DATA --out PRED")
        from debian_mri.inference.pipeline import predict_one

        found = predict_one(
            args.run,
            args.images or None,
            data=args.data,
            scan_id=args.id,
            planes=planes,
            fill_nan=args.fill_nan,
            root=args.image_root,
            outputs=tuple(files.values()),
            **common,
        )
        found.write(html=args.html, tsv=args.tsv, report=args.report, overwrite=args.overwrite)
        written = {name.strip("-"): str(path) for name, path in files.items() if path is not None}
        return {**found.record(), "files": written}
    if extra := [name for name, path in files.items() if path is not None]:
        raise InputError(f"{extra[0]}: is for one scan; of many, --out PRED names a folder, and --pages adds pages")
    if args.out is None:
        raise InputError("many scans: --out PRED names the folder to make (or --id ID one scan of --data DATA)")
    from debian_mri.inference import batch

    if args.data:
        return batch.predict_set(
            args.run, args.data, args.out, features=args.features, root=args.image_root, pages=args.pages, **common
        )
    return batch.predict_files(args.run, args.images, args.out, fill_nan=args.fill_nan, pages=args.pages, **common)


def _values(args: argparse.Namespace) -> dict[str, str]:
    values: dict[str, str] = {}
    for pair in args.variable:
        name, found, value = pair.partition("=")
        if not found or not name.strip():
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
    parser.add_argument("--data", required=True, metavar="SIMULATED", help="of debian-mri simulate")
    parser.add_argument("--out", required=True, metavar="OUT", help="the folder to make")
    parser.add_argument("--draws", type=int, default=50, metavar="N", help="random choices of slices (default 50)")
    parser.add_argument("--seed", type=int, default=0, help="of them (default 0)")
    parser.add_argument("--image-root", metavar="FOLDER", help="where the images lie now, if they moved")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing folder")


def _test(args: argparse.Namespace) -> Mapping[str, Any]:
    from debian_mri.evaluation.explanation_eval import explanation_test

    return explanation_test(
        args.run, args.data, args.out, draws=args.draws, seed=args.seed, root=args.image_root, overwrite=args.overwrite
    )


def _render_test(result: Mapping[str, Any]) -> str:
    from debian_mri.evaluation.explanation_eval import render

    return render(result)


def _demo_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", default="demo/debian_mri", metavar="DIR", help="folder to make (demo/debian_mri)")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing folder")


def _demo(args: argparse.Namespace) -> Mapping[str, Any]:
    from debian_mri.cli.demo import demo

    return demo(args.out, overwrite=args.overwrite)


def _render_demo(result: Mapping[str, Any]) -> str:
    from debian_mri.cli.demo import render

    return render(result)


COMMANDS: Mapping[str, Command] = {
    "predict": Command("the class of a scan, with the reasons", _predict, _predict_arguments, _render_prediction),
    "explain-test": Command(
        "hold explanations against the truth of a simulated cohort", _test, _test_arguments, _render_test
    ),
    "demo": Command(
        "simulated brains: prepare, look, train, evaluate, predict, pages", _demo, _demo_arguments, _render_demo
    ),
}
