"""Spectral preconditioning: the cosine transform, the spectrum of motions, the Wiener filter and its loss."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.fft import dct
from torch import Tensor

from motiondiff.models.spectrum import (
    BANDS,
    GATES,
    LOWEST,
    SMALLEST,
    Components,
    Preconditioning,
    band_frequencies,
    cosine_transform,
    fit_spectrum,
    noise_deviation,
    shrink_spectrum,
)

FRAMES, FEATURES = 24, 3


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def white(deviation: float = 1.0, mean: float | None = None) -> Tensor:
    """Spectrum of white noise: a mean of T frames deviates by ``deviation / sqrt(T)``."""
    spectrum = torch.full((BANDS + 1, FEATURES), deviation)
    spectrum[0] = deviation / math.sqrt(FRAMES) if mean is None else mean
    return spectrum


def steep() -> Tensor:
    """A spectrum that falls with the frequency, another one for each feature."""
    slope = torch.linspace(0, 1, BANDS + 1)[:, None] * torch.tensor([2.0, 4.0, 6.0])
    return 0.8 * torch.exp(-slope)


def scalings(spectrum: Tensor, noise: float, lengths: tuple[int, ...] = (FRAMES,)) -> tuple[Preconditioning, Tensor]:
    mask = torch.arange(FRAMES) < torch.tensor(lengths)[:, None]
    return Preconditioning(Components.of(spectrum, mask), torch.full((len(lengths), 1, 1), noise)), mask


@pytest.mark.parametrize("frames", [1, 2, 7, 100])
def test_the_transform_is_scipys_orthonormal_cosine_transform(frames: int) -> None:
    transform = cosine_transform(frames)
    torch.testing.assert_close(transform @ transform.T, torch.eye(frames), atol=1e-5, rtol=0)
    signal = numbers(frames, FEATURES).numpy()
    expected = dct(signal, type=2, norm="ortho", axis=0)
    assert (transform.numpy() @ signal) == pytest.approx(expected, abs=1e-5)


def test_the_transform_of_two_frames_by_hand() -> None:
    half = math.sqrt(0.5)
    torch.testing.assert_close(cosine_transform(2), torch.tensor([[half, half], [half, -half]]))


def test_components_of_a_batch_are_those_of_each_length_and_zero_at_padding() -> None:
    lengths = (FRAMES, 9, 2, 1)
    mask = torch.arange(FRAMES) < torch.tensor(lengths)[:, None]
    components = Components.of(steep(), mask)
    for row, length in enumerate(lengths):
        torch.testing.assert_close(
            components.transform[row, :length, :length], cosine_transform(length), atol=1e-5, rtol=0
        )
        assert not components.transform[row, length:].any() and not components.transform[row, :, length:].any()
        assert (components.deviation[row, length:] == SMALLEST).all()
        assert (components.deviation[row, :length] > SMALLEST).all()
    motions = numbers(len(lengths), FRAMES, FEATURES) * mask[..., None]
    torch.testing.assert_close(components.idct(components.dct(motions)), motions, atol=1e-5, rtol=0)


def test_every_motion_may_have_its_own_spectrum() -> None:
    mask = torch.ones(2, FRAMES, dtype=torch.bool)
    spectra = torch.stack([steep(), 3 * steep()])
    both = Components.of(spectra, mask).deviation
    for row in range(2):
        torch.testing.assert_close(both[row], Components.of(spectra[row], mask[:1]).deviation[0])


def test_an_actions_spectrum_is_drawn_towards_the_general_one() -> None:
    own = shrink_spectrum(white(1.0, mean=9.0), white(2.0, mean=5.0), clips=6)
    # sqrt((6 * 1 + 2 * 4) / 8), and the deviation of all means
    torch.testing.assert_close(own[1:], torch.full((BANDS, FEATURES), math.sqrt(1.75)))
    torch.testing.assert_close(own[0], torch.full((FEATURES,), 5.0))


def test_deviations_follow_the_bands_and_the_mean() -> None:
    spectrum = steep()
    components = Components.of(spectrum, torch.ones(1, FRAMES, dtype=torch.bool))
    torch.testing.assert_close(components.deviation[0, 0], spectrum[0] * math.sqrt(FRAMES))
    frequency = torch.arange(1, FRAMES, dtype=torch.float64) / (2 * FRAMES)
    for feature in range(FEATURES):
        expected = np.interp(
            frequency.log().numpy(), band_frequencies().log().numpy(), spectrum[1:, feature].double().log().numpy()
        )
        assert components.deviation[0, 1:, feature].log().numpy() == pytest.approx(expected, abs=1e-5)
    assert band_frequencies()[[0, -1]].tolist() == pytest.approx([LOWEST, 0.5])


def test_each_component_is_shared_out_among_the_parts_of_the_spectrum() -> None:
    parts = Components.of(steep(), torch.ones(1, 100, dtype=torch.bool)).parts[0]
    torch.testing.assert_close(parts.sum(-1), torch.ones(100))
    assert (parts >= 0).all() and torch.equal(parts[0], torch.eye(len(GATES))[0])
    assert torch.equal(parts[-1], torch.eye(len(GATES))[-1])  # 99 of 200 cycles: above the middle of the last part


def test_the_spectrum_of_white_noise_is_flat() -> None:
    deviations = torch.tensor([0.1, 1.0, 3.0])
    spectrum = fit_spectrum(numbers(64, FEATURES, seed=seed) * deviations for seed in range(300))
    # bands below one component of 64 frames take the nearest
    torch.testing.assert_close(spectrum[1:] / deviations, torch.ones(BANDS, FEATURES), atol=0.12, rtol=0)
    torch.testing.assert_close(spectrum[0] / deviations * 8, torch.ones(FEATURES), atol=0.15, rtol=0)


def test_the_spectrum_of_a_cosine_stands_at_its_frequency() -> None:
    frames, component, amplitude = 80, 16, 0.5
    wave = amplitude * torch.cos(math.pi * (torch.arange(frames) + 0.5) * component / frames)
    windows = [torch.stack([wave + offset, -wave], dim=1) for offset in (-1.0, 1.0)]
    spectrum = fit_spectrum(windows)
    distance = (band_frequencies() - component / (2 * frames)).abs()
    band = int(distance.argmin())
    # the energy A^2 T / 2 lies in one of the band's components
    edges = ((band_frequencies().log()[1:] + band_frequencies().log()[:-1]) / 2).exp()
    frequency = torch.arange(1, frames, dtype=torch.float64) / (2 * frames)
    share = int((torch.bucketize(frequency, edges) == band).sum())
    expected = amplitude * math.sqrt(frames / 2 / share)
    assert spectrum[1 + band].tolist() == pytest.approx([expected, expected], rel=1e-4)
    others = torch.cat([spectrum[1 : 1 + band], spectrum[2 + band :]])
    assert (others <= SMALLEST * 1.01).all()
    assert spectrum[0].tolist() == pytest.approx([1.0, SMALLEST], rel=1e-4)


def test_the_spectrum_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="of no window"):
        fit_spectrum([])


def test_without_a_network_the_result_is_the_wiener_filter() -> None:
    given, _ = scalings(white(0.5), noise=1.5)
    transform = cosine_transform(FRAMES)
    noisy = transform[5][None, :, None] * torch.tensor([1.0, -2.0, 0.5])  # one component
    clean = given.clean(given.components.dct(noisy), torch.zeros(1, FRAMES, FEATURES * (1 + len(GATES))))
    # 0.25 / (0.25 + 2.25)
    torch.testing.assert_close(clean, 0.1 * noisy, atol=1e-6, rtol=0)


def test_each_component_has_its_own_filter() -> None:
    given, _ = scalings(steep(), noise=0.2)
    noisy = numbers(1, FRAMES, FEATURES)
    clean = given.clean(given.components.dct(noisy), torch.zeros(1, FRAMES, FEATURES * (1 + len(GATES))))
    deviation = given.components.deviation
    expected = cosine_transform(FRAMES) @ noisy * deviation**2 / (deviation**2 + 0.04)
    torch.testing.assert_close(cosine_transform(FRAMES) @ clean, expected, atol=1e-5, rtol=0)


def test_little_noise_leaves_the_motion_and_much_noise_leaves_nothing() -> None:
    noisy, output = numbers(1, FRAMES, FEATURES), numbers(1, FRAMES, FEATURES * (1 + len(GATES)), seed=1)
    clear, _ = scalings(white(), noise=1e-5)
    torch.testing.assert_close(clear.clean(clear.components.dct(noisy), output), noisy, atol=1e-3, rtol=0)
    drowned, _ = scalings(white(), noise=1e5)
    assert drowned.clean(drowned.components.dct(noisy * 1e5), torch.zeros_like(output)).abs().max() < 1e-3
    # there the network's output alone is the motion, at the deviation of the data
    plain = torch.cat([output[..., :FEATURES], torch.zeros(1, FRAMES, FEATURES * len(GATES))], dim=-1)
    torch.testing.assert_close(
        drowned.clean(drowned.components.dct(torch.zeros_like(noisy)), plain), output[..., :FEATURES], atol=1e-4, rtol=0
    )


def test_a_gate_of_minus_one_removes_a_component_as_strong_as_the_noise() -> None:
    given, _ = scalings(white(0.7), noise=0.7)
    noisy = numbers(1, FRAMES, FEATURES)
    gates = torch.cat([torch.zeros(FEATURES), -torch.ones(FEATURES * len(GATES))]).expand(1, FRAMES, -1)
    assert given.clean(given.components.dct(noisy), gates).abs().max() < 1e-6
    # below the noise and above it: s (s - n) / (s^2 + n^2) of the component is left
    for deviation, noise in ((0.5, 1.0), (1.0, 0.5)):
        given, _ = scalings(white(deviation), noise)
        left = deviation * (deviation - noise) / (deviation**2 + noise**2)
        torch.testing.assert_close(given.clean(given.components.dct(noisy), gates), left * noisy, atol=1e-5, rtol=0)


def test_a_gate_acts_on_its_part_of_the_spectrum_alone() -> None:
    given, _ = scalings(white(), noise=1.0)
    noisy = numbers(1, FRAMES, FEATURES)
    gates = torch.zeros(1, FRAMES, FEATURES * (1 + len(GATES)))
    gates[..., -FEATURES:] = -1  # of the fastest part
    left = cosine_transform(FRAMES) @ given.clean(given.components.dct(noisy), gates)
    share = given.components.parts[..., -1:]
    expected = 0.5 * (1 - share) * (cosine_transform(FRAMES) @ noisy)
    torch.testing.assert_close(left, expected, atol=1e-5, rtol=0)


def test_the_network_is_given_unit_deviation() -> None:
    spectrum, noise = steep(), 0.3
    given, _ = scalings(spectrum, noise)
    deviation = given.components.deviation
    clean = given.components.idct(numbers(2000, FRAMES, FEATURES) * deviation)
    noisy = clean + noise * numbers(2000, FRAMES, FEATURES, seed=1)
    inputs = given.network_input(noisy, given.components.dct(noisy))
    assert inputs.shape == (2000, FRAMES, 2 * FEATURES)
    whitened = inputs[..., FEATURES:]
    torch.testing.assert_close(whitened.std(dim=0), torch.ones(FRAMES, FEATURES), atol=0.08, rtol=0)
    assert inputs[..., :FEATURES].mul(math.sqrt(1 + noise**2)).var() == pytest.approx(
        float((deviation**2).mean() + noise**2), rel=0.05
    )


@pytest.mark.parametrize("noise", [0.02, 0.5, 10.0])
def test_the_loss_of_the_wiener_filter_is_one(noise: float) -> None:
    lengths = (FRAMES, 10) * 4000
    given, mask = scalings(steep(), noise, lengths)
    clean = given.components.idct(numbers(len(lengths), FRAMES, FEATURES) * given.components.deviation)
    noisy = (clean + noise * numbers(*clean.shape, seed=1)) * mask[..., None]
    predicted = given.clean(given.components.dct(noisy), torch.zeros(len(lengths), FRAMES, FEATURES * (1 + len(GATES))))
    assert float(given.loss(predicted, clean, mask)) == pytest.approx(1, abs=0.03)
    assert float(given.loss(clean, clean, mask)) == 0


def test_padding_and_constant_components_have_no_part_in_the_loss() -> None:
    spectrum = white(0.5)
    spectrum[:, 1] = SMALLEST / 10  # a feature that never changes
    given, mask = scalings(spectrum, 0.5, (FRAMES, 9))
    clean = numbers(2, FRAMES, FEATURES)
    predicted = clean.clone()
    predicted[~mask] += 100
    predicted[..., 1] += 100
    assert float(given.loss(predicted, clean, mask)) == pytest.approx(0, abs=1e-9)
    # an error of one in all frames of a feature is its mean's alone: sqrt(9) over the output's scale of that component
    predicted = clean.clone()
    predicted[1, :, 0] += 1
    scale = given.output_scale[1, 0, 0]
    for exponent in (0.5, 1.0):
        weight = given.components.deviation[1, :9, [0, 2]] ** exponent
        expected = 0.5 * 9 / scale**2 * weight[0, 0] / weight.sum()
        assert float(given.loss(predicted, clean, mask, exponent)) == pytest.approx(float(expected), rel=1e-4)


def test_noise_between_two_timesteps_is_interpolated() -> None:
    cumulative = torch.tensor([0.9, 0.5, 0.2])
    noise = noise_deviation(cumulative, torch.tensor([0.0, 1.0, 2.0, 1.5, 9.0])).flatten()
    expected = [1 / 3, 1.0, 2.0, math.sqrt(2), 2.0]
    assert noise.tolist() == pytest.approx(expected, rel=1e-5)
