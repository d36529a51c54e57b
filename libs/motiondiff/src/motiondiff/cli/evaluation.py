"""Commands that evaluate: evaluate, train-classifier."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from icube_common import cli
from motiondiff.cli.options import SAMPLER, add_options, as_options, config_of, given, values_of
from motiondiff.config import CLASSIFIERS, ClassifierConfig, EvaluateOptions

_EVALUATE = (
    "seeds",
    "per_action",
    *SAMPLER,
    "split",
    "min_clips",
    "evaluator_seed",
    "accuracy_model",
    "accuracy_seed",
    "mix_styles",
    "batch_size",
)


def _classifier_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--train", required=True, metavar="STORE", help="training clips")
    parser.add_argument("--with", dest="extra", metavar="STORE2", help="further training clips, such as generated ones")
    parser.add_argument(
        "--test", required=True, metavar="STORE", help="test clips; the same store: its splits are used"
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="folder to make")
    parser.add_argument("--model", metavar="NAME", help=f"network: {', '.join(CLASSIFIERS)} (default gru)")
    parser.add_argument("--seeds", type=int, default=1, help="number of classifiers, with seeds from 0 (default 1)")
    parser.add_argument("--min-clips", type=int, metavar="N", help="exclude classes with fewer training clips")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing folder")


def _train_classifier(args: argparse.Namespace) -> Mapping[str, Any]:
    config = config_of(args, ClassifierConfig, *([f"model={args.model}"] if args.model else []))
    from motiondiff.recognition.train_and_test import train_and_test

    return train_and_test(
        args.train,
        args.test,
        args.out,
        config,
        **values_of(args, "extra", "seeds", "min_clips", "overwrite"),
    )


def _evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="run folder")
    parser.add_argument("--data", required=True, metavar="STORE", help="store that it was trained on")
    parser.add_argument("--out", required=True, metavar="EVAL", help="folder to make")
    steps = "denoising steps (default 10; of a distilled run 4)"
    add_options(parser, EvaluateOptions, _EVALUATE, steps=steps)
    parser.add_argument(
        "--classifier", metavar="NAME", help=f"feature extractors: {', '.join(CLASSIFIERS)} (default gru)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing folder")


def _evaluate(args: argparse.Namespace) -> Mapping[str, Any]:
    words = [f"{name}={value}" for name, value in given(args, _EVALUATE).items()]
    words += [f"classifier.model={args.classifier}"] if args.classifier else []
    with as_options():
        options = config_of(args, EvaluateOptions, *words)
    from motiondiff.evaluation.runner import evaluate

    return evaluate(args.run, args.data, args.out, options, overwrite=args.overwrite)


def _render_test(result: Mapping[str, Any]) -> str:
    top1 = result["top1"]
    low, high = top1["ci95"]
    interval = f"no interval: {top1['note']}" if low is None else f"95 % interval {low:.3f} to {high:.3f}"
    lines = [
        f"accuracy {top1['mean']:.3f} ({interval}) on {result['test_clips']} clips of {top1['groups']} subjects, "
        f"{result['training_clips']} training clips, {result['seeds']} seeds",
        *(f"  {name}: {share:.3f}" for name, share in result["recall"].items()),
        result["predictions"],
    ]
    return "\n".join(lines)


def _render_evaluate(result: Mapping[str, Any]) -> str:
    from motiondiff.evaluation.comparison import bound_text
    from motiondiff.evaluation.metrics import shown

    names = list(result["real"])
    width = max(map(len, names))
    lines = [f"{name:<{width}}  {shown(result[name])}   real {shown(result['real'][name])}" for name in names]
    if "text" in result:
        text = result["text"]
        lines.append(f"from captions alone, {text['pool']} captions to choose from:")
        lines += [f"  {name:<{width}}  {shown(text[name])}   real {shown(text['real'][name])}" for name in text["real"]]
    lines.append("targets:")
    for name, target in result["targets"].items():
        value = "undefined" if target["value"] is None else f"{target['value']:.3g}"
        action = f" ({target['action']})" if target.get("action") else ""
        verdict = {True: "met", False: "missed", None: "undefined"}[target["met"]]
        lines.append(f"  {name} {value}{action}, bound {bound_text(target)}: {verdict}")
    return "\n".join([*lines, *result["warnings"], result["report"]])


COMMANDS: Mapping[str, cli.Command] = {
    "evaluate": cli.Command(
        "evaluate a trained model's motions beside held-out real motion",
        _evaluate,
        _evaluate_arguments,
        _render_evaluate,
        config=EvaluateOptions,
    ),
    "train-classifier": cli.Command(
        "train an action classifier on some subjects and test it on others",
        _train_classifier,
        _classifier_arguments,
        _render_test,
        config=ClassifierConfig,
    ),
}
