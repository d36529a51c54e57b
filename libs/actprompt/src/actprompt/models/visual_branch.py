"""Visual branch: frame features to a clip feature in the space of the texts, with a temporal head of the user's choice.

Shapes: B clips, T frames, W width of the backbone's image features, D of the space that images and texts share (equal
unless the backbone has separate features), F of what a temporal head returns. An encoder of clips gives T = 1.
"""

from __future__ import annotations

import copy
from typing import TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from actprompt.config import VisualConfig
from actprompt.data.dataset import Batch
from actprompt.data.video.pixels import check_encoder
from actprompt.models.temporal_heads import make_head
from actprompt.models.visual_prompts import PromptedTower
from icube_common.errors import InputError
from icube_common.prompts.ridge_init import LinearProjection
from icube_common.vlm import FinetuneConfig, FinetunedTower, FrozenVLM

Head: TypeAlias = "type[nn.Module] | nn.Module"
"""A temporal head of the user: a class, called with ``width=W``, or an instance that is copied for each training."""


def build_custom_head(head: Head, width: int, *, frames: int, seed: int) -> tuple[nn.Module, int]:
    """A user's temporal head for frame features (B, T, W), and the width F of its clip features (B, F).

    Args:
        head: class or instance.
        width: W.
        frames: T, for a trial run.
        seed: of a class's weights; the global generator is left as it is.

    Raises:
        InputError: an instance of another width, or features that are not (B, F).
    """
    name = head.__name__ if isinstance(head, type) else type(head).__name__
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = head(width=width) if isinstance(head, type) else copy.deepcopy(head)
    head_width = getattr(made, "width", width)
    if head_width != width:
        raise InputError(f"head {name}: takes frame features of width {head_width}, those of the backbone have {width}")
    parameter = next(made.parameters(), torch.zeros(()))
    training = made.training
    try:
        with torch.no_grad():
            output = made.eval()(torch.zeros(2, frames, width, device=parameter.device, dtype=parameter.dtype))
    except RuntimeError as error:
        raise InputError(f"head {name}: does not take frame features of width {width} ({error})") from error
    made.train(training)
    if not isinstance(output, Tensor) or output.ndim != 2 or len(output) != 2:
        shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise InputError(f"head {name}: returns {shape} for features (2, {frames}, {width}), need (2, F)")
    return made, output.shape[1]


class VisualBranch(nn.Module):
    """Clip feature from frames: temporal head, then a linear projection into the space of the texts.

    Of an image tower that was trained together with the text tower, the frames' mean already lies in that space, and
    the projection adds to it; the features of other towers (untrained, or trained apart from the texts) are projected
    altogether.

    Args:
        vlm: the frozen backbone; referred to, not owned.
        config: head and visual prompts.
        frames: T.
        seed: of the weights.
        head: a temporal head in place of ``config.head``.
        finetune: trained part of the image tower.

    Raises:
        InputError: a head of frames with an encoder of clips, or as `build_custom_head`,
            `actprompt.models.temporal_heads.make_head` and `PromptedTower`.
    """

    def __init__(
        self,
        vlm: FrozenVLM,
        config: VisualConfig,
        *,
        frames: int,
        seed: int,
        head: Head | None = None,
        finetune: FinetuneConfig | None = None,
    ) -> None:
        super().__init__()
        check_encoder(vlm, frames)
        dim = vlm.feature_dim
        if vlm.kind == "clip":
            frames = 1
            if head is None and config.head != "mean":
                raise InputError(
                    f"visual.head={config.head}: {vlm.encoder} gives one feature of a clip, and there are no frames to "
                    "pool; set visual.head=mean"
                )
        self.trained = vlm.origin.trained_on_pairs and not vlm.separate_features
        self.tower: PromptedTower | FinetunedTower | None = None
        if finetune is not None and finetune.enabled:
            self.tower = FinetunedTower(vlm, finetune, seed=seed)
        elif config.prompts:
            self.tower = PromptedTower(
                vlm,
                frames,
                prompts=config.prompts,
                local=config.local_prompts,
                summary=config.summary_prompt,
                seed=seed,
            )
        self.dim, self.joint_dim = dim, vlm.embed_dim
        self.custom = head is not None
        if head is None:
            self.head = make_head(config.head, dim, layers=config.layers, dropout=config.dropout, seed=seed)
            width = {"mean_std": 2, "segment_difference": 3}.get(config.head, 1) * dim
        else:
            self.head, width = build_custom_head(head, dim, frames=frames, seed=seed)
        # these features do not begin with the mean frame, which the prior takes
        self.mean_apart = self.custom or config.head == "segment_difference"
        self.map = LinearProjection(width, self.joint_dim)

    def pooled(self, batch: Batch) -> Float[Tensor, "b f"]:
        """Clip features before the projection; the mean frame stands before those of a head without it."""
        frames = self.encoded(batch)
        pooled: Tensor = self.head(frames)
        return torch.cat([frames.float().mean(1), pooled.float()], dim=-1) if self.mean_apart else pooled

    def encoded(self, batch: Batch) -> Float[Tensor, "b t w"]:
        """The frames' features: as they come, or of pixels by the tower with its prompts or its trained part."""
        if self.tower is None or "pixels" not in batch:
            return batch["frames"]
        features: Tensor = self.tower(batch["pixels"])
        return features

    def prior(self, pooled: Float[Tensor, "b f"]) -> Float[Tensor, "b d"]:
        """The clip feature without training: the mean frame of a tower trained with the texts, zero otherwise."""
        if self.trained:
            return F.normalize(pooled[:, : self.dim], dim=-1)
        return pooled.new_zeros(len(pooled), self.joint_dim)

    def head_features(self, pooled: Float[Tensor, "b f"]) -> Float[Tensor, "b f"]:
        """The input of the projection: all of `pooled`, or the features of a head without the mean frame."""
        return pooled[:, self.dim :] if self.mean_apart else pooled

    def forward(self, batch: Batch) -> tuple[Float[Tensor, "b d"], Float[Tensor, "b d"]]:
        """The clip features without training, and what the projection adds."""
        pooled = self.pooled(batch)
        return self.prior(pooled), self.map(self.head_features(pooled))
