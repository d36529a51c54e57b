"""Shared library of the ICube repository: frozen backbones, class prompts, training loop, evaluation, studies.

>>> from icube_common import TrainConfig, FrozenVLM, PromptLearner, fit
"""

import importlib
import logging
from collections.abc import Callable, Mapping
from typing import Any

__version__ = "0.1.0"

logging.getLogger(__name__).addHandler(logging.NullHandler())


def lazy_exports(package: str, names: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Make a module-level ``__getattr__`` and ``__dir__`` for ``package`` (PEP 562).

    Args:
        package: the importing package's ``__name__``.
        names: public name -> the submodule that defines it, relative to ``package`` (``"pipeline"``).

    Returns:
        The pair ``(__getattr__, __dir__)`` to bind in the package's ``__init__``.
    """

    def __getattr__(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{package}.{names[name]}"), name)

    def __dir__() -> list[str]:
        return sorted(names)

    return __getattr__, __dir__


__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "ClassKnowledge": "knowledge",
        "ClassTexts": "prompts",
        "CoCoOp": "experiments.methods",
        "CoOp": "experiments.methods",
        "Config": "config",
        "EvaluationResult": "evaluation",
        "FeatureCache": "vlm",
        "FeatureProblem": "experiments.methods",
        "FitResult": "training",
        "Fold": "evaluation",
        "FrozenVLM": "vlm",
        "Grid": "experiments",
        "InputError": "errors",
        "Interval": "evaluation",
        "KgCoOp": "experiments.methods",
        "LinearProbe": "experiments.methods",
        "LinearProjection": "prompts",
        "LossConfig": "losses",
        "NearestMean": "experiments.methods",
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
        "TabularBranch": "tabular",
        "TabularConfig": "tabular",
        "TabularData": "tabular",
        "TaskRes": "experiments.methods",
        "TestLeakageError": "evaluation",
        "TipAdapter": "experiments.methods",
        "TipAdapterF": "experiments.methods",
        "TrainConfig": "training",
        "TrainingResult": "training",
        "VLMConfig": "vlm",
        "ZeroShot": "experiments.methods",
        "ablate": "experiments",
        "compare": "experiments",
        "fit": "training",
        "load_config": "config",
        "load_vlm": "vlm",
        "make_loss": "losses",
        "open_executor": "data.processes",
        "open_run": "training",
        "tune": "experiments",
        "tune_and_fit": "experiments.methods",
    },
)
