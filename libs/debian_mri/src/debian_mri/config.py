"""The configuration of a training: every key with its range and meaning; imports no torch.

Image only, table only and both are settings of one model: see `restrict_modality`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from debian_mri.imaging.preprocess import PreprocessConfig
from debian_mri.imaging.slices import SliceConfig
from icube_common.config import Config, option, section
from icube_common.errors import InputError, unknown
from icube_common.losses import LossConfig
from icube_common.prompts import PromptConfig
from icube_common.tabular import TabularConfig
from icube_common.training import TrainConfig
from icube_common.vlm import FinetuneConfig, VLMConfig

ENCODERS = ("auto", "pixels", "vlm")
POOLINGS = ("mean", "attention", "max", "concat")
MODES = ("none", "linear", "text", "film")
MODALITIES = ("image", "table", "both")


@dataclass(frozen=True, kw_only=True)
class VisualConfig(Config):
    """Image branch: slice features, pooled and projected to the class texts."""

    enabled: bool = option(True, "use slice images")
    encoder: str = option(
        "auto",
        "slice features: means of 22 x 22 blocks of pixels, or the frozen image encoder (auto: vlm.encoder, or a tower "
        "trained with captions, such as CLIP, or fine-tuning, else pixels)",
        choices=ENCODERS,
    )
    pooling: str = option(
        "mean", "slices to one feature; concat: side by side, where all scans have as many", choices=POOLINGS
    )
    attention_width: int = option(32, "hidden width of the gated attention", ge=1)
    ridge_alpha: float = option(
        10.0, "penalty of the ridge regression to the class texts that initialises the projection", gt=0
    )
    tune: bool = option(
        True, "choose ridge_alpha and logit_weight by cross-validation over the training people; false: as set"
    )
    finetune_projection: bool = option(
        False, "train the projection by gradient steps; false: keep the ridge regression"
    )
    logit_weight: float = option(1.0, "factor on the image branch's part of the logits, with tune=false", ge=0, le=1)


@dataclass(frozen=True, kw_only=True)
class ConceptConfig(Config):
    """Biomarkers measured on the image, with directions from publications."""

    enabled: bool = option(True, "use measured biomarkers")
    biomarkers: list[str] = option([], "biomarkers; empty: all that can be measured")
    volumes: str = option("", "table of volumes (import-volumes) in place of measurements on the images")
    slice_geometry: str = option(
        "auto", "geometry of slice images: that of a known set, or none (auto: by the set's format)"
    )
    control_class: str = option("CN", "class that scores are relative to; all people where the set has no such class")
    covariate_adjusted: bool = option(
        False, "scores given the demographics, by regression over the controls (w-scores); only where these enter"
    )
    prior_weight: float = option(0.5, "initial weight of the published directions, log-odds a standard deviation", gt=0)
    prior_strength: float = option(300.0, "penalty on deviations from the published directions", ge=0)
    learn_prior_weight: bool = option(True, "train the common weight of the published directions")


@dataclass(frozen=True, kw_only=True)
class DemographicsConfig(Config):
    """Clinical variables and their fusion."""

    mode: str = option(
        "none", "linear: own terms; text: as sentences; film: scale and shift of the image feature", choices=MODES
    )
    columns: list[str] = option(["age", "sex", "education"], "variables; a report names those that a set lacks")
    missing: str = option(
        "mean_impute",
        "missing values: the training mean and an indicator, or an error",
        choices=("mean_impute", "refuse"),
    )
    shrinkage: float = option(3.0, "penalty on the weights", ge=0)
    allow_diagnostic: bool = option(
        False, "allow variables close to the diagnosis (MMSE, CDR); every report carries a disclaimer"
    )


@dataclass(frozen=True, kw_only=True)
class CalibrationConfig(Config):
    """Calibration and confidence threshold, from inner folds of the training people."""

    method: str = option(
        "temperature", "temperature; bias: temperature and a bias a class", choices=("none", "temperature", "bias")
    )
    folds: int = option(5, "inner folds", ge=2, le=20)
    coverage: float = option(0.8, "share of people with an answer; the model abstains for the others", gt=0, le=1)
    risk: float = option(0.0, "largest share of wrong answers among the answered; 0: coverage decides", ge=0, lt=1)


@dataclass(frozen=True, kw_only=True)
class MriConfig(Config):
    """All settings of a training."""

    vlm: VLMConfig = section(VLMConfig)
    knowledge: str = option("diagnoses", "class descriptions: a file or a shipped name")
    concept_file: str = option("", "concepts: a file (empty: those of the library)")
    shuffle_class_texts: int = option(
        0, "control: shuffle texts and directions among the classes by this seed; 0: do not", ge=0
    )
    prompt: PromptConfig = section(PromptConfig, init="descriptions", learn=False)
    preprocess: PreprocessConfig = section(PreprocessConfig)
    slices: SliceConfig = section(SliceConfig)
    visual: VisualConfig = section(VisualConfig)
    finetune: FinetuneConfig = section(FinetuneConfig)
    concepts: ConceptConfig = section(ConceptConfig)
    demographics: DemographicsConfig = section(DemographicsConfig)
    tabular: TabularConfig = section(TabularConfig, fusion_mode="fusion", scaling="standard")
    loss: LossConfig = section(LossConfig)
    calibration: CalibrationConfig = section(CalibrationConfig)
    train: TrainConfig = section(
        TrainConfig,
        max_steps=60,
        batch_size=64,
        learning_rate=0.02,
        weight_decay=0.0,
        lr_scheduler="cosine",
        checkpointing_steps=1000,
        report_to="none",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        mode = self.demographics.mode
        if self.prompt.seed:
            raise InputError(f"prompt.seed={self.prompt.seed}: a training takes train.seed for its prompts; set that")
        if self.tabular.enabled:
            raise InputError("tabular.enabled=true: the variables enter as text by demographics.mode=text; set that")
        if not self.visual.enabled and not self.concepts.enabled and mode == "none":
            raise InputError("visual.enabled=false, concepts.enabled=false, demographics.mode=none: no input is left")
        if self.finetune.enabled and self.visual.encoder == "pixels":
            raise InputError(f"finetune.mode={self.finetune.mode}: trains the image tower; set visual.encoder=vlm")
        if self.finetune.enabled and not self.visual.enabled:
            raise InputError(f"finetune.mode={self.finetune.mode}: trains the image tower, and visual.enabled=false")
        if mode in ("text", "film") and not self.visual.enabled:
            raise InputError(
                f"demographics.mode={mode}: joins the variables to the image feature, and visual.enabled=false; "
                "set demographics.mode=linear"
            )
        if mode != "none" and not self.demographics.columns:
            raise InputError(
                f"demographics.mode={mode}: demographics.columns is empty; name variables, or set mode=none"
            )
        if self.prompt.conditional:
            raise InputError(
                "prompt.conditional=true: each description's share of a logit would depend on the scan twice; set false"
            )
        if self.tabular.fusion_mode != "fusion":
            raise InputError(
                f"tabular.fusion_mode={self.tabular.fusion_mode}: must be fusion, which demographics.mode=text takes"
            )

    @property
    def needs_encoder(self) -> bool:
        """True where a frozen backbone is used: for slice features, or for the class texts alone."""
        return self.visual.enabled

    @property
    def validation_share(self) -> float:
        """Share of the training groups that a fold keeps for stopping early: none where nothing is validated."""
        return 0.2 if self.train.eval_steps else 0.0


def unused_keys(config: MriConfig) -> dict[str, str]:
    """Keys of a training that have no effect under its other keys -> why."""
    visual, mode = config.visual, config.demographics.mode
    unused = {f"prompt.{key}": why for key, why in config.prompt.unused_keys().items()}
    unused |= {f"loss.{key}": why for key, why in config.loss.unused_keys().items()}
    unused |= {f"finetune.{key}": why for key, why in config.finetune.unused_keys().items()}
    unused |= {f"tabular.{key}": "tabular.fusion_mode=fusion" for key in ("label_aware", "weight")}
    if config.prompt.init in ("random", "template"):
        unused["knowledge"] = f"prompt.init={config.prompt.init}"
    if visual.pooling != "attention":
        unused["visual.attention_width"] = f"visual.pooling={visual.pooling}"
    if visual.tune:
        unused["visual.logit_weight"] = "visual.tune=true"
    if mode != "text":
        unused |= {f"tabular.{field.name}": f"demographics.mode={mode}" for field in fields(TabularConfig)}
    if mode == "none":
        keys = (field.name for field in fields(DemographicsConfig) if field.name != "mode")
        unused |= {f"demographics.{key}": "demographics.mode=none" for key in keys}
        unused["concepts.covariate_adjusted"] = "demographics.mode=none"
    if not visual.enabled:
        keys = (field.name for field in fields(VisualConfig) if field.name != "enabled")
        unused |= {f"visual.{key}": "visual.enabled=false" for key in keys}
        for name, part in (("prompt", PromptConfig), ("vlm", VLMConfig)):
            unused |= {f"{name}.{field.name}": "visual.enabled=false" for field in fields(part)}
        unused["knowledge"] = "visual.enabled=false"
    if config.concepts.volumes:
        unused["concepts.slice_geometry"] = "concepts.volumes"
    if not config.concepts.enabled:
        why = "concepts.enabled=false"
        keys = (field.name for field in fields(ConceptConfig) if field.name != "enabled")
        unused |= {f"concepts.{key}": why for key in keys} | {"concept_file": why}
    return unused


def restrict_modality(config: MriConfig, part: str) -> MriConfig:
    """The same model with the image alone, the table alone, or both.

    Args:
        config: all settings.
        part: ``"image"`` (image branch and biomarkers, without variables), ``"table"`` or ``"both"``.

    Raises:
        InputError: no such part; nothing would be left.
    """
    if part not in MODALITIES:
        raise unknown("part", part, MODALITIES)
    mode = config.demographics.mode
    if part == "image":
        return replace(config, demographics=replace(config.demographics, mode="none"))
    if part == "table":
        # there is no picture that text or film could join: the variables enter as terms of their own
        return replace(
            config,
            visual=replace(config.visual, enabled=False),
            finetune=replace(config.finetune, mode="none"),
            concepts=replace(config.concepts, enabled=False),
            demographics=replace(config.demographics, mode="linear"),
        )
    return replace(config, demographics=replace(config.demographics, mode="linear" if mode == "none" else mode))
