"""The trials of a search in Optuna's storage: the next one, one run, and what an interrupted search has left behind.

Each trial fills a slot, a number from 0 on, kept as its attribute ``slot`` and as its folder ``trials/<slot>``. A trial
that was killed is marked failed and queued again with the same parameters in the same slot, so the slots that are done
count what the search has done. The sampler is seeded for each slot: a search with one worker makes the same
proposals whether or not it was interrupted. With several workers they depend on which trial ends first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import optuna
from optuna.trial import TrialState

from icube_common.errors import InputError
from icube_common.experiments.runner.trial_run import Run, TrialRun, execute_trial_run, read_result
from icube_common.experiments.search import Search
from icube_common.io.runs import read_json, write_json

# reports of a trial's second seed come after those of its first in Optuna's one count of steps
_STEPS = 10_000_000
_END = "trial.json"
_STATES = {"finished": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}


@dataclass(frozen=True, kw_only=True)
class TrialEnd:
    """End of a trial: ``finished`` with its value, ``pruned``, or ``failed`` with its error."""

    state: str
    value: float | None = None
    error: str | None = None


def trial_folder(folder: Path, slot: int) -> Path:
    """Folder of a slot's runs and its ``trial.json``."""
    return folder / "trials" / f"{slot:04d}"


def read_end(folder: Path, slot: int) -> TrialEnd | None:
    """End of the slot's trial; None for an unfinished one."""
    path = trial_folder(folder, slot) / _END
    return TrialEnd(**read_json(path)) if path.exists() else None


def done_slots(study: optuna.Study) -> dict[int, optuna.trial.FrozenTrial]:
    """Slot -> the trial that filled it; trials that were killed are not among them."""
    trials = study.get_trials(deepcopy=False, states=tuple(_STATES.values()))
    retried = _retried(study)
    return {
        trial.user_attrs["slot"]: trial
        for trial in trials
        if "slot" in trial.user_attrs and trial.number not in retried
    }


def recover(study: optuna.Study, folder: Path) -> int:
    """Settle the trials that were running when the search was killed; return how many are queued again.

    One whose end is on disk is reported to the storage; the others are queued with their parameters and marked failed.
    """
    queued = 0
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        # killed before it got its slot, that is before anything ran: the slot's seed proposes the same again
        slot = trial.user_attrs.get("slot")
        end = None if slot is None else read_end(folder, slot)
        if end is not None:
            tell(study, trial.number, end)
            continue
        # first queued, then marked failed: killed in between, the next resume finds it queued and only marks it
        if slot is not None and trial.number not in _retried(study):
            study.enqueue_trial(trial.params, user_attrs={"slot": slot, "retry_of": trial.number})
            queued += 1
        study.tell(trial.number, state=TrialState.FAIL)
    return queued


def ask(study: optuna.Study, search: Search, seed: int) -> optuna.Trial:
    """The next trial: one that is queued, or what the sampler proposes for the next slot."""
    slots = [trial.user_attrs["slot"] for trial in study.get_trials(deepcopy=False) if "slot" in trial.user_attrs]
    slot = max(slots, default=-1) + 1
    # TPE draws its first proposals at random: with one seed for all, a resumed search would draw the same ones again
    study.sampler = optuna.samplers.TPESampler(seed=int(np.random.SeedSequence((seed, slot)).generate_state(1)[0]))
    trial = study.ask({parameter.key: parameter.distribution() for parameter in search.space})
    if "slot" not in trial.user_attrs:
        trial.set_user_attr("slot", slot)
    return trial


def trial_runs_of(trial: optuna.Trial, search: Search, folder: Path) -> list[TrialRun]:
    """Runs of a trial: its parameters with every seed."""
    slot = trial.user_attrs["slot"]
    return [
        TrialRun(
            name=f"trial {slot}",
            overrides={**search.base, **trial.params},
            seed=seed,
            metric=search.metric,
            folder=trial_folder(folder, slot) / f"seed-{seed}",
        )
        for seed in search.seeds
    ]


def fail_trial(trial: optuna.Trial, folder: Path, error: str) -> TrialEnd:
    """Keep an error as the end of a trial that could not record its own."""
    end = TrialEnd(state="failed", error=error)
    target = trial_folder(folder, trial.user_attrs["slot"])
    target.mkdir(parents=True, exist_ok=True)
    write_json(target / _END, asdict(end))
    return end


def run_trial(run: Run, trial: optuna.Trial, cells: Sequence[TrialRun]) -> TrialEnd:
    """Run a trial's cells, in whatever process, and keep how it ended; a cell that is finished is not run again."""
    end = _end(run, trial, cells)
    write_json(cells[0].folder.parent / _END, asdict(end))
    return end


def _end(run: Run, trial: optuna.Trial, cells: Sequence[TrialRun]) -> TrialEnd:
    values = []
    for index, cell in enumerate(cells):
        try:
            result = read_result(cell) or execute_trial_run(
                run, cell, report=_reporter(trial, index), let_pass=(optuna.TrialPruned,)
            )
        except optuna.TrialPruned:
            return TrialEnd(state="pruned")
        value = result.metrics.get(cell.metric)
        if value is None:
            return TrialEnd(state="failed", error=f"seed {cell.seed}: {result.error}")
        values.append(value)
    return TrialEnd(state="finished", value=math.fsum(values) / len(values))


def _reporter(trial: optuna.Trial, index: int) -> Callable[[int, float], None]:
    """The callback ``report(step, value)`` of a trial's index-th seed."""

    def report(step: int, value: float) -> None:
        if not 0 <= step < _STEPS:
            raise InputError(f"report: step {step} must lie between 0 and {_STEPS - 1}")
        trial.report(float(value), index * _STEPS + int(step))
        if trial.should_prune():
            raise optuna.TrialPruned(f"at step {step}")

    return report


def tell(study: optuna.Study, trial: optuna.Trial | int, end: TrialEnd) -> None:
    """Write a trial's end to the storage."""
    if end.state == "finished":
        study.tell(trial, end.value)
    else:
        study.tell(trial, state=_STATES[end.state])


def _retried(study: optuna.Study) -> set[int]:
    return {
        trial.user_attrs["retry_of"] for trial in study.get_trials(deepcopy=False) if "retry_of" in trial.user_attrs
    }
