"""Commands for volumes of brain structures. Heavy modules are imported by the commands that run."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from debian_mri import RESEARCH_ONLY
from icube_common.cli import Command, add_parallel_arguments, options_of, render_table
from icube_common.errors import InputError


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


def atlas_arguments(parser: argparse.ArgumentParser, *, required: bool = False) -> None:
    """Add ``--atlas``, ``--labels`` and ``--template``."""
    parser.add_argument(
        "--atlas",
        required=required,
        metavar="ATLAS",
        help="label map in MNI space (NIfTI), or the name of a fetched atlas",
    )
    parser.add_argument("--labels", metavar="LABELS.csv", help="table of the label map: numbers and names")
    parser.add_argument(
        "--template", metavar="FILE", help="T1-weighted template of the label map (default: the ICBM152 template)"
    )


def read_atlas(args: argparse.Namespace) -> Any:
    """The atlas of `atlas_arguments`; None where none is named.

    Raises:
        InputError: as `debian_mri.biomarkers.volumes.atlas.load_atlas`, or options without an atlas.
    """
    from debian_mri.biomarkers.volumes.atlas import ATLASES, find_atlas, load_atlas

    if args.atlas is None:
        if args.labels or args.template:
            raise InputError(f"{args.labels or args.template}: names and template go with --atlas ATLAS")
        return None
    if args.atlas in ATLASES:
        labels, table, template = find_atlas(args.atlas)
        return load_atlas(labels, args.labels or table, args.template or template)
    if args.labels is None:
        raise InputError(f"--atlas {args.atlas}: its numbers need names: --labels LABELS.csv")
    return load_atlas(args.atlas, args.labels, args.template)


def _volumes_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="SOURCE", help="a prepared folder, or a NIfTI file of a T1-weighted head")
    parser.add_argument("--out", required=True, metavar="TABLE.csv", help="table of volumes in mL, to write")
    atlas_arguments(parser, required=True)
    parser.add_argument(
        "--registration",
        choices=("none", "affine"),
        help="registration to MNI space (default: affine; none for a set in MNI space)",
    )
    parser.add_argument("--spacing", type=float, default=2.0, metavar="MM", help="spacing of the registration (2)")
    parser.add_argument(
        "--mask", default="auto", metavar="MASK", help="auto (default), deepbet, otsu, or a file or folder of masks"
    )
    parser.add_argument("--image-root", metavar="FOLDER", help="folder of the images, where they have moved")
    add_parallel_arguments(parser, "scans")
    parser.add_argument("--strict", action="store_true", help="stop at the first scan that cannot be measured")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing table")


def _volumes(args: argparse.Namespace) -> Mapping[str, Any]:
    from debian_mri.data.manifest import Manifest
    from debian_mri.imaging.preprocess import PreprocessConfig
    from debian_mri.inference.regional_volumes import measure_volumes
    from icube_common.data.processes import open_executor, parse_shard

    shard, atlas = parse_shard(args.shard), read_atlas(args)
    registration = args.registration
    if registration is None:
        is_set = Path(args.source).is_dir()
        in_mni = is_set and Manifest.load(args.source, root=args.image_root).description["space"] == "mni"
        registration = "none" if in_mni else "affine"
    config = PreprocessConfig(registration=registration, spacing=args.spacing, mask=args.mask)
    with open_executor(args.workers, args.dask) as (executor, workers):
        return measure_volumes(
            args.source,
            atlas,
            args.out,
            config=config,
            root=args.image_root,
            executor=executor,
            workers=workers,
            shard=shard,
            **options_of(args, "strict", "overwrite"),
        )


def _render_volumes(result: Mapping[str, Any]) -> str:
    if "shard" in result:
        return render_table(result)
    lines = [f"{result['scans']} scans, {len(result['columns'])} columns in mL: {result['out']}", result["regions"]]
    for key, words in (("marked", "marked by quality control"), ("failed", "left out")):
        if names := list(result[key]):
            lines.append(f"{len(names)} {words}: {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}")
    return "\n".join(
        [*lines, f"brain masks: {', '.join(result['masks'])}", *result["disclaimers"], *result["citations"]]
    )


def _atlas_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--fetch",
        required=True,
        metavar="NAME",
        help="neuromorphometrics: takes the label map, its names and its template out of a published wheel by pip; "
        "CC BY-NC",
    )
    parser.add_argument("--folder", metavar="DIR", help="folder of the files (default: the cache folder)")


def _atlas(args: argparse.Namespace) -> Mapping[str, Any]:
    from debian_mri.biomarkers.volumes.atlas import ATLASES, fetch_atlas

    labels, table, template = fetch_atlas(args.fetch, args.folder)
    citations = list(ATLASES[args.fetch].citations)
    return {"atlas": str(labels), "labels": str(table), "template": str(template), "citations": citations}


def _render_atlas(result: Mapping[str, Any]) -> str:
    return "\n".join([result["atlas"], result["labels"], result["template"], *result["citations"]])


COMMANDS: Mapping[str, Command] = {
    "import-volumes": Command(
        "volumes of FreeSurfer, FastSurfer, SynthSeg or CAT12 as one table", _import, _import_arguments, _render_import
    ),
    "volumes": Command("volumes of regions by registration to an atlas", _volumes, _volumes_arguments, _render_volumes),
    "atlas": Command("files of a published atlas, by the user's own pip", _atlas, _atlas_arguments, _render_atlas),
}
