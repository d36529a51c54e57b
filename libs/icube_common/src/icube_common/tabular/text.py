"""Numbers written as sentences for a frozen text tower, each value's token replaced by an embedding of the value.

As in GaVA-CLIP (Wang et al., "Enhancing Gait Video Analysis in Neurodegenerative Diseases by Knowledge Augmentation in
Vision Language Model", MICCAI 2024), where gait parameters become text.

Shapes: N samples, P numbers, G sentences (groups of numbers), L token ids, W token width, D feature width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from icube_common.errors import InputError
from icube_common.tabular.config import TabularConfig
from icube_common.tabular.embedding import ValueEmbedding
from icube_common.vlm.text_encoder import trim_padding

if TYPE_CHECKING:
    from icube_common.vlm.backbone import FrozenVLM

# two numbers that are one token each in every vocabulary: where their sentences differ is where a value stands
_WRITTEN = ("1", "2")
_UNKNOWN = "unknown"


class TabularText(nn.Module):
    """Scaled numbers -> text features.

    Args:
        vlm: the frozen backbone; referred to, not owned: its weights are in no `state_dict` of this module.
        names: what each number measures, P of them.
        units: of each number, empty text for none.
        groups: column numbers of each sentence; None puts all into one.
        config: kind of embedding, template, and embedding of a missing value.
        generator: of the first weights.
        chunk_size: most sentences per call of the tower.

    Attributes:
        sentences: the G sentences, ``<value>`` where a number stands.

    Raises:
        InputError: a sentence is too long for the tower, or its tokenizer gives values no token of their own.
    """

    ids: Tensor
    column: Tensor
    word: Tensor

    def __init__(
        self,
        vlm: FrozenVLM,
        names: Sequence[str],
        units: Sequence[str],
        *,
        groups: Sequence[Sequence[int]] | None = None,
        config: TabularConfig | None = None,
        generator: torch.Generator | None = None,
        chunk_size: int = 256,
    ) -> None:
        super().__init__()
        config = config or TabularConfig()
        self._frozen = (vlm,)  # in a tuple, so that it is not registered as a part
        self.chunk_size = chunk_size
        groups = groups or [range(len(names))]

        def sentence(group: Sequence[int], written: str) -> str:
            parts = [config.template.format(name=names[j], value=written, unit=units[j]).split() for j in group]
            return ", ".join(" ".join(words) for words in parts)

        self.sentences = [sentence(group, "<value>") for group in groups]
        layouts = [_layout(vlm, [sentence(group, written) for written in _WRITTEN], group) for group in groups]
        ids = torch.tensor([ids for ids, _ in layouts])
        columns = torch.tensor([column for _, column in layouts])
        if vlm.padding_cuttable:
            ids = trim_padding(ids)
        self.register_buffer("ids", ids, persistent=False)
        # the number that stands at each position, -1 for none
        self.register_buffer("column", columns[:, : ids.shape[1]], persistent=False)
        table = vlm.token_embedding.weight.detach().float().cpu()
        norm = table.norm(dim=1).mean().item()
        self.value = ValueEmbedding(
            _word(vlm, table, " ".join(_WRITTEN)),
            norm=norm,
            kind=config.kind,
            frequencies=config.frequencies,
            hidden=config.hidden,
            generator=generator,
        )
        unknown = F.normalize(_word(vlm, table, _UNKNOWN), dim=0)
        self.missing = nn.Parameter(unknown.clone()) if config.missing == "learned" else None
        self.register_buffer("word", unknown, persistent=False)

    def embed(self, values: Float[Tensor, "n p"]) -> Float[Tensor, "n p w"]:
        """Token embeddings of scaled numbers (NaN: missing), each as long as the tower's own are on average."""
        absent = values.isnan()
        missing = self.word if self.missing is None else F.normalize(self.missing, dim=0)
        return torch.where(absent.unsqueeze(-1), self.value.norm * missing, self.value(values.masked_fill(absent, 0.0)))

    def per_group(self, values: Float[Tensor, "n p"]) -> Float[Tensor, "n g d"]:
        """The normalised feature of each sentence.

        Args:
            values: scaled numbers, NaN where missing.
        """
        vlm = self._frozen[0]
        rows, groups = len(values), len(self.ids)
        stands = self.column >= 0
        vectors = rearrange(self.embed(values)[:, self.column.clamp(min=0)], "n g l w -> (n g) l w")
        ids = self.ids.repeat(rows, 1)
        where = stands.repeat(rows, 1)
        features = [
            vlm.encode_ids(ids[part], vectors[part], where[part])
            for start in range(0, rows * groups, self.chunk_size)
            for part in [slice(start, start + self.chunk_size)]
        ]
        return rearrange(F.normalize(torch.cat(features), dim=-1), "(n g) d -> n g d", g=groups)

    def forward(self, values: Float[Tensor, "n p"]) -> Float[Tensor, "n d"]:
        """The normalised mean of a sample's sentences; ``values`` are scaled, NaN where missing."""
        return F.normalize(self.per_group(values).mean(1), dim=-1)


def _layout(vlm: FrozenVLM, variants: list[str], group: Sequence[int]) -> tuple[list[int], list[int]]:
    """A sentence's ids in full, and the number that stands at each position (-1 for none)."""
    first, second = (vlm.tokens.words(text) for text in variants)
    places = [i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b]
    if len(first) != len(second) or len(places) != len(group):
        raise InputError(f"{variants[0]!r}: this tower's tokenizer gives the values no tokens of their own")
    try:
        ids = vlm.tokens.wrap(first)
    except InputError as error:
        raise InputError(f"{variants[0]!r}: {error}; take a smaller group_size or shorter names") from error
    columns = [-1] * len(ids)
    for place, column in zip(places, group, strict=True):
        columns[len(vlm.tokens.prefix) + place] = column
    return ids, columns


def _word(vlm: FrozenVLM, table: Float[Tensor, "v w"], text: str) -> Float[Tensor, " w"]:
    """The mean token embedding of a text."""
    return table[vlm.tokens.words(text)].mean(0)
