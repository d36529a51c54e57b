from __future__ import annotations

import json
import os
import stat
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icube_common.errors import InputError
from icube_common.io.runs import (
    RunFolder,
    atomic_file,
    atomic_folder,
    check_output_path,
    describe_environment,
    read_json,
    write_json,
)


class Failure(Exception):
    pass


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "store"
    with atomic_folder(target) as temporary:
        (temporary / "a.txt").write_text("a")
        assert not target.exists() and temporary.parent == target.parent
    assert names(target) == ["a.txt"] and names(target.parent) == ["store"]
    assert stat.S_IMODE(target.stat().st_mode) == 0o755


@pytest.mark.parametrize("error", [Failure, KeyboardInterrupt])
def test_a_failure_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), atomic_folder(tmp_path / "store") as temporary:
        (temporary / "a.txt").write_text("a")
        raise error
    with pytest.raises(error), atomic_file(tmp_path / "file.txt") as temporary:
        temporary.write_text("half")
        raise error
    assert names(tmp_path) == []


def test_an_existing_folder_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "old").write_text("old")
    with (
        pytest.raises(InputError, match=r"store: exists already \(--overwrite replaces it\)"),
        atomic_folder(tmp_path / "store"),
    ):
        pytest.fail("the block must not be entered")
    assert names(tmp_path / "store") == ["old"]


def test_an_empty_folder_is_free(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    with atomic_folder(tmp_path / "store") as temporary:
        (temporary / "new").write_text("new")
    assert names(tmp_path / "store") == ["new"]


@pytest.mark.parametrize("kind", ["folder", "file", "link"])
def test_overwrite_replaces_the_existing_path(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "out" / "store"
    target.parent.mkdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept").write_text("kept")
    if kind == "folder":
        target.mkdir()
        (target / "old").write_text("old")
    elif kind == "file":
        target.write_text("old")
    else:
        target.symlink_to(elsewhere)
    with atomic_folder(target, overwrite=True) as temporary:
        (temporary / "new").write_text("new")
    assert names(target) == ["new"] and not target.is_symlink() and names(target.parent) == ["store"]
    assert names(elsewhere) == ["kept"]


def test_a_failure_under_overwrite_keeps_the_old_folder(tmp_path: Path) -> None:
    target = tmp_path / "store"
    target.mkdir()
    (target / "old").write_text("old")
    with pytest.raises(Failure), atomic_folder(target, overwrite=True):
        raise Failure
    assert names(target) == ["old"] and names(tmp_path) == ["store"]


def test_a_parent_that_is_a_file_is_wrong_input(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for manager in (atomic_folder, atomic_file):
        with pytest.raises(InputError, match="cannot be written"), manager(tmp_path / "file" / "out"):
            pytest.fail("the block must not be entered")


def test_a_file_keeps_its_suffix_while_it_is_written(tmp_path: Path) -> None:
    target = tmp_path / "clip.gif"
    target.write_text("old")
    with atomic_file(target) as temporary:
        assert temporary.suffix == ".gif" and target.read_text() == "old"
        temporary.write_text("new")
    assert target.read_text() == "new" and names(tmp_path) == ["clip.gif"]


def test_a_file_does_not_replace_a_folder(tmp_path: Path) -> None:
    (tmp_path / "report.html").mkdir()
    with pytest.raises(InputError, match="is a folder"), atomic_file(tmp_path / "report.html"):
        pytest.fail("the block must not be entered")


def test_refuse_existing(tmp_path: Path) -> None:
    assert check_output_path(tmp_path / "new") == tmp_path / "new"
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file: exists already"):
        check_output_path(tmp_path / "file")
    assert check_output_path(tmp_path / "file", overwrite=True) == tmp_path / "file"


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists))
def test_json_comes_back(tmp_path_factory: pytest.TempPathFactory, value: object) -> None:
    path = tmp_path_factory.mktemp("json") / "value.json"
    write_json(path, value)
    assert read_json(path) == value


def test_bad_json_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.json: cannot be read \(No such file"):
        read_json(tmp_path / "nowhere.json")
    for content in (b"{", b"\xff\xfe"):
        (tmp_path / "bad.json").write_bytes(content)
        with pytest.raises(InputError, match=r"bad\.json: is not JSON"):
            read_json(tmp_path / "bad.json")


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path / "run", config_yaml="steps: 3\n", environment={"seed": 1, "where": Path("a")})


def test_a_run_folder_starts_with_configuration_and_environment(run: RunFolder) -> None:
    assert names(run.path) == ["config.yaml", "environment.json"]
    assert run.config.read_text() == "steps: 3\n"
    run.update_environment(seed=2, resumed_from=20)
    assert json.loads(run.environment.read_text()) == {"seed": 2, "where": "a", "resumed_from": 20}
    with pytest.raises(InputError, match="exists already"):
        RunFolder.create(run.path, config_yaml="", environment={})


def test_metrics_are_appended_and_half_a_line_is_ignored(run: RunFolder) -> None:
    assert run.read_metrics() == []
    for step in range(1, 4):
        run.append_metrics({"step": step, "loss": 1 / step})
    with run.metrics.open("a") as handle:
        handle.write('{"step": 4, "lo')
    assert [record["step"] for record in run.read_metrics()] == [1, 2, 3]


def test_truncate_metrics_removes_later_rows_and_repairs_the_end(run: RunFolder) -> None:
    run.truncate_metrics(0)
    assert run.read_metrics() == []
    run.append_metrics({"note": "start"})
    for step in range(1, 6):
        run.append_metrics({"step": step})
    with run.metrics.open("a") as handle:
        handle.write('{"step": 6')
    run.truncate_metrics(3)
    run.append_metrics({"step": 4, "again": True})
    assert run.read_metrics() == [{"note": "start"}, {"step": 1}, {"step": 2}, {"step": 3}, {"step": 4, "again": True}]


def test_the_environment_names_versions_and_revision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/motiondiff", "train"])
    described = describe_environment(("numpy", "no-such-package"))
    assert list(described["packages"]) == ["numpy"]
    assert described["command"] == ["motiondiff", "train"] and described["cpus"] == os.cpu_count()
    revision = described["git_revision"]
    assert revision is None or len(revision.removesuffix("+changes")) == 40
