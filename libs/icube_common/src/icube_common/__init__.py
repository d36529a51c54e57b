"""Shared library of the ICube repository: frozen backbones, class prompts, training loop, evaluation, studies.

>>> from icube_common import TrainConfig, FrozenVLM, PromptLearner, fit
"""

import importlib
import logging
from typing import Any

__version__ = "0.1.0"

logging.getLogger(__name__).addHandler(logging.NullHandler())

# name -> its module, imported with the first use
_EXPORTS = {
    "ClassKnowledge": "knowledge",
    "ClassTexts": "prompts",
    "Config": "config",
    "EvaluationResult": "evaluation",
    "FeatureCache": "vlm",
    "FitResult": "training",
    "Fold": "evaluation",
    "FrozenVLM": "vlm",
    "Grid": "experiments",
    "InputError": "errors",
    "Interval": "evaluation",
    "LinearProjection": "prompts",
    "LossConfig": "losses",
    "TabularBranch": "tabular",
    "TabularConfig": "tabular",
    "TabularData": "tabular",
    "Predictions": "evaluation",
    "PreparedSet": "data.manifest",
    "Projection": "prompts",
    "PromptConfig": "prompts",
    "PromptLearner": "prompts",
    "Report": "io.reports",
    "RunFolder": "io.runs",
    "SampleRef": "training",
    "Samples": "evaluation",
    "Search": "experiments",
    "StepRandom": "training",
    "TestLeakageError": "evaluation",
    "TrainConfig": "training",
    "TrainingResult": "training",
    "VLMConfig": "vlm",
    "ablate": "experiments",
    "compare": "experiments",
    "fit": "training",
    "load_config": "config",
    "load_vlm": "vlm",
    "make_loss": "losses",
    "open_run": "training",
    "tune": "experiments",
}


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_EXPORTS[name]}"), name)


def __dir__() -> list[str]:
    return sorted(_EXPORTS)
