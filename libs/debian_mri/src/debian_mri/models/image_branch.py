"""The picture's part of the logits: slice features -> a feature in the space of the texts -> cosines with prompts.

    slices -> frozen tower (cached) -> pooling -> linear map -> x = normalised(known + map) -> cos(x, description)

``known`` is where a scan lies before anything is learned: the mean slice of a tower that was trained together with the
texts, else what the texts of all classes share. The map starts at the ridge regression to what sets a class's text
apart, so a scan about which the picture says little stays near ``known`` and a clear one turns towards its class.

The part of class c is ``trust * scale * mean_j cos(x, t_cj - t)`` with t_cj its descriptions and t the mean of all
classes: each description has its own share, and the shares of a class sum to its part exactly.

Shapes: B scans, S slices, D width, N descriptions, C classes, Q numbers of the people's variables.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from debian_mri.config import MriConfig
from debian_mri.models.clinical_fusion import Film
from debian_mri.models.slice_pooling import Pooling
from icube_common.losses.logit_scale import MAX_SCALE, scale_of
from icube_common.numeric import NumericBranch
from icube_common.prompts import PromptLearner
from icube_common.prompts.textmap import TextMap
from icube_common.vlm import FrozenVLM


class Picture(nn.Module):
    """See the head of this file.

    Args:
        prompts: of the classes; they hold the frozen backbone.
        config: pooling, FiLM or text.
        slices: S of every scan, 0 where they differ.
        numbers: Q, for FiLM; 0 for none.
        branch: of ``demographics.mode=text``.
        features: (N, D) of the descriptions, where they are known already and nothing about them is learned.

    Attributes:
        trust: factor on the part.
    """

    trust: Tensor

    def __init__(
        self,
        prompts: PromptLearner,
        config: MriConfig,
        *,
        slices: int,
        numbers: int = 0,
        branch: NumericBranch | None = None,
        features: Float[Tensor, "n d"] | None = None,
    ) -> None:
        super().__init__()
        self.learns_prompts = any(value.requires_grad for value in prompts.parameters())
        # what nothing trains is referred to, not owned: no step walks through the backbone, no checkpoint hashes it
        self._referred = (prompts,)
        self.owned = prompts if self.learns_prompts or branch is not None else None
        dim = prompts.vlm.embed_dim
        visual = config.visual
        self.trained = prompts.vlm.origin.image_trained
        self.pooling = Pooling(visual.pooling, dim, slices=slices, width=visual.attention_width, seed=config.train.seed)
        self.map = TextMap(self.pooling.features, dim)
        self.film = Film(numbers, dim) if numbers else None
        self.branch = branch
        self.register_buffer("trust", torch.tensor(visual.trust))
        self.log_scale = nn.Parameter(prompts.vlm.logit_scale.clamp(max=MAX_SCALE).log())
        self._kept = features

    @property
    def prompts(self) -> PromptLearner:
        """The class prompts."""
        return self._referred[0]

    @property
    def vlm(self) -> FrozenVLM:
        """The frozen backbone."""
        return self.prompts.vlm

    def texts(self) -> Float[Tensor, "n d"]:
        """Features of all descriptions, normalised; the tower runs once where nothing about them is learned."""
        if self.learns_prompts and (self.training or torch.is_grad_enabled()):
            self._kept = None
            found: Tensor = self.prompts(per_description=True)
            return found
        if self._kept is None:
            with torch.no_grad():
                self._kept = self.prompts(per_description=True)
        return self._kept.to(self.log_scale.device)

    def class_texts(self, texts: Float[Tensor, "n d"]) -> Float[Tensor, "c d"]:
        """Features of the classes: means of their descriptions', as `PromptLearner.class_features` has them."""
        return self.prompts.class_features(texts)

    def owner(self, like: Tensor) -> Int[Tensor, " n"]:
        """The class of each description."""
        return self.prompts.owner.to(like.device)

    def counts(self, like: Tensor) -> Float[Tensor, " c"]:
        """Descriptions of each class."""
        return torch.bincount(self.owner(like), minlength=len(self.prompts.class_names)).to(like)

    def known(self, slices: Float[Tensor, "b s d"], texts: Float[Tensor, "n d"]) -> Float[Tensor, "b d"]:
        """Where scans lie before anything is learned, length 1."""
        if self.trained:
            return F.normalize(slices.nanmean(1), dim=-1)
        return F.normalize(self.class_texts(texts).mean(0), dim=-1).expand(len(slices), -1)

    def feature(
        self,
        slices: Float[Tensor, "b s d"],
        texts: Float[Tensor, "n d"],
        *,
        numbers: Float[Tensor, "b q"] | None = None,
        variables: Float[Tensor, "b p"] | None = None,
    ) -> Float[Tensor, "b d"]:
        """The scans' features, normalised; the people's variables join where FiLM or text is set."""
        x = self.known(slices, texts) + self.map(self.pooling(slices))
        if self.film is not None and numbers is not None:
            x = self.film(x, numbers)
        x = F.normalize(x, dim=-1)
        if self.branch is not None and variables is not None:
            x = self.branch(x, texts, variables).sample
        return x

    def parts(self, feature: Float[Tensor, "b d"], texts: Float[Tensor, "n d"]) -> Float[Tensor, "b n"]:
        """What each description adds to its own class's logit."""
        classes = self.class_texts(texts)
        apart = self.prompts.shares(texts) - classes.mean(0)
        share = self.trust * scale_of(self.log_scale) / self.counts(texts)[self.owner(texts)]
        return feature @ apart.T * share

    def to_classes(self, parts: Float[Tensor, "b n"]) -> Float[Tensor, "b c"]:
        """Sums over the descriptions of each class."""
        zero = parts.new_zeros(len(parts), len(self.prompts.class_names))
        return zero.index_add(1, self.owner(parts), parts)

    def train(self, mode: bool = True) -> Picture:
        """As of any module; texts that were kept are forgotten where they may change."""
        if self.learns_prompts:
            self._kept = None
        return super().train(mode)
