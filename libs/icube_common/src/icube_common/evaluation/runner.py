"""The folder of an evaluation: one question, gone on with where it was interrupted.

``evaluation.json`` says what was asked. Each training's predictions are kept as soon as they are made, so that the same
command goes on with what is missing.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from icube_common.config import config_to_dict
from icube_common.errors import InputError
from icube_common.evaluation.predictions import Predictions
from icube_common.io.runs import check_output_path, read_json, write_json

RECORD = "evaluation.json"


def check_same_evaluation(out: Path, record: Mapping[str, Any], *, overwrite: bool = False) -> None:
    """An evaluation goes on with what it began with.

    Args:
        out: its folder.
        record: what is asked: settings, data, protocol.
        overwrite: whatever is there will be replaced.

    Raises:
        InputError: the folder holds something else.
    """
    if (out / RECORD).is_file() and not overwrite:
        if read_json(out / RECORD) != json.loads(json.dumps(record)):
            raise InputError(f"{out}: holds an evaluation of other settings or data (--overwrite replaces it)")
        return
    check_output_path(out, overwrite=overwrite)


def settings_record(config: Any) -> dict[str, Any]:
    """The settings of an evaluation for its record, without those that only decide how fast it runs.

    Args:
        config: a configuration with a section ``vlm``.
    """
    record = config_to_dict(config)
    record["vlm"] = {key: value for key, value in record["vlm"].items() if key != "batch_size"}
    return record


def open_folder(out: Path, record: Mapping[str, Any], *, overwrite: bool = False) -> None:
    """Make the folder of an evaluation, unless it is gone on with; call `check_same_evaluation` before."""
    if (out / RECORD).is_file() and not overwrite:
        return
    if out.exists():
        shutil.rmtree(out)
    out.mkdir(parents=True)
    write_json(out / RECORD, record)


def cached_predictions(
    folder: Path, compute: Callable[[], tuple[Predictions, Sequence[str]]]
) -> tuple[Predictions, tuple[str, ...]]:
    """The predictions and notes of one training, computed once: what ``folder`` holds is read and not made again.

    Args:
        folder: holds ``predictions.csv``, written last, and ``notes.json``.
        compute: trains and predicts.
    """
    done = folder / "predictions.csv"
    if done.is_file():
        return Predictions.read_csv(done), tuple(read_json(folder / "notes.json"))
    predictions, notes = compute()
    write_json(folder / "notes.json", list(notes))
    predictions.write_csv(done)
    return predictions, tuple(notes)


def all_warnings(results: Iterable[tuple[Predictions, Sequence[str]]]) -> list[str]:
    """What several trainings have to say, each line once."""
    return list(dict.fromkeys(note for _, notes in results for note in notes))


def interval_text(found: Mapping[str, Any]) -> str:
    """The 95 % interval of `Interval.to_dict` in words, an en dash where there is none."""
    low, high = found["ci95"] or (None, None)
    return "\N{EN DASH}" if low is None or high is None else f"{low:.3f} to {high:.3f}"
