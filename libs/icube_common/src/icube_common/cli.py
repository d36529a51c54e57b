"""Command lines of the project: one parser, one exit-code rule, results on stdout, logs on stderr.

Exit status 0: done. 2: the user's input is wrong, one line on stderr. 1: anything else.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import logging
import math
import os
import re
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from icube_common.config import Config, describe_config
from icube_common.errors import InputError, nearest, unknown


class _Parser(argparse.ArgumentParser):
    """argparse that answers wrong usage as every other wrong input is answered: one line, exit 2."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message} (see {self.prog} --help)")


@dataclasses.dataclass(frozen=True)
class Command:
    """One subcommand, or a group of them (``tool describe score``), which has ``commands`` in place of ``run``.

    Attributes:
        help: one line for ``--help``.
        run: does the work through one documented library function and returns a JSON-ready result.
        add_arguments: declares the options; must not import anything slow.
        render: the result as text for people; by default one ``key: value`` line each.
        config: the schema whose keys the command accepts as ``key=value`` and ``--config``.
        commands: the subcommands of a group; without one of them the group shows its help.
    """

    help: str
    run: Callable[[argparse.Namespace], Mapping[str, Any]] | None = None
    add_arguments: Callable[[argparse.ArgumentParser], None] = lambda parser: None
    render: Callable[[Mapping[str, Any]], str] | None = None
    config: type[Config] | None = None
    commands: Mapping[str, Command] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        assert (self.run is None) == bool(self.commands), f"{self.help!r}: either runs or holds commands"


def options_of(args: argparse.Namespace, *names: str) -> dict[str, Any]:
    """Options of a command line as keyword arguments of the same names."""
    return {name: getattr(args, name) for name in names}


def lazy(module: str, name: str) -> Callable[[Any], Any]:
    """A function of one argument whose module is imported when it is called."""
    return lambda value: getattr(importlib.import_module(module), name)(value)


def demo_command(help: str, module: str, out: str, render: Callable[[Mapping[str, Any]], str] | None = None) -> Command:
    """Command ``demo``: a library's whole path on simulated data, by ``demo(out, overwrite=...)`` of a module."""

    def arguments(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--out", default=out, metavar="DIR", help=f"folder to make ({out})")
        parser.add_argument("--overwrite", action="store_true", help="replace an existing folder")

    def run(args: argparse.Namespace) -> Mapping[str, Any]:
        result: Mapping[str, Any] = importlib.import_module(module).demo(args.out, overwrite=args.overwrite)
        return result

    return Command(help, run, arguments, render)


def add_parallel_arguments(
    parser: argparse.ArgumentParser, unit: str, *, workers: int | None = 1, shard: bool = True
) -> None:
    """Add ``--workers`` and ``--dask``, for `icube_common.data.processes.open_executor`, and ``--shard``.

    Args:
        parser: of the command.
        unit: plural of what is worked on.
        workers: default number of local processes, None for one for each core.
        shard: whether the command takes a shard, for `icube_common.data.processes.parse_shard`.
    """
    default = "one for each core" if workers is None else workers
    parser.add_argument(
        "--workers", type=int, default=workers, metavar="N", help=f"local processes for {unit} (default: {default})"
    )
    parser.add_argument("--dask", metavar="ADDRESS", help="run on a Dask cluster, such as tcp://host:8786")
    if shard:
        parser.add_argument(
            "--shard",
            metavar="I/N",
            help=f"each N-th of the {unit} from the I-th on (0 to N-1); the command without it joins the parts",
        )


def render_table(result: Mapping[str, Any]) -> str:
    """``key: value`` lines, nested mappings indented, for a terminal."""
    lines: list[str] = []

    def walk(mapping: Mapping[str, Any], indent: str) -> None:
        width = max((len(str(key)) for key in mapping), default=0)
        for key, value in mapping.items():
            if isinstance(value, Mapping):
                lines.append(f"{indent}{key}:")
                walk(value, indent + "  ")
            elif isinstance(value, (list, tuple)):
                lines.append(f"{indent}{key}:")
                lines.extend(f"{indent}  {item}" for item in value)
            else:
                shown = f"{value:.6g}" if isinstance(value, float) else value
                lines.append(f"{indent}{key!s:<{width}}  {shown}")

    walk(result, "")
    return "\n".join(lines)


def to_json(value: Any) -> Any:
    """The value in JSON's own types: numpy and torch scalars and arrays as numbers and lists, NaN and infinity as null.

    Anything else that JSON does not know (paths, dates) becomes its text.
    """
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(item) for item in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if hasattr(value, "tolist"):
        return to_json(value.tolist())
    return str(value)


def _build_parser(
    prog: str, description: str, version: str, commands: Mapping[str, Command], argv: Sequence[str]
) -> _Parser:
    parser = _Parser(prog=prog, description=description, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"{prog} {version}")
    parser.set_defaults(command=None, words=())
    _add_commands(parser, commands, (), argv)
    return parser


def _add_commands(
    parser: argparse.ArgumentParser, commands: Mapping[str, Command], words: tuple[str, ...], argv: Sequence[str]
) -> None:
    """Add subcommands, and those of groups, to a parser; options only where ``argv`` names the command.

    ``args.words`` is the chosen command.
    """
    if not commands:
        return
    dest = "command" if not words else "_".join((*words, "command"))
    subparsers = parser.add_subparsers(dest=dest, metavar="COMMAND", parser_class=_Parser)
    for name, command in commands.items():
        chosen = name in argv
        epilog = describe_config(command.config) if chosen and command.config else None
        sub = subparsers.add_parser(
            name,
            help=command.help,
            description=command.help,
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        sub.set_defaults(words=(*words, name))
        if not chosen:
            continue
        if command.commands:
            _add_commands(sub, command.commands, (*words, name), argv)
            continue
        command.add_arguments(sub)
        if command.config:
            sub.add_argument("--config", metavar="FILE", help="YAML file of configuration keys")
        sub.add_argument("--json", action="store_true", help="print the result as one JSON object")
        sub.add_argument("--quiet", action="store_true", help="no progress bars, warnings only")
        sub.add_argument("--debug", action="store_true", help="show the traceback of an error")


def _find(commands: Mapping[str, Command], words: Sequence[str]) -> Command | None:
    """The command that ``words`` lead to, through groups; None for none."""
    command = None
    for word in words:
        command = commands[word]
        commands = command.commands
    return command


def _check_command(commands: Mapping[str, Command], argv: Sequence[str]) -> None:
    """Name the nearest command where a word is none, on each level, before argparse lists what it takes."""
    kind = "command"
    for word in argv:
        if word.startswith("-"):
            return
        if word not in commands:
            raise unknown(kind, word, commands)
        commands = commands[word].commands
        kind = f"{word} command"
        if not commands:
            return


def _check_dashes(argv: Sequence[str]) -> None:
    """Name the remedy where a file's name begins with a dash, which would be read as an option."""
    for word in argv:
        if word == "--":
            return
        if word.startswith("-") and not re.fullmatch("-h|--[a-z-]+", word) and os.path.exists(word):
            raise InputError(f"{word}: is read as an option; a file whose name begins with a dash is named ./{word}")


def _parse(parser: _Parser, commands: Mapping[str, Command], argv: Sequence[str]) -> argparse.Namespace:
    """Parse options and collect ``key=value`` words; whatever is left over is named with its nearest relative."""
    _check_command(commands, argv)
    _check_dashes(argv)
    args, rest = parser.parse_known_args(list(argv))
    args.overrides = []
    command = _find(commands, args.words)
    for word in rest:
        if command is not None and command.config and "=" in word and not word.startswith("-"):
            args.overrides.append(word)
            continue
        options = [option for action in _subparser(parser, args.words)._actions for option in action.option_strings]
        if word in options:
            raise InputError(f"{word} stands after {' '.join(args.words)!r}")
        close = nearest(word.partition("=")[0], options) if word.startswith("-") else None
        raise InputError(f"unknown argument {word!r}" + (f": did you mean {close}?" if close else ""))
    return args


def parse(prog: str, commands: Mapping[str, Command], argv: Sequence[str]) -> argparse.Namespace:
    """Parse a command line without running it.

    Args:
        prog: the program's name, for messages.
        commands: its subcommands.
        argv: the words after the program's name.

    Returns:
        The options, with ``command``, ``words`` (the command and, in a group, the one below it) and the list
        ``overrides`` of ``key=value`` words.

    Raises:
        InputError: an unknown command or option, a missing or malformed value.
    """
    return _parse(_build_parser(prog, "", "", commands, argv), commands, argv)


def _subparser(parser: argparse.ArgumentParser, words: Sequence[str]) -> argparse.ArgumentParser:
    for word in words:
        action = next(action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
        parser = action.choices[word]
    return parser


def main(
    prog: str,
    description: str,
    version: str,
    commands: Mapping[str, Command],
    argv: Sequence[str] | None = None,
) -> int:
    """Run a command line and return its exit status (0 done, 2 wrong input, 1 anything else)."""
    argv = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in argv
    try:
        parser = _build_parser(prog, description, version, commands, argv)
        args = _parse(parser, commands, argv)
        command = _find(commands, args.words)
        if command is None or command.run is None:
            _subparser(parser, args.words).print_help()
            return 0
        _set_up_logging(args.quiet)
        result = command.run(args)
        if os.environ.get("RANK", "0") != "0":
            return 0  # one of several processes of a training: the first says what came of it
        if args.json:
            print(json.dumps(to_json(result), indent=2, allow_nan=False))
        else:
            print((command.render or render_table)(result))
        # here and not at the interpreter's exit, where a closed pipe could no longer be caught
        sys.stdout.flush()
        return 0
    except InputError as error:
        if debug:
            traceback.print_exc()
        print(f"{prog}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # the reader of our stdout (head, less) has gone: nothing left to say, and nothing may be flushed at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print(f"{prog}: interrupted", file=sys.stderr)
        return 1
    except Exception as error:
        if debug:
            traceback.print_exc()
        message = " ".join(f"{type(error).__name__}: {error}".split())
        print(f"{prog}: {message} (--debug shows where)", file=sys.stderr)
        return 1


def _set_up_logging(quiet: bool) -> None:
    """Logs go to stderr; other libraries' warnings stay theirs to print."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    for name in ("icube_common", "motiondiff", "actprompt", "debian_mri"):
        root = logging.getLogger(name)
        root.handlers[:] = [handler]
        root.setLevel(logging.WARNING if quiet else logging.INFO)
    if quiet:
        os.environ.setdefault("TQDM_DISABLE", "1")
