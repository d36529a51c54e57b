"""Subcommands about images: ``qc`` and ``simulate``."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from debian_mri import RESEARCH_ONLY
from icube_common.cli import Command, render_table


def _qc_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", metavar="DATA", help="a prepared folder")
    parser.add_argument("--out", required=True, metavar="QC.html", help="the page to write")
    parser.add_argument(
        "--registration", choices=("none", "affine"), default="none", help="into MNI space (default: they lie there)"
    )
    parser.add_argument("--spacing", type=float, default=2.0, metavar="MM", help="of what is shown (default 2)")
    parser.add_argument("--n4", action="store_true", help="correct the bias field")
    parser.add_argument("--limit", type=int, default=400, metavar="N", help="scans shown, outliers first (default 400)")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="local processes (default 1)")
    parser.add_argument("--image-root", metavar="FOLDER", help="where the images lie now, if they moved")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing page")


def _qc(args: argparse.Namespace) -> Mapping[str, Any]:
    from debian_mri.data.qc import write_qc_page
    from debian_mri.imaging.preprocess import PreprocessConfig

    config = PreprocessConfig(registration=args.registration, spacing=args.spacing, n4=args.n4)
    return write_qc_page(
        args.data,
        args.out,
        config,
        root=args.image_root,
        limit=args.limit,
        workers=args.workers,
        overwrite=args.overwrite,
    )


def _simulate_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", required=True, metavar="DATA", help="the folder to make")
    parser.add_argument("--subjects", type=int, default=200, metavar="N", help="people, over all classes (default 200)")
    parser.add_argument("--classes", default="CN,AD,DLB,PD", help="of CN, MCI, AD, DLB, PD (default CN,AD,DLB,PD)")
    parser.add_argument("--seed", type=int, default=0, help="of everything (default 0)")
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
        subjects=args.subjects,
        classes=[name.strip() for name in args.classes.split(",")],
        seed=args.seed,
        spacing=args.spacing,
        sites=args.sites,
        confound_sites=args.confound_sites,
    )
    manifest = simulate_cohort(args.out, config, workers=args.workers, overwrite=args.overwrite)
    return {**cohort_summary(manifest), "notice": RESEARCH_ONLY}


COMMANDS: Mapping[str, Command] = {
    "qc": Command("a page of all scans, outliers first", _qc, _qc_arguments, render_table),
    "simulate": Command("simulated brains of a cohort, with the truth about them", _simulate, _simulate_arguments),
}
