"""The subcommands ``ablate``, ``tune``, ``compare`` and ``compare-methods`` for a library's command line.

    COMMANDS = {
        "ablate": ablate_command(make_run, ActPromptConfig, add_arguments=_data_argument),
        "tune": tune_command(make_run, ActPromptConfig, add_arguments=_data_argument),
        "compare": compare_command(),
    }

with ``make_run(args)`` reading the library's own arguments and returning ``run(overrides, seed, folder)``, such as
``functools.partial(execute_trial_run, data=args.data)`` over a function of a module.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from icube_common.cli import Command, add_parallel_arguments, options_of, render_table
from icube_common.config import Config, load_config
from icube_common.errors import InputError

if TYPE_CHECKING:
    from icube_common.experiments.overrides import Unused
    from icube_common.experiments.results.method_comparison import MethodComparison
    from icube_common.experiments.runner.trial_run import Run

MakeRun = Callable[[argparse.Namespace], "Run"]
AddArguments = Callable[[argparse.ArgumentParser], None]


def _none(parser: argparse.ArgumentParser) -> None:
    """No argument of the library's own."""


def ablate_command(
    make_run: MakeRun,
    config: type[Config],
    *,
    add_arguments: AddArguments = _none,
    unused: Unused | None = None,
) -> Command:
    """``ablate --grid grid.yaml --out STUDY``: see `icube_common.experiments.ablation.ablate`.

    Args:
        make_run: the library's arguments -> how one cell is run.
        config: the schema of the grid's keys.
        add_arguments: declares the library's own arguments (``--data``); they have to be the same on resume.
        unused: which keys have no effect under a configuration; they are refused before anything runs.
    """

    def arguments(parser: argparse.ArgumentParser) -> None:
        add_arguments(parser)
        parser.add_argument("--grid", required=True, metavar="FILE", help="varied keys, as YAML")
        _study_arguments(parser, unit="cells")
        parser.add_argument("--retry-failed", action="store_true", help="run cells again that failed")

    def run(args: argparse.Namespace) -> Mapping[str, Any]:
        from icube_common.data.processes import open_executor, parse_shard
        from icube_common.experiments.ablation import ablate, ablate_shard
        from icube_common.experiments.grid import Grid

        below, above = _settings(config, args)
        grid = Grid.load(args.grid, config, below=below, above=above, unused=unused)
        facts, shard = _own(args, add_arguments), parse_shard(args.shard)
        if shard[1] > 1 and args.overwrite:
            raise InputError(f"--overwrite --shard {args.shard}: would delete the other parts; delete {args.out} first")
        with open_executor(args.workers, args.dask) as (executor, workers):
            common: dict[str, Any] = {"executor": executor, "workers": workers, "facts": facts}
            common |= options_of(args, "out", "retry_failed", "strict")
            if shard[1] > 1:
                return ablate_shard(make_run(args), grid, shard=shard, **common)
            study = ablate(make_run(args), grid, overwrite=args.overwrite, **common)
        return {
            "study": str(study.folder),
            "failed": study.failed,
            "variants": [variant.to_dict() for variant in study.variants],
            "table": study.table().to_markdown(),
            "report": str(study.folder / "report.html"),
        }

    return Command("compare settings: a grid over configuration keys, with seeds", run, arguments, _render, config)


def tune_command(
    make_run: MakeRun,
    config: type[Config],
    *,
    add_arguments: AddArguments = _none,
    unused: Unused | None = None,
) -> Command:
    """``tune --space space.yaml --out STUDY``: see `icube_common.experiments.tuning.tune`.

    Args:
        make_run: the library's arguments -> how one trial is run with one seed; a run with a parameter ``report`` can
            be pruned.
        config: the schema of the space's keys.
        add_arguments: declares the library's own arguments (``--data``); they have to be the same on resume.
        unused: which keys have no effect under a configuration; they are refused before anything runs.
    """

    def arguments(parser: argparse.ArgumentParser) -> None:
        add_arguments(parser)
        parser.add_argument("--space", required=True, metavar="FILE", help="search space, as YAML")
        _study_arguments(parser, unit="trials", shard=False)
        parser.add_argument("--trials", type=int, metavar="N", help="number of trials in all (default: that of FILE)")
        parser.add_argument("--timeout", type=float, metavar="SECONDS", help="begin no trial after this time")
        parser.add_argument("--storage", metavar="URL", help="Optuna's database (default: sqlite, STUDY/study.db)")
        parser.add_argument("--no-pruning", action="store_true", help="let every trial run to its end")
        parser.add_argument(
            "--sampler-seed", type=int, default=0, metavar="N", help="seed of the proposals (default 0)"
        )

    def run(args: argparse.Namespace) -> Mapping[str, Any]:
        from optuna.pruners import NopPruner

        from icube_common.data.processes import open_executor
        from icube_common.experiments.search import Search
        from icube_common.experiments.tuning import tune

        below, above = _settings(config, args)
        search = Search.load(args.space, config, below=below, above=above, unused=unused)
        with open_executor(args.workers, args.dask) as (executor, workers):
            result = tune(
                make_run(args),
                search,
                pruner=NopPruner() if args.no_pruning else None,
                seed=args.sampler_seed,
                executor=executor,
                workers=workers,
                facts=_own(args, add_arguments),
                **options_of(args, "out", "storage", "trials", "timeout", "strict", "overwrite"),
            )
        return {
            "study": str(result.folder),
            "best": {"trial": result.best.slot, result.metric: result.best.value, "overrides": dict(result.overrides)},
            **{state: result.count(state) for state in ("finished", "pruned", "failed")},
            "importance": dict(result.importance) or result.importance_note,
            "config": str(result.folder / "best.yaml"),
            "report": str(result.folder / "report.html"),
        }

    return Command("search for good settings with Optuna", run, arguments, None, config)


def compare_command() -> Command:
    """``compare RUN RUN ... --out DIR``: see `icube_common.experiments.comparison.compare`."""

    def arguments(parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "runs", nargs="+", metavar="RUN", help="a run folder or a predictions.csv; the first is the base"
        )
        parser.add_argument("--out", required=True, metavar="DIR", help="the folder to make")
        parser.add_argument("--metrics", metavar="A,B", help="comma-separated (default: all that fit the classes)")
        parser.add_argument("--overwrite", action="store_true", help="replace an existing folder")

    def run(args: argparse.Namespace) -> Mapping[str, Any]:
        from icube_common.experiments.comparison import compare

        metrics = args.metrics.split(",") if args.metrics else None
        result = compare(args.runs, args.out, metrics=metrics, overwrite=args.overwrite)
        return {
            "runs": [run.to_dict() for run in result.runs],
            "table": result.table().to_markdown() + "\n" + result.difference_table().to_markdown(),
            "report": str(result.folder / "report.html"),
        }

    return Command("finished runs side by side, with paired tests", run, arguments, _render)


def compare_methods_command(
    compare_methods: Callable[..., MethodComparison],
    config: type[Config],
    *,
    add_arguments: AddArguments,
    options: Callable[[argparse.Namespace], Mapping[str, Any]],
) -> Command:
    """``compare-methods --data DATA --out DIR``: methods of the field and the library's own model on the same folds.

    Args:
        compare_methods: of the library; called with the settings, and methods, reference, seeds, budget, out and
            overwrite by name.
        config: the settings of the library's own model.
        add_arguments: declares the library's own arguments: data, protocol, features.
        options: the library's own arguments by name.
    """

    def arguments(parser: argparse.ArgumentParser) -> None:
        add_arguments(parser)
        parser.add_argument("--out", required=True, metavar="DIR", help="folder to make or to resume")
        parser.add_argument(
            "--methods", default="all", metavar="A,B", help="methods by name, all, or none beside the own model (all)"
        )
        parser.add_argument(
            "--reference", metavar="NAME", help="method that the others are compared with (default: the own model)"
        )
        parser.add_argument(
            "--seeds", type=int, metavar="N", help="seeds of each method (default 3; 1 for protocols with draws)"
        )
        parser.add_argument(
            "--budget", type=int, metavar="N", help="settings that each method may compare on inner folds (default 8)"
        )
        parser.add_argument("--overwrite", action="store_true", help="replace an existing folder")

    def run(args: argparse.Namespace) -> Mapping[str, Any]:
        settings = load_config(config, file=args.config, overrides=args.overrides)
        names = ("out", "methods", "reference", "seeds", "budget", "overwrite")
        return compare_methods(config=settings, **options(args), **options_of(args, *names)).to_dict()

    return Command("compare published methods with the own model on the same folds", run, arguments, _render, config)


def _study_arguments(parser: argparse.ArgumentParser, *, unit: str, shard: bool = True) -> None:
    parser.add_argument("--out", required=True, metavar="STUDY", help="the folder to make, or to go on in")
    add_parallel_arguments(parser, unit, shard=shard)
    parser.add_argument("--strict", action="store_true", help="stop at the first failure")
    parser.add_argument("--overwrite", action="store_true", help="delete the study that is there and start afresh")


def _settings(config: type[Config], args: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Any]]:
    """The keys that ``--config`` sets, and those that ``key=value`` words set, with their values."""
    from icube_common.experiments.overrides import changed, values_of

    below = changed(load_config(config, file=args.config)) if args.config else {}
    named = [word.partition("=")[0] for word in args.overrides]
    return below, values_of(load_config(config, overrides=args.overrides), named)


def _own(args: argparse.Namespace, add_arguments: AddArguments) -> dict[str, Any]:
    """The library's own arguments, which results depend on."""
    parser = argparse.ArgumentParser(add_help=False)
    add_arguments(parser)
    return {action.dest: getattr(args, action.dest) for action in parser._actions}


def _render(result: Mapping[str, Any]) -> str:
    """The table, and where to look."""
    if "shard" in result:
        return render_table(result)
    return f"{result['table']}\n{result['report']}"
