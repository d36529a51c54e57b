"""Methods on the folds of a protocol: each method, fold and seed is fitted once, and its predictions are cached.

A method is given the training rows of a fold as arrays, and test rows only to be predicted. `Fold` holds no label of a
test row, and its views of the feature tables raise on rows of another part.

Shapes: N training rows, n test rows, W width of the features, D width of the space of the texts, C classes.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from icube_common.errors import InputError
from icube_common.evaluation import Fold, Predictions, Samples, concatenate, make_predictions
from icube_common.evaluation.runner import cached_predictions
from icube_common.experiments.methods.base import FeatureProblem, FittedMethod, Method
from icube_common.experiments.methods.selection import tune_and_fit
from icube_common.experiments.runner.measure import measure
from icube_common.experiments.runner.method_cases import (
    ClassWords,
    FeatureRows,
    FeatureSource,
    MethodCase,
    ModelOutput,
    TrainedModel,
)
from icube_common.io.runs import read_json, write_json

FIT = "fit.json"


@dataclass(frozen=True, kw_only=True, eq=False)
class MethodRuns:
    """Results of a method on all cases and seeds.

    Attributes:
        name: of the row.
        predictions: condition -> predictions over all classes, with the seeds as further repeats.
        reasons: condition -> the reason for which the method does not apply.
        fits: of each training: ``seconds``, ``memory_mb``, ``trained_parameters``, ``setting``, ``inner_scores``.
        warnings: of the trainings, each once.
        draws: of the protocol: the repeat of a prediction is ``seed index * draws + draw``.
    """

    name: str
    predictions: Mapping[str, Predictions]
    reasons: Mapping[str, str]
    fits: Sequence[Mapping[str, Any]]
    warnings: Sequence[str]
    draws: int


@dataclass(frozen=True, kw_only=True, eq=False)
class MethodBench:
    """Samples, cases, features and texts that all methods share.

    Attributes:
        samples: with labels: the only place with those of test rows.
        cases: of the protocol.
        features: of the rows.
        texts: of the classes.
        out: the folder of the comparison.
        seeds: of each method on each case.
        budget: settings that each method may compare on inner folds.
    """

    samples: Samples
    cases: Sequence[MethodCase]
    features: FeatureSource
    texts: ClassWords
    out: Path
    seeds: Sequence[int]
    budget: int
    _encoded: dict[str, Any] = field(default_factory=dict)

    def problem(self, case: MethodCase, seed: int, classes: Sequence[int]) -> FeatureProblem:
        """The training rows of a case as a problem of some classes, the trained ones among them."""
        train, fold, texts = self._rows(case)["train"], case.train, self.texts
        names = [fold.samples.class_names[number] for number in classes]
        trained = [list(classes).index(number) for number in fold.train_classes]
        words = [texts.words[name] for name in names]
        sentences = texts.descriptions
        return FeatureProblem(
            features=train.features,
            joint=train.joint,
            labels=torch.tensor([trained[label] for label in fold.train_labels], dtype=torch.long),
            class_names=words,
            groups=[fold.samples.groups[row] for row in fold.train],
            vlm=texts.vlm,
            templates=texts.templates,
            descriptions=sentences and {texts.words[name]: sentences[name] for name in names if name in sentences},
            logit_scale=texts.logit_scale,
            seed=seed,
        )

    def _rows(self, case: MethodCase) -> dict[str, FeatureRows]:
        """Features of the rows of a case: ``train``, and each condition; those of the last case are kept."""
        if case.name not in self._encoded:
            encode = self.features(case.train)
            self._encoded.clear()
            self._encoded[case.name] = {
                "train": encode(case.train.training_rows),
                **{condition: encode(fold.test_inputs) for condition, fold in case.tests.items()},
            }
        result: dict[str, FeatureRows] = self._encoded[case.name]
        return result

    def classes_of(self, method: Method, case: MethodCase) -> tuple[dict[str, list[int]], dict[str, str]]:
        """Classes of the problem for each condition that a method applies to, and reasons for the others.

        A method without weights of each class is fitted once, with the texts of trained and of new classes; one that
        learns such weights is fitted to the trained classes and predicts no others.
        """
        classes, reasons = {}, {}
        for condition, fold in case.tests.items():
            numbers = sorted({*case.train.train_classes, *fold.test_classes})
            if reason := method.reason(self.problem(case, 0, numbers)):
                reasons[condition] = reason
            else:
                classes[condition] = numbers
        if not reasons and classes:
            everything = sorted({number for numbers in classes.values() for number in numbers})
            classes = dict.fromkeys(classes, everything)
        return classes, reasons

    def run(self, method: Method) -> MethodRuns:
        """Fit a method on each case with each seed, as far as it is not done, and predict the test rows."""

        def fit(case: MethodCase, seed: int, folder: Path) -> _Run:
            classes, reasons = self.classes_of(method, case)

            def compute() -> tuple[ModelOutput, dict[str, Any]]:
                return self._fit_and_predict(method, case, seed, classes)

            return self._cached(case, classes, reasons, folder, compute)

        settings: dict[str, Any] = dataclasses.asdict(method) if dataclasses.is_dataclass(method) else {}
        return self._run(method.name, {"method": type(method).__qualname__, **settings}, fit)

    def run_model(self, name: str, train: TrainedModel, settings: Mapping[str, Any]) -> MethodRuns:
        """Train a library's own model on each case with each seed, as far as it is not done.

        Args:
            name: of the row.
            train: trains and predicts.
            settings: that results depend on; others in the folder are refused.
        """

        def fit(case: MethodCase, seed: int, folder: Path) -> _Run:
            def compute() -> tuple[ModelOutput, dict[str, Any]]:
                with measure(gpu=self._on_gpu()) as cost:
                    output = train(case, seed, folder / "training")
                return output, {"seconds": cost.seconds, "memory_mb": cost.memory_mb}

            return self._cached(case, {key: [] for key in case.tests}, {}, folder, compute)

        return self._run(name, settings, fit)

    def _run(self, name: str, settings: Mapping[str, Any], fit: Callable[[MethodCase, int, Path], _Run]) -> MethodRuns:
        folder = self.out / "runs" / re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
        check_same_settings(folder, name, settings)
        draws = 1 + max(case.repeat for case in self.cases)
        parts: dict[str, list[Predictions]] = {}
        reasons: dict[str, str] = {}
        fits: list[Mapping[str, Any]] = []
        for case in self.cases:
            for seed in self.seeds:
                done = fit(case, seed, folder / f"{case.name}-seed-{seed}")
                reasons |= done.reasons
                fits += [done.fit] if done.fit else []
                for condition, part in done.predictions.items():
                    repeats = np.full(len(part), self.seeds.index(seed) * draws + case.repeat)
                    parts.setdefault(condition, []).append(dataclasses.replace(part, repeats=repeats))
        return MethodRuns(
            name=name,
            predictions={key: concatenate(each) for key, each in parts.items() if key not in reasons},
            reasons=reasons,
            fits=fits,
            warnings=tuple(dict.fromkeys(line for one in fits for line in one["warnings"])),
            draws=draws,
        )

    def _cached(
        self,
        case: MethodCase,
        classes: Mapping[str, list[int]],
        reasons: Mapping[str, str],
        folder: Path,
        compute: Callable[[], tuple[ModelOutput, dict[str, Any]]],
    ) -> _Run:
        """The result of one training, computed once."""
        if not classes:
            return _Run({}, reasons, None)

        def train() -> tuple[Predictions, Sequence[str]]:
            output, facts = compute()
            parts = [self._score(case.tests[key], table) for key, table in output.probabilities.items()]
            record = {
                "trained_parameters": output.trained_parameters,
                **facts,
                "warnings": list(output.warnings),
            }
            folder.mkdir(parents=True, exist_ok=True)
            write_json(folder / FIT, record)
            # rows of several conditions of one training count as one fold
            whole = concatenate(parts)
            return dataclasses.replace(whole, folds=np.full(len(whole), case.train.number)), output.warnings

        whole, _ = cached_predictions(folder, train)
        row = {name: index for index, name in enumerate(whole.ids)}
        predictions = {
            condition: _select(whole, [row[name] for name in case.tests[condition].test_ids]) for condition in classes
        }
        return _Run(predictions, reasons, read_json(folder / FIT))

    def _fit_and_predict(
        self, method: Method, case: MethodCase, seed: int, classes: Mapping[str, list[int]]
    ) -> tuple[ModelOutput, dict[str, Any]]:
        rows, fitted = self._rows(case), dict[tuple[int, ...], FittedMethod]()
        probabilities: dict[str, npt.NDArray[np.float64]] = {}
        with measure(gpu=self._on_gpu()) as cost:
            for numbers in classes.values():
                if tuple(numbers) not in fitted:
                    problem = self.problem(case, seed, numbers)
                    fitted[tuple(numbers)] = tune_and_fit(method, problem, budget=self.budget)
        for condition, numbers in classes.items():
            test, model = rows[condition], fitted[tuple(numbers)]
            columns = [numbers.index(number) for number in case.tests[condition].test_classes]
            device = torch.device("cpu") if self.texts.vlm is None else self.texts.vlm.device
            logits = model.logits(test.features.to(device), None if test.joint is None else test.joint.to(device))
            probabilities[condition] = logits[:, columns].double().softmax(1).cpu().numpy()
        last = list(fitted.values())[-1]
        facts = {
            "seconds": cost.seconds,
            "memory_mb": cost.memory_mb,
            "steps": last.steps,
            "setting": dict(last.setting),
            "inner_scores": [{"setting": dict(setting), "score": score} for setting, score in last.inner_scores],
        }
        return ModelOutput(
            probabilities=probabilities, trained_parameters=last.trained_parameters, warnings=last.warnings
        ), facts

    def _score(self, fold: Fold, probabilities: npt.NDArray[np.float64]) -> Predictions:
        """Predictions of a fold's test rows over all classes of the samples."""
        return make_predictions(self.samples, fold, probabilities).over_classes(self.samples.class_names)

    def _on_gpu(self) -> bool:
        return self.texts.vlm is not None and self.texts.vlm.device.type == "cuda"


class _Run(NamedTuple):
    """Result of one method, case and seed."""

    predictions: Mapping[str, Predictions]
    reasons: Mapping[str, str]
    fit: Mapping[str, Any] | None


def _select(predictions: Predictions, rows: Sequence[int]) -> Predictions:
    """Some rows of predictions."""
    chosen = np.asarray(rows, dtype=np.int64)
    return Predictions(
        ids=[predictions.ids[row] for row in rows],
        subjects=[predictions.subjects[row] for row in rows],
        repeats=predictions.repeats[chosen],
        folds=predictions.folds[chosen],
        labels=predictions.labels[chosen],
        probabilities=predictions.probabilities[chosen],
        class_names=predictions.class_names,
    )


def check_same_settings(folder: Path, name: str, settings: Mapping[str, Any]) -> None:
    """Record the settings of a method in its folder, or compare them with the recorded ones.

    Args:
        folder: of the method's runs.
        name: of the method.
        settings: JSON-ready, or of values whose text identifies them.

    Raises:
        InputError: the folder holds runs of other settings.
    """
    record = {
        key: value if isinstance(value, (int, float, bool, str)) else repr(value) for key, value in settings.items()
    }
    path = folder / "settings.json"
    if path.is_file():
        if (saved := read_json(path)) != record:
            odd = sorted(key for key in {*saved, *record} if saved.get(key) != record.get(key))
            raise InputError(
                f"{folder}: holds runs of {name} with other settings ({', '.join(odd)}); take another --out, or "
                "--overwrite"
            )
        return
    folder.mkdir(parents=True, exist_ok=True)
    write_json(path, record)
