"""What the context vectors start as: random, a template's words, or the words of class descriptions.

A plan says, for each prompt, which tokens are fixed and which places are learned, and which token embeddings each
vector starts as. At step 0 a prompt whose vectors start as token embeddings *is* the sentence of those tokens.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from icube_common.errors import InputError
from icube_common.prompts.config import PromptConfig
from icube_common.prompts.layout import PromptParts, Slots
from icube_common.vlm.backbone import FrozenVLM

# as in CoOp (Zhou et al., IJCV 2022)
_RANDOM_STD = 0.02
_RANDOM_LENGTH = 16


@dataclass(frozen=True)
class PromptPlan:
    """What `plan_prompts` decides.

    Attributes:
        prompts: of all classes, in their order.
        starts: for each context vector the token ids whose mean embedding it starts as; empty: random.
        texts: for each prompt the sentence that it is, or comes nearest to, before training.
        notes: what the user should know: cut sentences, averaged segments.
    """

    prompts: list[PromptParts]
    starts: list[list[int]]
    texts: list[str]
    notes: list[str] = field(default_factory=list)

    def vectors(self, vlm: FrozenVLM, *, seed: int) -> Float[Tensor, "v w"]:
        """The context vectors at step 0, float32."""
        table = vlm.token_embedding.weight.detach().float().cpu()
        generator = torch.Generator().manual_seed(seed)
        rows = [
            table[torch.tensor(ids)].mean(0) if ids else torch.randn(table.shape[1], generator=generator) * _RANDOM_STD
            for ids in self.starts
        ]
        return torch.stack(rows) if rows else table.new_zeros(0, table.shape[1])


def plan_prompts(
    vlm: FrozenVLM,
    class_names: Sequence[str],
    config: PromptConfig,
    descriptions: Mapping[str, Sequence[str]] | None = None,
) -> PromptPlan:
    """Decide the prompts of all classes.

    Args:
        vlm: gives the tokens.
        class_names: in the order of the logits.
        config: initialisation, length, place of the class name.
        descriptions: class name -> its sentences, for ``init=descriptions`` and ``knowledge``.

    Raises:
        InputError: a class without a description, a template without a word, a length that does not fit.
    """
    if config.init in ("descriptions", "knowledge"):
        sentences = _sentences(class_names, descriptions, config)
        if config.init == "descriptions":
            return _from_descriptions(vlm, class_names, sentences, config)
        return _around_knowledge(vlm, class_names, sentences, config)
    return _shared_context(vlm, class_names, config)


def _sentences(
    class_names: Sequence[str], descriptions: Mapping[str, Sequence[str]] | None, config: PromptConfig
) -> list[list[str]]:
    if descriptions is None:
        raise InputError(f"init={config.init}: needs class descriptions; give knowledge")
    missing = [name for name in class_names if not descriptions.get(name)]
    if missing:
        raise InputError(f"init={config.init}: no accepted description of {', '.join(map(repr, missing))}")
    return [list(descriptions[name])[: config.max_descriptions or None] for name in class_names]


def _context_words(vlm: FrozenVLM, config: PromptConfig) -> list[list[int]]:
    """What each vector of a context that knows no class starts as."""
    if config.init == "random":
        return [[] for _ in range(config.length or _RANDOM_LENGTH)]
    words = vlm.tokens.words(config.template)
    if not words:
        raise InputError(f"template={config.template!r}: holds no word")
    if config.length not in (None, len(words)):
        raise InputError(
            f"num_context={config.num_context}: the template {config.template!r} has {len(words)} tokens; "
            f"leave num_context at auto, or use init=random"
        )
    return [[word] for word in words]


def _shared_context(vlm: FrozenVLM, class_names: Sequence[str], config: PromptConfig) -> PromptPlan:
    """CoOp: context and class name, one context for all or one for each class."""
    context = _context_words(vlm, config)
    prompts, starts, texts = [], [] if config.class_specific else context, []
    for number, name in enumerate(class_names):
        first = 0
        if config.class_specific:
            first = len(starts)
            starts = [*starts, *context]
        prompts.append(
            PromptParts(number, f"class {name!r}", _around_name(vlm, name, first, len(context), config.place))
        )
        texts.append(f"{config.template} {name}." if config.init == "template" else f"{name}.")
    return PromptPlan(prompts, starts, texts)


def _around_name(vlm: FrozenVLM, name: str, first: int, count: int, place: str) -> tuple[tuple[int, ...] | Slots, ...]:
    """Context and class name in their order, a full stop at the end."""
    words = vlm.tokens.words
    if place == "end":
        return Slots(first, count), tuple(words(f"{name}."))
    if place == "none":
        return Slots(first, count), tuple(words("."))
    name_words, stop = tuple(words(name)), tuple(words("."))
    if place == "front":
        return name_words, Slots(first, count), stop
    half = count // 2
    return Slots(first, half), name_words, Slots(first + half, count - half), stop


def _from_descriptions(
    vlm: FrozenVLM, class_names: Sequence[str], sentences: Sequence[Sequence[str]], config: PromptConfig
) -> PromptPlan:
    """Every description becomes the context of a prompt of its own (GaVA-CLIP)."""
    place = config.place
    if place in ("front", "middle"):
        raise InputError(f"class_token={place}: descriptions take the class name at the end or not at all (none)")
    plan = PromptPlan([], [], [])
    cut, averaged = 0, 0
    for number, (name, texts) in enumerate(zip(class_names, sentences, strict=True)):
        tail = vlm.tokens.words(f"{name}.") if place == "end" else []
        for text in texts:
            whole = f"{text} {name}." if place == "end" else text
            words = vlm.tokens.words(whole)
            if tail and words[-len(tail) :] != tail:
                raise InputError(f"class {name!r}: its tokens change behind {text!r}; use class_token=none")
            context = words[: len(words) - len(tail)]
            if not context:
                raise InputError(f"class {name!r}: the description {text!r} holds no word")
            room = vlm.text_budget - len(tail)
            cut += len(context) > room
            # a text that is too long loses its end, as the tokenizer would cut it; the name stays
            context = context[:room]
            starts = [[word] for word in context]
            if config.length is not None and config.length < len(context):
                averaged += 1
                starts = _segments(context, config.length)
            slots = Slots(len(plan.starts), len(starts))
            plan.starts.extend(starts)
            plan.prompts.append(PromptParts(number, f"class {name!r}", (slots, tuple(tail))))
            plan.texts.append(whole)
    if cut:
        plan.notes.append(f"{cut} of {len(plan.texts)} descriptions are longer than the tower reads and were cut")
    if averaged:
        plan.notes.append(
            f"num_context={config.length}: {averaged} of {len(plan.texts)} descriptions are longer; their vectors "
            f"start as averages over segments, and the features at step 0 are not those of the descriptions"
        )
    return plan


def _segments(words: Sequence[int], count: int) -> list[list[int]]:
    """The words in ``count`` runs, as equal in length as can be."""
    bounds = [round(i * len(words) / count) for i in range(count + 1)]
    return [list(words[start:stop]) for start, stop in itertools.pairwise(bounds)]


def _around_knowledge(
    vlm: FrozenVLM, class_names: Sequence[str], sentences: Sequence[Sequence[str]], config: PromptConfig
) -> PromptPlan:
    """KAPT: learned context (which the learner shifts by the class's knowledge), class name, the fixed description."""
    if config.place != "end":
        raise InputError(
            f"class_token={config.place}: with init=knowledge the class name stands at the end of the context"
        )
    context = _context_words(vlm, config)
    plan = PromptPlan([], [], [])
    cut = 0
    for number, (name, texts) in enumerate(zip(class_names, sentences, strict=True)):
        if number == 0 or config.class_specific:
            first = len(plan.starts)
            plan.starts.extend(context)
        for text in texts:
            fixed = vlm.tokens.words(f"{name}. {text}")
            room = vlm.text_budget - len(context)
            cut += len(fixed) > room
            plan.prompts.append(
                PromptParts(number, f"class {name!r}", (Slots(first, len(context)), tuple(fixed[:room])))
            )
            plan.texts.append(f"{config.template} {name}. {text}")
    if cut:
        plan.notes.append(f"{cut} of {len(plan.texts)} descriptions are longer than the tower reads and were cut")
    return plan
