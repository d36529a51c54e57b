"""Running a text tower on token ids of which some embeddings are replaced, without a second copy of its forward pass.

The tower computes mask, positions and the place that it reads its feature from out of the ids that it is given. So the
ids are laid out in full first, with an ordinary word where a vector will stand, and while the tower runs a hook on its
embedding table puts the vectors in. Whatever the tower does with padding, classes or positions stays its own:
no line of it is repeated here, and a sentence whose own embeddings are put in comes out as itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from icube_common.errors import InputError

# What trailing padding does to the feature, by which it is decided whether it may be cut
CAUSAL = "causal"  # read at the end token, which sees nothing behind it
MASKED = "masked"  # padding is masked out of attention and of pooling
ATTENDED = "attended"  # padding takes part (MobileCLIP, SigLIP) or moves the class token (CoCa)

# tokens of a row of packed prompts, about: the cost of attention stays small beside that of the linear layers
_ROW_TOKENS = 256


class _EncodeText(nn.Module):
    """``encode_text`` as a forward pass, so that `torch.func.functional_call` can reach it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor) -> Tensor:
        encode: Callable[..., Tensor] = self.model.encode_text  # type: ignore[assignment]
        return encode(ids, normalize=False)


class TextEncoder:
    """The text side of an open_clip model.

    Args:
        model: an open_clip ``CLIP``, ``CustomTextCLIP`` or ``CoCa``. It is referred to, not owned: its device and
            precision are the caller's.
        length: token ids that it takes at most.
    """

    def __init__(self, model: nn.Module, length: int) -> None:
        self.length = length
        self._call = _EncodeText(model)
        text: Any = getattr(model, "text", model)
        self._prefix = "model.text." if text is not model else "model."
        hugging_face: Any = getattr(text, "transformer", None)
        if hasattr(hugging_face, "get_input_embeddings"):
            self.embedding: nn.Embedding = hugging_face.get_input_embeddings()
            self.padding = MASKED
            return
        self.embedding = text.token_embedding
        pool = getattr(text, "pool_type", None) or getattr(text, "text_pool_type", None)
        causal = getattr(text, "attn_mask", None) is not None and pool in ("argmax", "eos")
        self.padding = CAUSAL if causal and getattr(text, "cls_emb", None) is None else ATTENDED
        self._positions: Tensor = text.positional_embedding
        self._text = text

    @property
    def cuttable(self) -> bool:
        """True where trailing padding can be left away without changing the feature."""
        return self.padding != ATTENDED

    def __call__(
        self,
        ids: Int[Tensor, "n l"],
        embeddings: Float[Tensor, "n l w"] | None = None,
        where: Bool[Tensor, "n l"] | None = None,
        *,
        shared: int = 0,
    ) -> Float[Tensor, "n d"]:
        """Features of the text tower, not normalised.

        Args:
            ids: the final layout, special tokens and padding included; fewer than ``length`` columns only where
                `cuttable`.
            embeddings: vectors to put in, in any floating type.
            where: the positions that take theirs from ``embeddings``.
            shared: leading columns whose ids and embeddings are the same in all rows, before the end of any text. A
                causal tower computes them once: what follows them does not change them. Features and gradients are
                those of ``shared=0`` up to rounding.

        Raises:
            ValueError: padding was cut for a tower that attends to it, there are more ids than it takes, or shared
                columns of a tower that is not causal.
        """
        columns = ids.shape[1]
        if columns > self.length or (columns < self.length and not self.cuttable):
            raise ValueError(
                f"{columns} token ids: this text tower takes {self.length}"
                + (", and its features depend on the padding, which cannot be cut" if columns < self.length else "")
            )
        if shared and self.padding != CAUSAL:
            raise ValueError(f"{shared} shared columns: each position of this text tower depends on the whole text")
        if embeddings is None or where is None:
            return self._run(ids, shared)

        def put_in(module: nn.Module, inputs: tuple[Tensor, ...], result: Tensor) -> Tensor | None:
            # CoCa and the like may look up other ids too; only the table's answer to ours is changed
            if inputs[0].shape != where.shape:
                return None
            return torch.where(where.unsqueeze(-1), embeddings.to(result.dtype), result)

        handle = self.embedding.register_forward_hook(put_in)
        try:
            return self._run(ids, shared)
        finally:
            handle.remove()

    def _run(self, ids: Tensor, shared: int) -> Tensor:
        columns = ids.shape[1]
        if shared:
            return self._run_packed(ids, _PackedRows(len(ids), columns, shared))
        if columns == self.length or self.padding == MASKED:
            return self._call(ids)
        # open_clip adds the whole table of positions and the whole mask, whatever the length of the ids
        cut = {
            f"{self._prefix}positional_embedding": self._positions[:columns],
            f"{self._prefix}attn_mask": self._text.attn_mask[:columns, :columns],
        }
        return torch.func.functional_call(self._call, cut, (ids,))

    def _run_packed(self, ids: Tensor, rows: _PackedRows) -> Tensor:
        """Features by packed rows: the tower looks ids up and reads the end token off them as ever.

        Between its embedding table and its last normalisation it has packed rows. Positions are added here, since a
        tower takes as many of its table as there are columns of ids.
        """
        positions = rows.pack(self._positions[: ids.shape[1]].expand(len(ids), -1, -1))[:1]

        def pack(module: nn.Module, inputs: tuple[Tensor, ...], result: Tensor) -> Tensor:
            return rows.pack(result) + positions.to(result.dtype)

        def unpack(module: nn.Module, inputs: tuple[Tensor, ...], result: Tensor) -> Tensor:
            return rows.unpack(result)

        replaced = {
            f"{self._prefix}positional_embedding": torch.zeros_like(self._positions[:1]),
            f"{self._prefix}attn_mask": rows.mask().to(self._text.attn_mask),
        }
        hooks = [
            self.embedding.register_forward_hook(pack),
            self._text.ln_final.register_forward_hook(unpack),
        ]
        try:
            return torch.func.functional_call(self._call, replaced, (ids,))
        finally:
            for hook in hooks:
                hook.remove()


class _PackedRows:
    """Prompts with the same first columns, several in a row behind one copy of these: a tree of one branching.

    Args:
        count: N prompts.
        columns: L of each.
        shared: S columns that all have in common, at least one less than L.
    """

    def __init__(self, count: int, columns: int, shared: int) -> None:
        assert 0 < shared < columns
        self.count, self.columns, self.shared = count, columns, shared
        self.tail = columns - shared
        self.rows = math.ceil(count / max(1, _ROW_TOKENS // self.tail))
        self.each = math.ceil(count / self.rows)

    def pack(self, values: Float[Tensor, "n l w"]) -> Float[Tensor, "r m w"]:
        """Packed rows, ``m = S + each (L - S)``; the last one is filled up with copies of the last prompt."""
        filled = torch.arange(self.rows * self.each, device=values.device).clamp(max=self.count - 1)
        tails = values[filled, self.shared :].reshape(self.rows, self.each * self.tail, -1)
        return torch.cat([values[:1, : self.shared].expand(self.rows, -1, -1), tails], 1)

    def unpack(self, values: Float[Tensor, "r m w"]) -> Float[Tensor, "n l w"]:
        """Each prompt with all its columns."""
        tails = values[:, self.shared :].reshape(self.rows * self.each, self.tail, -1)[: self.count]
        return torch.cat([values[:1, : self.shared].expand(self.count, -1, -1), tails], 1)

    def mask(self) -> Float[Tensor, "m m"]:
        """Additive mask of attention: each position takes the shared ones and its own prompt, up to itself."""
        prompt = torch.cat([torch.full((self.shared,), -1), torch.arange(self.each).repeat_interleave(self.tail)])
        order = torch.arange(len(prompt))
        allowed = (order[:, None] >= order) & ((prompt == -1) | (prompt[:, None] == prompt))
        return torch.zeros(allowed.shape).masked_fill(~allowed, float("-inf"))


# plain lower-case words that survive every cleaning rule
_PROBE = "a photo of two people"


@dataclass(frozen=True)
class TextTokens:
    """Layout of token ids for a text encoder: ``prefix + words + suffix + padding``.

    Attributes:
        prefix: ids before the words (start of text, ``[CLS]``; none for SigLIP).
        suffix: ids after the words (end of text, ``[SEP]``).
        pad: the id that fills the rest.
        length: number of ids in all.
        words: text -> ids of its words, cleaned as the tokenizer cleans.
        decode: ids -> text.
    """

    prefix: tuple[int, ...]
    suffix: tuple[int, ...]
    pad: int
    length: int
    words: Callable[[str], list[int]]
    decode: Callable[[Sequence[int]], str]

    @property
    def budget(self) -> int:
        """Number of ids left for words."""
        return self.length - len(self.prefix) - len(self.suffix)

    def wrap(self, words: Sequence[int]) -> list[int]:
        """The ids of a whole text.

        Raises:
            InputError: there are more words than `budget`.
        """
        if len(words) > self.budget:
            raise InputError(f"{len(words)} tokens do not fit into the {self.budget} that this text tower reads")
        ids = [*self.prefix, *words, *self.suffix]
        return ids + [self.pad] * (self.length - len(ids))

    def filler(self) -> int:
        """An ordinary word's id, to stand where an embedding is put later: neither an end nor padding."""
        return self.words("a")[0]


def read_tokens(tokenizer: Any, length: int) -> TextTokens:
    """Find out how one of open_clip's tokenizers lays out its ids, and hold the answer against its own on a sentence.

    Args:
        tokenizer: open_clip's ``SimpleTokenizer``, ``HFTokenizer`` or ``SigLipTokenizer``.
        length: number of ids that the text tower takes.

    Raises:
        InputError: it builds its ids in a way that cannot be taken apart (open_clip's ``clips`` mode).
    """
    inner = getattr(tokenizer, "tokenizer", None)
    if inner is None:  # open_clip's own byte-pair encoding
        result = TextTokens(
            prefix=(tokenizer.sot_token_id,),
            suffix=(tokenizer.eot_token_id,),
            pad=0,
            length=length,
            words=tokenizer.encode,
            decode=lambda ids: tokenizer.decode(list(ids)).strip(),
        )
    else:

        def words(text: str) -> list[int]:
            return list(inner(tokenizer.clean_fn(text), add_special_tokens=False).input_ids)

        plain = words(_PROBE)
        reference = tokenizer([_PROBE], context_length=length)[0].tolist()
        start = next((i for i in range(length) if reference[i : i + len(plain)] == plain), None)
        specials = len(inner(tokenizer.clean_fn(_PROBE)).input_ids) - len(plain)
        if start is None:
            raise InputError(f"{type(tokenizer).__name__}: its ids cannot be divided into words and special tokens")
        end = start + len(plain)
        result = TextTokens(
            prefix=tuple(reference[:start]),
            suffix=tuple(reference[end : end + specials - start]),
            pad=reference[-1],
            length=length,
            words=words,
            decode=lambda ids: inner.decode(list(ids)).strip(),
        )
    if result.wrap(result.words(_PROBE)) != tokenizer([_PROBE], context_length=length)[0].tolist():
        raise InputError(f"{type(tokenizer).__name__}: its layout of ids is not one that prompts can be put into")
    return result


def tokenize(tokenizer: Any, texts: Sequence[str], length: int) -> Tensor:
    """Token ids ``(N, length)`` of whole texts, cut by the tokenizer's own rule where they are too long."""
    ids = tokenizer(list(texts), context_length=length)
    assert isinstance(ids, Tensor)
    return ids.to(torch.long)


def trim_padding(ids: Tensor) -> Tensor:
    """The ids ``(N, L)`` without the columns in which every row only repeats its last id; one of those is kept."""
    differs = (ids != ids[:, -1:]).int()
    # the first column of each row's closing run of equal ids
    start = torch.where(differs.any(1), ids.shape[1] - differs.flip(1).argmax(1), 0)
    return ids[:, : int(start.max()) + 1]
