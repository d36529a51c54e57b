"""Evaluation runner: resumable folder, cached folds, comparisons on the same folds, result.

``evaluation.json`` records settings, data and protocol. The predictions of each fold are written as soon as they are
made, so that a repeated command computes the missing folds only.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from icube_common.config import config_to_dict
from icube_common.errors import InputError
from icube_common.evaluation.folds import Fold
from icube_common.evaluation.intervals import Interval
from icube_common.evaluation.predictions import Predictions, concatenate
from icube_common.io.progress import progress_bar
from icube_common.io.runs import check_output_path, read_json, write_json

RECORD = "evaluation.json"


FoldResult = tuple[Predictions, tuple[str, ...]]
"""Predictions of a fold, and the warnings of its training."""
_SECONDS = "seconds.json"


def check_same_evaluation(out: Path, record: Mapping[str, Any], *, overwrite: bool = False) -> None:
    """Check that a folder is free, or holds an evaluation of the same settings, data and protocol.

    Args:
        out: the evaluation's folder.
        record: settings, data, protocol.
        overwrite: the folder will be replaced.

    Raises:
        InputError: the folder holds something else.
    """
    if (out / RECORD).is_file() and not overwrite:
        if read_json(out / RECORD) != json.loads(json.dumps(record)):
            raise InputError(f"{out}: holds an evaluation of other settings or data (--overwrite replaces it)")
        return
    check_output_path(out, overwrite=overwrite)


def settings_record(config: Any) -> dict[str, Any]:
    """Settings of an evaluation for its record, without those that only decide its speed.

    Args:
        config: a configuration with a section ``vlm``.
    """
    record = config_to_dict(config)
    record["vlm"] = {key: value for key, value in record["vlm"].items() if key != "batch_size"}
    return record


def in_temporary_folder(evaluate: Callable[[Path], EvaluationResult]) -> EvaluationResult:
    """Result of an evaluation whose folder is not kept."""
    with tempfile.TemporaryDirectory(prefix="icube-") as folder:
        return dataclasses.replace(evaluate(Path(folder) / "evaluation"), out=None)


def open_folder(out: Path, record: Mapping[str, Any], *, overwrite: bool = False) -> None:
    """Make the folder of an evaluation, unless it is resumed; call `check_same_evaluation` before."""
    if (out / RECORD).is_file() and not overwrite:
        return
    if out.exists():
        shutil.rmtree(out)
    out.mkdir(parents=True)
    write_json(out / RECORD, record)


def cached_predictions(folder: Path, compute: Callable[[], tuple[Predictions, Sequence[str]]]) -> FoldResult:
    """Predictions and warnings of one training, computed once and read from then on.

    Args:
        folder: holds ``predictions.csv``, written last, ``warnings.json`` and ``seconds.json``.
        compute: trains and predicts.
    """
    done = folder / "predictions.csv"
    if done.is_file():
        return Predictions.read_csv(done), tuple(read_json(folder / "warnings.json"))
    start = time.monotonic()
    predictions, warnings = compute()
    write_json(folder / _SECONDS, round(time.monotonic() - start, 2))
    write_json(folder / "warnings.json", list(warnings))
    predictions.write_csv(done)
    return predictions, tuple(warnings)


def training_seconds(folder: Path) -> float:
    """Seconds of all cached folds below a folder."""
    return round(sum(float(read_json(path)) for path in folder.glob(f"*/{_SECONDS}")), 1)


def fold_name(fold: Fold) -> str:
    """Folder name of a fold: repeat and number."""
    return f"{fold.repeat:02d}-{fold.number:03d}"


def run_folds(folds: Sequence[Fold], run: Callable[[Fold], FoldResult], *, name: str = "folds") -> FoldResult:
    """Predictions of all folds in one table, and their warnings, each once.

    Args:
        folds: of a protocol.
        run: trains on a fold and predicts its test rows, usually through `cached_predictions`.
        name: of the progress bar.
    """
    results = [run(fold) for fold in progress_bar(folds, desc=name, unit="fold")]
    return concatenate(part for part, _ in results), tuple(all_warnings(results))


def all_warnings(results: Iterable[tuple[Predictions, Sequence[str]]]) -> list[str]:
    """Warnings of several trainings, each once."""
    return list(dict.fromkeys(warning for _, warnings in results for warning in warnings))


@dataclass(frozen=True, eq=False, kw_only=True)
class EvaluationResult:
    """Predictions of an evaluation with their metrics.

    Attributes:
        predictions: of test rows only.
        metrics: name -> value with interval over subjects.
        facts: further JSON-ready values: protocol, folds, backbone, seconds.
        warnings: untrained backbones, unreviewed texts and the like.
        disclaimers: lines that every report repeats.
        comparisons: baselines and other settings on the same folds: name -> metrics and paired differences.
        out: the folder of the evaluation.
        sample: name of a sample in the plural: ``"clips"``.
    """

    predictions: Predictions
    metrics: Mapping[str, Interval]
    facts: Mapping[str, Any] = field(default_factory=dict)
    warnings: Sequence[str] = ()
    disclaimers: Sequence[str] = ()
    comparisons: Mapping[str, Any] = field(default_factory=dict)
    out: Path | None = None
    sample: str = "samples"

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values, as ``metrics.json`` holds them and ``--json`` prints them."""
        files = {} if self.out is None else {name: str(self.out / file) for name, file in _FILES.items()}
        return {
            **({"disclaimers": list(self.disclaimers)} if self.disclaimers else {}),
            **{name: interval.to_dict() for name, interval in self.metrics.items()},
            self.sample: len(set(self.predictions.ids)),
            "subjects": len(set(self.predictions.subjects)),
            **self.facts,
            "warnings": list(self.warnings),
            "comparisons": dict(self.comparisons),
            **files,
        }

    def save(self, out: Path, report: Callable[[EvaluationResult], Any]) -> EvaluationResult:
        """Write ``predictions.csv``, ``metrics.json`` and ``report.html``.

        Args:
            out: the folder of the evaluation.
            report: makes the page (`icube_common.io.reports.Report`) of the result.

        Returns:
            The same result with ``out`` set.
        """
        result = dataclasses.replace(self, out=out)
        self.predictions.write_csv(out / _FILES["predictions"])
        write_json(out / "metrics.json", result.to_dict())
        report(result).save(out / _FILES["report"])
        return result


_FILES = {"predictions": "predictions.csv", "report": "report.html"}


def compare_predictions(
    predictions: Predictions, others: Mapping[str, Predictions], metrics: Sequence[str], *, primary: str
) -> dict[str, dict[str, Any]]:
    """Paired differences, these predictions minus others on the same rows.

    Args:
        predictions: of the configured model.
        others: name -> predictions of a baseline or of other settings.
        metrics: names of the compared metrics.
        primary: name of the comparison that is tested; all others are descriptive.

    Returns:
        Name -> ``difference`` (metric -> interval and p) and ``comparison`` (``primary`` or ``descriptive``).
    """
    return {
        name: {
            "difference": {key: result.to_dict() for key, result in predictions.compare(other, metrics).items()},
            "comparison": "primary" if name == primary else "descriptive",
        }
        for name, other in others.items()
    }


def interval_text(interval: Mapping[str, Any]) -> str:
    """The 95 % interval of `Interval.to_dict` as text, an en dash where there is none."""
    low, high = interval["ci95"] or (None, None)
    return "\N{EN DASH}" if low is None or high is None else f"{low:.3f} to {high:.3f}"
