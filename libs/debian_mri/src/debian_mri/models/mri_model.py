"""MRI model: the logit of a class is a sum of named contributions, whatever the configuration.

    logit_c = bias_c + sum_k A[c, k] s_k                              biomarkers          (biomarkers.head)
                     + logit_weight * scale * mean_j cos(x, t_cj - t) image and texts     (models.image_branch)
                     + sum_p D[c, p] u_p                              clinical variables  (models.clinical_fusion)

Image only, table only and both are settings of it. Where the variables join the scan's feature (FiLM, text), their
contribution is the logit with them minus the logit with all of them missing.

Shapes: B scans, S slices, D width, K biomarkers, P variables, Q covariates (scaled variables and missing-value
indicators), C classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from debian_mri.biomarkers.head import BiomarkerHead
from debian_mri.biomarkers.volumes.scores import read_volumes
from debian_mri.biomarkers.volumes.table import VolumeTable
from debian_mri.config import MriConfig
from debian_mri.data.clinical_variables import Column
from debian_mri.data.dataset import ScanDataset
from debian_mri.data.inputs import VOLUMES_BY, Inputs, load_inputs, volume_disclaimers
from debian_mri.models.class_texts import MriTexts
from debian_mri.models.clinical_fusion import LinearTerms, VariableScaler
from debian_mri.models.image_branch import ImageBranch
from debian_mri.models.selective_prediction import no_threshold
from debian_mri.models.slice_pooling import Pooling
from icube_common.errors import InputError
from icube_common.io.pretrained import PretrainedModel
from icube_common.training import load_backbone
from icube_common.training.calibration import no_calibration
from icube_common.vlm import EncoderLike, FrozenVLM

Batch = Mapping[str, Tensor]
"""``slices (B, S, D)``, NaN for slices that a scan does not have, or ``pixels (B, S, ...)`` for fine-tuning;
``biomarkers (B, K)`` and ``variables (B, P)``, NaN where missing; ``label (B,)`` in training. What a configuration does
not use may be absent."""

BIAS, BIOMARKER, DESCRIPTION, VARIABLE, JOINED = (
    "bias",
    "biomarker",
    "description",
    "variable",
    "variables with the image",
)


class Contribution(NamedTuple):
    """One term of the logits.

    Attributes:
        kind: `BIAS`, `SIGN`, `DESCRIPTION`, `VARIABLE` or `JOINED`.
        name: of the sign, the variable, the description's text.
        values: (B, C) added to each class's logit.
    """

    kind: str
    name: str
    values: Float[Tensor, "b c"]


class MriModel(nn.Module, PretrainedModel):
    """Classifier of brain MRI from biomarkers, slice features and clinical variables by named contributions.

    `for_dataset` makes one for a data set, `debian_mri.train` trains it, `save_pretrained` writes it, and
    ``from_pretrained(source, pooling=None, encoder=None, vlm=None)`` reads it.

    Args:
        config: all settings.
        labels: the classes as the data set spells them.
        biomarkers: the biomarker head, or None.
        image_branch: the image branch, or None.
        variables: scaling of the clinical variables, or None where none enter.

    Attributes:
        calibration: from logits to probabilities; none before a training.
        abstention: the confidence threshold; none before a training.
        columns: descriptions of the variables, with leakage tier and unit.
        description: of a trained model: ``data`` (format, title, fingerprint, simulated, classes in words),
            ``trained_on`` (see `debian_mri.data.leakage`), ``warnings``, ``disclaimers``, ``knowledge``.
    """

    checkpoint = "debian_mri.models.checkpoint"

    def __init__(
        self,
        config: MriConfig,
        labels: Sequence[str],
        *,
        biomarkers: BiomarkerHead | None = None,
        image_branch: ImageBranch | None = None,
        variables: VariableScaler | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.labels = tuple(labels)
        self.bias = nn.Parameter(torch.zeros(len(labels)))
        self.biomarkers = biomarkers
        self.image_branch = image_branch
        self.variables = variables
        linear = variables is not None and config.demographics.mode == "linear"
        self.linear = LinearTerms(len(variables.names), len(labels)) if linear and variables is not None else None
        self.calibration = no_calibration(len(labels))
        self.abstention = no_threshold()
        self.columns: tuple[Column, ...] = ()
        self.description: dict[str, Any] = {}

    @classmethod
    def for_dataset(
        cls,
        data: ScanDataset | str | Path,
        config: MriConfig | None = None,
        *,
        pooling: Pooling | None = None,
        encoder: EncoderLike | None = None,
        vlm: FrozenVLM | None = None,
        features: str | Path | None = None,
    ) -> MriModel:
        """An untrained model for the classes, images and variables of a data set.

        Args:
            data: a data set, or a prepared folder.
            config: all settings.
            pooling: a slice pooling in place of ``config.visual.pooling``: a class, called with ``width=D``, or an
                instance that maps slice features (B, S, D) to scan features (B, F).
            encoder: an encoder of slices or volumes in place of the image tower: a class, called without arguments, or
                an instance (see `icube_common.vlm.Encoder`).
            vlm: the frozen backbone, where it is loaded already.
            features: folder of slice features; by default below the data.

        Raises:
            InputError: a set without what the configuration uses, a class without description, a pooling that does not
                fit the backbone or a configuration without image branch.
        """
        config, manifest = config or MriConfig(), ScanDataset.open(data).manifest
        if vlm is None and config.needs_encoder:
            vlm = load_backbone(config.vlm, config.train, encoder=encoder)
        inputs = load_inputs(manifest, config, vlm, features=features)
        texts = MriTexts.of(manifest, config)
        return cls.for_inputs(inputs, manifest.class_names, config, vlm, texts, pooling=pooling)

    @classmethod
    def for_inputs(
        cls,
        inputs: Inputs,
        labels: Sequence[str],
        config: MriConfig,
        vlm: FrozenVLM | None,
        texts: MriTexts,
        *,
        pooling: Pooling | None = None,
    ) -> MriModel:
        """An untrained model on the CPU for tables of inputs; its statistics are fitted by a training.

        Args:
            inputs: with the tables that the configuration uses.
            labels: the classes.
            config: all settings.
            vlm: the frozen backbone; None where the image branch is off.
            texts: of at least these classes.
            pooling: as for `for_dataset`.
        """
        if pooling is not None and not config.visual.enabled:
            raise InputError("pooling: visual.enabled=false, so there are no slice features to pool")
        mode = config.demographics.mode
        variables = None if inputs.demographics is None else VariableScaler(inputs.demographics.names)
        width = 0 if variables is None else variables.width
        biomarkers = image_branch = None
        if inputs.biomarkers is not None:
            biomarkers = BiomarkerHead(
                inputs.biomarkers.names,
                torch.tensor(texts.directions(inputs.biomarkers.names, labels)),
                prior_weight=config.concepts.prior_weight,
                learn_prior_weight=config.concepts.learn_prior_weight,
                covariates=width if config.concepts.covariate_adjusted else 0,
            )
        images = inputs.features if inputs.features is not None else inputs.tower_inputs
        if images is not None:
            assert vlm is not None, "visual.enabled needs a backbone"
            prompts, features = texts.prompts(vlm, labels, replace(config.prompt, seed=config.train.seed))
            lengths = {len(images[name]) for name in inputs.ids}
            image_branch = ImageBranch(
                prompts,
                config,
                slices=lengths.pop() if len(lengths) == 1 else 0,
                covariates=width if mode == "film" else 0,
                pooling=pooling,
                features=features,
            )
        return cls(config, labels, biomarkers=biomarkers, image_branch=image_branch, variables=variables)

    @property
    def device(self) -> torch.device:
        """Device of the learned parts, and of the frozen backbone where the image branch is on."""
        return self.bias.device

    def covariates(self, batch: Batch) -> Float[Tensor, "b q"] | None:
        """The people's variables as scaled numbers with indicators."""
        return None if self.variables is None else self.variables(batch["variables"])

    def forward(self, batch: Batch) -> Float[Tensor, "b c"]:
        """Logits."""
        rows = len(next(iter(batch.values())))
        logits = self.bias.expand(rows, -1)
        covariates = self.covariates(batch)
        if self.biomarkers is not None:
            logits = logits + self.biomarkers(batch["biomarkers"], self._adjusting(covariates)).sum(-1)
        if self.image_branch is not None:
            texts = self.image_branch.texts()
            feature = self._feature(batch, texts, covariates)
            logits = logits + self.image_branch.to_classes(self.image_branch.parts(feature, texts))
        if self.linear is not None and covariates is not None:
            logits = logits + self.linear(covariates).sum(-1)
        return logits

    @torch.no_grad()
    def contributions(self, batch: Batch) -> list[Contribution]:
        """All terms, which sum to the logits: the bias, each biomarker, each description, each variable."""
        rows = len(next(iter(batch.values())))
        terms = [Contribution(BIAS, "bias", self.bias.expand(rows, -1).clone())]
        covariates = self.covariates(batch)
        if self.biomarkers is not None:
            parts = self.biomarkers(batch["biomarkers"], self._adjusting(covariates))
            terms += [Contribution(BIOMARKER, name, parts[..., at]) for at, name in enumerate(self.biomarkers.names)]
        if self.image_branch is not None:
            terms += self._of_image_branch(batch, covariates)
        if self.linear is not None and self.variables is not None and covariates is not None:
            parts = self.linear(covariates)
            terms += [Contribution(VARIABLE, name, parts[..., at]) for at, name in enumerate(self.variables.names)]
        return terms

    def _of_image_branch(self, batch: Batch, covariates: Tensor | None) -> list[Contribution]:
        """Each description's share without the variables, then what these change where they join the feature."""
        assert self.image_branch is not None
        image_branch, texts = self.image_branch, self.image_branch.texts()
        plain, joined = batch, image_branch.film is not None or image_branch.branch is not None
        if joined:
            absent = torch.full_like(batch["variables"], torch.nan)
            plain = {**batch, "variables": absent}
        parts = image_branch.parts(self._feature(plain, texts, self.covariates(plain)), texts)
        terms = []
        for at, (text, owner) in enumerate(
            zip(image_branch.prompts.texts, image_branch.prompts.owner.tolist(), strict=True)
        ):
            values = parts.new_zeros(len(parts), len(self.labels))
            values[:, owner] = parts[:, at]
            terms.append(Contribution(DESCRIPTION, text, values))
        if joined:
            whole = image_branch.parts(self._feature(batch, texts, covariates), texts)
            assert self.variables is not None
            name = ", ".join(self.variables.names)
            terms.append(Contribution(JOINED, name, image_branch.to_classes(whole - parts)))
        return terms

    def _feature(self, batch: Batch, texts: Tensor, covariates: Tensor | None) -> Float[Tensor, "b d"]:
        assert self.image_branch is not None
        variables = batch["variables"] if self.image_branch.branch is not None else None
        return self.image_branch.feature(
            self.image_branch.encoded(batch),
            texts,
            covariates=covariates if self.image_branch.film is not None else None,
            variables=variables,
        )

    def use_volumes(self, path: str | Path) -> None:
        """Set the table of volumes of the scans to predict, for a model that was trained with ``concepts.volumes``.

        Args:
            path: table of `debian_mri.biomarkers.volumes.VolumeTable`.

        Raises:
            InputError: no such table, a model without volumes, or volumes of another program than the training's.
        """
        if self.biomarkers is None or not self.config.concepts.volumes:
            raise InputError(f"--volumes {path}: the model was not trained with concepts.volumes")
        self.check_volumes(read_volumes(path), f"--volumes {path}")
        self.config = replace(self.config, concepts=replace(self.config.concepts, volumes=str(path)))

    def check_volumes(self, table: VolumeTable, source: str) -> None:
        """Check that a table is of the program whose volumes the model was trained with.

        Args:
            table: volumes.
            source: of the table, for the message.

        Raises:
            InputError: another program.
        """
        program, *_ = volume_disclaimers(table)
        recorded = [line for line in self.description["disclaimers"] if line.startswith(VOLUMES_BY)]
        if program not in recorded:
            raise InputError(f"{source}: {program} The model was trained with others. {''.join(recorded)}")

    def _adjusting(self, covariates: Tensor | None) -> Tensor | None:
        assert self.biomarkers is not None
        return covariates if len(self.biomarkers.slope) else None

    def penalty(self) -> Float[Tensor, ""]:
        """Penalty on weights far from the published directions, and from 0; added to the sum of the rows' losses."""
        config, total = self.config, self.bias.new_zeros(())
        if self.biomarkers is not None:
            total = total + config.concepts.prior_strength * self.biomarkers.penalty()
        if self.linear is not None:
            total = total + config.demographics.shrinkage * self.linear.penalty()
        if self.image_branch is not None and self.image_branch.film is not None:
            total = total + config.demographics.shrinkage * self.image_branch.film.penalty()
        return total / 2

    def learned(self) -> dict[str, Tensor]:
        """All tensors but the frozen backbone's and the prompts', which save themselves."""
        return {
            name: value
            for name, value in self.state_dict().items()
            if not name.startswith("image_branch.trained_prompts.") and ".vlm." not in name
        }
