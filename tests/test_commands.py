"""Rules for the command of every library: fast help, exit status, one line for wrong input, nothing heavy."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
COMMANDS = {"motiondiff": "motiondiff", "actprompt": "actprompt", "debian-mri": "debian_mri"}
HEAVY = ("torch", "pandas", "diffusers", "transformers", "torchvision", "accelerate", "matplotlib", "scipy")

# best of several: a machine that does something else now and then makes one run slow, never all of them
TRIES = 8
HELP_SECONDS = 0.5
INFO_SECONDS = 1.0


def words_of(command: str) -> list[str]:
    """The installed script where there is one, else the module: the same function behind both."""
    script = Path(sys.executable).with_name(command)
    return [str(script)] if script.is_file() else [sys.executable, "-m", COMMANDS[command]]


def run(words: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)


def best_seconds(words: list[str], enough: float) -> float:
    """The shortest of up to `TRIES` runs; the first that is short enough ends it."""
    best = float("inf")
    for _ in range(TRIES):
        start = time.perf_counter()
        assert run(words).returncode == 0
        best = min(best, time.perf_counter() - start)
        if best < enough:
            break
    return best


def loaded_after(code: str) -> set[str]:
    """Heavy modules that are loaded after ``code`` in a fresh interpreter."""
    ending = f"\nimport sys\nsys.stderr.write(' '.join(name for name in {HEAVY} if name in sys.modules))"
    done = run([sys.executable, "-c", code + ending])
    assert done.returncode == 0, done.stderr
    return set(done.stderr.split())


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("words", [[], ["--help"], ["--version"]], ids=["nothing", "help", "version"])
def test_help_and_version(command: str, words: list[str]) -> None:
    done = run([*words_of(command), *words])
    assert done.returncode == 0 and done.stderr == ""
    assert done.stdout.startswith(f"{command} 0." if words == ["--version"] else f"usage: {command}")


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("words", [["nosuch"], ["--nosuch"], ["nosuch", "--json", "a=b"]])
def test_a_wrong_word_exits_2_with_one_line(command: str, words: list[str]) -> None:
    done = run([*words_of(command), *words])
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith(f"{command}: ") and done.stderr.count("\n") == 1


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_fast(command: str) -> None:
    assert best_seconds([*words_of(command), "--help"], HELP_SECONDS) < HELP_SECONDS


@pytest.mark.parametrize("library", ["icube_common", *COMMANDS.values()])
def test_import_is_fast(library: str) -> None:
    assert best_seconds([sys.executable, "-c", f"import {library}"], HELP_SECONDS) < HELP_SECONDS


@pytest.mark.parametrize("library", COMMANDS.values())
def test_import_and_help_load_nothing_heavy(library: str) -> None:
    code = f"""
import contextlib, io
import {library}
from {library}.cli import main
with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
    main(["--help"])
"""
    assert loaded_after(code) == set()


@pytest.mark.parametrize("library", COMMANDS.values())
def test_every_public_name_exists(library: str) -> None:
    done = run([sys.executable, "-W", "ignore", "-c", f"import {library} as x; [getattr(x, name) for name in dir(x)]"])
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_every_subcommand_loads_nothing_heavy(command: str) -> None:
    code = f"""
import contextlib, io
from {COMMANDS[command]}.cli import COMMANDS, main
groups = [(name, inner) for name, found in COMMANDS.items() for inner in found.commands]
for words in [(name,) for name in COMMANDS] + groups:
    with contextlib.redirect_stdout(io.StringIO()) as text, contextlib.suppress(SystemExit):
        main([*words, "--help"])
    assert text.getvalue().startswith(" ".join(["usage: {command}", *words])), words
"""
    assert loaded_after(code) == set()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from motiondiff.data.prepare import PrepareOptions, write_store
    from motiondiff.data.synthetic import simulate_clips

    path = tmp_path_factory.mktemp("commands") / "store"
    write_store(simulate_clips(24), path, PrepareOptions(), description={"format": "simulated", "simulated": True})
    return path


def test_info_is_fast_and_loads_nothing_heavy(store: Path) -> None:
    words = [*words_of("motiondiff"), "info", str(store), "--json"]
    assert best_seconds(words, INFO_SECONDS) < INFO_SECONDS
    code = f"""
import contextlib, io
from motiondiff.cli import main
with contextlib.redirect_stdout(io.StringIO()):
    assert main(["info", {str(store)!r}, "--json"]) == 0
"""
    assert loaded_after(code) <= {"scipy"}


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from actprompt.data.manifest import Clip, write_manifest

    path = tmp_path_factory.mktemp("videos")
    description = {"format": "folder", "root": "videos", "class_names": ["wave"], "protocols": []}
    # as many as Kinetics-700 has for half of its classes
    clip = {"label": "wave", "n_frames": 300, "fps": 30.0, "duration": 10.0}
    write_manifest(path, [Clip(id=f"{n}.mp4", path=f"wave/{n}.mp4", **clip) for n in range(300_000)], description)
    return path


def test_info_of_many_videos_is_fast_and_loads_nothing_heavy(videos: Path) -> None:
    words = [*words_of("actprompt"), "info", str(videos), "--json"]
    assert best_seconds(words, INFO_SECONDS) < INFO_SECONDS
    code = f"""
import contextlib, io
from actprompt.cli import main
with contextlib.redirect_stdout(io.StringIO()):
    assert main(["info", {str(videos)!r}, "--json"]) == 0
"""
    assert loaded_after(code) == set()
