"""Atomic files and folders, and the run folder of a training.

A run folder holds ``config.yaml``, ``environment.json``, ``metrics.jsonl``, TensorBoard events,
``checkpoints/step-N/``, ``model/`` and ``report.html``.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from icube_common.errors import InputError


def check_output_path(path: str | Path, *, overwrite: bool = False, hint: str = "--overwrite replaces it") -> Path:
    """The path, when it may be written.

    Raises:
        InputError: it exists and ``overwrite`` is False (an empty folder counts as free).
    """
    path = Path(path)
    if path.is_dir() and not any(path.iterdir()):
        return path
    if path.exists() and not overwrite:
        raise InputError(f"{path}: exists already ({hint})")
    return path


@contextlib.contextmanager
def atomic_folder(path: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """A temporary sibling folder that takes the name ``path`` when the block ends well and vanishes when it does not.

    Raises:
        InputError: ``path`` exists and ``overwrite`` is False, or its parent cannot be written.
    """
    target = check_output_path(path, overwrite=overwrite)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise InputError(f"{target}: cannot be written ({error.strerror})") from error
    try:
        temporary.chmod(0o755)
        yield temporary
        _replace(temporary, target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _replace(new: Path, target: Path) -> None:
    """Let ``new`` take the name ``target``; what stood there is deleted only when the new one is in its place."""
    if not (target.exists() or target.is_symlink()):
        new.rename(target)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent)) / "replaced"
    target.rename(old)
    try:
        new.rename(target)
    except BaseException:
        old.rename(target)
        old.parent.rmdir()
        raise
    shutil.rmtree(old.parent, ignore_errors=True)


@contextlib.contextmanager
def atomic_file(path: str | Path, *, overwrite: bool = True) -> Iterator[Path]:
    """A temporary sibling file, same suffix, that takes the name ``path`` when the block ends well.

    Raises:
        InputError: ``path`` exists and ``overwrite`` is False, it is a folder, or its parent cannot be written.
    """
    target = check_output_path(path, overwrite=overwrite)
    if target.is_dir():
        raise InputError(f"{target}: is a folder, a file is to be written there")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{target.stem}.", suffix=target.suffix, dir=target.parent)
    except OSError as error:
        raise InputError(f"{target}: cannot be written ({error.strerror})") from error
    os.close(handle)
    temporary = Path(name)
    try:
        temporary.chmod(0o644)
        yield temporary
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def user_cache() -> Path:
    """Folder of files that the libraries compute or fetch once for a user, not made yet.

    ``$ICUBE_CACHE``, else ``icube`` below ``$XDG_CACHE_HOME`` or ``~/.cache``.
    """
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("ICUBE_CACHE") or Path(base) / "icube")


def write_json(path: str | Path, value: Any) -> None:
    """Write JSON atomically, keys in the given order."""
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, default=str) + "\n")


def read_json(path: str | Path) -> Any:
    """Read JSON.

    Raises:
        InputError: the file is missing or holds no JSON.
    """
    try:
        return json.loads(Path(path).read_text())
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: is not JSON ({error})") from error


def describe_environment(packages: tuple[str, ...] = ("torch", "diffusers", "accelerate", "numpy")) -> dict[str, Any]:
    """Versions, machine and source revision, for the record of a run."""
    versions = {}
    for package in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "packages": versions,
        "git_revision": _git_revision(),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
    }


def _git_revision() -> str | None:
    """The revision of the sources in use, with ``+changes`` where the tree differs from it; None outside a checkout."""
    here = Path(__file__).parent

    def git(*arguments: str) -> str | None:
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            done = subprocess.run(
                ["git", *arguments], cwd=here, capture_output=True, text=True, timeout=10, check=False
            )
            return done.stdout.strip() if done.returncode == 0 else None
        return None

    # an installed copy may lie in somebody else's checkout (a .venv inside it), whose revision says nothing about it
    revision = git("rev-parse", "HEAD") if git("ls-files", "--error-unmatch", Path(__file__).name) else None
    if revision is None:
        return None
    return revision + ("+changes" if git("status", "--porcelain", "--untracked-files=no") else "")


class RunFolder:
    """Paths and records of one training run.

    Args:
        path: the run's folder; `create` makes it, plain construction only refers to it.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.checkpoints = self.path / "checkpoints"
        self.model = self.path / "model"
        self.metrics = self.path / "metrics.jsonl"
        self.environment = self.path / "environment.json"
        self.config = self.path / "config.yaml"
        self.report = self.path / "report.html"

    @classmethod
    def create(
        cls, path: str | Path, *, config_yaml: str, environment: Mapping[str, Any], overwrite: bool = False
    ) -> RunFolder:
        """Make a fresh run folder with its configuration and environment.

        Raises:
            InputError: the folder exists and ``overwrite`` is False.
        """
        with atomic_folder(path, overwrite=overwrite) as temporary:
            (temporary / "config.yaml").write_text(config_yaml)
            (temporary / "environment.json").write_text(json.dumps(environment, indent=2, default=str) + "\n")
        return cls(path)

    def update_environment(self, **values: Any) -> None:
        """Add or replace keys of ``environment.json``."""
        write_json(self.environment, {**read_json(self.environment), **values})

    def append_metrics(self, record: Mapping[str, Any]) -> None:
        """Append one line to ``metrics.jsonl``."""
        with self.metrics.open("a") as handle:
            handle.write(json.dumps(record) + "\n")

    def read_metrics(self) -> list[dict[str, Any]]:
        """All whole lines of ``metrics.jsonl`` (a killed run may leave half a line at the end)."""
        records: list[dict[str, Any]] = []
        if self.metrics.exists():
            for line in self.metrics.read_text().splitlines():
                with contextlib.suppress(json.JSONDecodeError):
                    records.append(json.loads(line))
        return records

    def truncate_metrics(self, step: int) -> None:
        """Forget what was logged after ``step``: a resumed run logs those steps again."""
        remaining = [record for record in self.read_metrics() if record.get("step", 0) <= step]
        with atomic_file(self.metrics) as temporary:
            temporary.write_text("".join(json.dumps(record) + "\n" for record in remaining))
