"""Captions of clips: what people wrote, and sentences made of action labels for sets without text.

An action's verb phrases stand in ``phrases.yaml``; each goes through `TEMPLATES`. An action that the file doesn't know
gets its label as the only phrase. Shapes: K distinct texts, S numbers of an embedding.
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
"""For labels that `phrases` does not know, which may be no verbs at all."""

_VOWELS = "aeiou"
_IRREGULAR = {"lie": "lying", "tie": "tying", "squat": "squatting", "repel": "repelling", "propel": "propelling"}


@cache
def load_phrases() -> dict[str, tuple[str, ...]]:
    """Every action of ``phrases.yaml`` by its `icube_common.knowledge.names.name_key`."""
    import yaml

    content = yaml.safe_load((files("motiondiff.data.labels") / "phrases.yaml").read_text(encoding="utf-8"))
    return {name_key(action): tuple(phrases) for action, phrases in content.items()}


def action_captions(action: str) -> tuple[str, ...]:
    """All sentences about an action, the plainest first; none occurs twice."""
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
    """A phrase with each of its verbs in another form: the first word, and the first after "&"."""
    return " and ".join(" ".join([form(words[0]), *words[1:]]) for words in map(str.split, phrase.split(" & ")))


def third_person(verb: str) -> str:
    """The form of *he* or *she*: sits, pushes, carries, goes."""
    if verb == "have":
        return "has"
    if re.search(r"[^aeiou]y$", verb):
        return verb[:-1] + "ies"
    return verb + ("es" if re.search(r"(s|x|z|ch|sh|[^aeiou]o)$", verb) else "s")


def gerund(verb: str) -> str:
    """The form on -ing: sitting, waving, carrying, lying."""
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
    """What is said of each clip of a store.

    Attributes:
        texts: K distinct texts.
        of_clip: for each clip of the store, indices into ``texts``; may be empty.
        mirrored: (K,) for each text the one with left and right exchanged; None where they were not made.
    """

    texts: tuple[str, ...]
    of_clip: tuple[Index, ...]
    mirrored: Index | None = None


def normalise_text(text: str, where: str) -> str:
    """One line without surplus spaces.

    Raises:
        InputError: nothing is left, or the text holds control characters.
    """
    line = " ".join(text.split())
    if not re.search(r"\w", line):
        raise InputError(f"{where} {text!r}: says nothing; describe the motion in words")
    if any(ord(character) < 32 or ord(character) == 127 for character in line):
        raise InputError(f"{where} {text!r}: holds control characters")
    return line


def store_captions(store: MotionStore, *, labels: bool = False, mirror: bool = False) -> Captions:
    """The texts of a store, and sentences about the action where a clip has none (with ``labels``: to all clips).

    With ``mirror`` the texts of the motions seen in a mirror stand among them.

    Raises:
        InputError: no clip has a text or an action, or the store is broken.
    """
    number: dict[str, int] = {}
    of_action = [
        np.array([number.setdefault(text, len(number)) for text in action_captions(action)]) for action in store.actions
    ]
    of_clip: list[Index] = []
    for texts, action in zip(store.texts, store.columns["action"].tolist(), strict=True):
        own = dict.fromkeys(" ".join(text.split()) for text in texts if re.search(r"\w", text))
        found = np.array([number.setdefault(text, len(number)) for text in own], dtype=np.int64)
        if action >= 0 and (labels or not len(found)):
            found = np.unique(np.concatenate([found, of_action[action]]))
        of_clip.append(found)
    if not any(len(found) for found in of_clip):
        raise InputError(f"{store.path}: no clip has a text or an action to make one of: train with text.enabled=false")
    if not mirror:
        return Captions(tuple(number), tuple(of_clip))
    others = {text: number.setdefault(mirror_text(text), len(number)) for text in tuple(number)}
    mirrored = np.array([others.get(text, row) for row, text in enumerate(number)], dtype=np.int64)
    return Captions(tuple(number), tuple(of_clip), mirrored)


@dataclass(frozen=True, eq=False)
class EmbeddedCaptions:
    """Captions with their embeddings, as training draws them.

    A frozen encoder knows more words than the captions use. So that the model learns the region of an action rather
    than a few points in it, two captions of a clip may be blended, and noise is added; the outcome has length 1 again.

    Attributes:
        captions: the texts, and which of them each clip has.
        embeddings: (K, S) of length 1.
        noise: length of the noise, in the mean, relative to the embedding's.
        blend: how often two captions are blended.
    """

    captions: Captions
    embeddings: Array
    noise: float = 0.0
    blend: float = 0.0

    @property
    def size(self) -> int:
        """S."""
        return int(self.embeddings.shape[1])

    def draw(self, clip: int, generator: np.random.Generator | None, *, mirrored: bool = False) -> Array | None:
        """(S,) a caption of a clip, varied; without a generator the first one as it is. None where there is none.

        With ``mirrored`` it is of the motion seen in a mirror.
        """
        known = self.captions.of_clip[clip]
        if not len(known):
            return None
        if mirrored and self.captions.mirrored is not None:
            known = self.captions.mirrored[known]
        if generator is None:
            return self.embeddings[known[0]]
        vector = self.embeddings[generator.choice(known)].astype(np.float64)
        if generator.random() < self.blend:
            share = generator.random()
            vector = (1 - share) * vector + share * self.embeddings[generator.choice(known)]
        vector = vector + generator.standard_normal(self.size) * (self.noise / np.sqrt(self.size))
        return np.asarray(vector / np.linalg.norm(vector), dtype=np.float32)

    def mean_of_actions(self, actions: npt.NDArray[np.int32], count: int, clips: Index) -> Array:
        """(A, S) mean embedding of the captions of each action's clips, of length 1; zeros for an action without any.

        Args:
            actions: action of every clip of the store, -1 for none.
            count: A.
            clips: the clips that count: those of the training split.
        """
        means = np.zeros((count, self.size), dtype=np.float32)
        for action in range(count):
            own = [self.captions.of_clip[clip] for clip in clips[actions[clips] == action]]
            rows = np.concatenate(own) if own else np.array([], dtype=np.int64)
            if len(rows):
                mean = self.embeddings[rows].mean(axis=0)
                means[action] = mean / max(float(np.linalg.norm(mean)), 1e-12)
        return means
