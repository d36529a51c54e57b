"""Statistics of the training clips: mean and deviation of features, lengths, body, spectra."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch

from icube_common.training import SampleRef
from icube_common.training.sampler import derive_seed
from motiondiff.config import DataConfig
from motiondiff.data.dataset import MotionDataset, to_common_frame
from motiondiff.data.store import MotionStore
from motiondiff.models.representation import ANY_ACTION, MotionRepresentation
from motiondiff.models.spectrum import SMALLEST, fit_spectrum, shrink_spectrum
from motiondiff.pipelines.sampling import MODEL_FORMAT

# clips that the feature statistics are taken from, at most
STATISTICS_CLIPS = 4000
STATISTICS_SEED = 30_000
# random variations of each clip that the spectrum is taken from, at most
VARIATIONS = 8


def fit_representation(store: MotionStore, clips: npt.NDArray[np.int64], config: DataConfig) -> MotionRepresentation:
    """The representation of a store: mean and deviation of features from the given (training) clips only."""
    skeleton = store.skeleton(int(clips[0]))
    lengths = np.minimum(store.columns["length"][clips], config.max_frames)
    actions = store.columns["action"][clips]
    quantiles = {store.actions[code]: _quantiles(lengths[actions == code]) for code in np.unique(actions[actions >= 0])}
    representation = MotionRepresentation(
        joint_names=list(skeleton.names),
        parents=list(skeleton.parents),
        fps=store.fps,
        feet=list(skeleton.feet),
        action_frames=quantiles or {ANY_ACTION: _quantiles(lengths)},
        simulated=bool(store.header.get("simulated", False)),
        format_version=MODEL_FORMAT,
        height=config.height,
    )
    bodies = np.bincount(store.columns["skeleton"][clips], minlength=len(store.offsets))
    offsets = np.average(store.offsets, axis=0, weights=bodies)
    representation.offsets.copy_(torch.tensor(offsets, dtype=torch.float32))
    chosen = clips[np.linspace(0, len(clips) - 1, min(len(clips), STATISTICS_CLIPS)).round().astype(int)]
    count, total, squares = 0, 0.0, 0.0
    for clip in chosen:
        frames = torch.from_numpy(to_common_frame(store.frames(int(clip), 0, config.max_frames)))
        body = torch.tensor(store.skeleton(int(clip)).offsets)
        features = representation.with_height(frames, body).numpy().astype(np.float64)
        count += len(features)
        total = total + features.sum(0)
        squares = squares + (features**2).sum(0)
    mean = np.asarray(total / count)
    deviation = np.sqrt(np.maximum(squares / count - mean**2, 0))
    representation.set_statistics(torch.tensor(mean, dtype=torch.float32), torch.tensor(deviation, dtype=torch.float32))
    return representation


def training_spectrum(
    store: MotionStore,
    clips: npt.NDArray[np.int64],
    config: DataConfig,
    representation: MotionRepresentation,
    preconditioning: str = "spectral",
) -> torch.Tensor:
    """(A + 1, K + 1, D) spectra of the normalised training clips, varied as in training: of all, and of each action.

    `motiondiff.models.spectrum.fit_spectrum` of `STATISTICS_CLIPS` windows at most; an action without clips has the
    spectrum of all. With ``preconditioning`` of ``spectral_shared`` every action has that of all, with ``edm`` every
    component the feature's standard deviation: white noise.
    """
    windows = MotionDataset(store, clips, config, augment=True)
    repeats = min(VARIATIONS, max(1, STATISTICS_CLIPS // len(clips)))
    rows = np.linspace(0, len(clips) - 1, min(len(clips), STATISTICS_CLIPS)).round().astype(int)
    of_action: dict[int, list[torch.Tensor]] = {}
    for repeat in range(repeats):
        for row in rows.tolist():
            window = windows[SampleRef(row, derive_seed(STATISTICS_SEED, repeat, row))]
            body = torch.from_numpy(window["offsets"])
            features = representation.normalise(torch.from_numpy(window["features"]), body)
            of_action.setdefault(int(window["action"]), []).append(features)
    general = fit_spectrum(window for part in of_action.values() for window in part)
    if preconditioning == "edm":
        every = [window for part in of_action.values() for window in part]
        deviation = torch.stack([window.square().mean(0) for window in every]).mean(0).sqrt()
        general = deviation.expand_as(general).clone()
        # a mean deviates by that over the root of the number of frames; here that of a window of mean length
        general[0] /= math.sqrt(np.mean([len(window) for window in every]))
        general = general.clamp(min=SMALLEST)
    if preconditioning in ("edm", "spectral_shared"):
        return general.repeat(1 + len(store.actions), 1, 1)
    spectra = [general]
    for action in range(len(store.actions)):
        part = of_action.get(action)
        clip_count = len(part) // repeats if part else 0
        spectra.append(shrink_spectrum(fit_spectrum(part), general, max(clip_count, 1)) if part else general)
    return torch.stack(spectra)


def _quantiles(lengths: npt.NDArray[np.int64]) -> list[int]:
    """Eleven rising lengths in frames: the deciles, with shortest and longest."""
    return [round(float(value)) for value in np.quantile(lengths, np.linspace(0, 1, 11))]
