"""Image branch: slice features to a scan feature in the space of the texts, compared with the class prompts.

    slices -> pixels or frozen encoder -> pooling -> projection -> x = normalised(prior + .) -> cos(x, description)

``prior`` is the scan's feature without training: the mean slice of an encoder that was trained together with the texts
(CLIP), else the mean of the class texts. The projection is initialised by ridge regression to the class texts, so a
scan without evidence in its image stays near ``prior``.

The branch adds ``logit_weight * scale * mean_j cos(x, t_cj - t)`` to the logit of class c, with t_cj its descriptions
and t the mean of all classes: each description has a share of its own, and the shares of a class sum to its part.

Shapes: B scans, S slices, W width of slice features, D of the texts' space (equal unless the encoder has separate
features), N descriptions, C classes, Q clinical covariates.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from debian_mri.config import MriConfig
from debian_mri.data.feature_store import pixel_width, uses_pixels
from debian_mri.models.clinical_fusion import Film
from debian_mri.models.slice_pooling import CustomPooling, Pooling, SlicePooling
from icube_common.losses.logit_scale import MAX_SCALE, scale_of
from icube_common.prompts import PromptLearner
from icube_common.prompts.ridge_init import LinearProjection
from icube_common.tabular import TabularBranch
from icube_common.vlm import FinetunedTower, FrozenVLM


class ImageBranch(nn.Module):
    """Logits from slice features and class prompts; see the head of this file.

    Args:
        prompts: of the classes; they hold the frozen backbone.
        config: pooling, FiLM or text.
        slices: S of every scan, 0 where they differ.
        covariates: Q, for FiLM; 0 for none.
        branch: of ``demographics.mode=text``; a training may set it later.
        pooling: a pooling in place of ``config.visual.pooling``: a class, called with ``width=W``, or an instance.
        features: (N, D) of the descriptions, where nothing about them is learned and they were computed before.

    Attributes:
        pixels: True for pixel features in place of the frozen image encoder's.
        logit_weight: factor on the branch's part of the logits.
        tower: the image tower with a trained part; None where it is frozen.
        custom_pooling: the ``pooling`` that was given, as it was given; None for one of the configuration.
    """

    logit_weight: Tensor

    def __init__(
        self,
        prompts: PromptLearner,
        config: MriConfig,
        *,
        slices: int,
        covariates: int = 0,
        branch: TabularBranch | None = None,
        pooling: Pooling | None = None,
        features: Float[Tensor, "n d"] | None = None,
    ) -> None:
        super().__init__()
        self.learns_prompts = any(value.requires_grad for value in prompts.parameters())
        # frozen prompts are referenced, not registered: no step walks through the backbone, no checkpoint hashes it
        self._references = (prompts, pooling)
        text = branch is not None or config.demographics.mode == "text"
        self.trained_prompts = prompts if self.learns_prompts or text else None
        vlm, visual, seed = prompts.vlm, config.visual, config.train.seed
        self.pixels = uses_pixels(config, vlm)
        dim, width = vlm.embed_dim, pixel_width(config) if self.pixels else vlm.feature_dim
        self.trained = vlm.origin.trained_on_pairs and not vlm.separate_features and not self.pixels
        self.pooling = (
            SlicePooling(
                visual.pooling, width, slices=slices, width=visual.attention_width, seed=seed, by_plane=self.pixels
            )
            if pooling is None
            else CustomPooling(pooling, width, slices=slices, seed=seed)
        )
        self.tower = FinetunedTower(vlm, config.finetune, seed=seed) if config.finetune.enabled else None
        self.projection = LinearProjection(self.pooling.features, dim)
        self.film = Film(covariates, dim) if covariates else None
        self.branch = branch
        self.register_buffer("logit_weight", torch.tensor(visual.logit_weight))
        self.log_scale = nn.Parameter(prompts.vlm.logit_scale.clamp(max=MAX_SCALE).log())
        self._cached = features

    @property
    def custom_pooling(self) -> Pooling | None:
        """The user's pooling as it was given."""
        return self._references[1]

    @property
    def prompts(self) -> PromptLearner:
        """The class prompts."""
        return self._references[0]

    @property
    def vlm(self) -> FrozenVLM:
        """The frozen backbone."""
        return self.prompts.vlm

    def encoded(self, batch: Mapping[str, Any]) -> Float[Tensor, "b s w"]:
        """Slice features: as they come, or of pixels by the tower with its trained part."""
        if self.tower is None or "slices" in batch:
            return batch["slices"]
        features: Tensor = self.tower(batch["pixels"])
        return features

    @property
    def whole_volume(self) -> bool:
        """True where one feature is that of the whole volume."""
        return not self.pixels and self.vlm.kind == "volume"

    @property
    def source(self) -> str:
        """Source of slice features and class texts, in words."""
        return f"pixels; class texts of {self.vlm.origin}" if self.pixels else str(self.vlm.origin)

    def texts(self) -> Float[Tensor, "n d"]:
        """Features of all descriptions, normalised; computed once where nothing about them is learned."""
        if self.learns_prompts and (self.training or torch.is_grad_enabled()):
            self._cached = None
            features: Tensor = self.prompts(per_description=True)
            return features
        if self._cached is None:
            with torch.no_grad():
                self._cached = self.prompts(per_description=True)
        return self._cached.to(self.log_scale.device)

    def class_texts(self, texts: Float[Tensor, "n d"]) -> Float[Tensor, "c d"]:
        """Features of the classes: means of their descriptions', as `PromptLearner.class_features` has them."""
        return self.prompts.class_features(texts)

    def owner(self, like: Tensor) -> Int[Tensor, " n"]:
        """The class of each description."""
        return self.prompts.owner.to(like.device)

    def counts(self, like: Tensor) -> Float[Tensor, " c"]:
        """Descriptions of each class."""
        return torch.bincount(self.owner(like), minlength=len(self.prompts.class_names)).to(like)

    def prior(self, slices: Float[Tensor, "b s w"], texts: Float[Tensor, "n d"]) -> Float[Tensor, "b d"]:
        """The scans' features without training, length 1."""
        if self.trained:
            return F.normalize(slices.nanmean(1), dim=-1)
        return F.normalize(self.class_texts(texts).mean(0), dim=-1).expand(len(slices), -1)

    def feature(
        self,
        slices: Float[Tensor, "b s w"],
        texts: Float[Tensor, "n d"],
        *,
        covariates: Float[Tensor, "b q"] | None = None,
        variables: Float[Tensor, "b p"] | None = None,
    ) -> Float[Tensor, "b d"]:
        """The scans' features, normalised; the people's variables join where FiLM or text is set."""
        x = self.prior(slices, texts) + self.projection(self.pooling(slices))
        if self.film is not None and covariates is not None:
            x = self.film(x, covariates)
        x = F.normalize(x, dim=-1)
        if self.branch is not None and variables is not None:
            x = self.branch(x, texts, variables).sample
        return x

    def parts(self, feature: Float[Tensor, "b d"], texts: Float[Tensor, "n d"]) -> Float[Tensor, "b n"]:
        """Contribution of each description to its own class's logit."""
        classes = self.class_texts(texts)
        apart = self.prompts.shares(texts) - classes.mean(0)
        share = self.logit_weight * scale_of(self.log_scale) / self.counts(texts)[self.owner(texts)]
        return feature @ apart.T * share

    def to_classes(self, parts: Float[Tensor, "b n"]) -> Float[Tensor, "b c"]:
        """Sums over the descriptions of each class."""
        zero = parts.new_zeros(len(parts), len(self.prompts.class_names))
        return zero.index_add(1, self.owner(parts), parts)

    def train(self, mode: bool = True) -> ImageBranch:
        """Training or evaluation mode; cached features of trainable texts are discarded."""
        if self.learns_prompts:
            self._cached = None
        return super().train(mode)
