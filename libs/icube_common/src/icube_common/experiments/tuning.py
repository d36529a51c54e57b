"""A search for good settings with Optuna: TPE proposes, the median rule prunes, and a killed search is resumed."""

from __future__ import annotations

import contextlib
import logging
import math
import re
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState

from icube_common.config import read_yaml
from icube_common.data.processes import WORKER_DIED, run_each
from icube_common.errors import InputError
from icube_common.experiments.overrides import nest
from icube_common.experiments.results.pages import write_search
from icube_common.experiments.results.search_results import SearchResult, collect_results
from icube_common.experiments.runner.study import digest, open_study, write_yaml
from icube_common.experiments.runner.trial_run import Run, TrialRun
from icube_common.experiments.runner.trials import (
    ask,
    done_slots,
    fail_trial,
    read_end,
    recover,
    run_trial,
    tell,
    trial_runs_of,
)
from icube_common.experiments.search import Search
from icube_common.io.progress import progress_bar

logger = logging.getLogger(__name__)


def tune(
    run: Run,
    search: Search,
    out: str | Path,
    *,
    storage: str | None = None,
    trials: int | None = None,
    pruner: optuna.pruners.BasePruner | None = None,
    timeout: float | None = None,
    seed: int = 0,
    executor: Executor | None = None,
    workers: int | None = None,
    resume: bool = True,
    strict: bool = False,
    overwrite: bool = False,
    facts: Mapping[str, Any] | None = None,
) -> SearchResult:
    """Search the space, and write table, history, importances and the best settings (``best.yaml``).

    An interrupted search is resumed by the next call: finished trials stay, those that were running are marked
    failed and run again with the same parameters, and the number of trials counts those that came to an end by
    themselves (finished, pruned, or failed with an error of the run). With one worker the proposals are those of a
    search that was never interrupted; with several they depend on which trial ends first, and nothing is promised.

    Args:
        run: as for `ablate`. A run with a parameter ``report`` gets ``report(step, value)``: called now and then with
            the metric so far (step from 0 on, the same steps in every trial), it ends a hopeless trial by raising
            ``optuna.TrialPruned``, which the run has to let pass.
        search: what is varied; `Search.load` reads a ``space.yaml``.
        out: the search's folder.
        storage: URL of the database; by default SQLite, ``study.db`` in the folder. Workers on other machines need a
            database server: SQLite does not lock over a network disk.
        trials: number in all; by default that of the search.
        pruner: by default Optuna's median rule.
        timeout: seconds after which no further trial begins.
        seed: of the sampler.
        executor: where trials run; by default in this process.
        workers: how many trials run at the same time; by default as many as the executor has.
        resume: continue an existing search; False refuses one.
        strict: raise the first failure instead of recording it and going on.
        overwrite: delete the search that is there and start afresh.
        facts: what else the results depend on; has to be the same on resume.

    Raises:
        InputError: the folder holds something else or another search; the storage cannot be opened; another process
            is at work there; a trial failed and ``strict`` is set, or none was finished.
    """
    total = search.trials if trials is None else trials
    if total < 1 or (workers is not None and workers < 1):
        raise InputError(f"--trials {total}, --workers {workers}: both must be at least 1")
    file = Path(out) / "study.yaml"
    fresh = overwrite or not file.exists()
    # the folder may be renamed later, its study in the storage keeps its name
    name = f"{Path(out).resolve().name}-{digest(search.to_dict())}" if fresh else read_yaml(file).get("study_name")
    fixed = {"facts": dict(facts or {}), **search.to_dict(), "seed": seed, "storage": _masked(storage or "study.db")}
    free = {"study_name": name, "trials": total}
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(
            open_study(out, kind="search", fixed=fixed, free=free, resume=resume, overwrite=overwrite)
        )
        opened = stack.enter_context(_open_storage(storage or f"sqlite:///{(folder / 'study.db').resolve()}"))
        study = _open_study(opened, str(name), search, pruner, fresh=fresh, again=overwrite)
        queued = recover(study, folder)
        done = len(done_slots(study))
        if done or queued:
            logger.info("%s: %d trials are there already, %d were interrupted and run again", folder, done, queued)
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        asked = _asked(study, search, folder.absolute(), seed, total - done, deadline)
        calls = ((trial, (run, trial, cells)) for trial, cells in asked)
        ends = run_each(
            run_trial, calls, executor, workers, lost=lambda trial: fail_trial(trial, folder.absolute(), WORKER_DIED)
        )
        for trial, end in progress_bar(ends, total=total, initial=done, unit="trial"):
            tell(study, trial, end)
            slot = trial.user_attrs["slot"]
            if end.error is not None:
                logger.warning("trial %d: failed: %s", slot, end.error)
                if strict:
                    raise InputError(f"trial {slot}: {end.error}")
        if not any(trial.state == TrialState.COMPLETE for trial in done_slots(study).values()):
            raise InputError(f"{folder}: no trial was finished: {_reason(study, folder)}")
        result = collect_results(study, search, folder)
        write_yaml(folder / "best.yaml", nest(result.overrides))
        write_search(result)
    return result


def _asked(
    study: optuna.Study, search: Search, folder: Path, seed: int, count: int, deadline: float
) -> Iterator[tuple[optuna.Trial, list[TrialRun]]]:
    """So many trials, each asked for when it is wanted, until the time is over."""
    for _ in range(count):
        if time.monotonic() >= deadline:
            return
        trial = ask(study, search, seed)
        yield trial, trial_runs_of(trial, search, folder)


def _reason(study: optuna.Study, folder: Path) -> str:
    """Error of the first failed trial, where no trial was finished."""
    slots = sorted(done_slots(study))
    errors = [end.error for slot in slots if (end := read_end(folder, slot)) and end.error]
    if not slots:
        return "the time was over before the first began"
    return errors[0] if errors else f"all {len(slots)} were pruned"


@contextlib.contextmanager
def _open_storage(url: str) -> Iterator[optuna.storages.RDBStorage]:
    """Optuna's database at a URL, its connections closed when the block ends, and Optuna's own log lines held back."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        try:
            # several processes write to one SQLite file: wait for each other's turn
            engine_options = {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else {}
            storage = optuna.storages.RDBStorage(url, engine_kwargs=engine_options)
        except Exception as error:  # each database driver has its own
            raise InputError(f"storage {_masked(url)}: cannot be opened ({str(error).splitlines()[0]})") from error
        try:
            yield storage
        finally:
            storage.remove_session()
            storage.engine.dispose()
    finally:
        optuna.logging.set_verbosity(verbosity)


def _masked(url: str) -> str:
    """The URL without user and password."""
    return re.sub(r"//[^/@]*@", "//...@", url)


def _open_study(
    storage: optuna.storages.RDBStorage,
    name: str,
    search: Search,
    pruner: optuna.pruners.BasePruner | None,
    *,
    fresh: bool,
    again: bool,
) -> optuna.Study:
    """The study of that name, made or found; InputError where a fresh search meets one that is there already."""
    if again:
        with contextlib.suppress(KeyError):
            optuna.delete_study(study_name=name, storage=storage)
    try:
        return optuna.create_study(
            storage=storage,
            study_name=name,
            direction=optuna.study.StudyDirection[search.direction.upper()],
            pruner=pruner or optuna.pruners.MedianPruner(),
            load_if_exists=not fresh,
        )
    except optuna.exceptions.DuplicatedStudyError as error:
        raise InputError(
            f"storage: holds the study {name!r} already, from another folder: rename --out, or take another storage"
        ) from error
