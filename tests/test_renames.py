"""Old names are gone: none of the tables in ``tests/renames`` is left among modules, public names, keys and options.

``tests/renames/<library>.csv`` has a row for each name that was replaced: ``kind,old,new``. ``module`` is a dotted path
inside the package, ``key`` a dotted configuration key, ``option`` and ``value`` are words of a command line, ``local``
is a rule for variables that no test checks.
"""

from __future__ import annotations

import ast
import csv
from pathlib import Path

import pytest
from test_messages import COMMANDS, keys_of, options_of

ROOT = Path(__file__).resolve().parent.parent
LIBRARIES = ("icube_common", *COMMANDS)
KINDS = {"module", "class", "function", "key", "option", "command", "value", "local"}
# general rules: no public function or constant begins with these
PREFIXES = ("refuse_", "draw_", "MOST_", "LEAST_", "FEWEST_", "LARGEST_")


def table(library: str) -> list[tuple[str, str, str]]:
    with (ROOT / "tests" / "renames" / f"{library}.csv").open(encoding="utf-8", newline="") as file:
        return [(row["kind"], row["old"], row["new"]) for row in csv.DictReader(file)]


def modules(library: str) -> set[str]:
    """Dotted paths of modules and packages, without the library's name."""
    base = ROOT / "libs" / library / "src" / library
    files = {path.relative_to(base).with_suffix("") for path in base.rglob("*.py")}
    return {".".join(path.parts).removesuffix(".__init__") for path in files} | {
        ".".join(path.parts) for file in files for path in file.parents if path.parts
    }


def public_names(library: str) -> set[str]:
    """Classes, functions, methods and constants without an underscore in front."""
    found: set[str] = set()
    for path in (ROOT / "libs" / library / "src" / library).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
                found.add(node.name)
            elif isinstance(node, (ast.Assign, ast.AnnAssign)):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                found.update(target.id for target in targets if isinstance(target, ast.Name) and target.id.isupper())
    return {name for name in found if not name.startswith("_")}


def commands(library: str) -> set[str]:
    if library == "icube_common":
        return set()
    return set(__import__(f"{library}.cli", fromlist=["COMMANDS"]).COMMANDS)


@pytest.mark.parametrize("library", LIBRARIES)
def test_no_old_name_is_left(library: str) -> None:
    owners = [library] if library in COMMANDS else list(COMMANDS)
    names = public_names(library)
    there = {
        "module": modules(library),
        "class": names,
        "function": names,
        "key": set().union(*(keys_of(owner) for owner in owners)),
        "option": set().union(*(options_of(owner) for owner in owners)),
        "command": set().union(*(commands(owner) for owner in owners)),
    }
    rows = table(library)
    left = [f"{kind} {old} -> {new}" for kind, old, new in rows if old in there.get(kind, ())]
    assert left == []


@pytest.mark.parametrize("library", LIBRARIES)
def test_new_modules_classes_and_keys_exist(library: str) -> None:
    """A table of renames is no fiction: its right side is in the code, too."""
    owners = [library] if library in COMMANDS else list(COMMANDS)
    names = public_names(library)
    there = {
        "module": modules(library),
        "class": names,
        "key": set().union(*(keys_of(owner) for owner in owners)),
        "option": set().union(*(options_of(owner) for owner in owners)),
    }
    missing = [
        f"{kind} {old} -> {new}"
        for kind, old, new in table(library)
        if kind in there and new and new not in there[kind]
    ]
    assert missing == []


@pytest.mark.parametrize("library", LIBRARIES)
def test_tables_are_well_formed(library: str) -> None:
    rows = table(library)
    assert len(rows) >= 20 and {kind for kind, _, _ in rows} <= KINDS
    assert len(set(rows)) == len(rows), "a row stands twice"


@pytest.mark.parametrize("library", LIBRARIES)
def test_general_rules(library: str) -> None:
    assert sorted(name for name in public_names(library) if name.startswith(PREFIXES)) == []
