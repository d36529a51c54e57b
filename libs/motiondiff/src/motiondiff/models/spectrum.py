"""Preconditioning of a denoiser by the spectrum of the motions: per frequency and per feature.

Karras et al., "Elucidating the Design Space of Diffusion-Based Generative Models", NeurIPS 2022, section 5 and table 1,
scale input and output of a denoiser for data of one standard deviation. The spectrum of motion is steep (hands of
UTKinect's training people: 46 times the amplitude at 1 Hz of that at 10 Hz), so that one deviation suits neither. Here
every cosine component of every feature has its own: with ``c_skip`` the denoiser without a network is the Wiener filter
of the training motions (Wiener 1949), and the network learns what that filter does not know, in units in which every
component has the deviation 1. Every action has a spectrum of its own: between actions jerk differs by a factor of
eight.

Shapes: B batch, T frames, D features, K bands of frequency, G parts of the spectrum.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch
from jaxtyping import Bool, Float
from torch import Tensor

BANDS = 16
"""K, spaced by the logarithm of the frequency."""
LOWEST = 0.0075
"""Cycles per frame of the lowest band; the highest ends at half a cycle per frame."""
CONSTANT = 0.004
"""A component that deviates less than this (normalised features) is constant: it has no part in the loss."""
SMALLEST = 1e-3
"""Deviation of a component that never changes."""
GATES = (0.012, 0.035, 0.1, 0.3)
"""Cycles per frame at the middle of the parts of the spectrum that the network gates."""
SHRINKAGE = 2.0
"""Clips of the general spectrum that an action's own counts besides its clips."""


@lru_cache(maxsize=1024)
def cosine_transform(frames: int) -> Float[Tensor, "T T"]:
    """The orthonormal cosine transform (DCT-II) of a number of frames; row k has ``k / (2 T)`` cycles per frame.

    Ahmed, Natarajan and Rao, "Discrete Cosine Transform", IEEE Transactions on Computers 1974.
    """
    component = torch.arange(frames, dtype=torch.float64)[:, None]
    frame = torch.arange(frames, dtype=torch.float64)[None]
    transform = torch.cos(math.pi * (frame + 0.5) * component / frames) * math.sqrt(2 / frames)
    transform[0] /= math.sqrt(2)
    return transform.float()


def band_frequencies() -> Float[Tensor, " K"]:
    """Cycles per frame at the middle of each band."""
    return torch.logspace(math.log10(LOWEST), math.log10(0.5), BANDS, dtype=torch.float64)


def fit_spectrum(windows: Iterable[Float[Tensor, "T D"]]) -> Float[Tensor, "K+1 D"]:
    """Standard deviation of the cosine components of normalised features, over windows.

    Row 0 is the deviation of the windows' means; the rows after it are the bands of `band_frequencies`. A band without
    a component takes the nearest one that has any.
    """
    edges = band_frequencies().log()
    edges = ((edges[1:] + edges[:-1]) / 2).exp()
    means: list[Tensor] = []
    power: Tensor | None = None
    count = torch.zeros(BANDS, dtype=torch.float64)
    for window in windows:
        components = (cosine_transform(len(window)) @ window).double()
        means.append(components[0] / math.sqrt(len(window)))
        band = torch.bucketize(torch.arange(1, len(window), dtype=torch.float64) / (2 * len(window)), edges)
        power = window.new_zeros(BANDS, window.shape[1], dtype=torch.float64) if power is None else power
        power.index_add_(0, band, components[1:] ** 2)
        count.index_add_(0, band, torch.ones(len(band), dtype=torch.float64))
    if power is None:
        raise ValueError("the spectrum of no window is not defined")
    filled = count.nonzero().flatten()
    nearest = (torch.arange(BANDS)[:, None] - filled[None]).abs().argmin(1) if len(filled) else torch.zeros(0).long()
    bands = (power / count.clamp(min=1)[:, None])[filled[nearest]] if len(filled) else power
    mean = torch.stack(means)
    first = mean.var(0, unbiased=False)
    return torch.cat([first[None], bands]).sqrt().clamp(min=SMALLEST).float()


def shrink_spectrum(
    spectrum: Float[Tensor, "K+1 D"], towards: Float[Tensor, "K+1 D"], clips: int
) -> Float[Tensor, "K+1 D"]:
    """The spectrum of an action's clips, drawn towards that of all clips as if `SHRINKAGE` more clips had it.

    The deviation of the means, row 0, is that of all clips: an action's means lie around a mean of its own, which the
    normalisation does not remove.
    """
    variance = (clips * spectrum**2 + SHRINKAGE * towards**2) / (clips + SHRINKAGE)
    return torch.cat([towards[:1], variance[1:].sqrt()])


@dataclass(frozen=True, eq=False)
class Components:
    """Cosine components of a batch of motions, each of its own length.

    Attributes:
        transform: (B, T, T) transform of each motion's own length, zero at padding.
        deviation: (B, T, D) standard deviation of each component, `SMALLEST` at padding.
        parts: (B, T, G) share of each component in each part of the spectrum, of sum 1.
        counts: of each part, the number of components up to the last that has a share in it in any motion.
    """

    transform: Float[Tensor, "B T T"]
    deviation: Float[Tensor, "B T D"]
    parts: Float[Tensor, "B T G"]
    counts: tuple[int, ...]

    @classmethod
    def of(cls, spectrum: Float[Tensor, "*B K+1 D"], mask: Bool[Tensor, "B T"]) -> Components:
        """The components of a batch; no value is read back from the device.

        Args:
            spectrum: of `fit_spectrum`, one for all motions or one for each.
            mask: True on a motion's own frames, which come first.
        """
        length = mask.sum(1).to(spectrum)[:, None]
        number = torch.arange(mask.shape[1], device=mask.device, dtype=spectrum.dtype)
        angle = math.pi * number[None, :, None] * (number + 0.5)[None, None] / length[..., None]
        scale = (2 / length).sqrt() * mask
        scale = torch.where(number == 0, scale / math.sqrt(2), scale)
        transform = angle.cos() * scale[..., None] * mask[:, None]
        # between the bands the logarithm is linear in that of the frequency
        lowest, step = math.log(LOWEST), (math.log(0.5) - math.log(LOWEST)) / (BANDS - 1)
        logarithm_of_frequency = (number.clamp(min=0.5) / (2 * length)).log()
        place = ((logarithm_of_frequency - lowest) / step).clamp(0, BANDS - 1)
        below = place.floor().clamp(max=BANDS - 2)
        logarithm = spectrum[..., 1:, :].log().expand(len(mask), BANDS, spectrum.shape[-1])
        index = below.long()[..., None].expand(-1, -1, spectrum.shape[-1])
        share = (place - below)[..., None]
        deviation = torch.lerp(logarithm.gather(1, index), logarithm.gather(1, index + 1), share).exp()
        # the first component is the mean, times the root of the length
        mean = (spectrum[..., :1, :] * length.sqrt()[..., None])[:, 0]
        deviation = torch.cat([mean[:, None], deviation[:, 1:]], dim=1)
        middles = [math.log(frequency) for frequency in GATES]
        spacing = (middles[-1] - middles[0]) / (len(GATES) - 1)
        of_part = ((logarithm_of_frequency - middles[0]) / spacing).clamp(0, len(GATES) - 1)
        parts = (1 - (of_part[..., None] - torch.arange(len(GATES), device=mask.device)).abs()).clamp(min=0)
        frames = mask.shape[1]
        ends = [2 * frames * math.exp(middles[0] + spacing * part) for part in range(1, len(GATES))]
        counts = (*(min(math.ceil(end), frames) for end in ends), frames)
        return cls(transform, torch.where(mask[..., None], deviation, SMALLEST), parts, counts)

    def dct(self, frames: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        """Components of motions (DCT-II)."""
        return self.transform @ frames

    def idct(self, components: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        """Motions of components, the inverse of `dct`; zero at padding."""
        return self.transform.mT @ components


@dataclass(frozen=True, eq=False)
class Preconditioning:
    """Scalings of a batch at its noise: ``c_skip``, ``c_out`` and ``c_in`` of EDM's table 1 for every component.

    With s the deviation of a component and n that of the noise: ``c_skip = s^2 / (s^2 + n^2)``, ``c_out = s n /
    sqrt(s^2 + n^2)``, ``c_in = 1 / sqrt(s^2 + n^2)``.

    Args:
        components: of the batch.
        noise: (B, 1, 1) standard deviation of the noise where the motion is not scaled down, ``sigma`` of EDM.
    """

    components: Components
    noise: Float[Tensor, "B 1 1"]

    @cached_property
    def scale_in(self) -> Float[Tensor, "B T D"]:
        """``c_in`` of each component."""
        return (self.components.deviation**2 + self.noise**2).rsqrt()

    @cached_property
    def output_scale(self) -> Float[Tensor, "B T D"]:
        """``c_out``: the deviation that is left to the network at each component."""
        return self.components.deviation * self.noise * self.scale_in

    def network_input(
        self, noisy: Float[Tensor, "B T D"], components: Float[Tensor, "B T D"]
    ) -> Float[Tensor, "B T 2*D"]:
        """The noisy motion at unit deviation, and again with every component at unit deviation.

        Args:
            noisy: the motion and its noise, not scaled down.
            components: its components, `Components.dct`.
        """
        white = self.components.idct(components * self.scale_in)
        return torch.cat([noisy * torch.rsqrt(1 + self.noise**2), white], dim=-1)

    def clean(self, components: Float[Tensor, "B T D"], output: Float[Tensor, "B T (G+1)*D"]) -> Float[Tensor, "B T D"]:
        """The clean motion from the components of the noisy one and the network's output.

        The first D numbers of a frame are EDM's output. The others, where there are any, are gates for the noisy
        motion itself at unit deviation, part by part of the spectrum: a calm motion needs more of the noise removed
        than the average of the training motions does. A gate of -1 removes a component that is as strong as the noise,
        -s / n any other.
        """
        correction, *gates = output.split(components.shape[-1], dim=-1)
        skip = (self.components.deviation * self.scale_in) ** 2
        corrected = components * skip + self.output_scale * self.components.dct(correction)
        clean = self.components.idct(corrected)
        white = components * self.output_scale * self.scale_in
        for part, (gate, count) in enumerate(zip(gates, self.components.counts, strict=False)):
            lowest = white[:, :count] * self.components.parts[:, :count, part, None]
            clean = torch.addcmul(clean, gate, self.components.transform[:, :count].mT @ lowest)
        return clean

    def loss(
        self,
        predicted: Float[Tensor, "B T D"],
        target: Float[Tensor, "B T D"],
        mask: Bool[Tensor, "B T"],
        exponent: float = 0.5,
    ) -> Float[Tensor, ""]:
        """Squared error in units of `output_scale`: 1 for the Wiener filter alone.

        EDM's weight, ``1 / c_out^2`` (section 5), for every component, times the component's deviation to the power of
        ``exponent``, since otherwise the sensor's noise would weigh as much as the movement; a constant component
        weighs 0.
        """
        deviation = self.components.deviation
        weight = deviation.clamp(min=0.03) ** exponent * (deviation > CONSTANT) * mask[..., None]
        error = self.components.dct((predicted - target) * mask[..., None]) / self.output_scale.clamp(min=1e-4)
        return ((error**2 * weight).sum((1, 2)) / weight.sum((1, 2)).clamp(min=1e-8)).mean()


def noise_deviation(cumulative: Float[Tensor, " N"], timestep: Float[Tensor, " B"]) -> Float[Tensor, "B 1 1"]:
    """``sigma`` at timesteps, which may lie between two of the schedule's: ``sqrt((1 - a) / a)``.

    Args:
        cumulative: cumulative products of alphas, of the noise schedule.
        timestep: index into it.
    """
    logarithm = 0.5 * (torch.log1p(-cumulative) - cumulative.log())
    place = timestep.to(cumulative).clamp(0, len(cumulative) - 1)
    below = place.floor().clamp(max=len(cumulative) - 2)
    index = below.long()
    return torch.lerp(logarithm[index], logarithm[index + 1], place - below).exp()[:, None, None]
