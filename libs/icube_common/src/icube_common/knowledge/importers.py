"""Import of published descriptions: the JSON forms of CuPL, DCLIP, GPT4Vis and TC-CLIP / FROSTER.

A form is the layout of a file, not its author: model, prompt and reference are given by the caller.
Pratt et al., ICCV 2023 (CuPL); Menon and Vondrick, ICLR 2023 (DCLIP); Wu et al., 2023 (GPT4Vis); Huang et al., ICLR
2024 (FROSTER) and Kim et al., ECCV 2024 (TC-CLIP).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from icube_common.config import as_list
from icube_common.errors import InputError, unknown
from icube_common.knowledge.class_knowledge import ClassKnowledge, today
from icube_common.knowledge.files import read_json_text, read_utf8
from icube_common.knowledge.names import match_classes, name_them, readable_name
from icube_common.knowledge.sentences import Sentence, Source, one_line

FORMS = {
    "cupl": "{class: [sentences]}",
    "gpt4vis": "{class: [sentences]}, the same as cupl",
    "dclip": "{class: [short descriptors]}, made into sentences",
    "tcclip": '{index: "Class: sentence"} or a list of these',
}
NOT_STATED = "not stated"
# DCLIP: what a descriptor begins with decides how it follows "which"
VERBS = ("has", "have", "is", "are", "often", "typically", "usually", "may", "can", "looks", "lives", "grows", "comes")
MIN_WORDS = 2  # CuPL files hold answers such as "1."
DESCRIPTOR_WORDS = 8


@dataclass(frozen=True)
class Imported:
    """Result of an import.

    Attributes:
        knowledge: the sentences, all proposed.
        form: the form of the file.
        dropped: why sentences were left out -> how many (``empty``, ``too short``, ``duplicate``).
        unknown: classes of the file that were not wanted and were left out, as allowed.
        missing: wanted classes that the file lacks, as allowed.
    """

    knowledge: ClassKnowledge
    form: str
    dropped: Mapping[str, int]
    unknown: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


def import_descriptions(
    path: str | Path,
    *,
    form: str | None = None,
    class_names: Sequence[str] | None = None,
    allow_unknown: bool = False,
    allow_missing: bool = False,
    model: str | None = None,
    prompt: str | None = None,
    reference: str | None = None,
    date: str | None = None,
    title: str | None = None,
    domain: str = "",
    language: str = "en",
) -> Imported:
    """Read a published JSON file as proposed sentences.

    Args:
        path: the JSON file.
        form: one of `FORMS`; found by the file's layout when None (``cupl`` includes ``gpt4vis``).
        class_names: the classes wanted, with the spelling that counts (``ApplyEyeMakeup`` of a file matches
            ``apply eye makeup``); by default those of the file.
        allow_unknown: leave out classes of the file that are not wanted, instead of refusing.
        allow_missing: do without wanted classes that the file lacks, instead of refusing.
        model: author of the sentences; ``not stated`` by default, as no file contains it.
        prompt: what the model was asked.
        reference: the publication; by default the file's name and form.
        date: ISO date of writing; by default that of the import, today.
        title: title of the knowledge; by default the file's name.
        domain: what the samples are.
        language: of the sentences.

    Raises:
        InputError: the file is missing, no JSON, or of another form; classes are unknown or missing (all are listed).
    """
    path = Path(path)
    class_names = None if class_names is None else as_list(class_names)
    try:
        value = read_json_text(read_utf8(path), path)
    except RecursionError:
        raise InputError(f"{path}: is nested too deeply") from None
    if form is not None and form not in FORMS:
        raise unknown("form", form, FORMS)
    form = form or detect_form(value, path)
    read = {"dclip": _read_dclip, "tcclip": _read_tcclip}.get(form, _read_sentences)
    result, dropped = _clean(read(value, path))
    unwanted: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    if class_names is None:
        match_classes([], result)  # refuses two spellings of one class
        matched = {name: name for name in result}
    else:
        matched = match_classes(class_names, result)
        unwanted = tuple(name for name in result if name not in set(matched.values()))
        missing = tuple(name for name in class_names if name not in matched)
        _refuse(path, unwanted, missing, class_names, allow_unknown, allow_missing)
    if empty := [name for name, other in matched.items() if not result[other]]:
        raise InputError(f"{path}: class {name_them(empty)}: has no usable sentence")
    if not matched:
        raise InputError(f"{path}: none of its classes is wanted")
    source = Source(
        "model",
        model=model or NOT_STATED,
        prompt=prompt,
        date=date or today(),
        reference=reference or f"imported from {path.name} ({form} form)",
    )
    knowledge = ClassKnowledge(
        title=title or one_line(path.stem.replace("_", " ")),
        classes={name: tuple(Sentence(text, source) for text in result[other]) for name, other in matched.items()},
        domain=domain,
        language=language,
    )
    return Imported(knowledge, form, dict(dropped), unwanted, missing)


def detect_form(value: Any, path: Path) -> str:
    """The form of a file, by its layout.

    Raises:
        InputError: it is none of `FORMS`.
    """
    if isinstance(value, list) or (isinstance(value, dict) and value and all(key.isdecimal() for key in value)):
        return "tcclip"
    if not isinstance(value, dict) or not value:
        raise InputError(f"{path}: is none of the forms {', '.join(FORMS)} (a mapping of class to sentences)")
    items = (as_list(item) for item in value.values() if isinstance(item, (str, list)))
    texts = [text for item in items for text in item if isinstance(text, str)]
    short = [not text.strip().endswith((".", "!", "?")) and len(text.split()) <= DESCRIPTOR_WORDS for text in texts]
    return "dclip" if texts and sum(short) > len(short) / 2 else "cupl"


def descriptor_sentence(class_name: str, descriptor: str) -> str:
    """A DCLIP descriptor as a sentence: ``{class}, which has long fur``, ``{class}, which is a tall animal``.

    As in Menon and Vondrick's release, except that only the words ``a``, ``an`` and ``used`` call for "is": there,
    every descriptor that starts with the letter a does ("which is antlers").
    """
    words = descriptor.rstrip(" .").split()
    first = words[0].lower()
    link = "" if first in VERBS else "is " if first in ("a", "an", "used") else "has "
    return f"{readable_name(class_name)}, which {link}{' '.join(words)}"


def _refuse(
    path: Path,
    unwanted: Sequence[str],
    missing: Sequence[str],
    expected: Sequence[str],
    allow_unknown: bool,
    allow_missing: bool,
) -> None:
    """Refuse what is not allowed, all of it in one line."""
    wrong = []
    if unwanted and not allow_unknown:
        left = missing or expected
        wrong.append(f"unknown class {name_them(unwanted, left)} (--allow-unknown leaves out what is not wanted)")
    if missing and not allow_missing:
        wrong.append(f"missing class {name_them(missing)} (--allow-missing does without)")
    if wrong:
        raise InputError(f"{path}: {'; '.join(wrong)}")


def _clean(result: Mapping[str, Iterable[str]]) -> tuple[dict[str, list[str]], Counter[str]]:
    """One line each, without what is empty, too short, or repeated; with the number of each."""
    dropped: Counter[str] = Counter()
    remaining: dict[str, list[str]] = {}
    for name, texts in result.items():
        remaining[name] = []
        seen_texts = set()
        for text in map(one_line, texts):
            why = "empty" if not text else "too short" if len(text.split()) < MIN_WORDS else ""
            why = why or ("duplicate" if text.casefold() in seen_texts else "")
            if why:
                dropped[why] += 1
                continue
            seen_texts.add(text.casefold())
            remaining[name].append(text)
    return remaining, dropped


def _read_sentences(value: Any, path: Path) -> dict[str, list[str]]:
    if not isinstance(value, dict):
        raise InputError(f"{path}: must hold a mapping of class to sentences (found {type(value).__name__})")
    result = {}
    for name, texts in value.items():
        texts = [texts] if isinstance(texts, str) else texts
        if not isinstance(texts, list):
            raise InputError(f"{path}: class {name!r}: must have a list of sentences (found {type(texts).__name__})")
        for text in texts:
            if not isinstance(text, str):
                raise InputError(f"{path}: class {name!r}: {text!r:.60} is no sentence")
        if not one_line(name):
            raise InputError(f"{path}: a class has no name")
        result[one_line(name)] = texts
    return result


def _read_dclip(value: Any, path: Path) -> dict[str, list[str]]:
    return {
        name: [descriptor_sentence(name, text) if text.strip(" .") else "" for text in texts]
        for name, texts in _read_sentences(value, path).items()
    }


def _read_tcclip(value: Any, path: Path) -> dict[str, list[str]]:
    texts = list(value.values()) if isinstance(value, dict) else value
    result: dict[str, list[str]] = {}
    for number, text in enumerate(texts if isinstance(texts, list) else [texts]):
        name, colon, sentence = text.partition(": ") if isinstance(text, str) else ("", "", "")
        if not colon or not name.strip():
            raise InputError(f'{path}: entry {number}: must be "Class: sentence" (found {text!r:.60})')
        result.setdefault(one_line(name), []).append(sentence)
    return result
