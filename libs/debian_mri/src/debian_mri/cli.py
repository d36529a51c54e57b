"""The ``debian-mri`` command: each subcommand is one function call of the library."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import icube_common.cli
from debian_mri import __version__
from debian_mri.commands import evaluation, words
from icube_common.cli import Command
from icube_common.knowledge.describe import describe_command

if TYPE_CHECKING:
    from icube_common.vlm import FrozenVLM

DESCRIPTION = (
    "Brain MRI of neurodegenerative diseases with frozen vision-language models and learnable prompts. "
    "For research, not for clinical use."
)
DOMAIN = "structural magnetic resonance images of the adult brain"
QUESTIONS = (
    "What does a brain MRI of a person with {name} look like?",
    "Which changes of the brain can be seen on MRI in {name}?",
    "How does a radiologist recognise {name} on a brain MRI?",
    "What distinguishes {name} from similar conditions on a brain MRI?",
    "Write a caption of a brain MRI of a person with {name}.",
)


def _load_vlm(name: str, pretrained: str | None) -> FrozenVLM:
    from icube_common.vlm import load_vlm

    return load_vlm(name, pretrained)


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


def _convert(args: argparse.Namespace) -> Mapping[str, Any]:
    from debian_mri.dicom import convert_folder, project_salt

    salt = project_salt(args.salt_file) if args.salt_file else None
    return convert_folder(args.folder, args.out, overwrite=args.overwrite, strict=args.strict, salt=salt)


def _render_convert(result: Mapping[str, Any]) -> str:
    lines = [
        f"{series['status']:<10}{series['n_files']:>6} files  {series['path'] or series['reason']}"
        for series in result["series"]
    ]
    return "\n".join([*lines, f"{result['converted']} converted, {result['refused']} refused"])


COMMANDS: Mapping[str, Command] = {
    "convert": Command("DICOM files to NIfTI, de-identified", _convert, _convert_arguments, _render_convert),
    "describe": describe_command(_load_vlm, prompts=QUESTIONS, domain=DOMAIN),
    **words.COMMANDS,
    **evaluation.COMMANDS,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: the words after the program's name; by default those of the process.

    Returns:
        The exit status: 0 done, 2 wrong input, 1 anything else.
    """
    return icube_common.cli.main("debian-mri", DESCRIPTION, __version__, COMMANDS, argv)
