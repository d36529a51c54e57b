"""Searches: found optimum, a real kill in mid-trial and going on, pruning, failures, storage."""

from __future__ import annotations

import functools
import json
import math
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import experiment_job
import optuna
import pytest
from experiment_job import SPACE, logged, quadratic

from icube_common.config import Config, load_config, option, section
from icube_common.data.processes import open_executor
from icube_common.errors import InputError
from icube_common.experiments import Search
from icube_common.experiments.results.search_results import SearchResult
from icube_common.experiments.tuning import tune


@dataclass(frozen=True, kw_only=True)
class Train(Config):
    rate: float = option(0.5, "rate", ge=0, le=1)


@dataclass(frozen=True, kw_only=True)
class Settings(Config):
    width: int = option(8, "width", ge=1)
    kind: str = option("a", "kind", choices=("a", "b"))
    train: Train = section(Train)


def search(**changes: Any) -> Search:
    return Search.from_mapping({**SPACE, **changes})


def params(result: SearchResult) -> list[Mapping[str, Any]]:
    return [trial.params for trial in result.trials]


def test_the_optimum_is_found(tmp_path: Path) -> None:
    result = tune(quadratic, search(trials=15, seeds=[0, 2]), tmp_path / "study")
    assert abs(result.best.params["x"] - 0.3) < 0.1
    assert result.best.value == pytest.approx(1 - (result.best.params["x"] - 0.3) ** 2 + 0.01), "mean over the seeds"
    assert result.count("finished") == len(result.trials) == 15
    assert result.importance["x"] > 0.8 and sum(result.importance.values()) == pytest.approx(1)
    values = [trial.value for trial in result.trials if trial.value is not None]
    assert [trial.value for trial in result.records()] == [v for i, v in enumerate(values) if v > max([0, *values[:i]])]
    assert result.table().rows[0][:3] == (result.best.slot, "finished", max(values))
    names = {path.name for path in result.folder.iterdir()} - {".lock"}
    assert names == {"study.yaml", "study.db", "best.yaml", "environment.json", "trials", "report.html"} | {
        f"{stem}.{suffix}" for stem, suffix in [("table", "md"), ("table", "tex"), ("table", "csv")]
    } | {"plot.svg", "plot.png"}
    page = (result.folder / "report.html").read_text()
    assert "fANOVA" in page and "best of many" in page


def test_minimising_takes_the_smallest(tmp_path: Path) -> None:
    result = tune(quadratic, search(metric="loss", direction="minimize", trials=5), tmp_path / "study")
    values = [trial.value for trial in result.trials if trial.value is not None]
    assert result.best.value == min(values) == result.table().rows[0][2]
    records = [trial.value for trial in result.records() if trial.value is not None]
    assert records == sorted(records, reverse=True)


def test_best_yaml_is_a_config_file(tmp_path: Path) -> None:
    given = {
        "train.rate": {"type": "float", "low": 0, "high": 1},
        "kind": {"type": "categorical", "choices": ["a", "b"]},
    }
    wanted = Search.from_mapping({**SPACE, "space": given, "base": {"width": 3}}, Settings)
    result = tune(lambda o, seed, folder: {"top1": o["train.rate"]}, wanted, tmp_path / "study", trials=3)
    config = load_config(Settings, file=result.folder / "best.yaml")
    assert (config.train.rate, config.kind, config.width) == (
        result.best.params["train.rate"],
        result.best.params["kind"],
        3,
    )


def test_more_trials_are_added_to_those_there(tmp_path: Path) -> None:
    log = tmp_path / "log"
    run = functools.partial(logged, log=log)
    first = tune(run, search(), tmp_path / "study", trials=3)
    # the folder may be renamed
    (tmp_path / "study").rename(tmp_path / "moved")
    second = tune(run, search(), tmp_path / "moved", trials=7)
    assert params(second)[:3] == params(first) and len(begun(log)) == len(second.trials) == 7
    again = tune(run, search(), tmp_path / "moved", trials=7)
    assert len(begun(log)) == 7 and again.table() == second.table()
    whole = tune(run, search(), tmp_path / "whole", trials=7)
    assert params(whole) == params(second), "a search in two parts makes the proposals of one"


def begun(log: Path, word: str = "begin") -> list[float]:
    if not log.exists():
        return []
    return [float(line.split()[1]) for line in log.read_text().splitlines() if line.startswith(word)]


def start(out: Path, log: Path, trials: int, workers: int, seconds: float) -> subprocess.Popen[bytes]:
    words = [sys.executable, experiment_job.__file__, out, log, trials, workers, seconds]
    return subprocess.Popen([str(word) for word in words], stderr=subprocess.DEVNULL)


def wait_for(log: Path, begins: int) -> None:
    deadline = time.monotonic() + 30
    while len(begun(log)) < begins:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_killed_search_resumes(tmp_path: Path) -> None:
    """kill -9 in the third trial: the total is as asked, that trial is run again, no finished one is."""
    log, out = tmp_path / "log", tmp_path / "study"
    with start(out, log, trials=6, workers=1, seconds=0.3) as process:
        wait_for(log, 3)
        process.kill()
    assert process.returncode == -9
    assert len(begun(log)) == 3 and len(begun(log, "end")) == 2
    killed = begun(log)[2]
    assert (out / "trials" / "0002" / "seed-0" / "partial.txt").exists()

    result = tune(functools.partial(logged, log=log), search(), out)
    assert len(result.trials) == 6 and result.count("finished") == 6
    assert begun(log, "end").count(killed) == 1 and begun(log)[3] == killed, "the killed trial is run again, first"
    assert Counter(begun(log)) == {**{trial.params["x"]: 1 for trial in result.trials}, killed: 2}
    stored = optuna.load_study(study_name=None, storage=f"sqlite:///{out / 'study.db'}").trials
    assert [trial.state.name for trial in stored] == ["COMPLETE", "COMPLETE", "FAIL"] + ["COMPLETE"] * 4
    assert stored[3].params == stored[2].params
    # with one worker the interruption leaves no trace in what is proposed
    assert params(tune(quadratic, search(), tmp_path / "whole")) == params(result)


def test_search_killed_with_two_workers_resumes(tmp_path: Path) -> None:
    log, out = tmp_path / "log", tmp_path / "study"
    with start(out, log, trials=6, workers=2, seconds=0.4) as process:
        wait_for(log, 4)
        process.kill()
    # its workers end with it: one that went on would write where the resumed search writes
    workers = {int(line.split()[2]) for line in log.read_text().splitlines()}
    deadline = time.monotonic() + 10
    while any(alive(worker) for worker in workers):
        assert time.monotonic() < deadline, "a worker goes on without its parent"
        time.sleep(0.02)
    assert workers
    # the third trial begins when the first is recorded, the fourth when the second is
    recorded = begun(log, "end")[:2]
    with open_executor(2) as (executor, count):
        run = functools.partial(logged, log=log)
        result = tune(run, search(), out, trials=6, executor=executor, workers=count)
    assert len(result.trials) == result.count("finished") == 6
    ended = Counter(begun(log, "end"))
    assert len(recorded) == 2 and all(ended[x] == 1 for x in recorded)
    assert set(ended) == {trial.params["x"] for trial in result.trials}


def alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"  # nobody may be there to collect it


def test_result_on_disk_is_reported_after_a_kill(tmp_path: Path) -> None:
    """Killed between the end of the run and Optuna's record of it: the trial counts and is not run again."""
    log, out = tmp_path / "log", tmp_path / "study"
    run = functools.partial(logged, log=log)
    tune(run, search(), out, trials=2)
    storage = f"sqlite:///{out / 'study.db'}"
    study = optuna.load_study(study_name=None, storage=storage)
    trial = study.ask({parameter.key: parameter.distribution() for parameter in search().space})
    trial.set_user_attr("slot", 2)
    folder = out / "trials" / "0002"
    folder.mkdir()
    (folder / "trial.json").write_text(json.dumps({"state": "finished", "value": 0.123, "error": None}))
    # and one that was killed before anything of it was decided
    study.ask()
    result = tune(run, search(), out, trials=4)
    assert [trial.value for trial in result.trials][2] == 0.123 and len(result.trials) == 4
    assert len(begun(log)) == 3


def test_a_resume_that_was_killed_itself_queues_nothing_twice(tmp_path: Path) -> None:
    """Killed after a trial was queued again and before it was marked failed."""
    log, out = tmp_path / "log", tmp_path / "study"
    run = functools.partial(logged, log=log)
    tune(run, search(), out, trials=1)
    study = optuna.load_study(study_name=None, storage=f"sqlite:///{out / 'study.db'}")
    trial = study.ask({parameter.key: parameter.distribution() for parameter in search().space})
    trial.set_user_attr("slot", 1)
    study.enqueue_trial(trial.params, user_attrs={"slot": 1, "retry_of": trial.number})
    result = tune(run, search(), out, trials=3)
    assert len(result.trials) == 3 and result.trials[1].params == trial.params
    assert Counter(begun(log)) == {one.params["x"]: 1 for one in result.trials}


def climbing(
    overrides: Mapping[str, Any], seed: int, folder: Path, report: Callable[[int, float], None]
) -> dict[str, float]:
    for step in range(4):
        report(step, overrides["x"] * (step + 1) / 4)
    return {"top1": overrides["x"]}


def test_hopeless_trials_are_pruned(tmp_path: Path) -> None:
    result = tune(climbing, search(trials=11, seeds=[0, 1]), tmp_path / "study")
    assert result.count("pruned") >= 2 and result.count("finished") + result.count("pruned") == 11
    pruned = [trial for trial in result.trials if trial.state == "pruned"]
    assert all(trial.value is None and trial.params["x"] < result.best.params["x"] for trial in pruned)
    assert "11 trials" in result.table().caption
    whole = tune(climbing, search(trials=7), tmp_path / "all", pruner=optuna.pruners.NopPruner())
    assert whole.count("finished") == 7


@pytest.mark.parametrize("step", [-1, 10_000_000])
def test_a_report_of_an_impossible_step_is_a_failure(step: int, tmp_path: Path) -> None:
    def run(overrides: Any, seed: int, folder: Path, report: Callable[[int, float], None]) -> dict[str, float]:
        report(step, 0.5)
        return {"top1": 0.5}

    with pytest.raises(InputError, match=f"no trial was finished: seed 0: report: step {step} must lie between"):
        tune(run, search(), tmp_path / "study", trials=2)


def test_failures_count_and_stop_nothing(tmp_path: Path) -> None:
    def run(overrides: Mapping[str, Any], seed: int, folder: Path) -> dict[str, float]:
        if overrides["kind"] == "b":
            raise OSError("no <b>")
        return quadratic(overrides, seed, folder)

    result = tune(run, search(trials=8), tmp_path / "study")
    failed = [trial for trial in result.trials if trial.state == "failed"]
    assert failed and len(result.trials) == 8
    assert all(trial.params["kind"] == "b" and trial.error == "seed 0: OSError: no <b>" for trial in failed)
    assert "no &lt;b&gt;" in (result.folder / "report.html").read_text()
    with pytest.raises(InputError, match=r"trial \d: seed 0: OSError"):
        tune(run, search(trials=8), tmp_path / "strict", strict=True)


def test_missing_importance_has_a_reason(tmp_path: Path) -> None:
    result = tune(quadratic, search(), tmp_path / "study", trials=1)
    assert result.importance == {} and result.importance_note.startswith("not computable: 1 finished")
    assert "not computable" in (result.folder / "report.html").read_text()


def test_time_is_up(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the time was over before the first began"):
        tune(quadratic, search(), tmp_path / "study", timeout=-1)
    slow = functools.partial(logged, log=tmp_path / "log", seconds=0.2)
    assert 1 <= len(tune(slow, search(), tmp_path / "study", timeout=0.3).trials) < 6


def test_another_search_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "study"
    tune(quadratic, search(), out, trials=1)
    for changes, key in [({"seeds": [1]}, "seeds"), ({"metric": "loss"}, "metric"), ({"base": {"a": 1}}, "base")]:
        with pytest.raises(InputError, match=rf"study\.yaml: {key} is "):
            tune(quadratic, search(**changes), out)
    with pytest.raises(InputError, match=r"study\.yaml: storage is 'study\.db' there"):
        tune(quadratic, search(), out, storage=f"sqlite:///{tmp_path}/other.db")
    with pytest.raises(InputError, match="exists already"):
        tune(quadratic, search(), out, resume=False)
    assert len(tune(quadratic, search(metric="loss"), out, trials=2, overwrite=True).trials) == 2


def test_a_shared_storage_holds_several_searches(tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path}/shared.db"
    tune(quadratic, search(), tmp_path / "one", trials=2, storage=storage)
    tune(quadratic, search(), tmp_path / "two", trials=3, storage=storage)
    assert len(tune(quadratic, search(), tmp_path / "one", trials=4, storage=storage).trials) == 4
    (tmp_path / "elsewhere").mkdir()
    with pytest.raises(InputError, match=r"holds the study 'two-\w+' already, from another folder"):
        tune(quadratic, search(), tmp_path / "elsewhere" / "two", storage=storage)
    assert len(tune(quadratic, search(), tmp_path / "two", trials=2, storage=storage, overwrite=True).trials) == 2


@pytest.mark.parametrize("url", ["study.db", "oracle+none://me:secret@host/db", "sqlite:////no/such/folder/study.db"])
def test_a_storage_that_cannot_be_opened(url: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"storage .*: cannot be opened") as caught:
        tune(quadratic, search(), tmp_path / "study", storage=url)
    assert "secret" not in str(caught.value) and "\n" not in str(caught.value)
    assert "secret" not in (tmp_path / "study" / "study.yaml").read_text()


@pytest.mark.parametrize("change", [{"trials": 0}, {"workers": 0}])
def test_counts_below_one_are_refused(change: dict[str, int], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="both must be at least 1"):
        tune(quadratic, search(), tmp_path / "study", **change)
    assert not (tmp_path / "study").exists()


def test_optuna_is_as_talkative_as_before(tmp_path: Path) -> None:
    before = optuna.logging.get_verbosity()
    tune(quadratic, search(), tmp_path / "study", trials=1)
    assert optuna.logging.get_verbosity() == before and not math.isnan(before)
