"""Evaluation: samples and folds, metrics, intervals over subjects, predictions in a file.

>>> from icube_common.evaluation import Samples, grouped_k_fold, make_predictions, Predictions
"""

from icube_common import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "BaseToNew": "protocols",
        "Comparison": "significance",
        "EvaluationResult": "runner",
        "Fold": "folds",
        "Interval": "intervals",
        "Predictions": "predictions",
        "Samples": "samples",
        "TestLeakageError": "leakage",
        "base_to_new": "protocols",
        "concatenate": "predictions",
        "confusion_matrix": "metrics",
        "train_on_all": "protocols",
        "few_shot": "protocols",
        "find_metric": "metrics",
        "group_interval": "intervals",
        "grouped_k_fold": "protocols",
        "harmonic_mean": "metrics",
        "held_out": "samples",
        "leave_one_group_out": "protocols",
        "mean_interval": "intervals",
        "predefined_split": "protocols",
        "paired_mean_test": "significance",
        "paired_test": "significance",
        "per_class_recall": "metrics",
        "check_train_test_overlap": "leakage",
        "make_predictions": "predictions",
        "select_groups": "samples",
        "zero_shot": "protocols",
    },
)
