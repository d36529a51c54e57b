"""Command-line options made of the fields of configuration dataclasses."""

from __future__ import annotations

import argparse
import contextlib
import re
import typing
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from icube_common.config import Config, load_config
from icube_common.errors import InputError

SAMPLER = ("steps", "scheduler", "guidance", "seed", "device")


def add_options(parser: argparse.ArgumentParser, schema: type[Config], names: Sequence[str], **meanings: str) -> None:
    """An option for each of the named fields: ``--per-action N`` for ``per_action: int``, a switch for a bool.

    Args:
        parser: of the command.
        schema: declares the fields.
        names: of the fields.
        meanings: help texts in place of those that the schema declares.
    """
    declared = {field.name: field for field in fields(schema)}
    types = typing.get_type_hints(schema)
    for name in names:
        field = declared[name]
        kinds = {types[name], *typing.get_args(types[name])}
        choices = field.metadata["choices"]
        text = meanings.get(name) or field.metadata["meaning"] + (f" ({', '.join(choices)})" if choices else "")
        flag = f"--{name.replace('_', '-')}"
        if bool in kinds:
            parser.add_argument(flag, action="store_true", default=None, help=text)
            continue
        if name not in meanings and isinstance(field.default, (int, float, str)):
            text += f" (default {field.default})"
        kind = next((kind for kind in (int, float) if kind in kinds), str)
        metavar = {int: "N", float: "X", str: "FILE" if Path in kinds else "NAME"}[kind]
        parser.add_argument(flag, type=kind, metavar=metavar, help=text.replace("%", "%%"))


def given(args: argparse.Namespace, names: Sequence[str]) -> dict[str, Any]:
    """Values of the named options that are on the command line."""
    return {name: value for name in names if (value := getattr(args, name)) is not None}


def values_of(args: argparse.Namespace, *names: str) -> dict[str, Any]:
    """Values of the named options, given or default."""
    return {name: getattr(args, name) for name in names}


def config_of(args: argparse.Namespace, schema: type[Any], *words: str) -> Any:
    """Configuration of ``--config``, ``key=value`` words and further ones."""
    return load_config(schema, file=args.config, overrides=[*args.overrides, *words])


def run_config(args: argparse.Namespace, schema: type[Any]) -> Any:
    """Configuration of a training; a resumed run keeps its own unless ``--config`` names another."""
    saved = Path(args.out) / "config.yaml"
    if args.resume and args.config is None and saved.is_file():
        args.config = saved
    return config_of(args, schema)


@contextlib.contextmanager
def as_options() -> Iterator[None]:
    """Errors about a field, ``per_action=0: ...``, as errors about its option, ``--per-action 0: ...``."""
    try:
        yield
    except InputError as error:
        match = re.match(r"(\w+)=(.*)", str(error), re.DOTALL)
        raise InputError(f"--{match[1].replace('_', '-')} {match[2]}" if match else str(error)) from error


def add_training_options(parser: argparse.ArgumentParser, *, out: str = "RUN") -> None:
    """Options of every command that trains: ``--out``, ``--resume``, ``--overwrite``."""
    parser.add_argument("--out", required=True, metavar=out, help="run folder to make")
    parser.add_argument("--resume", action="store_true", help=f"resume from the newest whole checkpoint of {out}")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing run folder")
