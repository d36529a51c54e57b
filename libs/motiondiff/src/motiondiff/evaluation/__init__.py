"""Evaluation of generated motions: distances, coverage, diversity, physics, memorisation, beside real motion.

>>> from motiondiff.config import EvaluateOptions
>>> from motiondiff.evaluation.runner import evaluate
>>> evaluate("RUN", "STORE", "EVAL", EvaluateOptions(seeds=20, steps=10))
"""

from icube_common import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "MotionEvaluator": "metrics",
        "evaluate_sets": "metrics",
        "fid": "distances",
        "kid": "distances",
        "precision_recall": "precision_recall",
    },
)
