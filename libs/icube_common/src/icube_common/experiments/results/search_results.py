"""Result of a search: trials, the best of them, and the importance of each parameter."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna

from icube_common.errors import InputError
from icube_common.experiments.results.tables import Table
from icube_common.experiments.runner.trials import done_slots, read_end, trial_folder
from icube_common.experiments.search import Search


@dataclass(frozen=True, kw_only=True)
class TrialRow:
    """One trial.

    Attributes:
        slot: its number, and the name of its folder.
        state: ``finished``, ``pruned`` or ``failed``.
        value: mean of the metric over the seeds; None unless finished.
        params: what the search chose.
        error: why it failed.
    """

    slot: int
    state: str
    value: float | None
    params: Mapping[str, Any]
    error: str | None


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """Result of a search.

    Attributes:
        folder: ``table.md`` (``.tex``, ``.csv``), ``plot.svg`` (``.png``), ``report.html``, ``study.yaml``,
            ``best.yaml`` and ``trials/<number>/`` lie in it.
        metric: what decided.
        direction: ``maximize`` or ``minimize``.
        trials: by number.
        overrides: the base and the best trial's parameters.
        importance: parameter -> its share of the metric's variance (fANOVA), largest first; empty where it cannot be
            computed.
        importance_note: how it was computed, or why it was not.
    """

    folder: Path
    metric: str
    direction: str
    trials: tuple[TrialRow, ...]
    overrides: Mapping[str, Any]
    importance: Mapping[str, float]
    importance_note: str

    @property
    def best(self) -> TrialRow:
        """The best trial, the first of several that are equally good."""
        return self.records()[-1]

    def records(self) -> list[TrialRow]:
        """The finished trials that were better than all before them."""
        result: list[TrialRow] = []
        for trial in self.trials:
            if trial.value is not None and (not result or self._better(trial.value, result[-1].value)):
                result.append(trial)
        return result

    def count(self, state: str) -> int:
        """Number of trials in a state."""
        return sum(trial.state == state for trial in self.trials)

    def table(self) -> Table:
        """All trials, the finished ones first, best on top."""
        names = list(dict.fromkeys(name for trial in self.trials for name in trial.params))
        sign = -1 if self.direction == "maximize" else 1
        ranked = sorted(self.trials, key=lambda trial: (trial.value is None, sign * (trial.value or 0.0), trial.slot))
        rows = tuple(
            (trial.slot, trial.state, trial.value, *(trial.params.get(name) for name in names)) for trial in ranked
        )
        caption = (
            f"{len(self.trials)} trials: {self.count('finished')} finished, {self.count('pruned')} pruned, "
            f"{self.count('failed')} failed. The best {self.metric} is the best of many and therefore flattering: "
            "report the settings' figure on data that the search has not seen."
        )
        return Table(("trial", "state", self.metric, *names), rows, caption)

    def _better(self, value: float, than: float | None) -> bool:
        assert than is not None
        return value > than if self.direction == "maximize" else value < than


def collect_results(study: optuna.Study, search: Search, folder: Path) -> SearchResult:
    """Bring the trials of a search together; at least one of them has to be finished.

    Raises:
        InputError: the end of a trial is not in the folder.
    """
    rows = []
    for slot, trial in sorted(done_slots(study).items()):
        end = read_end(folder, slot)
        if end is None:
            where = trial_folder(folder, slot)
            raise InputError(f"{where}: has no end: the workers write to a disk that this machine does not see")
        rows.append(TrialRow(slot=slot, state=end.state, value=end.value, params=trial.params, error=end.error))
    importance, note = _importance(study)
    result = SearchResult(
        folder=folder,
        metric=search.metric,
        direction=search.direction,
        trials=tuple(rows),
        overrides={},
        importance=importance,
        importance_note=note,
    )
    return dataclasses.replace(result, overrides={**search.base, **result.best.params})


def _importance(study: optuna.Study) -> tuple[dict[str, float], str]:
    """Importances over the finished trials and a note; none and the reason where Optuna cannot compute them."""
    finished = [trial.value for trial in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))]
    if len(set(finished)) < 2:
        return {}, f"not computable: {len(finished)} finished trials with {len(set(finished))} different figures"
    try:
        result = optuna.importance.get_param_importances(
            study, evaluator=optuna.importance.FanovaImportanceEvaluator(seed=0)
        )
    except (ValueError, RuntimeError, ZeroDivisionError) as error:
        return {}, f"not computable: {error}"
    note = f"share of the variance of the figure, fANOVA (Hutter et al., ICML 2014), {len(finished)} finished trials"
    return {name: float(share) for name, share in result.items()}, note
