"""The examples run, on a model that was trained for two steps."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from icube_common.cli import parse
from icube_common.training import TrainConfig
from motiondiff.config import DataConfig, ModelConfig, MotionDiffConfig
from motiondiff.data.prepare import PrepareOptions, write_store
from motiondiff.data.readers.bvh.reader import read_bvh
from motiondiff.data.synthetic import JOINT_NAMES, simulate_clips
from motiondiff.training.diffusion import train

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("examples")
    description = {"format": "simulated", "source": "simulated", "simulated": True}
    write_store(simulate_clips(25), folder / "store", PrepareOptions(), description=description)
    config = MotionDiffConfig(
        train=TrainConfig(max_steps=2, batch_size=4, report_to="none", device="cpu"),
        model=ModelConfig(num_layers=1, width=16, num_heads=2, feedforward=16),
        data=DataConfig(max_frames=72),
    )
    train(None, folder / "store", out=folder / "run", config=config)
    return folder / "run"


def run_example(name: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_example_is_in_the_readme() -> None:
    readme = (EXAMPLES / "README.md").read_text()
    assert [path.name for path in EXAMPLES.glob("*.py") if f"({path.name})" not in readme] == []


def test_the_page_of_the_demo(tmp_path: Path) -> None:
    files = ("motiondiff/samples/walk-000.gif", "motiondiff/samples/walk-001.gif", "debian_mri/prediction.html")
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    metrics = tmp_path / "debian_mri" / "evaluation" / "metrics.json"
    metrics.parent.mkdir()
    metrics.write_text('{"auc": {"mean": 0.9312, "ci95": [0.8, 0.97]}}')
    assert run_example("demo_page.py", str(tmp_path)) == f"Open {tmp_path / 'index.html'}\n"
    page = (tmp_path / "index.html").read_text()
    links = re.findall('href="([^"]+)"', page)
    assert links == ["motiondiff/samples/walk-000.gif", "debian_mri/prediction.html"]
    assert "AUC on people left out: 0.93 [0.80, 0.97]" in page and "Video" not in page


def test_the_page_of_no_demo(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "demo_page.py"), str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2 and done.stderr == f"demo_page.py: {tmp_path}: holds no demo; run make demo\n"


def test_sample_with_python(run: Path, tmp_path: Path) -> None:
    printed = run_example("sample_with_python.py", str(run), str(tmp_path), "--seconds", "1", "--steps", "2")
    assert printed.splitlines()[0] == "this model knows: pick up, run, sit down, walk, wave"
    names = ["00-wave.bvh", "00-wave.gif", "01-sit-down.bvh", "01-sit-down.gif"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert (tmp_path / "00-wave.gif").read_bytes()[:6] == b"GIF89a"
    motion = read_bvh(tmp_path / "01-sit-down.bvh")
    assert (len(motion), motion.fps) == (20, pytest.approx(20, abs=1e-3))
    assert motion.skeleton.names == JOINT_NAMES


def test_a_video_network(tmp_path: Path) -> None:
    printed = run_example(
        "video_network.py", str(tmp_path / "out"), "--takes", "1", "--name", "icube-tiny", "--steps", "2"
    )
    lines = printed.splitlines()
    assert lines[0].startswith("top1, simulated people left out: ")
    assert lines[1].startswith("backbone: MotionNetwork (untrained encoder: random weights of seed 0)")
    assert len(lines) == 3 and (tmp_path / "out" / "run" / "model" / "model.safetensors").is_file()


def test_a_network_for_mri(tmp_path: Path) -> None:
    printed = run_example(
        "mri_network.py", str(tmp_path / "out"), "--subjects", "8", "--spacing", "8", "--name", "icube-tiny"
    )
    lines = printed.splitlines()
    assert lines[0].startswith("AUC, simulated people left out: ")
    assert lines[1].startswith("backbone: VolumeNetwork (untrained encoder: random weights of seed 0)")
    assert len(lines) == 3 and (tmp_path / "out" / "run" / "model" / "model.safetensors").is_file()


SLURM = {
    "motiondiff": ("train", "augment", "join"),
    "actprompt": ("shard", "join", "train"),
    "debian_mri": ("convert", "volumes", "train"),
}


@pytest.mark.parametrize(("library", "step"), [(library, step) for library, steps in SLURM.items() for step in steps])
def test_slurm_scripts_call_commands_that_parse(library: str, step: str, tmp_path: Path) -> None:
    """With programs in place of SLURM's, torchrun and ours that write down how they are called."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("srun", "torchrun", "scontrol", "motiondiff", "actprompt", "debian-mri"):
        program = programs / name
        runs = (
            'exec "$@"'
            if name == "srun"
            else f'printf "%s\\n" "{name}" "$@" >> "{tmp_path}/calls"; echo >> "{tmp_path}/calls"'
        )
        program.write_text(f"#!/bin/bash\n{runs}\n")
        program.chmod(0o755)
    folders = {name: str(tmp_path / name.lower()) for name in ("STORE", "OUT", "DATA", "DICOM", "NIFTI")}
    slurm = {"JOB_ID": "1", "NNODES": "2", "CPUS_PER_TASK": "4", "JOB_NODELIST": "a", "ARRAY_TASK_ID": "1"}
    done = subprocess.run(
        ["bash", str(EXAMPLES / "slurm" / f"{library}.sh"), step],
        env={
            "PATH": f"{programs}:/usr/bin:/bin",
            **folders,
            "ATLAS": "neuromorphometrics",
            **{f"SLURM_{name}": value for name, value in slurm.items()},
            "SLURM_ARRAY_TASK_COUNT": "4",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    calls = [call.splitlines() for call in (tmp_path / "calls").read_text().split("\n\n") if call.strip()]
    cli = importlib.import_module(f"{library}.cli")
    ours = 0
    for program, *words in calls:
        if program == "torchrun":
            assert words[words.index("-m") + 1] == library
            words = words[words.index("-m") + 2 :]
        elif program == "scontrol":
            continue
        args = parse(library, cli.COMMANDS, words)
        ours += 1
        assert args.command == "train" or (step == "join") == (args.shard is None)
    assert ours
