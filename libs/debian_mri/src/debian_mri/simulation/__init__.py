"""Simulated brains: the ICBM152 template, deformed as ages and diseases deform brains.

They stand in for people's scans where none is at hand, and, since it is known what was changed and where, they test
explanations. They are nobody's brains: everything made from them is marked as simulated.
"""

from icube_common.utils import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {"simulate_cohort": "cohort", "CohortConfig": "cohort", "CLASSES": "effects", "shows_change": "truth"},
)
