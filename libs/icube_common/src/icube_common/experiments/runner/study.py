"""A study's folder: one writer at a time, and the same question on resume as at the start."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from icube_common.config import read_yaml
from icube_common.errors import InputError
from icube_common.io.runs import atomic_file, check_output_path, describe_environment, write_json

_FILE = "study.yaml"
_LOCK = ".lock"


@contextlib.contextmanager
def open_study(
    out: str | Path,
    *,
    kind: str,
    fixed: Mapping[str, Any],
    free: Mapping[str, Any],
    resume: bool,
    overwrite: bool,
    shard: tuple[int, int] | None = None,
) -> Iterator[Path]:
    """Create or resume the folder of a study, locked against a second process while the block runs.

    Args:
        out: the folder.
        kind: ``ablation``, ``search``.
        fixed: values that must be equal when the study is resumed.
        free: what may change then (more seeds, more trials); the newest is written.
        resume: continue an existing study.
        overwrite: start afresh, whatever was there is deleted.
        shard: part of the study that runs; other parts may run meanwhile, a whole study may not.

    Yields:
        The folder, with ``study.yaml`` and ``environment.json`` written.

    Raises:
        InputError: the folder exists and is no such study, asked something else, or is in use by another process.
    """
    folder = Path(out)
    there = (folder / _FILE).is_file()
    if not there and shard is not None and folder.is_dir() and _is_beginning(folder):
        pass  # another shard began a moment ago
    elif not there:
        check_output_path(folder, hint=f"it holds no {_FILE}, so it is no study: take another folder")
    elif not resume:
        check_output_path(folder, overwrite=overwrite)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot be made ({error.strerror})") from error
    with _locked(folder, shard):
        there = (folder / _FILE).is_file()
        if there and not overwrite:
            _check_same_study(folder, {"kind": kind, **fixed})
        elif overwrite:
            _empty(folder)
        write_yaml(folder / _FILE, {"kind": kind, **fixed, **free})
        write_json(folder / "environment.json", describe_environment(("torch", "optuna", "numpy", "scipy")))
        yield folder


def plain(value: Any) -> Any:
    """A value as JSON gives it back, so that what was written and what is asked now can be compared."""
    return json.loads(json.dumps(value, default=str))


def digest(value: Any) -> str:
    """Digest of a value, eight hexadecimal digits."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:8]


def write_yaml(path: Path, values: Mapping[str, Any]) -> None:
    """Write a mapping as YAML that `icube_common.config.read_yaml` reads back as it was."""
    from omegaconf import OmegaConf

    with atomic_file(path) as temporary:
        temporary.write_text(OmegaConf.to_yaml(OmegaConf.create(plain(values))), encoding="utf-8")


def _is_beginning(folder: Path) -> bool:
    """True for a folder with locks, and files that are being written, alone."""
    written = f".{Path(_FILE).stem}."
    return all(path.name.startswith((_LOCK, written)) or path.name == _FILE for path in folder.iterdir())


def _check_same_study(folder: Path, asked: Mapping[str, Any]) -> None:
    """InputError where the study in the folder is another one, with the first key that differs."""
    path = folder / _FILE
    saved = read_yaml(path)
    for key, value in plain(asked).items():
        if saved.get(key) != value:
            raise InputError(
                f"{path}: {key} is {saved.get(key)!r} there and {value!r} now: results would be mixed; "
                "take another --out, or --overwrite to start afresh"
            )


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.name.startswith(_LOCK):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


@contextlib.contextmanager
def _locked(folder: Path, shard: tuple[int, int] | None) -> Iterator[None]:
    """Hold the folder, or a shard of it, for this process.

    SQLite's lock goes when the process goes, also after a ``kill -9``. Shards share the folder's lock.
    """
    with contextlib.ExitStack() as stack:
        names = [_LOCK] if shard is None else [_LOCK, f"{_LOCK}-{shard[0]}-of-{shard[1]}"]
        for name in names:
            connection = stack.enter_context(
                contextlib.closing(sqlite3.connect(folder / name, timeout=0, isolation_level=None))
            )
            try:
                if shard is not None and name == _LOCK:
                    connection.execute("BEGIN")
                    connection.execute("SELECT count(*) FROM sqlite_master").fetchall()  # holds a shared lock
                else:
                    connection.execute("BEGIN EXCLUSIVE")
            except sqlite3.OperationalError as error:
                raise InputError(f"{folder}: cannot be used, another process is at work there ({error})") from error
        yield
