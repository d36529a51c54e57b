"""Finished runs side by side: metrics with intervals over subjects, paired tests, and the settings that differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from icube_common.config import as_list, read_yaml
from icube_common.errors import InputError
from icube_common.evaluation.intervals import Interval
from icube_common.evaluation.metrics import default_names, find_metric
from icube_common.evaluation.predictions import Predictions
from icube_common.experiments.overrides import flatten
from icube_common.experiments.results.differences import Difference
from icube_common.experiments.results.pages import write_comparison
from icube_common.experiments.results.run_comparison import RunComparison, RunResult
from icube_common.experiments.runner.study import write_yaml
from icube_common.experiments.runner.trial_run import RESULT
from icube_common.io.runs import atomic_folder, read_json

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
