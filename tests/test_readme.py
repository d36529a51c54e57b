"""The pages are true: their Python runs, their command lines parse, their links lead to a file and to a heading in it.

A block that starts with ```` ```python runnable ```` is executed, alone, in an empty folder.
"""

from __future__ import annotations

import importlib
import re
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from icube_common.cli import parse
from icube_common.config import load_config

ROOT = Path(__file__).resolve().parent.parent
PROGRAMS = {"motiondiff": "motiondiff", "actprompt": "actprompt", "debian-mri": "debian_mri"}
FOLDERS = ("*.md", "libs/*/*.md", "docs/**/*.md", "benchmarks/*.md", "examples/*.md")
PAGES = sorted(page for pattern in FOLDERS for page in ROOT.glob(pattern))
TUTORIALS = sorted(ROOT.glob("docs/tutorials/*.py"))
MAX_README_LINES = 200
# a block may stand inside a list, indented
FENCE = re.compile(r"^[ ]*```([^\n`]*)\n(.*?)^[ ]*```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def text_of(page: Path) -> str:
    """A page without what a reader does not see."""
    return re.sub(r"<!--.*?-->", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)


def snippets() -> Iterator[object]:
    for page in PAGES:
        for number, (kind, code) in enumerate(FENCE.findall(text_of(page))):
            if kind.split() == ["python", "runnable"]:
                yield pytest.param(textwrap.dedent(code), id=f"{name(page)}-{number}")


def command_lines(text: str, program: str) -> Iterator[str]:
    """Lines of code blocks, ends of lines with a backslash joined, and code in a sentence."""
    for kind, block in FENCE.findall(text):
        if kind.split()[:1] != ["python"]:
            for line in re.sub(r"\\\n\s*", " ", textwrap.dedent(block)).splitlines():
                yield from [line.removeprefix("$ ").strip()] if re.match(rf"(\$ )?{program}\s", line) else []
    for code in INLINE.findall(FENCE.sub("", text)):
        if code.startswith(f"{program} "):
            yield code


def quoted_commands() -> Iterator[object]:
    for page in PAGES:
        for program in PROGRAMS:
            for line in command_lines(text_of(page), program):
                yield pytest.param(program, line, id=f"{name(page)}: {line}")


@pytest.mark.parametrize("code", list(snippets()))
def test_snippets_run(code: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("program", "line"), list(quoted_commands()))
def test_commands_parse(program: str, line: str) -> None:
    """Against the real parser and the real choices; a file named by ``--config`` exists and fits the schema."""
    cli = importlib.import_module(f"{PROGRAMS[program]}.cli")
    words = shlex.split(line, comments=True)[1:]
    if words in (["--help"], ["--version"]):
        return
    args = parse(program, cli.COMMANDS, words)
    schema = cli.COMMANDS[args.command].config
    if schema is not None:
        load_config(schema, file=ROOT / args.config if args.config else None, overrides=args.overrides)
    known: dict[str, Iterable[str]] = {}
    if program == "actprompt" and args.command == "prepare":
        from actprompt.data.readers import FORMATS

        known = {"format": FORMATS}
    elif program == "motiondiff":
        known = {
            "format": cli.data.READER_FORMATS,
            "scheduler": importlib.import_module("motiondiff.schedulers").SCHEDULERS,
            "to": (*cli.data.EXPORT_FORMATS, *cli.data.SET_FORMATS),
        }
        formats = getattr(args, "formats", None)
        assert formats is None or set(formats.split(",")) <= set(cli.data.EXPORT_FORMATS)
    for option, choices in known.items():
        assert getattr(args, option, None) in {None, *choices}


def prose_of(page: Path) -> str:
    """A page without code blocks; of a tutorial its text cells."""
    if page.suffix == ".py":
        return "\n".join(re.findall(r"(?m)^# ?(.*)$", page.read_text(encoding="utf-8")))
    return FENCE.sub("", text_of(page))


def anchor_of(heading: str) -> str:
    """Anchor of a heading, as code hosts and mkdocs make it."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def anchors_of(page: Path) -> set[str]:
    headings = re.findall(r"(?m)^#+ (.*)$", prose_of(page))
    return {anchor_of(heading) for heading in headings} | set(re.findall(r'<a (?:id|name)="([^"]+)"', prose_of(page)))


@pytest.mark.parametrize("page", [*PAGES, *TUTORIALS], ids=name)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    broken = []
    for link in LINK.findall(prose_of(page)):
        if "://" in link or link.startswith("mailto:"):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if not target.exists() or (anchor and (target.suffix != ".md" or anchor not in anchors_of(target))):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("page", [ROOT / "README.md", *sorted(ROOT.glob("libs/*/README.md"))], ids=name)
def test_first_pages_are_short_and_begin_with_an_image(page: Path) -> None:
    lines = page.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= MAX_README_LINES
    if page.parent.name != "icube_common":
        assert any(line.startswith("![") for line in lines[:15])


def test_every_page_is_in_the_site() -> None:
    site = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")[2]
    pages = [*ROOT.glob("docs/**/*.md"), *TUTORIALS]
    assert [name(page) for page in pages if page.relative_to(ROOT / "docs").as_posix() not in site] == []


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"(?m)^([a-z]+):", makefile)) | {f"test-{path.name}" for path in ROOT.glob("libs/*")}
    for page in PAGES:
        text = text_of(page)
        quoted = {line.split()[1] for line in command_lines(text, "make")}
        assert quoted <= targets, name(page)


def test_the_reading_of_pages() -> None:
    assert anchor_of("HumanML3D's vectors") == "humanml3ds-vectors" and anchor_of("`a_b`, c") == "a_b-c"
    bash = "  ```bash\n  $ motiondiff info \\\n      STORE --json\n  other\n  ```\n"
    text = f"Run `motiondiff demo`.\n\n{bash}\n```python\nmotiondiff x\n```\n"
    assert list(command_lines(text, "motiondiff")) == ["motiondiff info  STORE --json", "motiondiff demo"]
