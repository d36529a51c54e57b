"""DICOM: conversion of series to NIfTI, with refusals of what cannot be converted, and de-identification of files.

Frames of all kinds of files (single-frame, enhanced multi-frame, Siemens mosaic) become a `Frame`; the pipeline is
series -> parts -> volume geometry -> NIfTI. Coordinates of headers are LPS (DICOM), those of
affines RAS (NIfTI), both in mm.
"""

from icube_common import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "Frame": "frames",
        "SeriesPart": "stacks.series",
        "Refusal": "frames",
        "Series": "stacks.series",
        "VolumeGeometry": "stacks.geometry",
        "convert_folder": "convert",
        "deidentify_dataset": "privacy.deidentify",
        "deidentify_file": "privacy.deidentify",
        "find_series": "stacks.series",
        "hash_subject": "privacy.pseudonyms",
        "project_salt": "privacy.pseudonyms",
        "read_dicom_volume": "convert",
        "remap_uid": "privacy.pseudonyms",
        "split_series": "stacks.series",
        "volume_geometry": "stacks.geometry",
    },
)
