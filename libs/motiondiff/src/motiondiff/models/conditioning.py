"""Conditions of a batch and their embedding, each with its own learned null.

Shapes: B batch, J joints, S numbers of a text's embedding, W width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from icube_common.errors import unknown

NULL = -1


@dataclass(frozen=True)
class Conditions:
    """Conditions of a batch; any part may be null for any row.

    Attributes:
        action: (B,) index into the denoiser's actions, `NULL` for not given.
        style: (B,) index into the denoiser's styles, `NULL` for not given.
        shape: (B, J) bone lengths relative to the mean body (`MotionRepresentation.shape_condition`).
        has_shape: (B,) whether the shape is given.
        text: (B, S) embeddings of texts by the frozen encoder, of length 1; None where no row has a text.
        has_text: (B,) whether the text is given; None with ``text``.
    """

    action: Int[Tensor, " B"]
    style: Int[Tensor, " B"]
    shape: Float[Tensor, "B J"]
    has_shape: Bool[Tensor, " B"]
    text: Float[Tensor, "B S"] | None = None
    has_text: Bool[Tensor, " B"] | None = None

    def drop(
        self,
        *,
        action: Bool[Tensor, " B"] | None = None,
        style: Bool[Tensor, " B"] | None = None,
        shape: Bool[Tensor, " B"] | None = None,
        text: Bool[Tensor, " B"] | None = None,
    ) -> Conditions:
        """Null what the masks mark, row by row."""
        changed = self
        if action is not None:
            changed = replace(changed, action=torch.where(action, NULL, self.action))
        if style is not None:
            changed = replace(changed, style=torch.where(style, NULL, self.style))
        if shape is not None:
            changed = replace(changed, has_shape=self.has_shape & ~shape)
        if text is not None and self.has_text is not None:
            changed = replace(changed, has_text=self.has_text & ~text)
        return changed

    def without_semantics(self) -> Conditions:
        """The unconditional branch of guidance: all is null but the body, which the output must fit."""
        every = torch.ones_like(self.has_shape)
        return self.drop(action=every, style=every, text=every)

    def to(self, device: torch.device | str) -> Conditions:
        """The same on another device."""
        return self._map(lambda values: values.to(device))

    def rows(self, index: slice) -> Conditions:
        """Some rows of the batch."""
        return self._map(lambda values: values[index])

    def _map(self, function: Callable[[Tensor], Tensor]) -> Conditions:
        tensors = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: function(values) for name, values in tensors.items() if values is not None})

    @staticmethod
    def cat(parts: Sequence[Conditions]) -> Conditions:
        """Batches one after the other; all have texts, or none has."""
        columns = {field.name: [getattr(part, field.name) for part in parts] for field in fields(Conditions)}
        tensors = {name: torch.cat(column) for name, column in columns.items() if column[0] is not None}
        return replace(parts[0], **tensors)


def label_indices(kind: str, names: Sequence[str | None], vocabulary: Sequence[str]) -> Tensor:
    """(B,) indices of labels in a vocabulary, `NULL` for None.

    Raises:
        InputError: an unknown label; the nearest is named.
    """
    for name in names:
        if name is not None and name not in vocabulary:
            raise unknown(kind, name, vocabulary)
    return torch.tensor([NULL if name is None else list(vocabulary).index(name) for name in names])


class ConditionEmbedding(nn.Module):
    """One token per condition: (B, 3, W) for action, style and body shape, (B, 4, W) where there is a text too.

    Args:
        num_actions: size of the action vocabulary (may be 0).
        num_styles: size of the style vocabulary (may be 0).
        shape_size: J.
        width: W.
        text_size: S, 0 for a model without text.
    """

    def __init__(self, num_actions: int, num_styles: int, shape_size: int, width: int, text_size: int = 0) -> None:
        super().__init__()
        # the last row of each table is the learned null: index -1 finds it
        self.action = nn.Embedding(num_actions + 1, width)
        self.style = nn.Embedding(num_styles + 1, width)
        self.shape = nn.Sequential(nn.Linear(shape_size, width), nn.SiLU(), nn.Linear(width, width))
        self.null_shape = nn.Parameter(torch.zeros(width))
        for table in (self.action, self.style):
            nn.init.normal_(table.weight, std=0.02)
        self.text_size = text_size
        if text_size:
            self.text = nn.Sequential(nn.Linear(text_size, width), nn.SiLU(), nn.Linear(width, width))
            self.null_text = nn.Parameter(torch.zeros(width))

    def forward(self, conditions: Conditions) -> Float[Tensor, "B N W"]:
        """Embed a batch of conditions.

        Raises:
            ValueError: texts are given to a model without text.
        """
        action = self.action(conditions.action % self.action.num_embeddings)
        style = self.style(conditions.style % self.style.num_embeddings)
        shape = self.shape(conditions.shape.to(self.null_shape.dtype))
        shape = torch.where(conditions.has_shape[:, None], shape, self.null_shape)
        tokens = [action, style, shape]
        if self.text_size:
            tokens.append(self._embed_text(conditions))
        elif conditions.text is not None:
            raise ValueError("texts were given to a model that was trained without text")
        return torch.stack(tokens, dim=1)

    def _embed_text(self, conditions: Conditions) -> Float[Tensor, "B W"]:
        """The token of the text; the learned null where there is none."""
        if conditions.text is None or conditions.has_text is None:
            return self.null_text.expand(len(conditions.action), -1)
        # an embedding has length 1: its numbers are brought to the size that layers are made for
        text = self.text(conditions.text.to(self.null_text.dtype) * math.sqrt(self.text_size))
        return torch.where(conditions.has_text[:, None], text, self.null_text)
