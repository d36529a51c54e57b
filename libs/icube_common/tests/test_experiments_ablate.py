"""Ablations: figures that can be computed by hand, resuming, failures, and the folder that is left behind."""

from __future__ import annotations

import functools
import json
import math
import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from experiment_job import logged, quadratic
from scipy import stats

from icube_common.config import read_yaml
from icube_common.data.processes import WORKER_DIED, open_executor
from icube_common.errors import InputError
from icube_common.evaluation import Predictions
from icube_common.experiments import Grid, Outcome
from icube_common.experiments.ablation import ablate, ablate_shard
from icube_common.experiments.results.differences import holm, over_seeds
from icube_common.io.runs import read_json

SETTINGS: dict[str, Any] = {
    "grid": {"x": [0.3, 0.5]},
    "variants": [{"name": "off & on", "x": 0.9}],
    "seeds": [0, 1, 2],
    "metric": "top1",
}
GRID = Grid.from_mapping(SETTINGS)


def uneven(overrides: Mapping[str, Any], seed: int, folder: Path) -> dict[str, float]:
    """Figures written out here: by x and seed."""
    figures = {0.3: [0.70, 0.72, 0.74], 0.5: [0.75, 0.78, 0.78], 0.9: [0.50, 0.60, 0.52]}
    return {"top1": figures[overrides["x"]][seed], "auc": math.nan}


def test_intervals_differences_and_p_values(tmp_path: Path) -> None:
    study = ablate(uneven, GRID, tmp_path / "study")
    base, better, worse = study.variants
    # mean 0.72, standard deviation 0.02, t quantile of 2 degrees of freedom 4.302653
    half = 4.302653 * 0.02 / math.sqrt(3)
    assert base.interval is not None
    assert (base.interval.mean, base.interval.low) == pytest.approx((0.72, 0.72 - half), abs=1e-6)
    assert base.difference is None and base.name == study.baseline == "x=0.3"
    # differences 0.05, 0.06, 0.04: mean 0.05, standard deviation 0.01
    assert better.difference is not None and worse.difference is not None
    assert better.difference.interval.mean == pytest.approx(0.05)
    assert better.difference.interval.high == pytest.approx(0.05 + 4.302653 * 0.01 / math.sqrt(3), abs=1e-6)
    t = 0.05 / (0.01 / math.sqrt(3))
    assert better.difference.p_value == pytest.approx(2 * stats.t.sf(t, 2))
    assert (better.difference.over, worse.difference.interval.mean) == ("3 seeds", pytest.approx(-0.18))
    smaller, larger = sorted([better.difference.p_value, worse.difference.p_value])
    assert sorted([better.difference.p_holm, worse.difference.p_holm]) == [
        pytest.approx(2 * smaller),
        pytest.approx(max(2 * smaller, larger)),
    ]


def predicting(overrides: Mapping[str, Any], seed: int, folder: Path) -> Outcome:
    """Six subjects of four rows; the first `right` rows of each are predicted right."""
    ids = [f"s{who}-{row}" for who in range(6) for row in range(4)]
    right = np.array([row < overrides["right"] + (who == 5) for who in range(6) for row in range(4)])
    labels = np.tile([0, 1], 12)
    predicted = np.where(right, labels, 1 - labels)
    predictions = Predictions(
        ids=ids,
        subjects=[name.split("-")[0] for name in ids],
        repeats=np.zeros(24, int),
        folds=np.zeros(24, int),
        labels=labels,
        probabilities=np.eye(2)[predicted],
        class_names=["a", "b"],
    )
    return Outcome(metrics={"top1": float(right.mean())}, predictions=predictions.write_csv(folder / "predictions.csv"))


def comparing(count: int, **more: Any) -> Grid:
    variants = [{"name": f"v{number}", "right": 1 + number % 3} for number in range(count)]
    return Grid.from_mapping({"variants": variants, "seeds": [0], "metric": "top1", **more})


def test_too_few_groups_for_the_comparisons_give_a_warning(tmp_path: Path) -> None:
    study = ablate(predicting, comparing(5), tmp_path / "study")
    caption = study.table().caption
    # 2 / 2^6 = .031, four comparisons: .125
    assert "With 6 groups no p lies below 0.031, and 0.12 after Holm's correction for 4 comparisons" in caption
    assert "none of them can be significant" in caption and "primary" in caption
    assert "none of them can be significant" in (tmp_path / "study" / "report.html").read_text()
    assert "significant" not in ablate(predicting, comparing(2), tmp_path / "two").table().caption
    assert "significant" not in ablate(uneven, GRID, tmp_path / "seeds").table().caption


def test_a_primary_comparison_stands_alone(tmp_path: Path) -> None:
    study = ablate(predicting, comparing(5, primary="v2"), tmp_path / "study")
    differences = {one.name: one.difference for one in study.variants if one.difference is not None}
    assert {name: found.role for name, found in differences.items()} == {
        "v1": "descriptive",
        "v2": "primary",
        "v3": "descriptive",
        "v4": "descriptive",
    }
    assert differences["v2"].p_value == pytest.approx(2 / 2**6)
    assert all(math.isnan(found.p_holm) for found in differences.values())
    table = study.table()
    assert table.columns[-1] == "comparison" and "Holm" not in table.to_markdown()
    assert [row[-1] for row in table.rows] == ["", "descriptive", "primary", "descriptive", "descriptive"]
    assert "The primary comparison, v2, was named before the study ran" in table.caption
    assert study.variant("v2").to_dict()["difference"]["role"] == "primary"


def test_a_primary_comparison_cannot_be_named_after_the_results(tmp_path: Path) -> None:
    ablate(predicting, comparing(3), tmp_path / "study")
    with pytest.raises(InputError, match="primary is None there and 'v1' now"):
        ablate(predicting, comparing(3, primary="v1"), tmp_path / "study")
    ablate(predicting, comparing(3, primary="v1"), tmp_path / "other")
    with pytest.raises(InputError, match="primary is 'v1' there and None now"):
        ablate(predicting, comparing(3), tmp_path / "other")


@pytest.mark.parametrize(
    ("name", "message"), [("v9", "unknown primary 'v9'"), ("v0", "primary 'v0': is the baseline; name the variant")]
)
def test_a_wrong_primary_is_refused(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        comparing(3, primary=name)


@pytest.mark.parametrize(
    ("given", "corrected"),
    [
        # Holm by hand: 0.01 * 4, 0.03 * 3 and the two largest pulled up to 0.09
        ([0.01, 0.04, 0.03, 0.05], [0.04, 0.09, 0.09, 0.09]),
        ([0.05, 0.01, 0.02], [0.05, 0.03, 0.04]),
        ([0.6, 0.5], [1.0, 1.0]),
        ([0.02], [0.02]),
        ([], []),
    ],
)
def test_holm_by_hand(given: list[float], corrected: list[float]) -> None:
    assert holm(given) == pytest.approx(corrected)


def test_holm_leaves_out_nan() -> None:
    first, none, last = holm([0.01, math.nan, 0.04])
    assert (first, last) == pytest.approx((0.02, 0.04)) and math.isnan(none)


def test_pairs_are_the_seeds_that_both_have() -> None:
    found = over_seeds({0: 1.0, 1: 3.0, 5: 9.0}, {1: 1.0, 0: 0.5, 2: 7.0})
    assert found is not None and found.over == "2 seeds" and found.interval.mean == pytest.approx(1.25)
    assert over_seeds({0: 1.0, 1: 2.0}, {0: 1.0}) is None


def test_the_folder_of_a_study(tmp_path: Path) -> None:
    study = ablate(uneven, GRID, tmp_path / "study", facts={"data": "D"})
    names = {path.name for path in study.folder.iterdir()} - {".lock"}
    assert names == {"study.yaml", "environment.json", "table.md", "table.tex", "table.csv", "plot.svg", "plot.png"} | {
        "report.html",
        "cells",
    }
    result = json.loads((study.folder / "cells" / "x=0.5" / "seed-1" / "result.json").read_text())
    assert (result["overrides"], result["seed"], result["metrics"]) == ({"x": 0.5}, 1, {"top1": 0.78, "auc": None})
    (odd,) = [path.name for path in (study.folder / "cells").iterdir() if path.name.startswith("off")]
    assert odd.startswith("off---on-")
    saved = read_yaml(study.folder / "study.yaml")
    assert saved["variants"][2] == {"name": "off & on", "changes": {"x": 0.9}} and saved["facts"] == {"data": "D"}
    page = (study.folder / "report.html").read_text()
    assert "off &amp; on" in page and "0.72" in page and page.count("<img") == 1
    assert "off \\& on" in (study.folder / "table.tex").read_text()


def test_one_seed_has_no_interval_and_no_p_value(tmp_path: Path) -> None:
    study = ablate(uneven, Grid.from_mapping({**SETTINGS, "seeds": [1]}), tmp_path / "study")
    assert study.variants[1].difference is None
    assert study.table().texts()[1] == ["x=0.5", "0.78", "1", "\N{EN DASH}", "", "\N{EN DASH}", "\N{EN DASH}"]


def test_failures_are_recorded_and_stop_nothing(tmp_path: Path) -> None:
    grid = Grid.from_mapping({**SETTINGS, "variants": [{"name": "bad", "fail": "a <tag>"}]})
    study = ablate(quadratic, grid, tmp_path / "study")
    assert study.failed == 3 and study.variant("bad").interval is None
    assert study.variant("bad").errors[0] == "RuntimeError: told to fail with a <tag>"
    assert study.variant("x=0.5").values == pytest.approx({0: 0.96, 1: 0.97, 2: 0.98})
    page = (study.folder / "report.html").read_text()
    assert "told to fail with a &lt;tag&gt;" in page and "3 of 9 cells failed" in page
    result = json.loads((study.folder / "cells" / "bad" / "seed-0" / "result.json").read_text())
    assert "in quadratic" in result["trace"]
    with pytest.raises(InputError, match="bad, seed 0: RuntimeError: told to fail"):
        ablate(quadratic, grid, tmp_path / "study", strict=True)
    with pytest.raises(InputError, match="bad, seed 0: RuntimeError: told to fail"):
        ablate(quadratic, grid, tmp_path / "fresh", strict=True)
    assert not (tmp_path / "fresh" / "cells" / "bad" / "seed-1").exists()


def test_all_failed_is_an_error(tmp_path: Path) -> None:
    grid = Grid.from_mapping({**SETTINGS, "base": {"fail": 1}})
    with pytest.raises(InputError, match=r"all 9 cells failed, x=0\.3, seed 0: RuntimeError"):
        ablate(quadratic, grid, tmp_path / "study")


@pytest.mark.parametrize(
    ("outcome", "message"),
    [
        ({"top5": 1.0}, "unknown metric 'top1': did you mean 'top5'?"),
        ({"top1": math.nan}, "top1 came out as nan"),
        ({"top1": math.inf}, "top1 came out as inf"),
        (Outcome(metrics={"top1": 1.0}, predictions=Path("none.csv")), "must lie in its folder"),
        (Outcome(metrics={"top1": 1.0}, predictions=Path("../../../study.yaml")), "must lie in its folder"),
    ],
)
def test_a_wrong_outcome_is_a_failure(outcome: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"all 9 cells failed") as caught:
        ablate(lambda overrides, seed, folder: outcome, GRID, tmp_path / "study")
    assert message in str(caught.value)


def lines(log: Path, word: str) -> list[str]:
    return [line for line in log.read_text().splitlines() if line.startswith(word)] if log.exists() else []


def test_finished_cells_are_not_run_again_and_interrupted_ones_are(tmp_path: Path) -> None:
    log = tmp_path / "log"
    run = functools.partial(logged, log=log)
    first = ablate(run, GRID, tmp_path / "study")
    assert len(lines(log, "begin")) == 9
    interrupted = first.folder / "cells" / "x=0.5" / "seed-1"
    (interrupted / "result.json").unlink()
    (interrupted / "model.txt").write_text("old")
    second = ablate(run, GRID, tmp_path / "study")
    assert len(lines(log, "begin")) == 10 and "x = 0.5" in (interrupted / "model.txt").read_text()
    assert second.table() == first.table()
    more = Grid.from_mapping({**SETTINGS, "seeds": [0, 1, 2, 3], "grid": {"x": [0.3, 0.5, 0.6]}})
    ablate(run, more, tmp_path / "study")
    assert len(lines(log, "begin")) == 10 + 3 + 4


def test_failed_cells_are_run_again_on_demand(tmp_path: Path) -> None:
    good = tmp_path / "good"

    def run(overrides: Mapping[str, Any], seed: int, folder: Path) -> dict[str, float]:
        if overrides["x"] == 0.5 and not good.exists():
            raise OSError("disk full")
        return quadratic(overrides, seed, folder)

    assert ablate(run, GRID, tmp_path / "study").failed == 3
    good.touch()
    assert ablate(run, GRID, tmp_path / "study").failed == 3
    assert ablate(run, GRID, tmp_path / "study", retry_failed=True).failed == 0


def test_another_study_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "study"
    ablate(quadratic, GRID, out, facts={"data": "A"})
    with pytest.raises(InputError, match=r"study.yaml: facts is \{'data': 'A'\} there and \{'data': 'B'\} now"):
        ablate(quadratic, GRID, out, facts={"data": "B"})
    with pytest.raises(InputError, match=r"result.json: is a result of other settings"):
        ablate(quadratic, Grid.from_mapping({**SETTINGS, "base": {"y": 1}}), out, facts={"data": "A"})
    with pytest.raises(InputError, match="exists already"):
        ablate(quadratic, GRID, out, facts={"data": "A"}, resume=False)
    study = ablate(quadratic, GRID, out, facts={"data": "B"}, overwrite=True)
    assert study.failed == 0 and "B" in (out / "study.yaml").read_text()


def test_another_folder_is_never_emptied(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(InputError, match="it is no study: take another folder"):
            ablate(quadratic, GRID, tmp_path, overwrite=overwrite)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"
    file = tmp_path / "thesis.tex" / "study"
    with pytest.raises(InputError, match="cannot be made"):
        ablate(quadratic, GRID, file)


def test_a_broken_result_is_refused(tmp_path: Path) -> None:
    study = ablate(quadratic, GRID, tmp_path / "study")
    path = study.folder / "cells" / "x=0.5" / "seed-1" / "result.json"
    for text in ("", "{}", "[1]", '{"name": 3, "more": 1}', '{"name": "x=0.5"}'):
        path.write_text(text)
        with pytest.raises(InputError, match=r"result\.json: is no"):
            ablate(quadratic, GRID, tmp_path / "study")


def test_two_processes_do_not_share_a_folder(tmp_path: Path) -> None:
    def run(overrides: Mapping[str, Any], seed: int, folder: Path) -> dict[str, float]:
        with pytest.raises(InputError, match="another process is at work there"):
            ablate(quadratic, GRID, tmp_path / "study")
        return quadratic(overrides, seed, folder)

    assert ablate(run, GRID, tmp_path / "study").failed == 0


def test_processes_give_the_same_study(tmp_path: Path) -> None:
    log = tmp_path / "log"
    run = functools.partial(logged, log=log)
    with open_executor(2) as (executor, workers):
        parallel = ablate(run, GRID, tmp_path / "parallel", executor=executor, workers=workers)
    assert workers == 2 and parallel.table() == ablate(run, GRID, tmp_path / "serial").table()
    assert str(os.getpid()) not in {line.split()[2] for line in lines(log, "begin")[:9]}
    assert (tmp_path / "parallel" / "plot.svg").read_bytes() == (tmp_path / "serial" / "plot.svg").read_bytes()


def test_shards_are_joined_by_a_run_without_one(tmp_path: Path) -> None:
    log = tmp_path / "log"
    run = functools.partial(logged, log=log)
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / ".lock").touch()  # of another shard that has written no more yet
    parts = [ablate_shard(run, GRID, tmp_path / "study", (number, 3)) for number in range(2)]
    assert [part["failed"] for part in parts] == [0, 0]
    begun = len(lines(log, "begin"))
    assert begun == sum(part["cells"] for part in parts) < len(GRID.seeds) * len(GRID.variants)
    joined = ablate(run, GRID, tmp_path / "study")
    assert len(lines(log, "begin")) == len(GRID.seeds) * len(GRID.variants)
    assert joined.table() == ablate(run, GRID, tmp_path / "serial").table()
    with pytest.raises(InputError, match=r"shard 3/3: must be I/N"):
        ablate_shard(run, GRID, tmp_path / "study", (3, 3))


def test_a_study_waits_for_its_shards(tmp_path: Path) -> None:
    """Shards run side by side; the whole study beside a shard, or the same shard twice, is refused."""

    def run(overrides: Mapping[str, Any], seed: int, folder: Path) -> dict[str, float]:
        if overrides["x"] == 0.3 and seed == 0:
            for other in (
                lambda: ablate(quadratic, GRID, tmp_path / "study"),
                lambda: ablate_shard(quadratic, GRID, tmp_path / "study", (0, 2)),
            ):
                with pytest.raises(InputError, match="another process is at work there"):
                    other()
            ablate_shard(quadratic, GRID, tmp_path / "study", (1, 2))
        return quadratic(overrides, seed, folder)

    assert ablate_shard(run, GRID, tmp_path / "study", (0, 2))["failed"] == 0
    assert ablate(quadratic, GRID, tmp_path / "study").failed == 0


def die_at_half(overrides: Mapping[str, Any], seed: int, folder: Path) -> dict[str, float]:
    if overrides["x"] == 0.5 and seed == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return quadratic(overrides, seed, folder)


def test_a_killed_worker_costs_one_cell(tmp_path: Path) -> None:
    with open_executor(2) as (executor, workers):
        study = ablate(die_at_half, GRID, tmp_path / "study", executor=executor, workers=workers)
    assert study.failed == 1
    result = read_json(tmp_path / "study" / "cells" / "x=0.5" / "seed-0" / "result.json")
    assert result["error"] == WORKER_DIED


def slow_unless_told_to_fail(overrides: Mapping[str, Any], seed: int, folder: Path) -> dict[str, float]:
    if overrides["x"] == 0.5:
        raise OSError("disk full")
    time.sleep(60)
    return {"top1": 1.0}


def test_a_strict_study_does_not_wait_for_the_others(tmp_path: Path) -> None:
    begun = time.monotonic()
    with pytest.raises(InputError, match=r"x=0\.5, seed 0: OSError: disk full"), open_executor(2) as (executor, _):
        ablate(slow_unless_told_to_fail, GRID, tmp_path / "study", executor=executor, workers=2, strict=True)
    assert (
        time.monotonic() - begun < 30
        and not (tmp_path / "study" / "cells" / "x=0.3" / "seed-0" / "result.json").exists()
    )


def test_a_run_with_report_serves_both(tmp_path: Path) -> None:
    def run(overrides: Mapping[str, Any], seed: int, folder: Path, report: Any) -> dict[str, float]:
        report(0, 0.5)
        return quadratic(overrides, seed, folder)

    assert ablate(run, GRID, tmp_path / "study").failed == 0


def test_unshared_folder_of_workers_is_reported(tmp_path: Path) -> None:
    def run(overrides: Mapping[str, Any], seed: int, folder: Path) -> dict[str, float]:
        before = folder.parent / "seed-0" / "result.json"
        if seed == 2 and overrides["x"] == 0.5:
            before.unlink()
        return quadratic(overrides, seed, folder)

    with pytest.raises(InputError, match=r"x=0\.5/seed-0/result\.json: is not here: the workers write to a disk"):
        ablate(run, GRID, tmp_path / "study")


def test_executors_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--workers 0: must be at least 1"), open_executor(0):
        pass
    with pytest.raises(InputError, match="--workers 0: must be at least 1"):
        ablate(quadratic, GRID, tmp_path / "study", workers=0)
    with pytest.raises(InputError, match="the cluster decides"), open_executor(2, "tcp://localhost:1"):
        pass
