"""Chunks of a batch on a CPU give what the whole batch gives."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from motiondiff.models.conditioning import Conditions
from motiondiff.pipelines import row_chunks
from motiondiff.pipelines.motion_diffusion import MotionDiffusionPipeline
from motiondiff.skeleton.motion import Motion


def test_rows_are_predicted_in_chunks(pipeline: MotionDiffusionPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    handle = pipeline.denoiser.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))

    def call(chunk: int) -> list[Motion]:
        monkeypatch.setattr(row_chunks, "CPU_FRAMES", chunk)
        generator = torch.Generator().manual_seed(3)
        actions = ["walk", None, "run"]
        return pipeline(actions, num_frames=[20, 9, 14], num_inference_steps=2, generator=generator).motions

    try:
        whole, chunked, single = call(2048), call(59), call(1)
    finally:
        handle.remove()
    assert sizes == [6, 6] + [2, 2, 2] * 2 + [1] * 12
    for motions in (chunked, single):
        assert all(
            np.abs(first.positions - second.positions).max() < 1e-5
            for first, second in zip(whole, motions, strict=True)
        )


def test_a_users_own_module_gets_the_whole_batch() -> None:
    sizes: list[int] = []

    class Recorder(torch.nn.Module):
        def forward(self, sample: torch.Tensor, *_: object) -> torch.Tensor:
            sizes.append(len(sample))
            return sample

    rows = 50
    conditions = Conditions(
        action=torch.zeros(rows, dtype=torch.int64),
        style=torch.zeros(rows, dtype=torch.int64),
        shape=torch.zeros(rows, 3),
        has_shape=torch.ones(rows, dtype=torch.bool),
    )
    mask = torch.ones(rows, 100, dtype=torch.bool)
    row_chunks.predict_rows(Recorder(), torch.zeros(rows, 100, 2), torch.zeros(rows), conditions, mask)
    assert sizes == [rows]
