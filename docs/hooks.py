"""Pages of the repository outside ``docs/`` in the site: READMEs as pages, scripts and settings as text files.

Links between Markdown files are those of the repository, so that they also work on a code host. Here each link that
leaves ``docs/`` is changed to ``repository/<path>`` of the site, and its target is added; a link to a folder becomes
plain text.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
OUTSIDE = "repository"
ALWAYS = ("examples/README.md", "benchmarks/README.md", "CONTRIBUTING.md", "CHANGELOG.md")
FENCE = re.compile(r"(^[ ]*```.*?^[ ]*```[ ]*$)", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")


def site_path(target: Path) -> str | None:
    """Place in the site of a file of the repository; None for a folder without a README."""
    if target.is_dir():
        target = target / "README.md"
    if not target.is_file():
        return None
    if target.is_relative_to(DOCS):
        return target.relative_to(DOCS).as_posix()
    path = f"{OUTSIDE}/{target.relative_to(ROOT).as_posix()}"
    return path if target.suffix == ".md" else f"{path}.txt"


def repository_file(page: str) -> Path:
    """File of a page of the site."""
    inside = page.removeprefix(f"{OUTSIDE}/")
    return ROOT / inside if inside != page else DOCS / page


def rewrite(text: str, page: str) -> tuple[str, set[Path]]:
    """Text with the site's links, and the files outside ``docs/`` that it links."""
    folder, used = repository_file(page).parent, set()

    def change(match: re.Match[str]) -> str:
        image, words, link = match.groups()
        if "://" in link or link.startswith(("#", "mailto:")):
            return match[0]
        path, mark, anchor = link.partition("#")
        target = (folder / path).resolve()
        place = site_path(target)
        if place is None:
            return words if target.is_dir() else match[0]
        if place.startswith(OUTSIDE):
            used.add(target / "README.md" if target.is_dir() else target)
        relative = os.path.relpath(place, os.path.dirname(page) or ".")
        return f"{image}[{words}]({relative}{mark}{anchor})"

    # words after the language are for the tests
    parts = FENCE.split(re.sub(r"(?m)^([ ]*```python) \w+$", r"\1", text))
    return "".join(part if index % 2 else LINK.sub(change, part) for index, part in enumerate(parts)), used


def on_files(files: Any, config: Any) -> Any:
    """Add the linked files outside ``docs/``, and those that these link."""
    waiting = [*ROOT.glob("libs/*/README.md"), *(ROOT / name for name in ALWAYS)]
    for file in files:
        if file.src_path.endswith(".md"):
            waiting += rewrite(Path(file.abs_src_path).read_text(encoding="utf-8"), file.src_path)[1]
    done = set()
    while waiting:
        path = waiting.pop()
        if path in done:
            continue
        done.add(path)
        place = site_path(path)
        assert place is not None, path
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".md":
            waiting += rewrite(text, place)[1]
        files.append(File.generated(config, place, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """The page with the site's links."""
    return rewrite(markdown, page.file.src_path)[0]
