"""Simulated brains: the ICBM152 template, deformed as ages and diseases deform brains.

They replace scans of subjects where none are available, and test explanations, since the changed regions are known.
All outputs are marked as simulated.
"""

from icube_common import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__, {"simulate_cohort": "cohort", "CohortConfig": "cohort", "CLASSES": "effects", "shows_change": "truth"}
)
