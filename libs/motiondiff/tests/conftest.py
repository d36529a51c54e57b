"""Shared by the tests of motiondiff: a small simulated store, a short training on it, a pipeline."""

from __future__ import annotations

import os
import shutil
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from icube_common.training import TrainConfig
from motiondiff.config import DataConfig, DiffusionConfig, ModelConfig, MotionDiffConfig
from motiondiff.data.prepare import PrepareOptions, write_store
from motiondiff.data.store import MotionStore
from motiondiff.data.synthetic import simulate_clips
from motiondiff.skeleton.inverse_kinematics import swing_rotation
from motiondiff.skeleton.kinect import KINECT_V1
from motiondiff.skeleton.skeleton import Skeleton

if TYPE_CHECKING:
    from motiondiff.models.representation import MotionRepresentation
    from motiondiff.pipelines.motion_diffusion import MotionDiffusionPipeline

TINY = MotionDiffConfig(
    train=TrainConfig(
        max_steps=4,
        batch_size=8,
        learning_rate=1e-2,
        checkpointing_steps=2,
        logging_steps=1,
        device="cpu",
        report_to="none",
        seed=3,
    ),
    model=ModelConfig(num_layers=1, width=16, num_heads=2, feedforward=16, dropout=0.1),
    data=DataConfig(max_frames=32, min_frames=8),
    diffusion=DiffusionConfig(num_train_timesteps=50),
)
ROOT = Path(__file__).resolve().parents[3]
ConfigMaker = Callable[..., MotionDiffConfig]


def _tiny_config(**changes: Any) -> MotionDiffConfig:
    """`TINY`, with keys changed as ``train={...}, model={...}``."""
    return replace(TINY, **{name: replace(getattr(TINY, name), **values) for name, values in changes.items()})


@pytest.fixture(scope="session")
def tiny_config() -> ConfigMaker:
    return _tiny_config


@pytest.fixture(scope="session")
def real_data() -> Callable[[str], Path]:
    """Unpacks ../shared/data/motion/<name>.tar.xz (or below $ICUBE_DATA) once into .cache; skips where it is absent."""

    def unpacked(name: str) -> Path:
        data = Path(os.environ.get("ICUBE_DATA", ROOT.parent / "shared" / "data"))
        archive = data / "motion" / f"{name}.tar.xz"
        if not archive.is_file():
            pytest.skip(f"no {archive.name} in {data / 'motion'}")
        target = ROOT / ".cache" / name
        if not target.is_dir():
            target.parent.mkdir(exist_ok=True)
            work = Path(tempfile.mkdtemp(dir=target.parent))
            with tarfile.open(archive) as tar:
                tar.extractall(work, filter="data")
            try:
                work.rename(target)
            except OSError:  # another test process was faster
                shutil.rmtree(work)
        return target

    return unpacked


@pytest.fixture(scope="session")
def store_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 simulated clips of five actions by five subjects, 20 to 35 frames each, at 10 fps; never written to."""
    path = tmp_path_factory.mktemp("shared") / "store"
    description = {"format": "simulated", "source": "tests", "simulated": True}
    write_store(simulate_clips(40, fps=10), path, PrepareOptions(), description=description)
    return path


@pytest.fixture(scope="session")
def store(store_path: Path) -> MotionStore:
    return MotionStore(store_path)


@pytest.fixture(scope="session")
def run_path(store_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four steps with everything a run can leave; never written to."""
    from motiondiff.training.diffusion import train

    path = tmp_path_factory.mktemp("shared") / "run"
    train(
        None,
        store_path,
        out=path,
        config=_tiny_config(train={"report_to": "tensorboard", "eval_steps": 2, "ema_decay": 0.5}),
    )
    return path


@pytest.fixture(scope="session")
def text_run_path(store_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two steps with text, by the small untrained encoder; never written to."""
    from motiondiff.training.diffusion import train

    path = tmp_path_factory.mktemp("shared") / "text_run"
    train(
        None,
        store_path,
        out=path,
        config=_tiny_config(train={"max_steps": 2}, text={"enabled": True, "encoder": "icube-tiny"}),
    )
    return path


@pytest.fixture(scope="session")
def representation(store: MotionStore) -> MotionRepresentation:
    """Measured on the store's training split."""
    from motiondiff.training.statistics import fit_representation

    return fit_representation(store, store.select("train"), TINY.data)


@pytest.fixture
def pipeline(store: MotionStore, representation: MotionRepresentation) -> MotionDiffusionPipeline:
    """An untrained model whose output, unlike a fresh one's, depends on everything that goes in."""
    import torch

    from motiondiff.models.denoiser import MotionDenoiser
    from motiondiff.pipelines.motion_diffusion import MotionDiffusionPipeline
    from motiondiff.training.diffusion_loss import make_noise_schedule

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        denoiser = MotionDenoiser(
            feature_size=representation.feature_size,
            shape_size=len(store.joint_names),
            actions=store.actions,
            styles=["happy", "tired"],
            width=16,
            num_layers=2,
            num_heads=2,
            feedforward=32,
            dropout=0.0,
            max_frames=32,
        )
        torch.nn.init.normal_(denoiser.predict.weight, std=0.3)
    made = MotionDiffusionPipeline(denoiser.eval(), representation, make_noise_schedule(TINY.diffusion))
    made.set_progress_bar_config(disable=True)
    return made


KINECT_OFFSETS = np.array(
    [
        [0, 0, 0], [0, 0.07, 0], [0, 0.34, 0.02], [0, 0.2, 0.03],
        [0.17, -0.1, 0], [0.27, 0, 0], [0.24, 0, 0], [0.08, 0, 0],
        [-0.17, -0.1, 0], [-0.27, 0, 0], [-0.24, 0, 0], [-0.08, 0, 0],
        [0.08, -0.07, 0], [0, -0.42, 0], [0, -0.38, 0], [0, 0, 0.1],
        [-0.08, -0.07, 0], [0, -0.42, 0], [0, -0.38, 0], [0, 0, 0.1],
    ]
)  # fmt: skip


@pytest.fixture(scope="session")
def moving_kinect() -> Callable[..., np.ndarray]:
    """(T, 20, 3) positions of a stick person with bones of constant length who stands and moves smoothly."""

    def positions(frames: int = 40, seed: int = 0, amount: float = 0.4) -> np.ndarray:
        rng = np.random.default_rng(seed)
        time = np.linspace(0, 2 * np.pi, frames)[:, None, None]
        vectors = amount * rng.normal(size=(20, 3)) * np.sin(time + rng.uniform(0, 6, size=(20, 3)))
        vectors[:, 0] *= 0.2
        local = Rotation.from_rotvec(vectors.reshape(-1, 3)).as_matrix().reshape(frames, 20, 3, 3)
        out = np.zeros((frames, 20, 3))
        world = local.copy()
        out[:, 0] = np.array([0.1, 0.95, 0.2])
        for joint, parent in enumerate(KINECT_V1.parents[1:], start=1):
            world[:, joint] = world[:, parent] @ local[:, joint]
            out[:, joint] = out[:, parent] + world[:, parent] @ KINECT_OFFSETS[joint]
        return out

    return positions


@pytest.fixture(scope="session")
def kinect_rest() -> Skeleton:
    return Skeleton(KINECT_V1.names, KINECT_V1.parents, KINECT_OFFSETS.astype(np.float32))


@pytest.fixture(scope="session")
def to_camera() -> Callable[..., np.ndarray]:
    """World positions in the frame of a Kinect: 2.5 m in front of a camera 1.1 m up that looks down by some degrees."""

    def seen(positions: np.ndarray, tilt: float = 8.0) -> np.ndarray:
        facing = positions * [-1, 1, -1]
        up = np.array([[0, np.cos(np.radians(tilt)), -np.sin(np.radians(tilt))]])
        return (facing - [0, 1.1, 0]) @ swing_rotation(np.array([[0.0, 1.0, 0.0]]), up)[0].T + [0, 0, 2.5]

    return seen
