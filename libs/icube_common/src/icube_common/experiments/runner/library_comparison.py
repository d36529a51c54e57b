"""Comparison of published methods with a library's own models: request, record of the folder, and training of a model.

A library loads its data and names its features; this module does the rest:

    request = ComparisonRequest.check(out, methods="all", features="images", protocol="group-kfold", drawn=())
    record = request.open_record(data=manifest.fingerprint, options=vars(options), **settings)
    ...                                       # samples, cases of folds, features
    request.run(record, models={"own": LibraryModel(config, train)}, title="...", metrics=["auc"], ...)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
from torch import nn

from icube_common.config import Config, config_to_yaml
from icube_common.errors import InputError
from icube_common.evaluation import Fold, Samples
from icube_common.evaluation.runner import check_same_evaluation, settings_record
from icube_common.experiments.comparison import compare_methods, open_comparison
from icube_common.experiments.methods import select_methods
from icube_common.experiments.methods.base import BUDGET, Method
from icube_common.experiments.overrides import flatten
from icube_common.experiments.results.method_comparison import MethodComparison
from icube_common.experiments.runner.method_cases import ClassWords, FeatureSource, MethodCase, ModelOutput
from icube_common.experiments.runner.method_runs import MethodBench
from icube_common.io.runs import RunFolder
from icube_common.training import open_run

C = TypeVar("C", bound=Config)


class LibraryTraining(NamedTuple):
    """Trained model of a library.

    Attributes:
        model: its parameters that take a gradient are counted.
        predict: test side of a fold -> probabilities (n, C) of its test rows.
        warnings: for the report.
    """

    model: nn.Module
    predict: Callable[[Fold], npt.NDArray[np.float64]]
    warnings: Sequence[str]


class LibraryModel(Generic[C]):
    """Row of a library's own model: trained on the cases of a comparison with each seed.

    Args:
        config: all settings, with a section ``train``, whose seed is that of the comparison, and a section ``vlm``.
        train: training side of a fold, settings and run folder -> the trained model.
    """

    def __init__(self, config: C, train: Callable[[Fold, C, RunFolder], LibraryTraining]) -> None:
        self._config, self._train = config, train

    @property
    def settings(self) -> dict[str, Any]:
        """Settings that the results depend on, by dotted keys."""
        return flatten(settings_record(self._config))

    def __call__(self, case: MethodCase, seed: int, folder: Path) -> ModelOutput:
        """Train on a case and predict its test sides.

        Args:
            case: folds.
            seed: of the training.
            folder: of the run, replaced where it exists.
        """
        section = replace(self._config.train, seed=seed)  # type: ignore[attr-defined]
        config = replace(self._config, train=section)  # type: ignore[call-arg]
        run = open_run(folder, config=section, config_yaml=config_to_yaml(config), overwrite=folder.exists())
        model, predict, warnings = self._train(case.train, config, run)
        return ModelOutput(
            probabilities={condition: predict(fold) for condition, fold in case.tests.items()},
            trained_parameters=sum(value.numel() for value in model.parameters() if value.requires_grad),
            warnings=warnings,
        )


@dataclass(frozen=True, kw_only=True)
class ComparisonRequest:
    """Options of a comparison of methods that do not depend on the library. `check` makes it.

    Attributes:
        out: folder to make or to resume.
        methods: of the field.
        protocol: name.
        features: name of the input of all methods.
        seeds: of each method.
        budget: settings that each method may compare on inner folds.
        reference: row that the others are compared with; None: the first own model.
        overwrite: replace an existing folder.
    """

    out: Path
    methods: Sequence[Method]
    protocol: str
    features: str
    seeds: int
    budget: int
    reference: str | None
    overwrite: bool

    @classmethod
    def check(
        cls,
        out: str | Path,
        *,
        methods: str | Sequence[str],
        protocol: str,
        features: str,
        drawn: Sequence[str],
        seeds: int | None = None,
        budget: int | None = None,
        reference: str | None = None,
        overwrite: bool = False,
    ) -> ComparisonRequest:
        """Resolve names and defaults.

        Args:
            out: as the attribute, and so are the others.
            methods: names, as of `select_methods`.
            protocol: likewise.
            features: likewise.
            drawn: protocols that sample their training rows: one seed by default, three for others.
            seeds: None for the default.
            budget: None for the default.
            reference: likewise.
            overwrite: likewise.

        Raises:
            InputError: an unknown method, or a number below 1.
        """
        listed = select_methods(methods)
        seeds = (1 if protocol in drawn else 3) if seeds is None else seeds
        budget = BUDGET if budget is None else budget
        if seeds < 1 or budget < 1:
            raise InputError(f"seeds {seeds}, budget {budget}: must be at least 1")
        return cls(
            out=Path(out),
            methods=listed,
            protocol=protocol,
            features=features,
            seeds=seeds,
            budget=budget,
            reference=reference,
            overwrite=overwrite,
        )

    def open_record(self, *, data: str, options: Mapping[str, Any], **settings: Any) -> dict[str, Any]:
        """Record of the folder, checked against the one in it. Methods and seeds may be added later.

        Args:
            data: fingerprint of the data set.
            options: of the protocol.
            settings: further values that features and folds depend on.

        Raises:
            InputError: the folder holds another comparison.
        """
        record = {
            "data": data,
            "protocol": self.protocol,
            "options": dict(options),
            "features": self.features,
            **settings,
            "budget": self.budget,
        }
        check_same_evaluation(self.out, record, overwrite=self.overwrite)
        return record

    def run(
        self,
        record: Mapping[str, Any],
        *,
        samples: Samples,
        cases: Sequence[MethodCase],
        features: FeatureSource,
        texts: ClassWords,
        models: Mapping[str, LibraryModel[Any]],
        title: str,
        metrics: Sequence[str],
        backbone: str,
        warnings: Sequence[str],
        over_draws: bool = False,
    ) -> MethodComparison:
        """Fit all methods and models, as far as they are not done, and write the tables.

        Args:
            record: of `open_record`.
            samples: with the labels of test rows.
            cases: of the protocol.
            features: of the rows.
            texts: of the classes.
            models: name -> own model; the first is the reference by default.
            title: of the data set.
            metrics: as of `compare_methods`.
            backbone: source of the frozen model, for the page.
            warnings: for the page; each is shown once.
            over_draws: as of `compare_methods`.

        Raises:
            InputError: as of `compare_methods`.
        """
        bench = MethodBench(
            samples=samples,
            cases=cases,
            features=features,
            texts=texts,
            out=open_comparison(self.out, record, overwrite=self.overwrite),
            seeds=tuple(range(self.seeds)),
            budget=self.budget,
        )
        return compare_methods(
            bench,
            self.methods,
            title=f"{self.protocol} on {title}, {self.features}",
            models={name: (model, model.settings) for name, model in models.items()},
            reference=self.reference,
            metrics=metrics,
            over_draws=over_draws,
            facts={"features": self.features, "protocol": self.protocol, "backbone": backbone},
            warnings=list(dict.fromkeys(warnings)),
        )
