"""Commands for volumes of brain structures. Heavy modules are imported by the commands that run."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from debian_mri import RESEARCH_ONLY
from icube_common.cli import Command


def _import_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="SOURCE", nargs="+", help="files or folders of one program")
    parser.add_argument("--out", required=True, metavar="TABLE.csv", help="table of volumes in mL, to write")
    parser.add_argument(
        "--format",
        default="auto",
        metavar="FORMAT",
        help="freesurfer (also FastSurfer): folder of subjects, aseg.stats, aparc.stats, or asegstats2table's table; "
        "synthseg: table of mri_synthseg --vol; cat12: folder with label/ and report/, or ROI_*.csv (default auto)",
    )
    parser.add_argument("--data", metavar="DATA", help="a prepared folder, whose scan ids replace the program's names")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing table")


def _import(args: argparse.Namespace) -> Mapping[str, Any]:
    from debian_mri.biomarkers.volumes.importers import import_volumes
    from debian_mri.data.manifest import Manifest
    from icube_common.io.runs import check_output_path

    check_output_path(args.out, overwrite=args.overwrite)
    scans = Manifest.load(args.data).scans if args.data else None
    result = import_volumes(args.source, format=args.format, scans=scans)
    result.table.write(args.out, overwrite=args.overwrite)
    return {"out": args.out, **result.to_dict(), "notice": RESEARCH_ONLY}


def _render_import(result: Mapping[str, Any]) -> str:
    lines = [
        f"{result['scans']} scans, {len(result['structures'])} columns in mL of {', '.join(result['sources'])}: "
        f"{result['out']}"
    ]
    for key, words in (("unmatched", "names without a scan"), ("missing", "scans without volumes")):
        if names := result[key]:
            lines.append(f"{len(names)} {words}: {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}")
    return "\n".join(lines)


COMMANDS: Mapping[str, Command] = {
    "import-volumes": Command(
        "volumes of FreeSurfer, FastSurfer, SynthSeg or CAT12 as one table", _import, _import_arguments, _render_import
    ),
}
