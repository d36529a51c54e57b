"""Initialisation of context vectors: random, a template's words, or the words of class descriptions.

A plan lists, for each prompt, which tokens are fixed and which places are learned, and which token embeddings each
vector starts as. At step 0 a prompt whose vectors start as token embeddings *is* the sentence of those tokens.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from icube_common.config import as_list
from icube_common.errors import InputError
from icube_common.prompts.config import PromptConfig
from icube_common.prompts.layout import PromptParts, Slots
from icube_common.prompts.template import PLACE, fill
from icube_common.vlm.backbone import FrozenVLM

# as in CoOp (Zhou et al., IJCV 2022)
_RANDOM_STD = 0.02
_RANDOM_LENGTH = 16


@dataclass(frozen=True)
class PromptPlan:
    """Plan of all prompts, as made by `plan_prompts`.

    Attributes:
        prompts: of all classes, in their order.
        starts: for each context vector the token ids whose mean embedding it starts as; empty: random.
        texts: for each prompt the sentence that it is, or comes nearest to, before training.
        warnings: what the user should know: cut sentences, averaged segments.
    """

    prompts: list[PromptParts]
    starts: list[list[int]]
    texts: list[str]
    warnings: list[str] = field(default_factory=list)

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
        descriptions: class name -> its sentences (a string is one), for ``init=descriptions`` and ``knowledge``.

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
    return [as_list(descriptions[name])[: config.max_descriptions or None] for name in class_names]


@dataclass(frozen=True)
class _Context:
    """A context that all classes can share, around what is fixed of each class.

    Attributes:
        before: for each vector before the fixed tokens, the ids that it starts as; empty: random.
        after: for each vector behind them.
        fixed: (C,) token ids of each class between the two: its name.
        tail: token ids behind the last vector: the full stop.
        texts: (C,) the sentences that come about.
    """

    before: list[list[int]]
    after: list[list[int]]
    fixed: list[tuple[int, ...]]
    tail: tuple[int, ...]
    texts: list[str]

    @property
    def starts(self) -> list[list[int]]:
        """Those of all vectors, in their order."""
        return [*self.before, *self.after]

    def parts(self, number: int, first: int) -> tuple[tuple[int, ...] | Slots, ...]:
        """The prompt of a class whose vectors begin at ``first`` of the table."""
        behind = first + len(self.before)
        return Slots(first, len(self.before)), self.fixed[number], Slots(behind, len(self.after)), self.tail


def _contexts(vlm: FrozenVLM, class_names: Sequence[str], config: PromptConfig) -> list[_Context]:
    """A context of random vectors, or one of each template."""
    if config.init == "random":
        words: list[list[int]] = [[] for _ in range(config.length or _RANDOM_LENGTH)]
        return [_beside_name(vlm, class_names, words, config.place)]
    return [_template_context(vlm, class_names, template, config) for template in config.templates]


def _template_context(vlm: FrozenVLM, class_names: Sequence[str], template: str, config: PromptConfig) -> _Context:
    """The context that starts as a template's words."""
    if PLACE in template:
        result = _around_place(vlm, template, [fill(template, name) for name in class_names])
    else:
        context = [[word] for word in vlm.tokens.words(template)]
        result = _beside_name(vlm, class_names, context, config.place, template)
        if not result.starts:
            raise InputError(f"template={template!r}: holds no word")
    if config.length not in (None, len(result.starts)):
        raise InputError(
            f"num_context={config.num_context}: the template {template!r} has {len(result.starts)} tokens; "
            f"leave num_context at auto, or use init=random"
        )
    return result


def _around_place(vlm: FrozenVLM, template: str, texts: Sequence[str]) -> _Context:
    """The words around the place of the name, cut out of the whole sentences as the tokenizer reads these.

    Where a name changes the token beside it (``{}s``), that token stays fixed with the name.
    """
    prefix, suffix = template.split(PLACE)
    rows = [vlm.tokens.words(text) for text in texts]
    stop = vlm.tokens.words(".")
    before, after = vlm.tokens.words(prefix), vlm.tokens.words(suffix)
    left = min(_shared(before, row) for row in rows)
    right = min(min(_shared(after[::-1], row[::-1]), len(row) - left) for row in rows)
    whole = rows[0]
    end = len(whole) - right
    # a full stop at the end is not learned, as behind a name
    tail = (
        stop if suffix.rstrip().endswith(".") and right >= len(stop) and whole[len(whole) - len(stop) :] == stop else []
    )
    return _Context(
        before=[[word] for word in whole[:left]],
        after=[[word] for word in whole[end : len(whole) - len(tail)]],
        fixed=[tuple(row[left : len(row) - right]) for row in rows],
        tail=tuple(tail),
        texts=list(texts),
    )


def _shared(some: Sequence[int], others: Sequence[int]) -> int:
    """Number of tokens that two sentences share at their beginning."""
    return next(
        (at for at, (a, b) in enumerate(zip(some, others, strict=False)) if a != b), min(len(some), len(others))
    )


def _beside_name(
    vlm: FrozenVLM, class_names: Sequence[str], context: list[list[int]], place: str, template: str = ""
) -> _Context:
    """Context and class name in their order, a full stop at the end."""
    words = vlm.tokens.words
    split = {"front": 0, "middle": len(context) // 2}.get(place, len(context))
    before, after = context[:split], context[split:]
    if place == "end":
        fixed = [tuple(words(f"{name}.")) for name in class_names]
    elif place == "none":
        fixed = [tuple(words("."))] * len(class_names)
    else:
        fixed = [tuple(words(name)) for name in class_names]
    tail = tuple(words(".")) if place in ("front", "middle") else ()
    if place == "middle":
        left, right = (vlm.tokens.decode([id for ids in part for id in ids]) for part in (before, after))
    else:
        left, right = ("", template) if place == "front" else (template, "")
    said = ["" if place == "none" and template else name for name in class_names]
    texts = [f"{' '.join(filter(None, (left, name, right)))}." for name in said]
    return _Context(before, after, fixed, tail, texts)


def _shared_context(vlm: FrozenVLM, class_names: Sequence[str], config: PromptConfig) -> PromptPlan:
    """CoOp: context and class name, one context for all or one for each class; an ensemble has one of each template."""
    contexts = _contexts(vlm, class_names, config)
    plan = PromptPlan([], [], [])
    firsts: list[int] = []
    for number, name in enumerate(class_names):
        for place, context in enumerate(contexts):
            if number == 0 or config.class_specific:
                firsts = [*firsts[:place], len(plan.starts), *firsts[place + 1 :]]
                plan.starts.extend(context.starts)
            plan.prompts.append(PromptParts(number, f"class {name!r}", context.parts(number, firsts[place])))
            plan.texts.append(context.texts[number])
    return plan


def _from_descriptions(
    vlm: FrozenVLM, class_names: Sequence[str], sentences: Sequence[Sequence[str]], config: PromptConfig
) -> PromptPlan:
    """Every description becomes the context of a prompt of its own (GaVA-CLIP)."""
    place = config.place
    if place in ("front", "middle"):
        raise InputError(f"class_token={place}: descriptions take the class name at the end, or none (none)")
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
        plan.warnings.append(f"{cut} of {len(plan.texts)} descriptions are longer than the tower reads and were cut")
    if averaged:
        plan.warnings.append(
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
    (context,) = _contexts(vlm, class_names, config)
    plan = PromptPlan([], [], [])
    cut, first = 0, 0
    for number, (name, texts) in enumerate(zip(class_names, sentences, strict=True)):
        if number == 0 or config.class_specific:
            first = len(plan.starts)
            plan.starts.extend(context.starts)
        head, parts = context.texts[number], context.parts(number, first)
        ended = head.endswith((".", "!", "?"))
        stop = context.tail if ended else tuple(vlm.tokens.words("."))
        room = max(0, vlm.text_budget - len(context.starts) - len(context.fixed[number]))
        for text in texts:
            tail = (*stop, *vlm.tokens.words(text))
            cut += len(tail) > room
            plan.prompts.append(PromptParts(number, f"class {name!r}", (*parts[:-1], tail[:room])))
            plan.texts.append(f"{head} {text}" if ended else f"{head}. {text}")
    if cut:
        plan.warnings.append(f"{cut} of {len(plan.texts)} descriptions are longer than the tower reads and were cut")
    return plan
