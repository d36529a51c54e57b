"""Commands for data: convert, prepare, info, qc, simulate. Heavy modules are imported by the commands that run."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from debian_mri import RESEARCH_ONLY
from debian_mri.cohorts import FORMATS
from icube_common.cli import Command, add_parallel_arguments, lazy, options_of, render_table


def _convert_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="DICOM_DIR", help="searched with all folders below; files may be gzipped")
    parser.add_argument("--out", required=True, metavar="NIFTI_DIR", help="folder to write")
    parser.add_argument("--overwrite", action="store_true", help="replace NIFTI_DIR where it exists")
    parser.add_argument("--strict", action="store_true", help="stop at the first series that is refused")
    parser.add_argument(
        "--salt-file",
        metavar="FILE",
        help="the project's secret, made where it does not exist: adds hashed keys of subject and series to the JSON",
    )
    add_parallel_arguments(parser, "volumes")


def _convert(args: argparse.Namespace) -> Mapping[str, Any]:
    from debian_mri.dicom import convert_folder, project_salt
    from icube_common.data.processes import open_executor, parse_shard

    salt = project_salt(args.salt_file) if args.salt_file else None
    shard = parse_shard(args.shard)
    with open_executor(args.workers, args.dask) as (executor, workers):
        return convert_folder(
            args.folder,
            args.out,
            salt=salt,
            executor=executor,
            workers=workers,
            shard=shard,
            **options_of(args, "overwrite", "strict"),
        )


def _render_convert(result: Mapping[str, Any]) -> str:
    lines = [
        f"{series['status']:<10}{series['n_files']:>6} files  {series['path'] or series['reason']}"
        for series in result["series"]
    ]
    return "\n".join([*lines, f"{result['converted']} converted, {result['refused']} refused"])


def _prepare_arguments(parser: argparse.ArgumentParser) -> None:
    formats = "; ".join(f"{name}: {info.description}" for name, info in FORMATS.items())
    parser.add_argument("source", metavar="SOURCE", help="folder of the cohort; for csv, the file")
    parser.add_argument("--format", required=True, metavar="FORMAT", help=formats)
    parser.add_argument("--out", required=True, metavar="DATA", help="the folder to make")
    parser.add_argument("--collection-csv", metavar="FILE", help="adni: the CSV that LONI gives with a collection")
    parser.add_argument("--adnimerge", metavar="FILE", help="adni: ADNIMERGE.csv, for scores, volumes and diagnoses")
    parser.add_argument(
        "--participants",
        metavar="FILE",
        help="dicom: CSV with subject (folder) and label; oasis1: the set's CSV; oasis3: its table of CDRs",
    )
    parser.add_argument(
        "--label-column",
        metavar="NAME",
        help="bids: default diagnosis, dx or group; adni: Group (default) or DX; oasis3: default by CDR and dx1",
    )
    parser.add_argument(
        "--image-type", metavar="TYPE", choices=("original", "processed", "all"), help="adni: original (default), ..."
    )
    parser.add_argument("--sequences", metavar="A,B", help="adni, bids, dicom, oasis3: those to take (T1w)")
    parser.add_argument(
        "--salt-file",
        metavar="FILE",
        help="adni, dicom: the project's secret, made where there is none; without it keys are new each time",
    )
    parser.add_argument("--labels", metavar="MAP", default="", help="EMCI=MCI,LMCI=MCI or a CSV (from, to)")
    parser.add_argument("--classes", metavar="A,B", default="", help="classes to take, in this order (default: all)")
    parser.add_argument(
        "--leakage-tiers", metavar="COLUMN=TIER,...", default="", help="leakage tiers of columns without description"
    )
    parser.add_argument("--space", choices=("native", "mni"), default="native", help="space of the volumes (native)")
    parser.add_argument(
        "--fill-nan", action="store_true", help="NaN voxels outside the head become background (default: refused)"
    )
    parser.add_argument("--strict", action="store_true", help="stop at the first fault")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing folder")


_READER_OPTIONS = (
    *("collection_csv", "adnimerge", "participants", "label_column", "image_type", "sequences", "salt_file"),
)


def _prepare(args: argparse.Namespace) -> Mapping[str, Any]:
    from debian_mri.cli.info import describe
    from debian_mri.cohorts.base import ReaderOptions
    from debian_mri.data.prepare import check_format_options, parse_pairs, prepare, project_or_random_salt

    check_format_options(args.format, [name for name in _READER_OPTIONS if getattr(args, name) is not None])
    options = ReaderOptions(
        collection_csv=_path(args.collection_csv),
        adnimerge=_path(args.adnimerge),
        participants=_path(args.participants),
        label_column=args.label_column,
        image_type=args.image_type or "original",
        sequences=_names(args.sequences or "T1w"),
        salt=project_or_random_salt(args.format, args.salt_file),
        salt_is_stored=args.salt_file is not None,
    )
    prepare(
        args.format,
        args.source,
        args.out,
        options=options,
        labels=parse_pairs(args.labels, "--labels"),
        classes=_names(args.classes),
        leakage_tiers=parse_pairs(args.leakage_tiers, "--leakage-tiers"),
        **options_of(args, "space", "fill_nan", "strict", "overwrite"),
    )
    return describe(args.out)


def _path(text: str | None) -> Path | None:
    return Path(text) if text is not None else None


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _info_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", metavar="DATA", help="a prepared folder")


def _info(args: argparse.Namespace) -> Mapping[str, Any]:
    from debian_mri.cli.info import describe

    return describe(args.data)


_render_info = lazy("debian_mri.cli.info", "render")


def _qc_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", metavar="DATA", help="a prepared folder")
    parser.add_argument("--out", required=True, metavar="QC.html", help="the page to write")
    parser.add_argument(
        "--registration",
        choices=("none", "affine"),
        default="none",
        help="registration to MNI space (default none: they lie there)",
    )
    parser.add_argument("--spacing", type=float, default=2.0, metavar="MM", help="spacing of the images (default 2)")
    parser.add_argument("--n4", action="store_true", help="correct the bias field")
    parser.add_argument(
        "--mask", default="auto", metavar="MASK", help="auto (default), deepbet, otsu, or a file or folder of masks"
    )
    parser.add_argument("--limit", type=int, default=400, metavar="N", help="scans shown, outliers first (default 400)")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="local processes (default 1)")
    parser.add_argument("--image-root", metavar="FOLDER", help="folder of the images, where they have moved")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing page")


def _qc(args: argparse.Namespace) -> Mapping[str, Any]:
    from debian_mri.data.qc import write_qc_page
    from debian_mri.imaging.preprocess import PreprocessConfig

    config = PreprocessConfig(registration=args.registration, spacing=args.spacing, n4=args.n4, mask=args.mask)
    return write_qc_page(
        args.data, args.out, config, root=args.image_root, **options_of(args, "limit", "workers", "overwrite")
    )


def _simulate_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", required=True, metavar="DATA", help="the folder to make")
    parser.add_argument("--subjects", type=int, default=200, metavar="N", help="people, over all classes (default 200)")
    parser.add_argument(
        "--classes", default="CN,AD,DLB,PD", help="classes out of CN, MCI, AD, DLB, PD (default CN,AD,DLB,PD)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the cohort (default 0)")
    parser.add_argument("--spacing", type=float, default=2.0, metavar="MM", help="between voxels (default 2)")
    parser.add_argument("--sites", type=int, default=2, metavar="N", help="scanners (default 2)")
    parser.add_argument(
        "--confound-sites", action="store_true", help="a scanner for each class: a bad cohort, for trying the guards"
    )
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="local processes (default 1)")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing folder")


def _simulate(args: argparse.Namespace) -> Mapping[str, Any]:
    from debian_mri.simulation.cohort import CohortConfig, cohort_summary, simulate_cohort

    config = CohortConfig(
        classes=[name.strip() for name in args.classes.split(",")],
        **options_of(args, "subjects", "seed", "spacing", "sites", "confound_sites"),
    )
    manifest = simulate_cohort(args.out, config, workers=args.workers, overwrite=args.overwrite)
    return {**cohort_summary(manifest), "notice": RESEARCH_ONLY}


COMMANDS: Mapping[str, Command] = {
    "convert": Command("DICOM files to NIfTI, de-identified", _convert, _convert_arguments, _render_convert),
    "prepare": Command("make a manifest of a cohort", _prepare, _prepare_arguments, _render_info),
    "info": Command("summary of a prepared set", _info, _info_arguments, _render_info),
    "qc": Command("a page of all scans, outliers first", _qc, _qc_arguments, render_table),
    "simulate": Command("simulated brains of a cohort, with the truth about them", _simulate, _simulate_arguments),
}
