"""The subcommands, as a library puts them into its command line; a Dask cluster; imports that stay fast."""

from __future__ import annotations

import argparse
import functools
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from icube_common import cli
from icube_common.config import Config, load_config, option
from icube_common.data.processes import open_executor
from icube_common.errors import InputError
from icube_common.experiments import Grid, Search, override_texts
from icube_common.experiments.ablation import ablate
from icube_common.experiments.commands import ablate_command, compare_command, tune_command
from icube_common.experiments.tuning import tune


@dataclass(frozen=True, kw_only=True)
class Settings(Config):
    x: float = option(0.5, "place", ge=0, le=1)
    kind: str = option("a", "kind", choices=("a", "b"))


def run(
    overrides: Mapping[str, Any],
    seed: int,
    folder: Path,
    report: Callable[[int, float], None] | None = None,
    *,
    data: str,
) -> dict[str, float]:
    config = load_config(Settings, overrides=override_texts(overrides))
    return {"top1": 1 - (config.x - 0.3) ** 2 + seed * (0.01 if config.kind == "a" else 0.02), "size": len(data)}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", required=True, metavar="DIR", help="the data")


def make_run(args: argparse.Namespace) -> Any:
    if args.data == "missing":
        raise InputError("--data missing: no such folder")
    return functools.partial(run, data=args.data)


COMMANDS = {
    "ablate": ablate_command(make_run, Settings, add_arguments=add_arguments),
    "tune": tune_command(make_run, Settings, add_arguments=add_arguments),
    "compare": compare_command(),
}


def call(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    status = cli.main("toy", "A toy.", "1", COMMANDS, [str(word) for word in words])
    out, err = capsys.readouterr()
    return status, out, err


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    grid, space = tmp_path / "grid.yaml", tmp_path / "space.yaml"
    grid.write_text("grid: {x: [0.3, 0.5]}\nseeds: [0, 1]\nmetric: top1\n")
    space.write_text(
        "space: {x: {type: float, low: 0, high: 1}}\nmetric: top1\ndirection: maximize\ntrials: 3\nseeds: [0]\n"
    )
    return grid, space


def test_ablate(files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["ablate", "--data", "D", "--grid", files[0], "--out", tmp_path / "study", "kind=b", "--quiet"]
    status, out, _ = call(capsys, *words)
    assert status == 0 and "| x=0.3   |" in out and out.rstrip().endswith("report.html")
    status, out, _ = call(capsys, *words, "--json")
    result = json.loads(out)
    assert status == 0 and result["failed"] == 0
    assert result["variants"][1]["values"] == {"0": pytest.approx(0.96), "1": pytest.approx(0.98)}
    assert result["variants"][1]["overrides"] == {"kind": "b", "x": 0.5}
    assert result["variants"][1]["difference"]["mean"] == pytest.approx(-0.04)
    assert result["variants"][0]["difference"] is None
    status, _, err = call(capsys, *[word if word != "D" else "E" for word in words])
    assert status == 2 and "facts is {'data': 'D'} there and {'data': 'E'} now" in err


def test_tune(files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["tune", "--data", "D", "--space", files[1], "--out", tmp_path / "study", "--trials", "2", "--quiet"]
    status, out, _ = call(capsys, *words, "--json", "--no-pruning", "kind=b")
    result = json.loads(out)
    assert status == 0 and (result["finished"], result["pruned"], result["failed"]) == (2, 0, 0)
    config = load_config(Settings, file=result["config"])
    assert (config.x, config.kind) == (result["best"]["overrides"]["x"], "b")
    status, out, _ = call(capsys, *words[:-2], "3", "--quiet", "kind=b")
    assert status == 0 and "finished    3" in out


def test_settings_come_from_a_file_the_study_and_words_in_this_order(
    files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("x: 0.9\nkind: b\n")
    out_folder = tmp_path / "study"
    words = ["ablate", "--data", "D", "--grid", files[0], "--out", out_folder, "--config", file, "--json", "--quiet"]
    result = json.loads(call(capsys, *words)[1])
    assert [variant["overrides"] for variant in result["variants"]] == [{"x": x, "kind": "b"} for x in (0.3, 0.5)]
    status, _, err = call(capsys, *words, "x=0.2")
    assert status == 2 and "x is varied by 'x=0.3': it cannot be set for all as well" in err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--data", "missing"], "--data missing: no such folder"),
        (["--grid", "none.yaml"], "none.yaml: no such file"),
        (["--workers", "0"], "--workers 0: must be at least 1"),
        (["kinds=b"], "unknown configuration key 'kinds'"),
        (["--worker", "2"], "unknown argument '--worker'"),
    ],
)
def test_wrong_words_are_one_line_and_make_no_folder(
    change: list[str], message: str, files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["ablate", "--data", "D", "--grid", files[0], "--out", tmp_path / "study", *change]
    status, out, err = call(capsys, *words)
    assert (status, out) == (2, "") and message in err and err.count("\n") == 1
    assert not (tmp_path / "study").exists()


def test_compare(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    head = "id,subject,repeat,fold,label,predicted,p_a,p_b\n"
    for name, right in [("one", "a"), ("two", "b")]:
        rows = [
            f"r{i},s{i},0,0,a,{right},{0.9 if right == 'a' else 0.1},{0.1 if right == 'a' else 0.9}\n" for i in range(3)
        ]
        (tmp_path / f"{name}.csv").write_text(head + "".join(rows))
    words = ["compare", tmp_path / "one.csv", tmp_path / "two.csv", "--out", tmp_path / "out", "--metrics", "top1"]
    status, out, _ = call(capsys, *words, "--quiet")
    assert status == 0 and "| two.csv |" in out and "difference to one.csv" in out
    status, out, _ = call(capsys, *words, "--json", "--overwrite", "--quiet")
    assert json.loads(out)["runs"][1]["differences"]["top1"]["mean"] == -1
    status, _, err = call(capsys, *words)
    assert status == 2 and "exists already" in err


def test_the_commands_import_nothing_slow() -> None:
    code = """
import sys
import icube_common.experiments
from icube_common import cli
from icube_common.config import Config
from icube_common.experiments.commands import ablate_command, compare_command, tune_command

commands = {"compare": compare_command(), "tune": tune_command(None, Config), "ablate": ablate_command(None, Config)}
cli.parse("toy", commands, ["compare", "a", "b", "--out", "c"])
print([name for name in ("torch", "optuna", "matplotlib", "scipy", "numpy", "omegaconf") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_dask_cluster(tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed", reason="needs icube-common[cluster]")
    grid = Grid.from_mapping({"grid": {"x": [0.3, 0.5]}, "seeds": [0, 1], "metric": "top1"}, Settings)
    space = {"space": {"x": {"type": "float", "low": 0, "high": 1}}, "metric": "top1", "direction": "maximize"}
    search = Search.from_mapping({**space, "trials": 4, "seeds": [0]})
    cell = functools.partial(run, data="D")
    with (
        distributed.LocalCluster(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None) as cluster,
        open_executor(1, cluster.scheduler_address) as (executor, workers),
    ):
        study = ablate(cell, grid, tmp_path / "study", executor=executor, workers=workers)
        found = tune(cell, search, tmp_path / "search", executor=executor, workers=workers)
    assert workers == 2 and len(found.trials) == 4
    assert study.table() == ablate(cell, grid, tmp_path / "serial").table()


def test_a_scheduler_that_does_not_answer() -> None:
    pytest.importorskip("distributed", reason="needs icube-common[cluster]")
    with pytest.raises(InputError, match="no Dask scheduler answers there"), open_executor(1, "nonsense://x"):
        pass
