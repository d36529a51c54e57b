"""Conditions of a batch and their embedding, each with its own learned null.

Shapes: B batch, J joints, W width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

NULL = -1


@dataclass(frozen=True)
class Conditions:
    """What a batch is conditioned on; any part may be null for any row.

    Attributes:
        action: (B,) index into the denoiser's actions, `NULL` for not given.
        tag: (B,) index into the denoiser's tags, `NULL` for not given.
        shape: (B, J) bone lengths relative to the mean body (`MotionRepresentation.shape_condition`).
        has_shape: (B,) whether the shape is given.
    """

    action: Int[Tensor, " B"]
    tag: Int[Tensor, " B"]
    shape: Float[Tensor, "B J"]
    has_shape: Bool[Tensor, " B"]

    def drop(
        self,
        *,
        action: Bool[Tensor, " B"] | None = None,
        tag: Bool[Tensor, " B"] | None = None,
        shape: Bool[Tensor, " B"] | None = None,
    ) -> Conditions:
        """Null what the masks mark, row by row."""
        changed = self
        if action is not None:
            changed = replace(changed, action=torch.where(action, NULL, self.action))
        if tag is not None:
            changed = replace(changed, tag=torch.where(tag, NULL, self.tag))
        if shape is not None:
            changed = replace(changed, has_shape=self.has_shape & ~shape)
        return changed

    def without_semantics(self) -> Conditions:
        """The unconditional branch of guidance: action and tag are null; the body stays, the output must fit it."""
        every = torch.ones_like(self.has_shape)
        return self.drop(action=every, tag=every)

    def to(self, device: torch.device | str) -> Conditions:
        """The same on another device."""
        return Conditions(*(getattr(self, field.name).to(device) for field in fields(self)))

    @staticmethod
    def cat(parts: Sequence[Conditions]) -> Conditions:
        """Batches one after the other."""
        return Conditions(*(torch.cat([getattr(part, field.name) for part in parts]) for field in fields(Conditions)))


class ConditionEmbedding(nn.Module):
    """One token per condition: (B, 3, W) for action, tag and body shape.

    Args:
        num_actions: size of the action vocabulary (may be 0).
        num_tags: size of the tag vocabulary (may be 0).
        shape_size: J.
        width: W.
    """

    def __init__(self, num_actions: int, num_tags: int, shape_size: int, width: int) -> None:
        super().__init__()
        # the last row of each table is the learned null: index -1 finds it
        self.action = nn.Embedding(num_actions + 1, width)
        self.tag = nn.Embedding(num_tags + 1, width)
        self.shape = nn.Sequential(nn.Linear(shape_size, width), nn.SiLU(), nn.Linear(width, width))
        self.null_shape = nn.Parameter(torch.zeros(width))
        for table in (self.action, self.tag):
            nn.init.normal_(table.weight, std=0.02)

    def forward(self, conditions: Conditions) -> Float[Tensor, "B 3 W"]:
        """Embed a batch of conditions."""
        action = self.action(conditions.action % self.action.num_embeddings)
        tag = self.tag(conditions.tag % self.tag.num_embeddings)
        shape = self.shape(conditions.shape.to(self.null_shape.dtype))
        shape = torch.where(conditions.has_shape[:, None], shape, self.null_shape)
        return torch.stack((action, tag, shape), dim=1)
