"""Sentences asked of a language model: the questions of CuPL with a sentence about the domain, and reading the answers.

Pratt et al., What does a platypus look like?, ICCV 2023.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from icube_common.config import as_list
from icube_common.errors import InputError
from icube_common.knowledge.class_knowledge import ClassKnowledge, today
from icube_common.knowledge.names import match_classes, readable_name
from icube_common.knowledge.sentences import Sentence, Source, one_line

PROMPTS = (
    "Describe what {name} looks like.",
    "How can you identify {name}?",
    "What does {name} look like?",
    "Describe a picture of {name}.",
    "Write a caption of a picture of {name}.",
)
MIN_WORDS = 3
MAX_WORDS = 60
ROUNDS = 3  # how often all questions are put, with another seed, while sentences are missing

ITEM = re.compile(r"^\s*(?:[-*\u2022\u2013]+\s+|\(?\d{1,3}[.):](?:\s+|(?=[A-Z\"'\u201c])))+")
SENTENCE_END = re.compile(r"(?:(?<=[.!?])|(?<=[.!?][\"'\u201d]))\s+(?=[\"'\u201c]?[A-Z])")
THOUGHTS = re.compile(r"<think>.*?(</think>|\Z)", re.DOTALL)
QUOTES = {'"': '"', "'": "'", "\u201c": "\u201d", "\u2018": "\u2019", "`": "`"}


@dataclass(frozen=True)
class Answer:
    """Answer of a generator: its text, and whether it was complete (False: cut off)."""

    text: str
    complete: bool = True


class Generator(Protocol):
    """A language model: called with a question and a seed, it answers."""

    name: str

    def __call__(self, prompt: str, *, seed: int) -> Answer:
        """The answer to one question; the same seed asks for the same answer."""


@dataclass(frozen=True)
class Generated:
    """Result of `generate_sentences`.

    Attributes:
        knowledge: the sentences, all proposed.
        dropped: why parts of answers were left out -> how many.
        short: class -> number of its sentences, where there are fewer than asked for.
    """

    knowledge: ClassKnowledge
    dropped: Mapping[str, int]
    short: Mapping[str, int]


def compose_prompt(prompt: str, *, domain: str = "", number: int = 10, language: str = "en") -> str:
    """A question, the domain before it and the form of the answer behind it; ``{name}`` stays for the class.

    Raises:
        InputError: the prompt has no ``{name}``, or other braces.
    """
    if prompt.count("{name}") < 1 or re.search(r"[{}]", prompt.replace("{name}", "")):
        raise InputError(f"prompt {prompt!r}: must hold {{name}}, for the class, and no other braces")
    if re.search(r"[{}]", domain):
        raise InputError(f"domain {domain!r}: must not hold braces")
    about = [f"The samples are: {domain.rstrip('.')}."] if domain else []
    expected = f"Answer with {number} different sentences, one per line, each complete in itself"
    expected += "." if language == "en" else f", in the language {language!r}."
    return one_line(" ".join([*about, prompt, expected]))


def generate_sentences(
    class_names: Sequence[str],
    generator: Generator,
    *,
    prompts: Sequence[str] = PROMPTS,
    per_class: int = 10,
    seed: int = 0,
    domain: str = "",
    title: str = "generated",
    language: str = "en",
    max_words: int = MAX_WORDS,
    date: str | None = None,
    start: ClassKnowledge | None = None,
    on_class: Callable[[ClassKnowledge], object] | None = None,
    progress: Callable[[Sequence[str]], Iterable[str]] = lambda names: names,
) -> Generated:
    """Ask a language model about every class.

    The questions are put in turn, up to three times with other seeds, until a class has ``per_class`` sentences.

    Args:
        class_names: the classes.
        generator: the model.
        prompts: the questions, with ``{name}`` for the class.
        per_class: sentences wanted for a class.
        seed: of the first question; each further one has the next.
        domain: description of the samples; precedes each question.
        title: title of the knowledge.
        language: of the sentences, as a code.
        max_words: longer sentences are dropped.
        date: ISO date that sources carry; today by default.
        start: knowledge made before, whose classes are kept and not asked about again.
        on_class: is given the knowledge after each class, to save it (what was paid for is not lost).
        progress: wraps the classes, for a progress bar.

    Raises:
        InputError: no class, classes that differ in nothing but case, a prompt without ``{name}``, an option out of
            range, or no usable sentence for any class.
    """
    class_names, prompts = as_list(class_names), as_list(prompts)
    if not class_names or not prompts:
        raise InputError(f"{'classes' if not class_names else 'prompts'}: there is none")
    for name, value in (("per_class", per_class), ("max_words", max_words)):
        if value < 1:
            raise InputError(f"{name} {value}: must be at least 1")
    match_classes(class_names, ())
    share = -(-per_class // len(prompts)) if len(prompts) < per_class else 1
    templates = [compose_prompt(prompt, domain=domain, number=share, language=language) for prompt in prompts]
    sources = {
        template: Source("model", model=generator.name, prompt=template, date=date or today()) for template in templates
    }
    classes = dict(start.classes) if start else {}
    dropped: Counter[str] = Counter()
    knowledge = start
    for place, name in enumerate(progress(class_names)):
        if start and name in start.classes:
            continue
        sentences: dict[str, Sentence] = {}
        asked = [template for _ in range(ROUNDS) for template in templates]
        for number, template in enumerate(asked):
            question = template.replace("{name}", readable_name(name))
            answer = generator(question, seed=seed + place * len(asked) + number)
            texts, left_out = parse_answer(answer, max_words=max_words)
            dropped.update(left_out)
            for text in texts:
                if text.casefold() in sentences:
                    dropped["duplicate"] += 1
                elif len(sentences) < per_class:
                    sentences[text.casefold()] = Sentence(text, sources[template])
            if len(sentences) >= per_class:
                break
        if sentences:
            classes[name] = tuple(sentences.values())
            knowledge = (
                start.with_classes(classes)
                if start
                else ClassKnowledge(title, classes, domain=domain, language=language)
            )
            if on_class:
                on_class(knowledge)
    if knowledge is None:
        raise InputError(f"{generator.name}: gave no usable sentence for any class (left out: {dict(dropped)})")
    short = {name: len(classes.get(name, ())) for name in class_names if len(classes.get(name, ())) < per_class}
    return Generated(knowledge, dict(dropped), short)


def parse_answer(answer: Answer, *, max_words: int = MAX_WORDS) -> tuple[list[str], Counter[str]]:
    """The sentences of an answer: a list with numbers or bullets, quoted lines, a JSON list, or plain paragraphs.

    An item of a list stays whole, a paragraph is taken apart. Left out and counted: headings (``Here are ...:``), what
    is too short or too long, duplicates, and the end of an answer that was cut off.

    Returns:
        The sentences, and why others were left out -> how many.
    """
    dropped: Counter[str] = Counter()
    parts: list[str] = []
    text = THOUGHTS.sub("", answer.text).strip()
    for line in _json_lines(text) or text.splitlines():
        line = one_line(line.replace("**", ""))
        if not line or line.startswith("```"):
            continue
        if ITEM.match(line):
            parts.append(ITEM.sub("", line))
        else:
            parts.extend(SENTENCE_END.split(line))
    if parts and not answer.complete and not parts[-1].rstrip("\"'\u201d").endswith((".", "!", "?")):
        parts.pop()
        dropped["cut off"] += 1
    sentences: dict[str, str] = {}
    for part in map(_unquote, parts):
        count = len(part.split())
        if part.endswith(":"):
            dropped["heading"] += 1
        elif count < MIN_WORDS:
            dropped["too short"] += 1
        elif count > max_words:
            dropped["too long"] += 1
        elif part.casefold() in sentences:
            dropped["duplicate"] += 1
        else:
            sentences[part.casefold()] = part
    return list(sentences.values()), dropped


def _json_lines(text: str) -> list[str]:
    """The strings of an answer that is a JSON list, whether or not a code fence is around it; else none."""
    body = re.sub(r"^```\w*\s*|\s*```$", "", text)
    if not body.startswith("["):
        return []
    try:
        value = json.loads(body)
    except (json.JSONDecodeError, RecursionError):
        return []
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _unquote(text: str) -> str:
    """The text without the quotation marks around it and a comma behind them."""
    text = text.strip().removesuffix(",") if text.strip().endswith(('",', "',")) else text.strip()
    while len(text) > 1 and QUOTES.get(text[0]) == text[-1] and text[0] not in text[1:-1]:
        text = text[1:-1].strip()
    return text
