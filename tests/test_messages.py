"""Remedies in messages exist: an option that an error names is one of its library's commands, a key one of its keys.

Messages are read from the sources: the texts of everything that is raised, with ``{}`` for what is filled in.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import importlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from icube_common import cli
from icube_common.config import Config

ROOT = Path(__file__).resolve().parent.parent
# options of other programs, and the words for an option's value and for an override in general
OTHERS = {"--multi_gpu"}
PLACEHOLDERS = {"key"}
COMMANDS = {"motiondiff": "motiondiff", "actprompt": "actprompt", "debian_mri": "debian-mri"}
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9_-]*")
KEY = re.compile(r"(?<![\w.{}-])([a-z_]+(?:\.[a-z_]+)*)=(?=[\w'\"{])")


def messages(library: str) -> Iterator[tuple[str, str]]:
    """(place, text) of each message of a library that is raised or logged as a warning."""
    base = ROOT / "libs" / library / "src" / library
    for path in sorted(base.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            raised = isinstance(node, ast.Raise) and node.exc is not None
            called = isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "warning"
            named = isinstance(node, ast.Call) and str(getattr(node.func, "id", "")).endswith(("Error", "Refusal"))
            if raised or called or named:
                for text in texts(node):
                    yield f"{path.relative_to(ROOT)}:{node.lineno}", text  # type: ignore[attr-defined]


def texts(node: ast.AST) -> Iterator[str]:
    """The texts in an expression, each formatted one as a whole with ``{}`` for its values."""
    if isinstance(node, ast.JoinedStr):
        yield "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
        for part in node.values:
            if isinstance(part, ast.FormattedValue):
                yield from texts(part.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    else:
        for child in ast.iter_child_nodes(node):
            yield from texts(child)


def options_of(library: str) -> set[str]:
    """All options of all commands of a library."""
    commands: Mapping[str, cli.Command] = importlib.import_module(f"{library}.cli").COMMANDS
    found: set[str] = set()

    def walk(parser: argparse.ArgumentParser) -> None:
        for action in parser._actions:
            found.update(action.option_strings)
            if isinstance(action, argparse._SubParsersAction):
                for below in action.choices.values():
                    walk(below)

    def names(commands: Mapping[str, cli.Command]) -> Iterator[str]:
        for name, command in commands.items():
            yield name
            yield from names(command.commands)

    # a parser has the options of the commands that its words name: here of all
    walk(cli._build_parser(library, "", "", commands, list(names(commands))))
    return found


def keys_of(library: str) -> set[str]:
    """All keys of all configurations that a library's commands take, with and without their section."""
    commands: Mapping[str, cli.Command] = importlib.import_module(f"{library}.cli").COMMANDS
    found: set[str] = set()

    def keys(kind: type[Config], before: str = "") -> None:
        for field in dataclasses.fields(kind):
            found.update((field.name, before + field.name))
            value = field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default
            if isinstance(value, Config):
                keys(type(value), f"{before}{field.name}.")

    def walk(command: cli.Command) -> None:
        if command.config is not None:
            keys(command.config)
        for below in command.commands.values():
            walk(below)

    for command in commands.values():
        walk(command)
    return found


@pytest.mark.parametrize("library", ["icube_common", *COMMANDS])
def test_options_that_messages_name_exist(library: str) -> None:
    owners = [library] if library in COMMANDS else list(COMMANDS)
    known = set().union(*(options_of(owner) for owner in owners))
    wrong = [
        f"{place}: {option} in {text!r}"
        for place, text in messages(library)
        for option in OPTION.findall(text)
        if option not in known | OTHERS
    ]
    assert wrong == []


@pytest.mark.parametrize("library", ["icube_common", *COMMANDS])
def test_keys_that_messages_name_exist(library: str) -> None:
    """``key=value`` in a message is a key of a configuration, never an argument of Python."""
    owners = [library] if library in COMMANDS else list(COMMANDS)
    known = set().union(*(keys_of(owner) for owner in owners))
    wrong = [
        f"{place}: {key} in {text!r}"
        for place, text in messages(library)
        for key in KEY.findall(re.sub(rf"{OPTION.pattern} \w+=", "", text))
        if key not in known | PLACEHOLDERS
    ]
    assert wrong == []


def test_the_reading_of_messages() -> None:
    tree = ast.parse('raise InputError(f"{path}: x {1 + a}" + (" --no" if b else "")) from None')
    assert list(texts(tree.body[0])) == ["{}: x {}", " --no", ""]
    assert OPTION.findall("a --leave-out {} and x--y, give--z") == ["--leave-out"]
    assert KEY.findall("vlm.name=x fewer='all' a==b {}=c say=True path=") == ["vlm.name", "fewer", "say"]
