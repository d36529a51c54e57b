"""Methods of the field on features of a frozen model, each with one interface and one budget of tuning.

>>> from icube_common.experiments.methods import FeatureProblem, NearestMean, tune_and_fit
"""

from icube_common import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "CoCoOp": "prompts",
        "CoOp": "prompts",
        "FeatureProblem": "base",
        "FittedMethod": "base",
        "GENERIC_TEMPLATES": "heads",
        "KgCoOp": "prompts",
        "LinearProbe": "heads",
        "Method": "base",
        "NearestMean": "heads",
        "NearestNeighbours": "plain",
        "RandomisedTrees": "plain",
        "TaskRes": "adapters",
        "TipAdapter": "adapters",
        "TipAdapterF": "adapters",
        "ZeroShot": "heads",
        "all_methods": "catalogue",
        "select_methods": "catalogue",
        "tune_and_fit": "selection",
    },
)
