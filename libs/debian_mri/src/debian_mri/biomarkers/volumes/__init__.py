"""Volumes of brain structures: one table for measured and imported ones, and the importers of other programs' tables.

>>> from debian_mri.biomarkers.volumes import VolumeTable, import_volumes
"""

from icube_common import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "STRUCTURES": "structures",
        "Structure": "structures",
        "VOLUME_BIOMARKERS": "scores",
        "VolumeBiomarker": "scores",
        "VolumeTable": "table",
        "import_volumes": "importers",
    },
)
