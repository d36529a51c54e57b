"""The layout of the packages: few entries a folder, short files, parallel places, and a map that is true."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LIBRARIES = ("icube_common", "motiondiff", "actprompt", "debian_mri")
MOST_AT_TOP, MOST_BELOW, MOST_LINES = 16, 10, 400


def package(library: str) -> Path:
    return ROOT / "libs" / library / "src" / library


def entries(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != "__pycache__")


@pytest.mark.parametrize("library", LIBRARIES)
def test_folders_have_few_entries(library: str) -> None:
    top = package(library)
    crowded = {str(top.relative_to(ROOT)): len(entries(top))} if len(entries(top)) > MOST_AT_TOP else {}
    for folder in sorted(path for path in top.rglob("*") if path.is_dir() and path.name != "__pycache__"):
        # the file of the package itself is no idea of its own
        number = len([name for name in entries(folder) if name != "__init__.py"])
        if number > MOST_BELOW:
            crowded[str(folder.relative_to(ROOT))] = number
    assert crowded == {}


@pytest.mark.parametrize("library", LIBRARIES)
def test_files_are_short(library: str) -> None:
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in package(library).rglob("*.py")}
    assert {str(path.relative_to(ROOT)): number for path, number in lines.items() if number > MOST_LINES} == {}


@pytest.mark.parametrize("library", LIBRARIES[1:])
def test_libraries_are_parallel(library: str) -> None:
    """The same folders hold the same things in every library of a task."""
    assert {"cli", "data", "models", "training", "evaluation"} <= set(entries(package(library)))
