"""Plain English of the field in docstrings, help texts, messages and pages: a word list and rules of first words.

``python tests/test_language.py [LIBRARY]`` prints every place that breaks a rule.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LIBRARIES = ("icube_common", "motiondiff", "actprompt", "debian_mri")
PAGES = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("libs/*/*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/*.md")]
)
PAGES = [page for page in PAGES if page.name != "CHANGELOG.md"]

# metaphors of people, and private words that have a standard term: pattern -> what to write
WORDS = {
    r"tells?|told": "distinguish, report, given (a caption)",
    r"says?|said": "states, contains, reports",
    r"(no|some|any|every)body": "no subject, a person, users",
    r"st(and|ands|ood) for|stands?-in": "denotes, represents, replaces, default",
    r"go(es|ing)? on with|goes on|gone on|went on": "resumes, continues",
    r"held against": "compared with",
    r"anew": "again",
    r"(was|is|are|were|been) asked for": "requested",
    r"knows|knew|sees|wants|speaks": "contains, uses, reads, requires",
    r"judge[sd]?|judging|judgements?": "evaluate, evaluation",
    r"hand-?overs?": "transition",
    r"(?<!of )courses?": "trajectory",
    r"recognisers?": "action classifier",
    r"stamps?": "disclaimer",
    r"pictures?": "image, figure",
    r"handed (on|down|over)": "passed",
    r"strange": "unknown, unexpected",
    r"(bear|bears|borne) the name": "is named",
    r"made up": "invented, simulated",
    r"worth": "gain, effect",
    r"begun": "started",
    r"as it should be|nothing at all|at all": "(leave out)",
}
# names of classes in published sets, and questions to a language model
NAMES_OF_OTHERS = {
    "cross hands in front (say stop)",
    "support somebody with one's hand",
    "Describe a picture of {name}.",
    "Write a caption of a picture of {name}.",
}
WORD = re.compile(rf"\b(?:{'|'.join(WORDS)})\b", re.IGNORECASE)
CLAUSE = re.compile(r"(What|Whether|Where|Which|How|Who|Whose|Whom|Why|When|That|Below which|Above which|From which)\b")
# local names of a source: participles in the place of a noun
PARTICIPLES = {"found", "known", "kept", "own", "given", "seen", "wanted", "told", "held"}
CONTINUED = re.compile(
    r"(of|what|whether|where|which|how|who|whose|why|that|and|or|but|also|too|as|than|in|on|at|by|with|without|for|from|"
    r"to|into|onto|below|above|under|if|it|its|they|them|these|those|this|is|are|was|were|has|have)\b"
)


def docstrings(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            text = ast.get_docstring(node)
            if text:
                yield node.body[0].lineno, text


def constants(node: ast.AST) -> str:
    """The text of an expression, formatted values left out."""
    return "".join(
        part.value for part in ast.walk(node) if isinstance(part, ast.Constant) and isinstance(part.value, str)
    )


def calls(tree: ast.AST) -> Iterator[tuple[int, str, str]]:
    """(line, ``help`` or ``message``, text) of help texts, errors and warnings."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            yield node.lineno, "message", " ".join(constants(argument) for argument in node.exc.args)
        elif isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if name in {"warning", "info"} and node.args:
                yield node.lineno, "message", constants(node.args[0])
            for keyword in node.keywords:
                if keyword.arg in {"help", "summary"}:
                    yield node.lineno, "help", constants(keyword.value)
            # icube_common.config.option(default, help) and icube_common.cli.Command(help, ...)
            place = {"option": 1, "Command": 0}.get(name)
            if place is not None and len(node.args) > place:
                yield node.lineno, "help", constants(node.args[place])


def sentences(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Texts of four words or more that are no docstrings: report sentences, attribute docstrings, parts of messages."""
    bodies = [node.body for node in ast.walk(tree) if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))]
    documented = {id(body[0].value) for body in bodies if body and isinstance(body[0], ast.Expr)}
    for node in ast.walk(tree):
        text = node.value if isinstance(node, ast.Constant) and id(node) not in documented else None
        if isinstance(text, str) and text.count(" ") >= 3:
            yield node.lineno, text


def without_code(text: str) -> str:
    """Prose alone: no fenced blocks, no code in a sentence, no link targets."""
    text = re.sub(
        r"^[ ]*(```|~~~).*?^[ ]*\1[ ]*$",
        lambda found: "\n" * found.group().count("\n"),
        text,
        flags=re.DOTALL | re.MULTILINE,
    )
    text = re.sub(r"``.+?``|`[^`\n]+`", "", text)
    return re.sub(r"\]\([^)\s]+\)|>>>.*", "", text)


def faults_of_text(text: str) -> Iterator[str]:
    for found in WORD.finditer(without_code(text)):
        yield f"{found.group()!r}"


def faults_of_source(path: Path) -> Iterator[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    place = path.relative_to(ROOT)
    for line, text in docstrings(tree):
        if CLAUSE.match(text):
            yield f"{place}:{line}: docstring begins with a clause: {text.splitlines()[0]}"
        yield from (f"{place}:{line}: docstring: {fault}" for fault in faults_of_text(text))
    for line, kind, text in calls(tree):
        if kind == "help" and (CONTINUED.match(text) or CLAUSE.match(text)):
            yield f"{place}:{line}: help begins with neither a noun nor a verb: {text[:70]}"
        yield from (f"{place}:{line}: {kind}: {fault} in {text[:70]!r}" for fault in faults_of_text(text))
    for line, text in sentences(tree):
        if text not in NAMES_OF_OTHERS:
            yield from (f"{place}:{line}: text: {fault} in {text[:70]!r}" for fault in faults_of_text(text))


def local_names(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Arguments and variables of functions."""
    for function in ast.walk(tree):
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            for node in ast.walk(function):
                if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                    yield node.lineno, node.id
                elif isinstance(node, ast.arg):
                    yield node.lineno, node.arg


def faults_of_locals(path: Path) -> Iterator[str]:
    names = sorted(set(local_names(ast.parse(path.read_text(encoding="utf-8")))))
    yield from (f"{path.relative_to(ROOT)}:{line}: local name {name}" for line, name in names if name in PARTICIPLES)


def faults_of_test_name(name: str) -> Iterator[str]:
    """Metaphors in the name of a test, and clauses instead of a thing and its behaviour."""
    words = name.removeprefix("test_").replace("_", " ")
    yield from faults_of_text(words)
    clause = CLAUSE.match(words.capitalize()) or re.search(r"\bwhat\b", words)
    if clause:
        yield f"clause {clause.group()!r}"


def faults_of_tests(path: Path) -> Iterator[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    place = path.relative_to(ROOT)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            yield from (f"{place}:{node.lineno}: {node.name}: {fault}" for fault in faults_of_test_name(node.name))
    for line, text in docstrings(tree):
        if CLAUSE.match(text):
            yield f"{place}:{line}: docstring begins with a clause: {text.splitlines()[0]}"
        yield from (f"{place}:{line}: docstring: {fault}" for fault in faults_of_text(text))


def faults_of_page(page: Path) -> Iterator[str]:
    text = re.sub(r"<!--.*?-->", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for number, line in enumerate(without_code(text).splitlines(), 1):
        yield from (f"{page.relative_to(ROOT)}:{number}: {found.group()!r}" for found in WORD.finditer(line))


def sources(library: str) -> list[Path]:
    return sorted((ROOT / "libs" / library / "src").rglob("*.py"))


def paths_of_tests(library: str) -> list[Path]:
    """Test files of a library, or those of the repository for an empty name."""
    return sorted((ROOT / "libs" / library / "tests" if library else ROOT / "tests").rglob("*.py"))


@pytest.mark.parametrize("library", LIBRARIES)
def test_sources_use_plain_english(library: str) -> None:
    assert [fault for path in sources(library) for fault in faults_of_source(path)] == []


@pytest.mark.parametrize("library", LIBRARIES)
def test_local_names_are_nouns(library: str) -> None:
    assert [fault for path in sources(library) for fault in faults_of_locals(path)] == []


@pytest.mark.parametrize("library", ("", *LIBRARIES))
def test_tests_use_plain_english(library: str) -> None:
    assert [fault for path in paths_of_tests(library) for fault in faults_of_tests(path)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_pages_use_plain_english(page: Path) -> None:
    assert list(faults_of_page(page)) == []


def test_the_rules(tmp_path: Path) -> None:
    assert list(faults_of_text("A file that says `told` and is held against another")) == ["'says'", "'held against'"]
    assert list(faults_of_text("Of course; `stamps`; the outcome")) == []
    assert CLAUSE.match("Which clip is left") and not CLAUSE.match("Selective prediction: abstain")
    assert (
        CONTINUED.match("of all clips")
        and CONTINUED.match("whether to mirror")
        and not CONTINUED.match("number of clips")
    )
    assert list(faults_of_test_name("test_what_a_file_says")) == ["'says'", "clause 'What'"]
    assert list(faults_of_test_name("test_saved_model_is_refused")) == []
    tree = ast.parse("def f(kept, *, a=1):\n    found = a\n    g(seen=a)")
    assert sorted(set(local_names(tree))) == [(1, "a"), (1, "kept"), (2, "found")]
    tree = ast.parse('raise InputError(f"{a}: nobody" " here")\nf(help="of it")\noption(1, "seed")')
    assert list(calls(tree)) == [(1, "message", ": nobody here"), (2, "help", "of it"), (3, "help", "seed")]


if __name__ == "__main__":
    chosen = sys.argv[1:] or LIBRARIES
    lines = [
        fault
        for library in chosen
        for path in sources(library)
        for fault in (*faults_of_source(path), *faults_of_locals(path))
    ]
    lines += [fault for library in chosen for path in paths_of_tests(library) for fault in faults_of_tests(path)]
    pages = [page for page in PAGES if not sys.argv[1:] or any(library in page.parts for library in chosen)]
    lines += [fault for page in pages for fault in faults_of_page(page)]
    print("\n".join(lines), f"{len(lines)} faults", sep="\n")
