"""Configuration of balanced sets, and of the trials of ablations and searches; nothing here imports torch."""

from __future__ import annotations

from dataclasses import dataclass, fields

from icube_common.config import Config, option, section
from motiondiff.config import ClassifierConfig, MotionDiffConfig, SamplerConfig, TextConfig


@dataclass(frozen=True, kw_only=True)
class FilterConfig(SamplerConfig):
    """Number of generated motions and filter criteria; the seed is also the one of the filter's classifier."""

    per_class: int = option(30, "motions kept of every class", ge=1)
    oversample_factor: float = option(3.0, "motions generated for each one kept", ge=1)
    min_confidence: float = option(0.5, "minimum probability of the target class by the classifier", ge=0, le=1)
    quantile: float = option(
        0.95,
        "quantile of the training clips' foot skate, jitter, bone drift and penetration that bounds motions",
        gt=0,
        le=1,
    )
    tolerance: float = option(1.25, "factor by which a motion may exceed that quantile", ge=1)
    copy_threshold: float = option(
        0.1,
        "distance to a training clip below which a motion is a copy, as a share of training clips' median distance",
        ge=0,
    )
    fill: bool = option(False, "fill a class with too few motions with its most confident rejected ones, except copies")
    noise_strength: float = option(
        1.0,
        "share of the noise schedule (SDEdit), 1: motions from noise; below: variations of training clips",
        gt=0,
        le=1,
    )
    mirror: float = option(0.0, "share of variations of mirrored training clips", ge=0, le=1)
    mix_styles: bool = option(False, "sample the style of each motion from the styles of a diffusion model")
    batch_size: int = option(32, "motions generated together", ge=1)


@dataclass(frozen=True, kw_only=True)
class AugmentConfig(Config):
    """All sections of ``motiondiff augment``."""

    filter: FilterConfig = section(FilterConfig)
    classifier: ClassifierConfig = section(ClassifierConfig)


@dataclass(frozen=True, kw_only=True)
class SampleConfig(SamplerConfig):
    """Sampling of a trial's motions."""

    per_class: int = option(20, "motions of every class", ge=2)
    mix_styles: bool = option(False, "sample the style of each motion from the model's styles")


@dataclass(frozen=True, kw_only=True)
class TrialConfig(MotionDiffConfig):
    """All sections of a trial of ``motiondiff ablate`` and ``tune``: a training and the evaluation of its motions."""

    sample: SampleConfig = section(SampleConfig)
    classifier: ClassifierConfig = section(ClassifierConfig)


def unused_keys(config: TrialConfig) -> dict[str, str]:
    """Keys of a trial that have no effect under its configuration, with the reason."""
    unused = {"classifier.synthetic_fraction": "a trial's classifier has no further clips"}
    if not config.text.enabled:
        unused |= {key: "text.enabled=false" for key in _TEXT_KEYS}
    if config.model.architecture == "mdm":
        names = ("model.preconditioning", "model.convolution", "model.gates", "diffusion.spectral_exponent")
        unused |= dict.fromkeys(names, "model.architecture=mdm")
    elif config.model.preconditioning == "none":
        unused |= dict.fromkeys(("model.gates", "diffusion.spectral_exponent"), "model.preconditioning=none")
    if config.diffusion.losses == "mdm":
        names = ("min_snr_gamma", "min_snr_floor", "weight_root", "weight_feet")
        unused |= {f"diffusion.{name}": "diffusion.losses=mdm" for name in names}
    elif not config.diffusion.min_snr_gamma:
        unused |= {"diffusion.min_snr_floor": "diffusion.min_snr_gamma=0"}
    return unused


_TEXT_KEYS = (
    *(f"text.{field.name}" for field in fields(TextConfig) if field.name != "enabled"),
    "diffusion.text_dropout",
)
