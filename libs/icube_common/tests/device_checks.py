"""Checks of commands on a second device, and of the batches of an image tower, for the tests of each library."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from second_device import run_on_both

from icube_common.vlm import FrozenVLM

HERE = Path(__file__).parent


def rows_fixture() -> Any:
    """A fixture: the rows of each forward pass of an image tower."""

    @pytest.fixture
    def rows(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
        found: list[int] = []
        encode = FrozenVLM.encode_image

        def counting(self: FrozenVLM, pixels: torch.Tensor) -> torch.Tensor:
            hook = self.model.visual.register_forward_pre_hook(  # type: ignore[union-attr,operator]
                lambda _, inputs: found.append(len(inputs[0]))
            )
            try:
                return encode(self, pixels)
            finally:
                hook.remove()

        monkeypatch.setattr(FrozenVLM, "encode_image", counting)
        yield found

    return rows


def call(main: Callable[[list[str]], int], *words: object) -> dict[str, Any]:
    """The JSON result of a command, run in this process."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = main([*map(str, words), "--json"])
    assert code == 0, f"{words[0]}: exit {code}"
    found: dict[str, Any] = json.loads(out.getvalue())
    return found


def device_job(commands: Callable[[Path, list[str]], list[Any]], prepare: Callable[[Path], object]) -> None:
    """Main function of a job file: ``python JOB OUT key=value ...`` prints the figures of both devices as JSON.

    Args:
        commands: runs in a folder with overrides, and returns the figures to compare.
        prepare: makes the data in the folder above.
    """
    out = Path(sys.argv[1])
    prepare(out)
    print(json.dumps(run_on_both(lambda place: commands(place, sys.argv[2:]), out)))


def run_device_job(job: Path, out: Path, overrides: tuple[str, ...]) -> tuple[list[Any], list[Any]]:
    """Figures of a job file on the CPU and on the second device; skips where this torch has none.

    Both towers have to run on the second device there.
    """
    paths = [str(job.parent), str(HERE), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, str(job), str(out), *overrides],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    if "skipped" in found:
        pytest.skip(found["skipped"])
    assert found["towers"] == ["image elsewhere elsewhere", "text elsewhere"]
    return found["cpu"], found["second"]
