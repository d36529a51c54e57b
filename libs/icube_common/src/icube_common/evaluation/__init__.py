"""How a model is judged: samples and folds, metrics, intervals over subjects, predictions in a file.

>>> from icube_common.evaluation import Samples, grouped_k_fold, score, Predictions
"""

from icube_common.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "BaseToNew": "protocols",
        "Comparison": "paired",
        "Fold": "folds",
        "Interval": "intervals",
        "Predictions": "predictions",
        "Samples": "manifest",
        "TestRowRequested": "folds",
        "base_to_new": "protocols",
        "compute": "metrics",
        "concatenate": "predictions",
        "confusion_matrix": "metrics",
        "everything": "protocols",
        "few_shot": "protocols",
        "find_metric": "metrics",
        "group_interval": "intervals",
        "grouped_k_fold": "protocols",
        "harmonic_mean": "metrics",
        "held_out": "splits",
        "leave_one_group_out": "protocols",
        "mean_interval": "intervals",
        "official": "protocols",
        "paired_mean_test": "paired",
        "paired_test": "paired",
        "per_class_recall": "metrics",
        "refuse_trained": "trained",
        "score": "predictions",
        "zero_shot": "protocols",
    },
)
