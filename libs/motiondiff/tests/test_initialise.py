"""Weights of a run as the start of another training: embeddings by label, statistics of the new data, wrong runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from icube_common.errors import InputError
from icube_common.io.runs import read_json
from motiondiff.augmentation.study.subsets import write_subset
from motiondiff.cli import main
from motiondiff.config import MotionDiffConfig
from motiondiff.data.dataset import MotionDataset
from motiondiff.data.store import MotionStore
from motiondiff.pipelines.sampling import load_pipeline
from motiondiff.training.diffusion import make_denoiser
from motiondiff.training.initialise import STATISTICS, initialise_from


@pytest.fixture(scope="module")
def two_actions(store: MotionStore, tmp_path_factory: pytest.TempPathFactory) -> MotionStore:
    """The training clips of two of the five actions."""
    rows = [row for row in store.select("train").tolist() if store.columns["action"][row] in (1, 3)]
    return write_subset(store, np.array(rows), tmp_path_factory.mktemp("two") / "store")


def test_weights_are_those_of_the_run(
    run_path: Path, store: MotionStore, two_actions: MotionStore, tiny_config: Callable[..., MotionDiffConfig]
) -> None:
    denoiser = make_denoiser(None, MotionDataset(two_actions, config=tiny_config().data), tiny_config())
    before = {name: values.clone() for name, values in denoiser.state_dict().items()}
    common = initialise_from(denoiser, run_path)
    assert common[:2] == two_actions.actions == [store.actions[1], store.actions[3]]
    source = load_pipeline(run_path).denoiser.state_dict()
    table = denoiser.state_dict()["embed_conditions.action.weight"]
    torch.testing.assert_close(table, source["embed_conditions.action.weight"][[1, 3, -1]])
    for name, values in denoiser.state_dict().items():
        if name in STATISTICS:
            torch.testing.assert_close(values, before[name])
        elif "embed_conditions.action" not in name:
            torch.testing.assert_close(values, source[name])


def test_command_starts_from_the_run(run_path: Path, two_actions: MotionStore, tmp_path: Path) -> None:
    words = ["train", "--data", str(two_actions.path), "--out", str(tmp_path / "run"), "--init-from", str(run_path)]
    keys = ("train.max_steps=1", "train.batch_size=4", "train.learning_rate=1e-9", "train.report_to=none",
            "train.device=cpu", "model.num_layers=1", "model.width=16", "model.num_heads=2", "model.feedforward=16",
            "data.max_frames=32", "data.min_frames=8", "diffusion.num_train_timesteps=50")  # fmt: skip
    assert main([*words, *keys]) == 0
    trained, start = (load_pipeline(run).denoiser.state_dict() for run in (tmp_path / "run", run_path))
    torch.testing.assert_close(trained["predict.weight"], start["predict.weight"], atol=1e-6, rtol=0)
    assert read_json(tmp_path / "run" / "environment.json")["init_from"] == str(run_path)


def test_runs_of_other_shapes_are_refused(
    run_path: Path, two_actions: MotionStore, tiny_config: Callable[..., MotionDiffConfig]
) -> None:
    data = MotionDataset(two_actions, config=tiny_config().data)
    with pytest.raises(InputError, match=r"--init-from .*: token_kind has shape \[4, 16\] there and \[4, 24\] here"):
        initialise_from(make_denoiser(None, data, tiny_config(model={"width": 24})), run_path)
    mdm = tiny_config(model={"architecture": "mdm"}, diffusion={"losses": "mdm"})
    with pytest.raises(InputError, match="is a MotionDenoiser, this training's a MDMDenoiser"):
        initialise_from(make_denoiser(None, data, mdm), run_path)
