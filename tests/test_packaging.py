"""Each library's manifest against its sources and its siblings; the real installation is in test_bare_install.py."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
import sys
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")

ROOT = Path(__file__).resolve().parent.parent
LIBRARIES = ("icube_common", "motiondiff", "actprompt", "debian_mri")
DEPENDENTS = LIBRARIES[1:]

# import name -> name on the package index, where they differ
DISTRIBUTIONS = {
    "PIL": "pillow",
    "mathutils": "bpy",
    "open_clip": "open-clip-torch",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}


def manifest(library: str) -> dict[str, Any]:
    return tomllib.loads((ROOT / "libs" / library / "pyproject.toml").read_text(encoding="utf-8"))


def hook(library: str) -> ModuleType:
    pytest.importorskip("hatchling")
    path = ROOT / "libs" / library / "hatch_build.py"
    spec = importlib.util.spec_from_file_location(f"hatch_build_of_{library}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def name_of(requirement: str) -> str:
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert match is not None
    return re.sub(r"[-_.]+", "-", match.group()).lower()


@pytest.mark.parametrize("library", LIBRARIES)
def test_every_library_has_its_parts(library: str) -> None:
    folder = ROOT / "libs" / library
    assert (folder / "README.md").read_text(encoding="utf-8").startswith("# ")
    assert (folder / "src" / library / "py.typed").is_file() and (folder / "tests").is_dir()
    assert (folder / "hatch_build.py").is_file() == (library in DEPENDENTS)


@pytest.mark.parametrize("library", LIBRARIES)
def test_the_version_is_the_same_in_both_places(library: str) -> None:
    assert importlib.import_module(library).__version__ == manifest(library)["project"]["version"]


@pytest.mark.parametrize("library", DEPENDENTS)
def test_the_command_exists(library: str) -> None:
    ((command, target),) = manifest(library)["project"]["scripts"].items()
    module, _, function = target.partition(":")
    assert command == library.replace("_", "-")
    assert callable(getattr(importlib.import_module(module), function))


def test_the_hooks_differ_in_nothing_but_the_extras() -> None:
    texts = [(ROOT / "libs" / library / "hatch_build.py").read_text(encoding="utf-8") for library in DEPENDENTS]
    assert len({re.sub(r"(?m)^EXTRAS.*$", "", text) for text in texts}) == 1


@pytest.mark.parametrize("library", DEPENDENTS)
def test_the_hook_fits_the_kind_of_build(library: str, tmp_path: Path) -> None:
    module = hook(library)
    sibling = ROOT / "libs" / "icube_common"
    project = manifest("icube_common")["project"]
    wanted = "icube-common[vlm,offline]" if library != "motiondiff" else "icube-common"
    editable = module.common_requirements(sibling, "editable")
    extras = [line for extra in module.EXTRAS for line in project["optional-dependencies"][extra]]
    assert editable == project["dependencies"] + extras
    assert module.common_requirements(sibling, "standard") == [f"{wanted} @ {sibling.as_uri()}"]
    assert module.common_requirements(tmp_path / "icube_common", "standard") == [wanted]
    assert module.common_requirements(tmp_path / "icube_common", "editable") == [wanted]


def test_manifests_agree() -> None:
    projects = {library: manifest(library)["project"] for library in LIBRARIES}
    common = projects["icube_common"]
    assert projects["motiondiff"]["optional-dependencies"]["text"] == common["optional-dependencies"]["vlm"]
    bounds: dict[str, set[str]] = {}
    for project in projects.values():
        for line in chain(project["dependencies"], *project["optional-dependencies"].values()):
            if "[" not in line:
                bounds.setdefault(name_of(line), set()).add(line)
    assert {name: lines for name, lines in bounds.items() if len(lines) > 1} == {}


@pytest.mark.parametrize("library", LIBRARIES)
def test_everything_imported_is_declared(library: str) -> None:
    project = manifest(library)["project"]
    declared = {name_of(line) for line in project["dependencies"]}
    for extra, lines in project["optional-dependencies"].items():
        if extra not in ("test", "dev"):
            declared |= {name_of(line) for line in lines}
    if library != "icube_common":
        declared.add("icube-common")
    imported = set()
    for file in (ROOT / "libs" / library / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                imported.add(node.module.partition(".")[0])
    outside = imported - set(sys.stdlib_module_names) - {library}
    missing = {name for name in outside if name_of(DISTRIBUTIONS.get(name, name)) not in declared}
    assert missing == set()
