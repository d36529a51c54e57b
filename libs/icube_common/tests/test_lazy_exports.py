from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import icube_common
from icube_common import lazy_exports


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = tmp_path / "lazy_example"
    folder.mkdir()
    (folder / "__init__.py").write_text(
        "from icube_common import lazy_exports\n"
        "__getattr__, __dir__ = lazy_exports(__name__, {'Thing': 'inner.heavy'})\n"
    )
    (folder / "inner").mkdir()
    (folder / "inner" / "__init__.py").write_text("")
    (folder / "inner" / "heavy.py").write_text("import fractions\nclass Thing: pass\n")
    return tmp_path


def run(folder: Path, code: str) -> None:
    program = f"import sys; sys.path.insert(0, {str(folder)!r})\n{textwrap.dedent(code)}"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_the_module_comes_with_the_first_name_that_needs_it(package: Path) -> None:
    run(
        package,
        """
        import lazy_example
        assert "lazy_example.inner.heavy" not in sys.modules and "Thing" in dir(lazy_example)
        from lazy_example import Thing
        assert Thing is sys.modules["lazy_example.inner.heavy"].Thing and lazy_example.Thing is Thing
        """,
    )


def test_submodules_stay_importable_from_the_package(package: Path) -> None:
    run(package, "from lazy_example import inner\nassert inner.__name__ == 'lazy_example.inner'")


def test_an_unknown_name_is_an_attribute_error() -> None:
    get, names = lazy_exports("some_package", {"b": "x", "a": "y"})
    with pytest.raises(AttributeError, match="module 'some_package' has no attribute 'c'"):
        get("c")
    assert names() == ["a", "b"]


def test_the_librarys_own_names_are_imported_on_first_use() -> None:
    code = "import icube_common, sys; assert 'torch' not in sys.modules; print(*dir(icube_common))"
    names = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert {"TrainConfig", "FrozenVLM", "PromptLearner", "EvaluationResult", "fit", "tune"} <= set(names)
    for name in names:
        assert getattr(icube_common, name).__name__ == name
    absent = "Trainer"
    with pytest.raises(AttributeError, match="has no attribute 'Trainer'"):
        getattr(icube_common, absent)
