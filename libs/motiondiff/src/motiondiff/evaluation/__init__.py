"""Evaluation of generated motions: distances, coverage, diversity, physics, movement, memorisation.

>>> from motiondiff.config import EvaluateOptions
>>> from motiondiff.evaluation.runner import evaluate
>>> evaluate("RUN", "STORE", "EVAL", EvaluateOptions(seeds=20, steps=10))
"""

from icube_common import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "MotionEvaluator": "metrics",
        "evaluate_sets": "comparison",
        "fid": "distances",
        "kid": "distances",
        "movement_table": "movement",
        "precision_recall": "distances",
        "stance_metrics": "stance",
    },
)
