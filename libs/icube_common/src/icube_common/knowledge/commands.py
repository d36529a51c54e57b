"""Commands ``knowledge``: generate, import, score, review and freeze class knowledge.

Each library puts `knowledge_command` among its own commands, with questions that fit its samples.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from icube_common.cli import Command, options_of, render_table
from icube_common.errors import InputError

if TYPE_CHECKING:
    from icube_common.knowledge.class_knowledge import ClassKnowledge
    from icube_common.knowledge.generate import Generator
    from icube_common.vlm.backbone import FrozenVLM


WORST = 20
EncoderLoader = Callable[[str, "str | None", "str | None"], "FrozenVLM"]


def load_encoder(name: str, pretrained: str | None, weights_of: str | None) -> FrozenVLM:
    """The text encoder of a vision-language model, on accelerate's device; raises as `icube_common.vlm.load_vlm`."""
    from icube_common.vlm import default_device, load_vlm

    return load_vlm(
        name, pretrained, weights_of=weights_of, device=default_device(), only_text=True, assume_preprocessing=False
    )


def knowledge_command(
    load_encoder: EncoderLoader = load_encoder, *, prompts: Sequence[str] | None = None, domain: str = ""
) -> Command:
    """Command group ``knowledge`` with ``generate``, ``import``, ``score``, ``review`` and ``freeze``.

    Args:
        load_encoder: (name, pretrained, weights_of) -> the vision-language model that ``score`` uses.
        prompts: the questions that ``generate`` asks by default, with ``{name}`` for the class.
        domain: what the library's samples are; the default of ``--domain``.
    """
    return Command(
        "sentences about the classes: make, import, score, review, freeze",
        commands={
            "generate": Command(
                "ask a language model for sentences about classes",
                lambda args: _generate(args, prompts),
                lambda parser: _generate_arguments(parser, domain),
            ),
            "import": Command(
                "take over published sentences (CuPL, DCLIP, GPT4Vis, TC-CLIP)",
                _import,
                lambda parser: _import_arguments(parser, domain),
            ),
            "score": Command(
                "length, near-duplicates and separation of sentences for a text encoder",
                lambda args: _score(args, load_encoder),
                _score_arguments,
                _render_scores,
            ),
            "review": Command(
                "decide on proposed sentences: in the terminal, or on a page (--html, then --apply)",
                _review,
                _review_arguments,
            ),
            "freeze": Command("record the hash of the sentences in use", _freeze, _freeze_arguments),
        },
    )


def _head_arguments(parser: argparse.ArgumentParser, domain: str) -> None:
    """Options of `generate` and `import`."""
    parser.add_argument("--out", required=True, metavar="FILE.yaml", help="the knowledge file to make")
    parser.add_argument("--classes", metavar="A,B,...", help="class names")
    parser.add_argument("--classes-file", metavar="FILE", help="class names: .txt, .csv or .json")
    parser.add_argument("--title", help="title of the knowledge (default: name of the file)")
    parser.add_argument("--domain", default=domain, help=f"description of the samples (default {domain!r})")
    parser.add_argument("--language", default="en", help="language of the sentences, as a code (default en)")
    parser.add_argument("--date", help="date of the source, YYYY-MM-DD (default: today)")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing file")


def _class_names(args: argparse.Namespace) -> tuple[str, ...] | None:
    """The classes that the options name; None where they name none."""
    from icube_common.knowledge.names import read_class_names

    if args.classes is not None and args.classes_file is not None:
        raise InputError("--classes and --classes-file: give one of them")
    if args.classes_file is not None:
        return read_class_names(args.classes_file)
    if args.classes is None:
        return None
    names = tuple(" ".join(name.split()) for name in args.classes.split(","))
    if not all(names) or len(set(names)) != len(names):
        raise InputError(f"--classes {args.classes}: must be different names, with commas between them")
    return names


def _generate_arguments(parser: argparse.ArgumentParser, domain: str) -> None:
    _head_arguments(parser, domain)
    parser.add_argument("--model", required=True, help="a folder or hub name; with --endpoint the model's name there")
    parser.add_argument("--endpoint", metavar="URL", help="OpenAI-compatible endpoint, e.g. http://localhost:8000/v1")
    parser.add_argument(
        "--key-variable",
        default="OPENAI_API_KEY",
        metavar="NAME",
        help="environment variable that holds the endpoint's key (default OPENAI_API_KEY)",
    )
    parser.add_argument("--timeout", type=float, default=120.0, help="seconds to wait for the endpoint (default 120)")
    parser.add_argument("--device", default="cpu", help="device of a local model (default cpu)")
    parser.add_argument("--per-class", type=int, default=10, help="sentences for each class (default 10)")
    parser.add_argument(
        "--prompt", action="append", metavar="TEXT", help="a question with {name} for the class; may be repeated"
    )
    parser.add_argument("--max-words", type=int, default=60, help="longer sentences are dropped (default 60)")
    parser.add_argument("--max-tokens", type=int, help="length of an answer at most")
    parser.add_argument("--temperature", type=float, help="temperature of sampling")
    parser.add_argument("--seed", type=int, help="seed of sampling (local: default 0; endpoint: sent only when given)")
    parser.add_argument("--resume", action="store_true", help="keep the classes that FILE.yaml has already")


def _generate(args: argparse.Namespace, prompts: Sequence[str] | None) -> Mapping[str, Any]:
    from icube_common.io.progress import progress_bar
    from icube_common.io.runs import check_output_path
    from icube_common.knowledge.class_knowledge import ClassKnowledge
    from icube_common.knowledge.files import check_suffix
    from icube_common.knowledge.generate import PROMPTS, compose_prompt, generate_sentences

    out = check_suffix(args.out)
    check_output_path(out, overwrite=args.overwrite or args.resume, hint="--overwrite replaces it, --resume continues")
    names = _class_names(args)
    if names is None:
        raise InputError("--classes or --classes-file: one of them must name the classes")
    questions = args.prompt or prompts or PROMPTS
    date = _date(args.date)
    for question in questions:
        compose_prompt(question, domain=args.domain)  # before a model is loaded
    start = ClassKnowledge.load(out) if args.resume and out.is_file() else None
    made = generate_sentences(
        names,
        _generator(args),
        prompts=questions,
        seed=args.seed or 0,
        title=args.title or out.stem,
        date=date,
        **options_of(args, "per_class", "domain", "language", "max_words"),
        start=start,
        # what was asked for is on disk after each class, whatever happens to the next
        on_class=lambda knowledge: knowledge.save(out, overwrite=True),
        progress=lambda classes: progress_bar(classes, desc="classes", file=sys.stderr),
    )
    result = {**_described(made.knowledge.save(out, overwrite=True)), "dropped": dict(made.dropped)}
    return {**result, "fewer_than_asked": dict(made.short)}


def _generator(args: argparse.Namespace) -> Generator:
    from icube_common.knowledge.generators import LocalGenerator, OpenAIGenerator

    if args.endpoint is not None:
        return OpenAIGenerator(
            args.endpoint,
            send_seed=args.seed is not None,
            **options_of(args, "model", "key_variable", "timeout", "temperature", "max_tokens"),
        )
    options = {"max_new_tokens": args.max_tokens, "temperature": args.temperature}
    return LocalGenerator(
        args.model, device=args.device, **{key: value for key, value in options.items() if value is not None}
    )


def _import_arguments(parser: argparse.ArgumentParser, domain: str) -> None:
    parser.add_argument("source", metavar="JSON", help="the published file")
    _head_arguments(parser, domain)
    parser.add_argument("--form", help="cupl, gpt4vis, dclip or tcclip (default: by the file's layout)")
    parser.add_argument("--model", help="author of the sentences (default: not stated)")
    parser.add_argument("--prompt", help="prompt given to the model")
    parser.add_argument("--reference", help="the publication (default: the file's name)")
    parser.add_argument("--allow-unknown", action="store_true", help="leave out classes that are not wanted")
    parser.add_argument("--allow-missing", action="store_true", help="do without wanted classes that JSON lacks")


def _import(args: argparse.Namespace) -> Mapping[str, Any]:
    from icube_common.io.runs import check_output_path
    from icube_common.knowledge.files import check_suffix
    from icube_common.knowledge.importers import import_descriptions

    out = check_output_path(check_suffix(args.out), overwrite=args.overwrite)
    imported = import_descriptions(
        args.source,
        class_names=_class_names(args),
        date=_date(args.date),
        **options_of(args, "form", "allow_unknown", "allow_missing", "model", "prompt", "reference"),
        **options_of(args, "title", "domain", "language"),
    )
    return {
        **_described(imported.knowledge.save(out, overwrite=args.overwrite)),
        "form": imported.form,
        "dropped": dict(imported.dropped),
        "left_out_classes": list(imported.unknown),
        "missing_classes": list(imported.missing),
    }


def _score_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="a knowledge file")
    parser.add_argument("--vlm", required=True, metavar="NAME", help="vision-language model, e.g. icube-minilm")
    parser.add_argument(
        "--pretrained", metavar="TAG", help="weights of the model: an open_clip tag, a file or a folder"
    )
    parser.add_argument(
        "--weights-of", metavar="TAG", help="the open_clip tag that a weight file is of: its activation is taken"
    )
    parser.add_argument(
        "--duplicate-threshold", type=float, default=0.95, help="cosine of near-duplicates (default 0.95)"
    )
    parser.add_argument("--out", metavar="FILE.json", help="write the scores of every sentence")
    parser.add_argument("--html", metavar="PAGE", help="write a report page")
    parser.add_argument("--overwrite", action="store_true", help="replace existing files")


def _score(args: argparse.Namespace, load_encoder: EncoderLoader) -> Mapping[str, Any]:
    from icube_common.cli import to_json
    from icube_common.io.runs import check_output_path, write_json
    from icube_common.knowledge.class_knowledge import ClassKnowledge
    from icube_common.knowledge.score import score_sentences

    for path in (args.out, args.html):
        if path is not None:
            check_output_path(path, overwrite=args.overwrite)
    knowledge = ClassKnowledge.load(args.file)
    if not -1 <= args.duplicate_threshold <= 1:
        raise InputError(f"--duplicate-threshold {args.duplicate_threshold}: must lie between -1 and 1")
    encoder = load_encoder(args.vlm, args.pretrained, args.weights_of)
    scores = score_sentences(
        knowledge,
        encoder.encode_text,
        count_tokens=encoder.count_tokens,
        budget=encoder.text_budget,
        duplicate_threshold=args.duplicate_threshold,
    )
    encoded = " ".join(part for part in (args.vlm, args.pretrained) if part)
    result = {
        "file": args.file,
        "knowledge_hash": knowledge.hash,
        "vlm": encoded,
        "vlm_note": encoder.weights_warning,
        **scores.to_dict(),
    }
    if args.out is not None:
        write_json(args.out, to_json(result))
    if args.html is not None:
        page = scores.report(f"Scores: {knowledge.title}", subtitle=f"{args.file}, text encoder {encoded}")
        if encoder.weights_warning:
            page.paragraph(encoder.weights_warning)
        page.save(args.html)
    return {**result, "out": args.out, "html": args.html}


def _render_scores(result: Mapping[str, Any]) -> str:
    """The summary, and the sentences that lie nearest to another class; all of them are in --out, --html and --json."""
    worst = sorted((s for s in result["scores"] if s["problems"]), key=lambda s: s["margin"] or 0.0)
    lines = [f"  {s['class_name']}: {s['text']} ({', '.join(s['problems'])})" for s in worst[:WORST]]
    summary = render_table({key: value for key, value in result.items() if key != "scores"})
    return "\n".join([summary, f"{len(worst)} sentences with problems, the first {len(lines)}:", *lines])


def _review_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="a knowledge file; decisions are written into it")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--html", metavar="PAGE", help="write a page to review on, and change nothing")
    how.add_argument("--apply", metavar="DECISIONS.json", help="put in the decisions that were made on the page")
    how.add_argument("--accept-all", action="store_true", help="accept all that is proposed; needs --reviewer")
    parser.add_argument("--reviewer", metavar="NAME", help="reviewer who signs and freezes the sentences")
    parser.add_argument("--role", default="", help="the person's expertise, e.g. neurologist")
    parser.add_argument("--scores", metavar="FILE.json", help="show what `knowledge score --out` has found")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing page")


def _review(args: argparse.Namespace) -> Mapping[str, Any]:
    from icube_common.knowledge.class_knowledge import ClassKnowledge
    from icube_common.knowledge.review import (
        Reviewed,
        accept_all,
        apply_decisions,
        review_in_terminal,
        save_review_page,
    )

    knowledge = ClassKnowledge.load(args.file)  # also refuses a wrong file before anything is asked
    remarks = _remarks(args.scores) if args.scores else None
    if args.html is not None:
        if args.reviewer:
            raise InputError("--reviewer: with --html the name is put in on the page")
        page = save_review_page(knowledge, args.html, remarks=remarks, overwrite=args.overwrite)
        return {"file": args.file, "html": str(page), "then": f"review {args.file} --apply decisions.json"}
    if args.accept_all and not args.reviewer:
        raise InputError("--accept-all: needs --reviewer, the name of the person who signs all sentences")
    if args.apply is not None:
        reviewed = apply_decisions(knowledge, args.apply)
    elif args.accept_all:
        reviewed = accept_all(knowledge)
    else:
        # stdout is for the result
        reviewed = review_in_terminal(args.file, ask=_ask, show=_show, remarks=remarks)
    if args.reviewer and reviewed.proposed:
        note = f"not signed: {reviewed.proposed} sentences are still proposed"
        reviewed = Reviewed(reviewed.knowledge, reviewed.counts, (*reviewed.warnings, note))
    elif args.reviewer:
        reviewed = reviewed.sign(args.reviewer, role=args.role)
    if reviewed.knowledge != ClassKnowledge.load(args.file):
        reviewed.knowledge.save(args.file, overwrite=True)
    return {
        **_described(reviewed.knowledge),
        "decisions": dict(reviewed.counts),
        "still_proposed": reviewed.proposed,
        "warnings": list(reviewed.warnings),
    }


def _show(line: str) -> None:
    print(line, file=sys.stderr)


def _ask(question: str) -> str:
    print(question, end="", file=sys.stderr, flush=True)
    return input()


def _remarks(path: str) -> dict[tuple[str, str], str]:
    """Remark on each sentence from its scores, one line each."""
    from icube_common.io.runs import read_json

    value = read_json(path)
    try:
        return {
            (score["class_name"], score["text"]): "; ".join(
                [f"margin {score['margin']:+.3f}"] * (score["margin"] is not None)
                + [f"nearest class {score['nearest_class']}"] * (score["nearest_class"] is not None)
                + [str(problem) for problem in score["problems"]]
            )
            for score in value["scores"]
        }
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: is no file of `knowledge score --out` ({type(error).__name__}: {error})") from error


def _freeze_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="a knowledge file; the hash is written into it")


def _freeze(args: argparse.Namespace) -> Mapping[str, Any]:
    from icube_common.knowledge.class_knowledge import ClassKnowledge

    knowledge = ClassKnowledge.load(args.file)
    if knowledge.frozen is not None:
        return {**_described(knowledge), "already_frozen": True}
    return {**_described(knowledge.freeze().save(args.file, overwrite=True)), "already_frozen": False}


def _described(knowledge: ClassKnowledge) -> dict[str, Any]:
    return {**knowledge.provenance(), "review_warning": knowledge.review_warning()}


def _date(text: str | None) -> str | None:
    """An ISO date as it was given."""
    import datetime

    if text is None:
        return None
    try:
        return datetime.date.fromisoformat(text).isoformat()
    except ValueError:
        raise InputError(f"--date {text}: must have the form YYYY-MM-DD") from None
