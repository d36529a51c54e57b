"""Layout of prompts: positions of tokens and learned vectors.

The whole row of token ids is laid out first, with an ordinary word wherever a vector will stand. Mask, positions and
the place of the end token follow from that final row; nothing is inserted afterwards.

N prompts, L token ids, V context vectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from icube_common.errors import InputError
from icube_common.vlm.text_encoder import TextTokens


@dataclass(frozen=True)
class Slots:
    """A run of places that learned vectors fill: ``first .. first + count - 1`` of the table of vectors."""

    first: int
    count: int


@dataclass(frozen=True)
class PromptParts:
    """One prompt as a sequence of token ids and slots, without special tokens and padding.

    Attributes:
        owner: number of its class.
        name: what error messages call it.
        parts: token ids (tuples) and `Slots`, in order.
    """

    owner: int
    name: str
    parts: tuple[tuple[int, ...] | Slots, ...]


@dataclass(frozen=True)
class PromptLayout:
    """The final token ids of all prompts and where vectors replace embeddings.

    Attributes:
        ids: ``(N, L)`` special tokens and padding included; an ordinary word's id stands in every slot.
        slots: ``(N, L)`` number of the context vector at each place, -1 where the token's own embedding stays.
        owner: ``(N,)`` class of each prompt.
    """

    ids: Int[Tensor, "n l"]
    slots: Int[Tensor, "n l"]
    owner: Int[Tensor, " n"]

    @property
    def where(self) -> Bool[Tensor, "n l"]:
        """The places that vectors fill."""
        return self.slots >= 0

    def filled(self, token_ids: Int[Tensor, " v"]) -> Int[Tensor, "n l"]:
        """The ids of the sentences that come about when vector ``i`` is replaced by the token ``token_ids[i]``."""
        return torch.where(self.where, token_ids[self.slots.clamp(min=0)], self.ids)


def lay_out(prompts: Sequence[PromptParts], tokens: TextTokens) -> PromptLayout:
    """Lay prompts out for a text tower.

    Args:
        prompts: at least one.
        tokens: the tower's rules.

    Raises:
        InputError: a prompt is longer than the tower reads; the message names it and both lengths.
    """
    filler = tokens.filler()
    rows: list[list[int]] = []
    slots = torch.full((len(prompts), tokens.length), -1)
    for row, prompt in enumerate(prompts):
        words: list[int] = []
        for part in prompt.parts:
            if isinstance(part, Slots):
                start = len(tokens.prefix) + len(words)
                stop = start + part.count
                if stop <= tokens.length:  # otherwise the length is refused below
                    slots[row, start:stop] = torch.arange(part.first, part.first + part.count)
                words.extend([filler] * part.count)
            else:
                words.extend(part)
        if len(words) > tokens.budget:
            raise InputError(
                f"{prompt.name}: the prompt has {len(words)} tokens, this text tower reads {tokens.budget}; "
                f"shorten the text or set num_context"
            )
        rows.append(tokens.wrap(words))
    return PromptLayout(ids=torch.tensor(rows), slots=slots, owner=torch.tensor([prompt.owner for prompt in prompts]))


def columns_needed(ids: Int[Tensor, "n l"], pad: int) -> int:
    """Columns up to the last that is not padding in every row."""
    return int((ids != pad).any(0).nonzero().max()) + 1


def columns_shared(ids: Int[Tensor, "n l"], slots: Int[Tensor, "n l"], *, shifted: bool = False) -> int:
    """Leading columns that are the same in all prompts, at least one less than there are; 0 of a single prompt.

    Args:
        ids: of the prompts.
        slots: likewise.
        shifted: each prompt shifts its vectors by its own amount, so that no slot is shared.
    """
    if len(ids) < 2:
        return 0
    same = (ids == ids[:1]).all(0) & (slots == slots[:1]).all(0)
    if shifted:
        same &= (slots < 0).all(0)
    return int(same[:-1].int().cumprod(0).sum())
