"""From a scanner's DICOM files to NIfTI, or a refusal with its reason; and de-identification of DICOM files.

Frames of all kinds of files (one image a file, enhanced multi-frame, Siemens mosaic) become one record, `Frame`; from
there on there is one way: series -> parts -> volume geometry -> NIfTI. Coordinates of headers are LPS (DICOM), those of
affines RAS (NIfTI), both in mm.
"""

from icube_common.utils import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "Frame": "frames",
        "Part": "series",
        "Refusal": "frames",
        "Series": "series",
        "VolumeGeometry": "geometry",
        "convert_folder": "convert",
        "deidentify_dataset": "deidentify",
        "deidentify_file": "deidentify",
        "find_series": "series",
        "hash_subject": "identity",
        "project_salt": "identity",
        "read_volume": "convert",
        "remap_uid": "identity",
        "split": "series",
        "volume_geometry": "geometry",
    },
)
