"""The action model: what is measured of a clip becomes one feature in the space of the texts, beside class prompts.

    frames -> frozen tower -> temporal head -> map --+
    course of the skeleton ------------------> map --+--> sum, normalised --> cosines with the class prompts --> logits
    named parameters ------------------------> map --+
    sentences about these -> frozen text tower ------+

Whatever enters, classes are told apart by these cosines and by nothing else.

Shapes: B clips, T frames, D width of the space of the texts, C classes, F numbers of a course, P parameters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from actprompt.config import ActConfig, VisualConfig
from actprompt.temporal import make_head
from actprompt.visual_prompts import PromptedTower
from icube_common.losses.logit_scale import MAX_SCALE, scale_of
from icube_common.prompts import PromptLearner
from icube_common.prompts.ridge_init import CaptionTerm, LinearProjection
from icube_common.tabular import NumericBranch
from icube_common.vlm import FrozenVLM

Batch = Mapping[str, Tensor]
"""``frames (B, T, D)`` or, for visual prompts, ``pixels (B, T, 3, H, W)`` (or frames that their tower has encoded);
``course (B, F)``, ``parameters (B, P)`` and ``caption (B, D)``, NaN where missing; ``label (B,)`` in training. What a
configuration does not use may be absent."""


class Output(NamedTuple):
    """What the model says about a batch.

    Attributes:
        logits: (B, C).
        sample: (B, D) the clips' features, normalised.
        loss: a term of the numeric branch, where it has one.
    """

    logits: Float[Tensor, "b c"]
    sample: Float[Tensor, "b d"]
    loss: Float[Tensor, ""] | None


class VisualBranch(nn.Module):
    """Frames -> a clip's share of its feature.

    Where the image tower has been trained together with the text tower, the frames' mean is known to lie in the space
    of the texts, and the map only adds to it; of an untrained tower all has to be mapped.

    Args:
        vlm: the frozen backbone; referred to, not owned.
        config: head and visual prompts.
        frames: T.
        seed: of the weights.
    """

    def __init__(self, vlm: FrozenVLM, config: VisualConfig, *, frames: int, seed: int) -> None:
        super().__init__()
        dim = vlm.embed_dim
        self.trained = vlm.origin.image_trained
        self.tower = (
            PromptedTower(
                vlm,
                frames,
                prompts=config.prompts,
                local=config.local_prompts,
                summary=config.summary_prompt,
                seed=seed,
            )
            if config.prompts
            else None
        )
        self.head = make_head(config.head, dim, layers=config.layers, dropout=config.dropout, seed=seed)
        self.dim = dim
        self.map = LinearProjection(2 * dim if config.head == "statistics" else dim, dim)

    def pooled(self, batch: Batch) -> Float[Tensor, "b f"]:
        """What the head makes of the frames, before the map."""
        pooled: Tensor = self.head(self.encoded(batch))
        return pooled

    def encoded(self, batch: Batch) -> Float[Tensor, "b t d"]:
        """The frames' features: as they come, or of pixels by the tower with its prompts."""
        if self.tower is None or "pixels" not in batch:
            return batch["frames"]
        found: Tensor = self.tower(batch["pixels"])
        return found

    def known(self, pooled: Float[Tensor, "b f"]) -> Float[Tensor, "b d"]:
        """What is known without training: the mean frame of a trained tower, nothing of another."""
        mean = pooled[:, : self.dim]
        return F.normalize(mean, dim=-1) if self.trained else torch.zeros_like(mean)

    def forward(self, batch: Batch) -> tuple[Float[Tensor, "b d"], Float[Tensor, "b d"]]:
        """The share of the clips' features: what is known without training, and what the map says."""
        pooled = self.pooled(batch)
        return self.known(pooled), self.map(pooled)


class ActionModel(nn.Module):
    """See the head of this file. `actprompt.training` makes one for a fold, `actprompt.saved` reads one back.

    Args:
        prompts: of the classes in the order of the logits; they hold the frozen backbone.
        config: what enters.
        labels: the classes as the data set spells them.
        course_features: F, 0 for none.
        parameters: names of the P parameters, empty for none.
        branch: the numeric branch of the entries ``contrastive``, ``memory`` and ``fusion``.

    Attributes:
        trust: factor on what is known without training.
    """

    trust: Tensor

    def __init__(
        self,
        prompts: PromptLearner,
        config: ActConfig,
        labels: Sequence[str],
        *,
        course_features: int = 0,
        parameters: tuple[str, ...] = (),
        branch: NumericBranch | None = None,
    ) -> None:
        super().__init__()
        self.prompts = prompts
        self.config = config
        self.labels = tuple(labels)
        self.parameter_names = parameters
        vlm, seed = prompts.vlm, config.train.seed
        self.visual = (
            VisualBranch(vlm, config.visual, frames=config.video.frames, seed=seed) if config.visual.enabled else None
        )
        self.course = LinearProjection(course_features, vlm.embed_dim) if course_features else None
        self.parameters_map: LinearProjection | None = None
        self.stated: CaptionTerm | None = None
        if parameters and config.numeric.fusion_mode == "statements":
            self.parameters_map = LinearProjection(len(parameters), vlm.embed_dim)
            self.stated = CaptionTerm(vlm.embed_dim, weight=config.numeric.prior)
        self.branch = branch
        self.register_buffer("trust", torch.ones(()))
        self.log_scale = nn.Parameter(vlm.logit_scale.clamp(max=MAX_SCALE).log())
        self._kept: tuple[PromptLearner, Tensor] | None = None

    @property
    def vlm(self) -> FrozenVLM:
        """The frozen backbone."""
        return self.prompts.vlm

    @property
    def device(self) -> torch.device:
        """Device of the learned parts and of the frozen backbone."""
        return self.log_scale.device

    def batch_size(self, size: int) -> int:
        """Clips of a batch for prediction.

        Args:
            size: of them where frames are features; where they are pixels for visual prompts, whose tower sees whole
                clips, as many as ``vlm.batch_size`` frames are.
        """
        if self.visual is None or self.visual.tower is None:
            return size
        return max(1, min(size, self.vlm.batch_size // self.config.video.frames))

    def sample(self, batch: Batch, *, trust: float | None = None) -> Float[Tensor, "b d"]:
        """The clips' features, normalised; ``trust`` stands in for the model's own."""
        shares = [share for _, share in self.shares(batch, trust=trust)]
        return F.normalize(torch.stack(shares).sum(0), dim=-1)

    def shares(self, batch: Batch, *, trust: float | None = None) -> list[tuple[str, Float[Tensor, "b d"]]]:
        """What picture, course, parameters and the sentences about them add to the clips' features, not normalised."""
        found = []
        weight = self.trust if trust is None else trust
        if self.visual is not None:
            known, mapped = self.visual(batch)
            found.append(("picture", weight * known + mapped))
        if self.course is not None:
            found.append(("course", self.course(batch["course"])))
        if self.parameters_map is not None:
            found.append(("parameters", self.parameters_map(batch["parameters"])))
        if self.stated is not None:
            found.append(("sentences about the numbers", weight * self.stated(batch["caption"])))
        return found

    def forward(self, batch: Batch) -> Output:
        """Logits of a batch over the classes of the prompts."""
        return self.against(self.prompts, batch)

    def against(self, prompts: PromptLearner, batch: Batch, *, class_rows: Int[Tensor, " c"] | None = None) -> Output:
        """Logits over the classes of other prompts, such as those of classes that were never trained.

        Args:
            prompts: on the same backbone.
            batch: the clips.
            class_rows: the trained class that each of these is, -1 for none. Where one is none, what is known without
                training counts in full, however little it was worth for the trained classes: it is all there is of it.
        """
        unseen = class_rows is not None and bool((class_rows < 0).any())
        sample, scale = self.sample(batch, trust=1.0 if unseen else None), scale_of(self.log_scale)
        if self.branch is None:
            return Output(self._cosines(prompts, sample) * scale, sample, None)
        out = self.branch(sample, prompts(), batch["parameters"], labels=batch.get("label"), class_rows=class_rows)
        return Output(scale * out.sample @ out.classes.T, out.sample, out.loss)

    def _cosines(self, prompts: PromptLearner, sample: Float[Tensor, "b d"]) -> Float[Tensor, "b c"]:
        """Cosines with the prompts, averaged over the descriptions of a class."""
        fixed = not any(value.requires_grad for value in prompts.parameters())
        predicting = not self.training and not torch.is_grad_enabled()
        if prompts.meta_net is not None or not (fixed or predicting):
            return prompts.logits(sample, scale=1.0)
        # the text tower runs once, not for each batch
        if self._kept is None or self._kept[0] is not prompts:
            with torch.no_grad():
                unit = torch.eye(self.vlm.embed_dim, device=sample.device)
                self._kept = (prompts, prompts.logits(unit, scale=1.0).T.contiguous())
        return sample @ self._kept[1].to(sample).T

    def train(self, mode: bool = True) -> ActionModel:
        """As of any module; class features that were kept for prediction are forgotten, since they may change now."""
        self._kept = None
        return super().train(mode)

    def learned(self) -> dict[str, Tensor]:
        """All tensors but the frozen backbone's and the prompts', which save themselves."""
        return {
            name: value
            for name, value in self.state_dict().items()
            if not name.startswith("prompts.") and ".vlm." not in name
        }
