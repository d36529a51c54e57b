"""The commands that judge motions: recognise, evaluate. Nothing heavy is imported before one runs."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from icube_common import cli
from motiondiff.commands.sampler import add_sampler_arguments
from motiondiff.recognition.config import MODELS, RecogniserConfig


def _recogniser_config(args: argparse.Namespace) -> RecogniserConfig:
    """The configuration of ``--config`` and ``key=value`` words, its network that of ``--model`` where given."""
    from icube_common.config import load_config

    named = [f"model={args.model}"] if args.model else []
    return load_config(RecogniserConfig, file=args.config, overrides=[*args.overrides, *named])


def _recognise_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--train", required=True, metavar="STORE", help="training clips")
    parser.add_argument("--with", dest="extra", metavar="STORE2", help="further training clips, such as generated ones")
    parser.add_argument(
        "--test", required=True, metavar="STORE", help="test clips; the same store: its splits are used"
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="the folder to make")
    parser.add_argument("--model", metavar="NAME", help=f"one of: {', '.join(MODELS)} (default gru)")
    parser.add_argument("--seeds", type=int, default=1, help="recognisers trained, of seeds 0, 1, ... (default 1)")
    parser.add_argument("--min-clips", type=int, metavar="N", help="leave out classes with fewer training clips")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing folder")


def _recognise(args: argparse.Namespace) -> Mapping[str, Any]:
    config = _recogniser_config(args)
    from motiondiff.recognition.recognise import recognise

    return recognise(
        args.train,
        args.test,
        args.out,
        config,
        extra=args.extra,
        seeds=args.seeds,
        min_clips=args.min_clips,
        overwrite=args.overwrite,
    )


def _evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="a run folder")
    parser.add_argument("--data", required=True, metavar="STORE", help="the store that it was trained on")
    parser.add_argument("--out", required=True, metavar="EVAL", help="the folder to make")
    parser.add_argument("--seeds", type=int, default=20, help="sets of motions, of seeds 0, 1, ... (default 20)")
    parser.add_argument("--per-action", type=int, default=10, metavar="N", help="motions of each action (default 10)")
    add_sampler_arguments(parser, steps=10)
    parser.add_argument("--split", default="test", help="held-out clips: test (default) or validation")
    parser.add_argument("--min-clips", type=int, metavar="N", help="leave out classes with fewer training clips")
    parser.add_argument("--model", metavar="NAME", help=f"the evaluator: {', '.join(MODELS)} (default gru)")
    parser.add_argument("--evaluator-seed", type=int, default=0, help="seed of the evaluator's training (default 0)")
    parser.add_argument("--mix-styles", action="store_true", help="each motion with any of the model's styles")
    parser.add_argument("--batch-size", type=int, default=32, help="motions denoised together (default 32)")
    parser.add_argument("--device", default="cpu", help="torch device of the generator (default cpu)")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing folder")


def _evaluate(args: argparse.Namespace) -> Mapping[str, Any]:
    from motiondiff.evaluation.options import EvaluateOptions

    options = EvaluateOptions(
        seeds=args.seeds,
        per_action=args.per_action,
        steps=args.steps,
        scheduler=args.scheduler,
        guidance=args.guidance,
        split=args.split,
        min_clips=args.min_clips,
        recogniser=_recogniser_config(args),
        evaluator_seed=args.evaluator_seed,
        batch_size=args.batch_size,
        mix_styles=args.mix_styles,
        device=args.device,
    )
    from motiondiff.evaluation.evaluate import evaluate

    return evaluate(args.run, args.data, args.out, options, overwrite=args.overwrite)


def _render_recognise(result: Mapping[str, Any]) -> str:
    found = result["top1"]
    low, high = found["ci95"]
    interval = f"no interval: {found['note']}" if low is None else f"95 % interval {low:.3f} to {high:.3f}"
    lines = [
        f"accuracy {found['mean']:.3f} ({interval}) on {result['test_clips']} clips of {found['groups']} subjects, "
        f"{result['training_clips']} training clips, {result['seeds']} seeds",
        *(f"  {name}: {share:.3f}" for name, share in result["recall"].items()),
        result["predictions"],
    ]
    return "\n".join(lines)


def _render_evaluate(result: Mapping[str, Any]) -> str:
    from motiondiff.evaluation.figures import shown

    names = list(result["real"])
    width = max(map(len, names))
    lines = [f"{name:<{width}}  {shown(result[name])}   real {shown(result['real'][name])}" for name in names]
    if "text" in result:
        text = result["text"]
        lines.append(f"from captions alone, {text['pool']} captions to choose from:")
        lines += [f"  {name:<{width}}  {shown(text[name])}   real {shown(text['real'][name])}" for name in text["real"]]
    lines.append("goals:")
    for name, goal in result["goals"].items():
        value = "undefined" if goal["value"] is None else f"{goal['value']:.3g}"
        bound = f">= {goal['at_least']:g}" if "at_least" in goal else f"<= {goal['at_most']:g}"
        lines.append(f"  {name} {value} (wanted {bound}): {'met' if goal['met'] else 'missed'}")
    return "\n".join([*lines, *result["notes"], result["report"]])


JUDGE_COMMANDS: Mapping[str, cli.Command] = {
    "recognise": cli.Command(
        "train an action recogniser on some people and test it on others",
        _recognise,
        _recognise_arguments,
        _render_recognise,
        config=RecogniserConfig,
    ),
    "evaluate": cli.Command(
        "judge a trained model's motions beside held-out real motion",
        _evaluate,
        _evaluate_arguments,
        _render_evaluate,
        config=RecogniserConfig,
    ),
}
