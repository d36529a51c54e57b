"""One small training loop on accelerate: exact resume, EMA, early stopping, no pickle.

>>> from icube_common.training import TrainConfig, check_config, fit, open_run
"""

from icube_common.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "BatchOrder": "order",
        "Draw": "order",
        "FitResult": "loop",
        "StepRandom": "randomness",
        "TrainConfig": "config",
        "check_config": "checks",
        "check_start": "checks",
        "fit": "loop",
        "load_backbone": "backbone",
        "newest_whole": "checkpoints",
        "open_run": "checks",
    },
)
