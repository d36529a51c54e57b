from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from icube_common.cli import Command, main, parse, render_table, to_json
from icube_common.config import Config, load_config, option
from icube_common.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Settings(Config):
    max_steps: int = option(3, "optimiser steps", ge=1)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", required=True, metavar="STORE", help="what to read")
    parser.add_argument("--count", type=int, default=1)


def train(args: argparse.Namespace) -> Mapping[str, Any]:
    config = load_config(Settings, file=args.config, overrides=args.overrides)
    return {"data": args.data, "steps": config.max_steps, "loss": 0.25, "out": Path("run")}


def raises(error: BaseException) -> Callable[[argparse.Namespace], Mapping[str, Any]]:
    def run(args: argparse.Namespace) -> Mapping[str, Any]:
        raise error

    return run


COMMANDS = {
    "train": Command("train a model", train, add_arguments, config=Settings),
    "refuse": Command("refuse the input", raises(InputError("a.bvh: frame 3 is\nshort"))),
    "break": Command("fail", raises(RuntimeError("no\nluck"))),
    "stop": Command("be interrupted", raises(KeyboardInterrupt())),
    "describe": Command(
        "work on descriptions",
        commands={
            "score": Command("score them", train, add_arguments, config=Settings),
            "refuse": Command("refuse them", raises(InputError("a.yaml: is empty"))),
        },
    ),
}


def call(*words: str, commands: Mapping[str, Command] = COMMANDS) -> int:
    return main("tool", "A tool for tests.", "1.2.3", commands, words)


def test_a_result_is_a_table_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("train", "--data", "store") == 0
    out, err = capsys.readouterr()
    assert out.splitlines() == ["data   store", "steps  3", "loss   0.25", "out    run"] and err == ""


def test_json_is_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("train", "--data", "store", "--json", "max_steps=7") == 0
    assert json.loads(capsys.readouterr().out) == {"data": "store", "steps": 7, "loss": 0.25, "out": "run"}


def test_overrides_stand_before_or_after_options_and_over_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("max_steps: 5\n")
    assert call("train", "--config", str(file), "--data", "s", "--json") == 0
    assert json.loads(capsys.readouterr().out)["steps"] == 5
    assert call("train", "max_steps=8", "--config", str(file), "--data", "s", "--json") == 0
    assert json.loads(capsys.readouterr().out)["steps"] == 8


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["refuse"], "tool: a.bvh: frame 3 is short"),
        (["tarin", "--data", "x"], "tool: unknown command 'tarin': did you mean 'train'?"),
        (["train"], "tool: the following arguments are required: --data (see tool train --help)"),
        (["train", "--dta", "x", "--data", "x"], "tool: unknown argument '--dta': did you mean --data?"),
        (["train", "--coun=3", "--data", "x"], "tool: unknown argument '--coun=3': did you mean --count?"),
        (["train", "--data", "x", "--count", "many"], "tool: argument --count: invalid int value: 'many'"),
        (["train", "--data", "x", "max_stepz=3"], "tool: max_stepz=3: unknown configuration key 'max_stepz'"),
        (["train", "--data", "x", "max_steps=0"], "tool: max_steps=0: must be at least 1"),
        (["train", "--data", "x", "--config", "no.yaml"], "tool: --config no.yaml: no such file"),
        (["train", "--data", "x", "stray"], "tool: unknown argument 'stray'"),
        (["refuse", "max_steps=3"], "tool: unknown argument 'max_steps=3'"),
        (["--json", "refuse"], "tool: --json stands after 'refuse'"),
        (["describe", "scoer"], "tool: unknown describe command 'scoer': did you mean 'score'?"),
        (["descrbe", "score"], "tool: unknown command 'descrbe': did you mean 'describe'?"),
        (["describe", "refuse"], "tool: a.yaml: is empty"),
        (["describe", "score"], "tool: the following arguments are required: --data (see tool describe score --help)"),
        (["describe", "score", "--dta", "x", "--data", "x"], "tool: unknown argument '--dta': did you mean --data?"),
        (["describe", "--json", "score", "--data", "x"], "tool: --json stands after 'describe score'"),
        (["describe", "score", "--data", "x", "max_stepz=3"], "tool: max_stepz=3: unknown configuration key"),
        (["describe", "--jsn"], "tool: unknown argument '--jsn'"),
    ],
)
def test_wrong_input_exits_2_with_one_line(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(*words) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith(message) and err.count("\n") == 1


@pytest.mark.parametrize(
    ("command", "message"),
    [("break", "tool: RuntimeError: no luck (--debug shows where)\n"), ("stop", "tool: interrupted\n")],
)
def test_anything_else_exits_1_with_one_line(command: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(command) == 1
    assert capsys.readouterr() == ("", message)


@pytest.mark.parametrize(("command", "status", "name"), [("refuse", 2, "InputError"), ("break", 1, "RuntimeError")])
def test_debug_shows_the_traceback(command: str, status: int, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(command, "--debug") == status
    err = capsys.readouterr().err
    assert "Traceback (most recent call last)" in err and f"{name}:" in err and "in run" in err


def test_help_lists_commands_and_a_command_lists_its_keys(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        call("--help")
    assert caught.value.code == 0
    assert "train a model" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        call("train", "--help")
    out = capsys.readouterr().out
    assert "--data STORE" in out and "max_steps" in out and "optimiser steps" in out


def test_without_a_command_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert call() == 0
    assert capsys.readouterr().out.startswith("usage: tool")


def test_a_group_runs_the_command_below_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("describe", "score", "--data", "store", "max_steps=7", "--json") == 0
    assert json.loads(capsys.readouterr().out)["steps"] == 7
    args = parse("tool", COMMANDS, ["describe", "score", "--data", "store", "max_steps=7"])
    assert (args.command, args.words, args.overrides) == ("describe", ("describe", "score"), ["max_steps=7"])


def test_a_group_alone_shows_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("describe") == 0
    out = capsys.readouterr().out
    assert out.startswith("usage: tool describe") and "score them" in out
    with pytest.raises(SystemExit) as caught:
        call("describe", "score", "--help")
    out = capsys.readouterr().out
    assert caught.value.code == 0 and out.startswith("usage: tool describe score") and "max_steps" in out


def test_a_command_runs_or_holds_commands() -> None:
    with pytest.raises(AssertionError, match="either runs or holds commands"):
        Command("neither")
    with pytest.raises(AssertionError, match="either runs or holds commands"):
        Command("both", train, commands={"train": COMMANDS["train"]})


def test_a_library_without_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(commands={}) == 0
    assert "COMMAND" not in capsys.readouterr().out
    assert call("train", commands={}) == 2
    assert capsys.readouterr().err == "tool: unknown command 'train': (known: none)\n"
    with pytest.raises(SystemExit) as caught:
        call("--version", commands={})
    assert caught.value.code == 0 and capsys.readouterr().out == "tool 1.2.3\n"


def test_a_reader_that_leaves_early_is_no_error() -> None:
    code = (
        "import sys; from icube_common.cli import Command, main; "
        "sys.exit(main('tool', '', '1', {'list': Command('list', lambda a: {'rows': ['x' * 99] * 9999})}, ['list']))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None and child.stderr is not None
        assert child.stdout.readline() == "rows:\n"
        child.stdout.close()
        assert child.stderr.read() == ""
    assert child.returncode == 0


def test_render_table_indents_nested_mappings_and_lists() -> None:
    shown = render_table({"clips": 3, "labels": {"walk": 2, "run": 1}, "files": ["a", "b"], "loss": 1 / 3})
    assert shown.splitlines() == [
        "clips   3",
        "labels:",
        "  walk  2",
        "  run   1",
        "files:",
        "  a",
        "  b",
        "loss    0.333333",
    ]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.float32(0.5), 0.5),
        (np.float64("nan"), None),
        (float("inf"), None),
        (np.int64(3), 3),
        (np.bool_(True), True),
        (np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
        ({1: (Path("a") / "b", None, True, "x")}, {"1": ["a/b", None, True, "x"]}),
    ],
)
def test_to_json(value: Any, expected: Any) -> None:
    assert to_json(value) == expected
    json.dumps(to_json(value), allow_nan=False)
