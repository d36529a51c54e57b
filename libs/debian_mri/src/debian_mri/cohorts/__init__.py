"""Readers of cohorts, one module per format: scans with labels and clinical variables from a source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from icube_common.data.reader import load_reader

if TYPE_CHECKING:
    from debian_mri.cohorts.base import Reader


@dataclass(frozen=True)
class ReaderInfo:
    """Format: module of its reader, description, and the options of ``prepare`` that it uses."""

    module: str
    description: str
    options: tuple[str, ...] = ()


FORMATS: dict[str, ReaderInfo] = {
    "adni": ReaderInfo(
        "adni.reader",
        "LONI download: <subject>/<description>/<date>/<I...|S...>/ with the collection's CSV",
        ("collection_csv", "adnimerge", "image_type", "sequences", "salt_file", "label_column"),
    ),
    "bids": ReaderInfo(
        "bids.reader", "BIDS: participants.tsv, sub-*/[ses-*/]anat/*_T1w.nii.gz", ("label_column", "sequences")
    ),
    "dicom": ReaderInfo(
        "dicom_folder",
        "a folder a subject with DICOM files, and a CSV of labels",
        ("participants", "sequences", "salt_file"),
    ),
    "oasis1": ReaderInfo(
        "oasis.oasis1", "OASIS-1 or OASIS-2: session folders or NIfTI files, with the set's CSV", ("participants",)
    ),
    "oasis3": ReaderInfo(
        "oasis.oasis3",
        "OASIS-3: session folders (OAS30001_MR_d0129) with NIfTI files, and the table of CDRs",
        ("participants", "label_column", "sequences"),
    ),
    "oasis-slices": ReaderInfo("oasis.oasis_slices", "2-D slices of OASIS-1: index.csv and images/"),
    "csv": ReaderInfo("csv_list", "a CSV with path, label, subject and any more columns"),
}


def get_reader(name: str) -> Reader:
    """Reader of a format.

    Raises:
        InputError: unknown format; the nearest is given.
    """
    return cast("Reader", load_reader(__name__, {key: info.module for key, info in FORMATS.items()}, name))
