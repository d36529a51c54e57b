"""One small training loop on accelerate: exact resume, EMA, early stopping, no pickle.

>>> from icube_common.training import TrainConfig, check_config, fit, open_run
"""

from icube_common import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "BatchOrder": "sampler",
        "SampleRef": "sampler",
        "FitResult": "loop",
        "StepRandom": "sampler",
        "TrainConfig": "config",
        "TrainingResult": "run",
        "check_config": "validation",
        "check_start": "validation",
        "check_same_data": "run",
        "finish_run": "run",
        "fit": "loop",
        "custom_encoder": "run",
        "load_backbone": "run",
        "load_saved_backbone": "run",
        "newest_whole": "checkpoints",
        "trained_on": "run",
        "training_report": "run",
        "open_run": "validation",
    },
)
