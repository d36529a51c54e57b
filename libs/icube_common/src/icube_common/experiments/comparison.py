"""Comparisons: finished runs side by side (`compare`), and methods on the folds of a protocol (`compare_methods`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from icube_common.config import as_list, read_yaml
from icube_common.errors import InputError, unknown
from icube_common.evaluation.intervals import Interval
from icube_common.evaluation.metrics import default_names, find_metric
from icube_common.evaluation.predictions import Predictions
from icube_common.evaluation.runner import check_same_evaluation, open_folder
from icube_common.experiments.overrides import flatten
from icube_common.experiments.results.differences import Difference
from icube_common.experiments.results.method_comparison import MethodComparison
from icube_common.experiments.results.pages import write_comparison
from icube_common.experiments.results.run_comparison import RunComparison, RunResult
from icube_common.experiments.runner.study import write_yaml
from icube_common.experiments.runner.trial_run import RESULT
from icube_common.io.progress import progress_bar
from icube_common.io.runs import atomic_folder, read_json

if TYPE_CHECKING:
    from icube_common.experiments.methods.base import Method
    from icube_common.experiments.runner.method_cases import TrainedModel
    from icube_common.experiments.runner.method_runs import MethodBench

_PREDICTIONS = "predictions.csv"


def compare(
    runs: Sequence[str | Path],
    out: str | Path,
    *,
    metrics: Sequence[str] | None = None,
    overwrite: bool = False,
) -> RunComparison:
    """Set runs side by side and write tables, plot and page.

    Args:
        runs: run folders with a ``predictions.csv`` (and a ``config.yaml``, where settings are to be compared), or such
            files themselves. The first is the one that the others are compared with.
        out: the folder to make: ``table.*`` (metrics), ``differences.*`` (paired tests), ``plot.*``, ``report.html``.
        metrics: which, by their names in `icube_common.evaluation.metrics`; by default those that fit the classes. The
            plot shows the first.
        overwrite: replace the folder.

    Raises:
        InputError: fewer than two runs, one twice, no predictions in one, an unknown metric, or the folder exists.
    """
    metrics = None if metrics is None else as_list(metrics)
    paths = [Path(run) for run in runs]
    if len(paths) < 2:
        raise InputError(f"compare: needs at least two runs (found {len(paths)})")
    if twice := [path for number, path in enumerate(paths) if path in paths[:number]]:
        raise InputError(f"compare: {twice[0]} is named twice")
    for name in metrics or ():
        find_metric(name)
    names = _names(paths)
    tables = {name: Predictions.read_csv(_predictions(path)) for name, path in zip(names, paths, strict=True)}
    chosen = list(metrics or dict.fromkeys(m for t in tables.values() for m in default_names(len(t.class_names))))
    intervals = {name: _intervals(table, chosen, requested=metrics is not None) for name, table in tables.items()}
    first = tables[names[0]]
    differences: dict[str, dict[str, Difference]] = {}
    warnings: dict[str, str] = {}
    for name in names[1:]:
        shared = [metric for metric in chosen if metric in intervals[name] and metric in intervals[names[0]]]
        try:
            differences[name] = {
                metric: Difference.over_groups(test) for metric, test in tables[name].compare(first, shared).items()
            }
        except InputError as error:
            warnings[name] = str(error)
    result = RunComparison(
        folder=Path(out),
        metrics=tuple(chosen),
        runs=tuple(
            RunResult(
                name=name,
                path=path,
                rows=len(tables[name]),
                subjects=len(set(tables[name].subjects)),
                intervals=intervals[name],
                differences=differences.get(name, {}),
                note=warnings.get(name, ""),
                settings=_settings(path),
            )
            for name, path in zip(names, paths, strict=True)
        ),
    ).corrected()
    with atomic_folder(out, overwrite=overwrite) as folder:
        write_yaml(
            folder / "study.yaml", {"kind": "comparison", "runs": [str(path) for path in paths], "metrics": chosen}
        )
        write_comparison(result, folder)
    return result


def compare_methods(
    bench: MethodBench,
    methods: Sequence[Method],
    *,
    title: str,
    models: Mapping[str, tuple[TrainedModel, Mapping[str, Any]]] | None = None,
    reference: str | None = None,
    metrics: Sequence[str] = ("top1",),
    over_draws: bool = False,
    facts: Mapping[str, Any] | None = None,
    warnings: Sequence[str] = (),
) -> MethodComparison:
    """Fit methods and a library's own models on the same folds, and write tables, plot and page.

    A finished training (method, fold, seed) is read from the folder and not repeated.

    Args:
        bench: samples, folds, features, texts, seeds, folder (`open_comparison` makes it).
        methods: of `icube_common.experiments.methods`; those that do not apply are rows with the reason.
        title: protocol and data.
        models: name -> training of an own model, and the settings that it depends on; the first rows.
        reference: name of the row that the others are compared with; by default the first.
        metrics: names in `icube_common.evaluation.metrics`; the first is compared and plotted.
        over_draws: intervals and paired differences over draws of classes (base-to-new) in place of subjects.
        facts: JSON-ready values for the page.
        warnings: for the page.

    Raises:
        InputError: no method, two of one name, an unknown reference or metric, a reference that does not apply, or runs
            of other settings in the folder.
    """
    models = models or {}
    names = [*models, *(method.name for method in methods)]
    if not names:
        raise InputError("compare-methods: no method")
    if twice := [name for number, name in enumerate(names) if name in names[:number]]:
        raise InputError(f"compare-methods: {twice[0]} is named twice")
    for name in metrics:
        find_metric(name)
    reference = names[0] if reference is None else reference
    if reference not in names:
        raise unknown("reference", reference, names)
    runs = [bench.run_model(name, train, settings) for name, (train, settings) in models.items()]
    runs += [bench.run(method) for method in progress_bar(methods, desc="methods", unit="method")]
    conditions = list(dict.fromkeys(condition for case in bench.cases for condition in case.tests))
    if reason := next((run.reasons for run in runs if run.name == reference and run.reasons), None):
        raise InputError(f"reference {reference}: not applicable: {next(iter(reason.values()))}; name another one")
    result = MethodComparison.summarise(
        runs,
        citations={method.name: method.citation for method in methods},
        reference=reference,
        metrics=metrics,
        conditions=conditions,
        over_draws=over_draws,
        folder=bench.out,
        title=title,
        facts={"seeds": list(bench.seeds), "budget": bench.budget, **(facts or {})},
        warnings=warnings,
    )
    result.save()
    return result


def open_comparison(out: str | Path, record: Mapping[str, Any], *, overwrite: bool = False) -> Path:
    """Make the folder of a comparison of methods, or resume one of the same data, folds and features.

    Args:
        out: the folder.
        record: JSON-ready: data, protocol and its options, features, budget. Methods and seeds may be added later.
        overwrite: replace an existing folder.

    Raises:
        InputError: the folder holds something else.
    """
    folder = Path(out)
    check_same_evaluation(folder, record, overwrite=overwrite)
    open_folder(folder, record, overwrite=overwrite)
    return folder


def _names(paths: Sequence[Path]) -> list[str]:
    """Names of runs in tables: the last part of each path, or as much of its end as makes them unique."""
    parts = [path.resolve().parts for path in paths]
    for count in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-count:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    raise InputError(f"compare: {', '.join(map(str, paths))}: two of these are the same place")


def _predictions(path: Path) -> Path:
    """The file of predictions of a run."""
    if not path.is_dir():
        return path
    file = path / _PREDICTIONS
    if not file.is_file():
        raise InputError(f"{path}: holds no {_PREDICTIONS}; name the file itself, or evaluate the run first")
    return file


def _intervals(predictions: Predictions, names: Sequence[str], *, requested: bool) -> dict[str, Interval]:
    """The metrics with intervals over subjects; a default one is left out where it does not fit."""
    fitting = names if requested else [name for name in names if name in default_names(len(predictions.class_names))]
    return predictions.metrics(fitting)


def _settings(path: Path) -> dict[str, Any]:
    """A run's settings, by dotted keys: its ``config.yaml``, or the overrides of a study's cell; else none."""
    folder = path if path.is_dir() else path.parent
    if (folder / "config.yaml").is_file():
        return flatten(read_yaml(folder / "config.yaml"))
    if (folder / RESULT).is_file():
        saved = read_json(folder / RESULT)
        if isinstance(saved, Mapping) and isinstance(saved.get("overrides"), Mapping):
            return {**saved["overrides"], "seed": saved.get("seed")}
    return {}
