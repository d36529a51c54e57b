"""Methods of the field on features of a frozen model, each with one interface and one budget of tuning.

>>> from icube_common.experiments.methods import FeatureProblem, NearestMean, tune_and_fit
"""

from icube_common import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "FeatureProblem": "base",
        "FittedMethod": "base",
        "GENERIC_TEMPLATES": "heads",
        "LinearProbe": "heads",
        "Method": "base",
        "NearestMean": "heads",
        "NearestNeighbours": "plain",
        "RandomisedTrees": "plain",
        "ZeroShot": "heads",
        "all_methods": "catalogue",
        "select_methods": "catalogue",
        "tune_and_fit": "selection",
    },
)
