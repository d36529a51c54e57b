"""Copy test of a denoiser: how much of a clip is left after noise of a known strength and one step of denoising.

A denoiser that damps movement, or moves the root, at little noise does so again at every step of a sampler. Shapes:
B clips, T frames, D features.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from icube_common.errors import InputError
from icube_common.training.sampler import SampleRef
from motiondiff.data.dataset import MotionDataset, collate
from motiondiff.data.labels.captions import EmbeddedCaptions
from motiondiff.data.store import MotionStore
from motiondiff.evaluation.movement import Limbs, band_movement, relative_to_chest
from motiondiff.models.representation import MotionRepresentation
from motiondiff.training.diffusion_loss import batch_conditions

if TYPE_CHECKING:
    from diffusers import DDPMScheduler

    from motiondiff.config import DataConfig

Array = npt.NDArray[np.float64]

NOISE = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Standard deviations of the noise, in units of the normalised features; the nearest of the schedule are taken."""
BAND = (1.0, 4.0)
"""Hz: waving, clapping, steps."""
MAX_CLIPS = 64
BATCH = 16
SEED = 40_000
FILE = "copy_test.json"
"""In a run folder."""
FIGURES = ("movement", "velocity_r2", "root_cm")
MEANING = {
    "movement": f"movement of the hands relative to the chest at {BAND[0]:g}-{BAND[1]:g} Hz, denoised / clean",
    "velocity_r2": "explained variance of the velocity of all joints",
    "root_cm": "mean distance of the root from its place, cm",
}


@torch.no_grad()
def copy_test(
    denoiser: nn.Module,
    representation: MotionRepresentation,
    schedule: DDPMScheduler,
    store: MotionStore,
    config: DataConfig,
    *,
    captions: EmbeddedCaptions | None = None,
) -> dict[str, Any]:
    """Noise clips, denoise them once with their own conditions and without guidance, and compare.

    Args:
        denoiser: on the CPU; in evaluation mode meanwhile.
        representation: features and body, on the CPU.
        schedule: noise schedule of the training.
        store: the clips of the validation split, or of the training split where there is none; `MAX_CLIPS` at most,
            evenly from the split, each from its first frame.
        config: longest window.
        captions: texts of the clips.

    Returns:
        ``split``, ``clips``, ``noise`` (standard deviations of the schedule next to `NOISE`), ``timesteps``, and each
        of `FIGURES` as a list over noise: the median over clips, None where no clip has the figure.
    """
    split = "validation" if "validation" in store.info()["splits"] else "train"
    clips = store.select(split)
    chosen = clips[np.linspace(0, len(clips) - 1, min(len(clips), MAX_CLIPS)).round().astype(int)]
    windows = MotionDataset(store, chosen, config, augment=False, captions=captions)
    deviation = ((1 - schedule.alphas_cumprod) / schedule.alphas_cumprod).sqrt()
    timesteps = sorted({int((deviation.log() - np.log(level)).abs().argmin()) for level in NOISE})
    try:
        limbs: Limbs | None = Limbs.of(store.skeleton(int(chosen[0])))
    except InputError:  # joints without names: the hands are not measured
        limbs = None
    random = torch.Generator().manual_seed(SEED)
    training = denoiser.training
    denoiser.eval()
    rows: dict[int, list[tuple[float, float, float]]] = {timestep: [] for timestep in timesteps}
    for first in range(0, len(windows), BATCH):
        batch = collate([windows[SampleRef(row, 0)] for row in range(first, min(first + BATCH, len(windows)))])
        mask, conditions = batch["mask"], batch_conditions(batch, representation)
        clean = representation.normalise(batch["features"]) * mask[..., None]
        target = representation.positions(batch["features"], batch["offsets"]).double().numpy()
        lengths = mask.sum(1).tolist()
        for timestep in timesteps:
            noise = torch.randn(clean.shape, generator=random)
            times = torch.full((len(clean),), timestep)
            predicted = denoiser(schedule.add_noise(clean, noise, times), times, conditions, mask).float()
            features = representation.denormalise(predicted)
            denoised = representation.positions(features, batch["offsets"]).double().numpy()
            rows[timestep] += [
                compare(denoised[row, :length], target[row, :length], store.fps, limbs)
                for row, length in enumerate(lengths)
            ]
    denoiser.train(training)
    medians = [np.array([_median(column) for column in np.array(rows[timestep]).T]) for timestep in timesteps]
    return {
        "split": split,
        "clips": len(windows),
        "noise": [float(deviation[timestep]) for timestep in timesteps],
        "timesteps": timesteps,
        **{
            name: [float(value[place]) if np.isfinite(value[place]) else None for value in medians]
            for place, name in enumerate(FIGURES)
        },
    }


def compare(denoised: Array, clean: Array, fps: float, limbs: Limbs | None) -> tuple[float, float, float]:
    """`FIGURES` of one clip, NaN where it is too short, does not move, or has no hands.

    Args:
        denoised: (T, J, 3) metres.
        clean: (T, J, 3) metres.
        fps: frames per second.
        limbs: joints, or None.
    """
    gain = np.nan
    if limbs is not None:
        reference = band_movement(relative_to_chest(clean, limbs), fps, *BAND)
        if reference > 0:
            gain = band_movement(relative_to_chest(denoised, limbs), fps, *BAND) / reference
    velocity, target = np.diff(denoised, axis=0), np.diff(clean, axis=0)
    spread = np.square(target - target.mean(axis=0)).sum() if len(target) else 0.0
    explained = 1 - np.square(velocity - target).sum() / spread if spread > 0 else np.nan
    root = np.linalg.norm(denoised[:, 0] - clean[:, 0], axis=-1).mean() * 100
    return float(gain), float(explained), float(root)


def _median(values: Array) -> float:
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if len(finite) else np.nan
