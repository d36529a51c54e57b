"""Allowed imports, read from the sources: between the libraries, and between the floors of each.

The floors are those of the table in the architecture notes, from the ground up, with the rooms that import each other
set one above the other. A file imports from lower floors and from its own room. A new file finds its place by its
folder, or by a longer prefix of its name (``data.manifest``) that has a floor of its own; a new top-level file or
folder has to be given a floor here.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent

# library -> the libraries it may import; those in the second set only inside a function, as an extra
LIBRARIES: dict[str, tuple[set[str], set[str]]] = {
    "icube_common": (set(), set()),
    "motiondiff": ({"icube_common"}, set()),
    "actprompt": ({"icube_common"}, {"motiondiff"}),
    "debian_mri": ({"icube_common"}, set()),
}

FLOORS: dict[str, list[set[str]]] = {
    "icube_common": [
        {"errors"},
        {"config"},
        {"io"},
        {"cli"},
        {"vlm", "evaluation", "losses", "pose"},
        {"knowledge", "data"},
        {"prompts", "tabular"},
        {"training"},
        {"experiments"},
    ],
    "motiondiff": [
        {"skeleton", "schedulers", "results"},
        {"config"},
        {"data"},
        {"export"},
        {"models"},
        {"pipelines"},
        {"training", "recognition"},
        {"evaluation"},
        {"augmentation"},
        {"cli"},
        {"__main__"},
    ],
    "actprompt": [
        {"skeleton", "knowledge"},
        {"data"},
        {"config"},
        {"models"},
        {"training"},
        {"evaluation"},
        {"inference"},
        {"cli"},
        {"__main__"},
    ],
    "debian_mri": [
        {"biomarkers.knowledge", "imaging", "data.clinical_variables"},
        {"dicom", "data.participants", "biomarkers"},
        {"data.manifest"},
        {"data.leakage", "imaging.volume_cache"},
        {"cohorts"},
        {"data", "simulation"},
        {"config"},
        {"data.feature_store"},
        {"data.inputs", "biomarkers.head"},
        {"data.dataset"},
        {"models"},
        {"training"},
        {"explanation"},
        {"inference"},
        {"evaluation"},
        {"cli"},
        {"__main__"},
    ],
}


class Import(NamedTuple):
    file: Path
    line: int
    target: str  # dotted module or name: "motiondiff.data.store.MotionStore"
    late: bool  # inside a function
    runs: bool  # False under `if TYPE_CHECKING:`

    def __str__(self) -> str:
        return f"{self.file.relative_to(ROOT)}:{self.line} imports {self.target}"


def sources(library: str) -> list[Path]:
    return sorted((ROOT / "libs" / library / "src" / library).rglob("*.py"))


def imports(file: Path, package: str) -> Iterator[Import]:
    """Every import of a file, each name of ``from module import name`` for itself, relative ones resolved."""

    def walk(node: ast.AST, late: bool, runs: bool) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(file, node.lineno, alias.name, late, runs)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")
            base = ".".join(parents[: len(parents) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            for alias in node.names:
                yield Import(file, node.lineno, f"{module}.{alias.name}", late, runs)
        inner = late or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        guarded = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for child in ast.iter_child_nodes(node):
            yield from walk(child, inner, runs and not (guarded and child in node.body))  # type: ignore[attr-defined]

    yield from walk(ast.parse(file.read_text(encoding="utf-8")), late=False, runs=True)


def imports_of(library: str) -> Iterator[Import]:
    base = ROOT / "libs" / library / "src"
    for file in sources(library):
        yield from imports(file, ".".join(file.parent.relative_to(base).parts))


def room(library: str, dotted: str) -> str:
    """The room of a module: the longest prefix of its name that has a floor, else the first part of the name."""
    parts = dotted.split(".")
    prefixes = [".".join(parts[:end]) for end in range(len(parts), 0, -1)]
    return next((prefix for prefix in prefixes if floor(library, prefix) is not None), parts[0])


def room_of_file(library: str, file: Path) -> str:
    """The room of a file: ``data`` for ``data/readers/bvh.py``."""
    parts = file.relative_to(ROOT / "libs" / library / "src" / library).with_suffix("").parts
    return room(library, ".".join(part for part in parts if part != "__init__") or "__init__")


def floor(library: str, name: str) -> int | None:
    return next((level for level, rooms in enumerate(FLOORS[library]) if name in rooms), None)


@pytest.mark.parametrize("library", LIBRARIES)
def test_libraries_import_only_those_below_them(library: str) -> None:
    always, late = LIBRARIES[library]
    wrong = [
        str(found)
        for found in imports_of(library)
        if (other := found.target.partition(".")[0]) in LIBRARIES
        and other != library
        and other not in always
        and not (other in late and (found.late or not found.runs))
    ]
    assert wrong == []


@pytest.mark.parametrize("library", LIBRARIES)
def test_no_library_imports_anothers_internals(library: str) -> None:
    """No name with an underscore from any other, and of another task library only what it exports at its top."""
    wrong = []
    for found in imports_of(library):
        other, *path = found.target.split(".")
        if other == library or other not in LIBRARIES:
            continue
        private = any(part.startswith("_") and part != "__version__" for part in path)
        if private or (other != "icube_common" and len(path) > 1):
            wrong.append(str(found))
    assert wrong == []


@pytest.mark.parametrize("library", LIBRARIES)
def test_every_room_has_a_floor(library: str) -> None:
    rooms = {room_of_file(library, file) for file in sources(library)} - {"__init__"}
    without = sorted(name for name in rooms if floor(library, name) is None)
    assert without == [], f"give them a floor in {Path(__file__).name}"


@pytest.mark.parametrize("library", LIBRARIES)
def test_files_import_only_from_floors_below(library: str) -> None:
    wrong = []
    for found in imports_of(library):
        owner, *path = found.target.split(".")
        if owner != library or not path:
            continue
        own = room_of_file(library, found.file)
        if own == "__init__":  # names its modules as text and loads them on demand
            if path[0] != path[-1]:  # but for a function of its module's name, which the module would replace
                wrong.append(str(found))
            continue
        target = room(library, ".".join(path))
        target_floor, own_floor = floor(library, target), floor(library, own)
        if target_floor is None:  # a name of the package's own __init__, or a public name loaded on demand
            if path not in (["__version__"], ["RESEARCH_ONLY"], ["lazy_exports"]):
                wrong.append(f"{found} from the package's top, not from where it is defined")
        elif own_floor is not None and target != own and target_floor >= own_floor:
            wrong.append(f"{found}, which is not below {own}")
    assert wrong == []


@pytest.mark.parametrize("library", LIBRARIES)
def test_rooms_do_not_import_each_other_in_a_circle(library: str) -> None:
    """Inside a folder too: at import time no file may need, by any way, itself."""
    base = ROOT / "libs" / library / "src"
    modules = {
        ".".join(file.relative_to(base).with_suffix("").parts).removesuffix(".__init__"): file
        for file in sources(library)
    }
    needs: dict[str, set[str]] = {name: set() for name in modules}
    for name, file in modules.items():
        for found in imports(file, ".".join(file.parent.relative_to(base).parts)):
            if found.late or not found.runs:
                continue
            target = found.target if found.target in modules else found.target.rpartition(".")[0]
            if target in modules and target != name:
                needs[name].add(target)
    left = dict(needs)
    while ready := [name for name, wanted in left.items() if not wanted & left.keys()]:
        for name in ready:
            del left[name]
    assert sorted(left) == [], "these import each other in a circle"


def test_the_reading_of_imports(tmp_path: Path) -> None:
    file = tmp_path / "example.py"
    file.write_text(
        "import os.path\n"
        "from . import sibling\n"
        "from ..other import thing\n"
        "if TYPE_CHECKING:\n    from a import b\nelse:\n    import c\n"
        "def f():\n    from d import e\n"
    )
    assert [(found.target, found.late, found.runs) for found in imports(file, "lib.room")] == [
        ("os.path", False, True),
        ("lib.room.sibling", False, True),
        ("lib.other.thing", False, True),
        ("a.b", False, False),
        ("c", False, True),
        ("d.e", True, True),
    ]
