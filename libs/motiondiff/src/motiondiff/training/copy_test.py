"""Copy test of a denoiser: how much of a clip is left after noise of a known strength and one step of denoising.

A denoiser that damps movement, or moves the root, at little noise does so again at every step of a sampler. Shapes:
B clips, T frames, D features.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from icube_common.errors import InputError
from icube_common.training.sampler import SampleRef
from motiondiff.data.dataset import MotionDataset, collate
from motiondiff.data.labels.captions import EmbeddedCaptions
from motiondiff.data.store import MotionStore
from motiondiff.evaluation.movement import Limbs, band_movement, relative_to_chest
from motiondiff.models.representation import MotionRepresentation
from motiondiff.models.spectrum import Components, cosine_transform, fit_spectrum
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
FILTER = "filter_velocity_r2"
MEANING = {
    "movement": f"movement of the hands relative to the chest at {BAND[0]:g}-{BAND[1]:g} Hz, denoised / clean",
    "velocity_r2": "explained variance of the velocity of all joints",
    "root_cm": "mean distance of the root from its place, cm",
    FILTER: "velocity_r2 of a Wiener filter with the spectrum of each clip",
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
        of `FIGURES` as a list over noise: the median over clips, None where no clip has the figure. `FILTER` beside
        them is what a linear filter reaches that is fitted on each clip without noise: of movement that is weaker than
        the noise, such as the jitter of a depth camera, little can be explained.
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
    rows: dict[int, list[tuple[float, ...]]] = {timestep: [] for timestep in timesteps}
    for first in range(0, len(windows), BATCH):
        batch = collate([windows[SampleRef(row, 0)] for row in range(first, min(first + BATCH, len(windows)))])
        mask, conditions = batch["mask"], batch_conditions(batch, representation)
        clean = representation.normalise(batch["features"], batch["offsets"], mask) * mask[..., None]
        target = representation.positions(batch["features"], batch["offsets"]).double().numpy()
        lengths = mask.sum(1).tolist()
        for timestep in timesteps:
            noise = torch.randn(clean.shape, generator=random)
            times = torch.full((len(clean),), timestep)
            noisy = schedule.add_noise(clean, noise, times)
            predicted = denoiser(noisy, times, conditions, mask).float()
            denoised = representation.normalised_positions(predicted, batch["offsets"], mask).double().numpy()
            filtered = torch.zeros_like(clean)
            for row, length in enumerate(lengths):
                unscaled = noisy[row, :length] / schedule.alphas_cumprod[timestep].sqrt()
                filtered[row, :length] = wiener_filter(unscaled, clean[row, :length], float(deviation[timestep]))
            best = representation.normalised_positions(filtered, batch["offsets"], mask).double().numpy()
            rows[timestep] += [
                (
                    *compare(denoised[row, :length], target[row, :length], store.fps, limbs),
                    compare(best[row, :length], target[row, :length], store.fps, None)[1],
                )
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
            for place, name in enumerate((*FIGURES, FILTER))
        },
    }


def wiener_filter(noisy: Tensor, clean: Tensor, noise: float) -> Tensor:
    """(T, D) features filtered by the spectrum of the clean ones: ``s^2 / (s^2 + noise^2)`` of each cosine component.

    s is constant within a band of `motiondiff.models.spectrum.fit_spectrum`; the mean is not filtered.

    Args:
        noisy: (T, D) features and their noise, not scaled down.
        clean: (T, D) features.
        noise: standard deviation.
    """
    transform = cosine_transform(len(clean))
    every = torch.ones(1, len(clean), dtype=torch.bool)
    power = Components.of(fit_spectrum([clean]), every).deviation[0] ** 2
    gain = power / (power + noise**2)
    gain[0] = 1
    return transform.mT @ (gain * (transform @ noisy))


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
