"""One face for open_clip's tokenizers: the words of a text without the special tokens around them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from icube_common.errors import InputError

# plain lower-case words that survive every cleaning rule
_PROBE = "a photo of two people"


@dataclass(frozen=True)
class TextTokens:
    """How a text tower wants its token ids laid out: ``prefix + words + suffix + padding``.

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
        """How many ids are left for words."""
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
        found = TextTokens(
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
        own = tokenizer([_PROBE], context_length=length)[0].tolist()
        start = next((i for i in range(length) if own[i : i + len(plain)] == plain), None)
        specials = len(inner(tokenizer.clean_fn(_PROBE)).input_ids) - len(plain)
        if start is None:
            raise InputError(f"{type(tokenizer).__name__}: its ids cannot be told into words and special tokens")
        end = start + len(plain)
        found = TextTokens(
            prefix=tuple(own[:start]),
            suffix=tuple(own[end : end + specials - start]),
            pad=own[-1],
            length=length,
            words=words,
            decode=lambda ids: inner.decode(list(ids)).strip(),
        )
    if found.wrap(found.words(_PROBE)) != tokenizer([_PROBE], context_length=length)[0].tolist():
        raise InputError(f"{type(tokenizer).__name__}: its layout of ids is not one that prompts can be put into")
    return found


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
