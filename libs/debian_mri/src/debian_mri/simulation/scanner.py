"""Scanner effects on simulated brains: contrast, blur, uneven sensitivity, noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Int16
from scipy import ndimage


@dataclass(frozen=True, kw_only=True)
class Site:
    """Scanner of a site.

    Attributes:
        name: site of the manifest.
        gain: units of white matter.
        gamma: exponent of the contrast; below 1 grey matter comes nearer to white.
        blur: standard deviation, mm.
        unevenness: spread of the logarithm of the sensitivity.
        noise: standard deviation, as a share of white matter.
    """

    name: str
    gain: float
    gamma: float
    blur: float
    unevenness: float
    noise: float


_FIRST = (
    Site(name="site-1", gain=780, gamma=1.0, blur=0.0, unevenness=0.05, noise=0.02),
    Site(name="site-2", gain=1150, gamma=0.92, blur=0.8, unevenness=0.09, noise=0.03),
)


def make_sites(count: int) -> tuple[Site, ...]:
    """First ``count`` sites, the same each time."""
    sites = list(_FIRST[:count])
    for number in range(len(sites), count):
        draw = np.random.default_rng(1000 + number).uniform(size=5)
        sites.append(
            Site(
                name=f"site-{number + 1}",
                gain=float(600 + 700 * draw[0]),
                gamma=float(0.8 + 0.35 * draw[1]),
                blur=float(draw[2]),
                unevenness=float(0.05 + 0.1 * draw[3]),
                noise=float(0.02 + 0.025 * draw[4]),
            )
        )
    return tuple(sites)


def simulate_scan(
    anatomy: Float32[np.ndarray, "x y z"],
    brain: Bool[np.ndarray, "x y z"],
    site: Site,
    spacing: float,
    generator: np.random.Generator,
) -> Int16[np.ndarray, "x y z"]:
    """Simulate the skull-stripped scan of a brain (0 outside the brain).

    Args:
        anatomy: white matter about 0.9, CSF about 0.3.
        brain: brain mask.
        site: scanner.
        spacing: mm.
        generator: random generator of sensitivity, gain and noise.
    """
    image = np.clip(anatomy, 0, None) ** site.gamma
    if site.blur:
        image = ndimage.gaussian_filter(image, site.blur / spacing)
    image = (
        image * (site.gain * np.exp(0.05 * generator.standard_normal())) * _sensitivity(image.shape, site, generator)
    )
    level = site.noise * site.gain
    # a magnitude image: noise is Rician (Gudbjartsson and Patz, MRM 1995)
    real = image + level * generator.standard_normal(image.shape, dtype=np.float32)
    imaginary = level * generator.standard_normal(image.shape, dtype=np.float32)
    voxels: Int16[np.ndarray, "x y z"] = np.where(brain, np.round(np.hypot(real, imaginary)), 0).astype(np.int16)
    return voxels


def _sensitivity(shape: tuple[int, ...], site: Site, generator: np.random.Generator) -> Float32[np.ndarray, "x y z"]:
    """Smooth factor about 1: exponential of a polynomial of second degree."""
    x, y, z = np.ix_(*(np.linspace(-1, 1, n, dtype=np.float32) for n in shape))
    a = generator.standard_normal(9).astype(np.float32)
    terms = a[0] * x + a[1] * y + a[2] * z + a[3] * x * y + a[4] * x * z + a[5] * y * z
    terms = terms + a[6] * (x**2 - 1 / 3) + a[7] * (y**2 - 1 / 3) + a[8] * (z**2 - 1 / 3)
    factor: Float32[np.ndarray, "x y z"] = np.exp(terms * np.float32(site.unevenness / terms.std()))
    return factor
