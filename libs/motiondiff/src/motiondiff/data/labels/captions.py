"""Captions of clips: written by annotators, or composed from action labels for data sets without text.

The verb phrases of an action are in ``phrases.yaml``; each fills `TEMPLATES`. An action without phrases has its label
as the only phrase. Shapes: K distinct texts, S numbers of an embedding.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from icube_common.errors import InputError
from icube_common.knowledge.names import name_key, readable_name
from motiondiff.skeleton.mirror import mirror_text

if TYPE_CHECKING:
    from motiondiff.data.store import MotionStore

Array = npt.NDArray[np.float32]
Index = npt.NDArray[np.int64]

TEMPLATES = (
    "{base}",
    "{gerund}",
    "a person {third}",
    "someone {third}",
    "the person is {gerund}",
    "a man {third}",
    "a woman {third}",
    "a human is {gerund} in a room",
)
"""``base``: sit down; ``third``: sits down; ``gerund``: sitting down."""
LABEL_TEMPLATES = ("{label}", "a person doing: {label}", "the action {label}", "someone performs {label}")
"""For labels without phrases, which need not be verbs."""

_IRREGULAR = {"lie": "lying", "tie": "tying", "squat": "squatting", "repel": "repelling", "propel": "propelling"}


@cache
def load_phrases() -> dict[str, tuple[str, ...]]:
    """Verb phrases of every action in ``phrases.yaml`` by its `icube_common.knowledge.names.name_key`."""
    import yaml

    content = yaml.safe_load((files("motiondiff.data.labels") / "phrases.yaml").read_text(encoding="utf-8"))
    return {name_key(action): tuple(phrases) for action, phrases in content.items()}


def action_captions(action: str) -> tuple[str, ...]:
    """All sentences about an action, the shortest form first, without repetition."""
    phrases = load_phrases().get(name_key(action))
    if phrases is None:
        label = readable_name(action.replace("-", " "))
        return tuple(template.format(label=label) for template in LABEL_TEMPLATES)
    sentences = [
        template.format(
            base=_inflect(phrase, str), third=_inflect(phrase, third_person), gerund=_inflect(phrase, gerund)
        )
        for template in TEMPLATES
        for phrase in phrases
    ]
    return tuple(dict.fromkeys(sentences))


def _inflect(phrase: str, form: Callable[[str], str]) -> str:
    """A phrase with its verbs inflected: the first word, and the first after "&"."""
    return " and ".join(" ".join([form(words[0]), *words[1:]]) for words in map(str.split, phrase.split(" & ")))


def third_person(verb: str) -> str:
    """Third person singular: sits, pushes, carries, goes."""
    if verb == "have":
        return "has"
    if re.search(r"[^aeiou]y$", verb):
        return verb[:-1] + "ies"
    return verb + ("es" if re.search(r"(s|x|z|ch|sh|[^aeiou]o)$", verb) else "s")


def gerund(verb: str) -> str:
    """Gerund: sitting, waving, carrying, lying."""
    if verb in _IRREGULAR:
        return _IRREGULAR[verb]
    if verb.endswith("e") and not verb.endswith("ee"):
        return verb[:-1] + "ing"
    # one syllable that ends in consonant, vowel, consonant doubles the last: sit, clap, not throw or box
    if re.fullmatch(r"[^aeiou]*[aeiou][^aeiouwxy]", verb) and len(verb) > 2:
        return verb + verb[-1] + "ing"
    return verb + "ing"


@dataclass(frozen=True, eq=False)
class Captions:
    """Captions of each clip of a store.

    Attributes:
        texts: K distinct texts.
        clip_indices: for each clip of the store, indices into ``texts``; may be empty.
        mirrored: (K,) index of each text with left and right exchanged; None without mirrored texts.
    """

    texts: tuple[str, ...]
    clip_indices: tuple[Index, ...]
    mirrored: Index | None = None


def normalise_text(text: str, where: str) -> str:
    """One line without surplus spaces.

    Raises:
        InputError: empty, or control characters.
    """
    line = " ".join(text.split())
    if not re.search(r"\w", line):
        raise InputError(f"{where} {text!r}: empty; describe the motion in words")
    if any(ord(character) < 32 or ord(character) == 127 for character in line):
        raise InputError(f"{where} {text!r}: holds control characters")
    return line


def store_captions(store: MotionStore, *, labels: bool = False, mirror: bool = False) -> Captions:
    """Captions of a store: its texts, and sentences about the action for clips without text (``labels``: for all).

    With ``mirror`` also the texts with left and right exchanged.

    Raises:
        InputError: no clip has a text or an action, or the store is broken.
    """
    number: dict[str, int] = {}
    of_action = [
        np.array([number.setdefault(text, len(number)) for text in action_captions(action)]) for action in store.actions
    ]
    clip_indices: list[Index] = []
    for texts, action in zip(store.texts, store.columns["action"].tolist(), strict=True):
        unique = dict.fromkeys(" ".join(text.split()) for text in texts if re.search(r"\w", text))
        indices = np.array([number.setdefault(text, len(number)) for text in unique], dtype=np.int64)
        if action >= 0 and (labels or not len(indices)):
            indices = np.unique(np.concatenate([indices, of_action[action]]))
        clip_indices.append(indices)
    if not any(len(indices) for indices in clip_indices):
        raise InputError(f"{store.path}: no clip has a text or an action to make one of: train with text.enabled=false")
    if not mirror:
        return Captions(tuple(number), tuple(clip_indices))
    others = {text: number.setdefault(mirror_text(text), len(number)) for text in tuple(number)}
    mirrored = np.array([others.get(text, row) for row, text in enumerate(number)], dtype=np.int64)
    return Captions(tuple(number), tuple(clip_indices), mirrored)


@dataclass(frozen=True, eq=False)
class EmbeddedCaptions:
    """Captions with their embeddings, sampled in training.

    Augmentation of embeddings, so that the model learns the region of an action rather than a few points in it: two
    captions of a clip may be blended, and noise is added; the result is normalised to length 1.

    Attributes:
        captions: texts by clip.
        embeddings: (K, S) of length 1.
        noise: expected norm of the noise, relative to the embedding's.
        blend: probability of blending two captions.
    """

    captions: Captions
    embeddings: Array
    noise: float = 0.0
    blend: float = 0.0

    @property
    def size(self) -> int:
        """S."""
        return int(self.embeddings.shape[1])

    def sample(self, clip: int, generator: np.random.Generator | None, *, mirrored: bool = False) -> Array | None:
        """(S,) a caption of a clip, augmented; without a generator the first one unchanged. None without captions.

        With ``mirrored`` it is one of the mirrored motion.
        """
        indices = self.captions.clip_indices[clip]
        if not len(indices):
            return None
        if mirrored and self.captions.mirrored is not None:
            indices = self.captions.mirrored[indices]
        if generator is None:
            return self.embeddings[indices[0]]
        vector = self.embeddings[generator.choice(indices)].astype(np.float64)
        if generator.random() < self.blend:
            weight = generator.random()
            vector = (1 - weight) * vector + weight * self.embeddings[generator.choice(indices)]
        vector = vector + generator.standard_normal(self.size) * (self.noise / np.sqrt(self.size))
        return np.asarray(vector / np.linalg.norm(vector), dtype=np.float32)

    def action_means(self, actions: npt.NDArray[np.int32], count: int, clips: Index) -> Array:
        """(A, S) mean embedding of the captions of each action's clips, of length 1; zeros without captions.

        Args:
            actions: action of every clip of the store, -1 for none.
            count: A.
            clips: indices of the training clips.
        """
        means = np.zeros((count, self.size), dtype=np.float32)
        for action in range(count):
            by_clip = [self.captions.clip_indices[clip] for clip in clips[actions[clips] == action]]
            rows = np.concatenate(by_clip) if by_clip else np.array([], dtype=np.int64)
            if len(rows):
                mean = self.embeddings[rows].mean(axis=0)
                means[action] = mean / max(float(np.linalg.norm(mean)), 1e-12)
        return means
