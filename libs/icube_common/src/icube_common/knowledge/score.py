"""Scores of sentences for a text encoder: length, near-duplicates, distance to other classes.

With training images also what each sentence alone recognises.

Shapes: N sentences, D width, C classes, M images.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from icube_common.errors import InputError, unknown
from icube_common.io.reports import Report
from icube_common.knowledge.class_knowledge import ClassKnowledge
from icube_common.knowledge.names import readable_name

BATCH = 256
CHUNK = 1024  # rows of the similarity matrix at a time: N is several thousands for the largest sets


@dataclass(frozen=True)
class SentenceScore:
    """Scores of one sentence.

    Attributes:
        class_name: its class.
        text: the sentence.
        status: as in the file.
        tokens: its length in tokens; None where the encoder has no count.
        over_budget: it is longer than the encoder reads.
        names_class: the class name stands in it.
        duplicate_in_class: the nearest sentence of the class, where its cosine is at the threshold or above.
        duplicate_across: the same over the other classes, as ``class: text``.
        margin: cosine to the mean of the class's other sentences, less that to the nearest other class's mean; below 0
            it lies nearer to the other class. None for an only sentence.
        nearest_class: that other class; None where there is one class only.
        accuracy: mean per-class accuracy on the images when this sentence alone represents its class.
        gain: that, less the accuracy with the mean of all sentences of the class.
    """

    class_name: str
    text: str
    status: str
    tokens: int | None
    over_budget: bool
    names_class: bool
    duplicate_in_class: str | None
    duplicate_across: str | None
    margin: float | None
    nearest_class: str | None
    accuracy: float | None = None
    gain: float | None = None

    @property
    def problems(self) -> tuple[str, ...]:
        """Problems of the sentence, in words."""
        result = {
            "too long": self.over_budget,
            "near-duplicate in its class": self.duplicate_in_class is not None,
            "near-duplicate of another class": self.duplicate_across is not None,
            "nearer to another class": self.margin is not None and self.margin < 0,
        }
        return tuple(name for name, holds in result.items() if holds)


@dataclass(frozen=True)
class Scores:
    """Scores of all sentences that are not rejected.

    Attributes:
        sentences: one each, in the order of the knowledge.
        budget: tokens that the encoder reads at most; None when unknown.
        duplicate_threshold: cosine from which on two sentences count as near-duplicates.
        baseline: mean per-class accuracy on the training images with the mean sentence of each class; None without
            images.
        review_warning: `ClassKnowledge.review_warning`.
    """

    sentences: tuple[SentenceScore, ...]
    budget: int | None
    duplicate_threshold: float
    baseline: float | None
    review_warning: str

    def to_dict(self) -> dict[str, Any]:
        """All of it, JSON-ready."""
        return {
            **self.summary(),
            "scores": [{**asdict(score), "problems": list(score.problems)} for score in self.sentences],
        }

    def summary(self) -> dict[str, Any]:
        """Counts and the settings, JSON-ready."""
        return {
            "sentences": len(self.sentences),
            "problems": dict(Counter(problem for score in self.sentences for problem in score.problems)),
            "naming_their_class": sum(score.names_class for score in self.sentences),
            "budget": self.budget,
            "duplicate_threshold": self.duplicate_threshold,
            "training_accuracy": self.baseline,
            "review_warning": self.review_warning,
        }

    def report(self, title: str, *, subtitle: str = "") -> Report:
        """A page with the summary and a table of the sentences."""
        report = Report(title, subtitle=subtitle)
        if self.review_warning:
            report.paragraph(self.review_warning)
        report.facts({key: value for key, value in self.summary().items() if key != "review_warning"})
        columns = ["class", "sentence", "status", "tokens", "margin", "nearest class", "problems"]
        with_images = self.baseline is not None
        rows = []
        for score in self.sentences:
            row = [score.class_name, score.text, score.status, score.tokens, score.margin, score.nearest_class]
            rows.append([*row, ", ".join(score.problems), *([score.accuracy, score.gain] if with_images else [])])
        report.section("Sentences")
        report.table([*columns, *(["accuracy", "gain"] if with_images else [])], rows)
        return report


def score_sentences(
    knowledge: ClassKnowledge,
    encode_text: Callable[[list[str]], Any],
    *,
    count_tokens: Callable[[str], int] | None = None,
    budget: int | None = None,
    duplicate_threshold: float = 0.95,
    image_features: Any = None,
    labels: Sequence[str] | None = None,
) -> Scores:
    """Score every sentence that is not rejected.

    Args:
        knowledge: the sentences.
        encode_text: texts -> their normalised features ``(n, D)``, an array or a tensor.
        count_tokens: tokens of a text, as the encoder counts.
        budget: tokens that the encoder reads at most.
        duplicate_threshold: cosine from which on two sentences count as near-duplicates.
        image_features: normalised features ``(M, D)`` of the *training* fold's images; no others may be given.
        labels: their class names, ``M``.

    Raises:
        InputError: a class whose sentences are all rejected, features of another shape, not normalised or not finite,
            or labels that are no class of the knowledge.
    """
    if not -1 <= duplicate_threshold <= 1:
        raise InputError(f"duplicate threshold {duplicate_threshold}: must lie between -1 and 1")
    if (image_features is None) != (labels is None):
        raise InputError("image features and labels: both are needed, or none")
    names = list(knowledge.class_names)
    knowledge.descriptions(include_proposed=True)  # refuses a class that has none
    entries = [(place, s) for place, name in enumerate(names) for s in knowledge.usable(name, include_proposed=True)]
    texts = [sentence.text for _, sentence in entries]
    classes = np.array([place for place, _ in entries])
    features = _encode(encode_text, texts)
    sums = np.zeros((len(names), features.shape[1]))
    np.add.at(sums, classes, features)
    means = _unit(sums)
    same_class, nearest_mean, nearest = _margins(features, classes, sums, means)
    inside, across = _nearest_sentences(features, classes)
    accuracy, baseline = np.full(len(texts), np.nan), None
    if image_features is not None and labels is not None:
        images = _check_features(image_features, len(labels), "image features")
        accuracy, baseline = _accuracies(features, classes, means, images, _label_indices(labels, names))

    def duplicate(result: tuple[ndarray, ndarray], index: int, named: bool) -> str | None:
        other, cosine = int(result[0][index]), float(result[1][index])
        if not cosine >= duplicate_threshold:
            return None
        return f"{names[classes[other]]}: {texts[other]}" if named else texts[other]

    scores = []
    for index, (place, sentence) in enumerate(entries):
        tokens = count_tokens(sentence.text) if count_tokens else None
        margin = same_class[index] - nearest_mean[index]
        scores.append(
            SentenceScore(
                class_name=names[place],
                text=sentence.text,
                status=sentence.status,
                tokens=tokens,
                over_budget=tokens is not None and budget is not None and tokens > budget,
                names_class=names_class(sentence.text, names[place]),
                duplicate_in_class=duplicate(inside, index, False),
                duplicate_across=duplicate(across, index, True),
                margin=None if math.isnan(margin) else float(margin),
                nearest_class=names[nearest[index]] if len(names) > 1 else None,
                accuracy=None if baseline is None else float(accuracy[index]),
                gain=None if baseline is None else float(accuracy[index] - baseline),
            )
        )
    return Scores(tuple(scores), budget, duplicate_threshold, baseline, knowledge.review_warning())


def names_class(text: str, class_name: str) -> bool:
    """True where the text contains the words of the class name in order, in any case."""

    def words(value: str) -> str:
        remaining = "".join(character if character.isalnum() else " " for character in value.casefold())
        return f" {' '.join(remaining.split())} "

    return words(readable_name(class_name)) in words(text)


def _encode(encode_text: Callable[[list[str]], Any], texts: list[str]) -> Float[ndarray, "n d"]:
    batches = [texts[start : start + BATCH] for start in range(0, len(texts), BATCH)]
    return np.concatenate([_check_features(encode_text(batch), len(batch), "text features") for batch in batches])


def _check_features(value: Any, count: int, what: str) -> Float[ndarray, "n d"]:
    """Features as float64, with their shape and norms checked."""
    if hasattr(value, "detach"):
        value = value.detach().cpu().float()
    array = np.asarray(value, dtype=np.float64)
    if array.ndim != 2 or len(array) != count or count == 0:
        raise InputError(f"{what}: must have the shape ({count}, D), one row at least (found {array.shape})")
    norms = np.linalg.norm(array, axis=1)
    # half precision keeps three digits
    if not np.all(np.abs(norms - 1) < 1e-2):
        raise InputError(f"{what}: must be normalised (found norms from {norms.min():.3g} to {norms.max():.3g})")
    return array / norms[:, None]


def _unit(vectors: Float[ndarray, "n d"]) -> Float[ndarray, "n d"]:
    """Each row divided by its length; a row of zeros stays."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 1e-12)


def _margins(
    features: Float[ndarray, "n d"],
    classes: Int[ndarray, " n"],
    sums: Float[ndarray, "c d"],
    means: Float[ndarray, "c d"],
) -> tuple[ndarray, ndarray, ndarray]:
    """Cosine to the mean of the own class without the sentence itself, to the nearest other class's, and which.

    NaN where there is no other sentence, or no other class.
    """
    counts = np.bincount(classes, minlength=len(sums))
    same_class = np.sum(features * _unit(sums[classes] - features), axis=1)
    same_class[counts[classes] == 1] = np.nan
    if len(sums) == 1:
        return same_class, np.full(len(features), np.nan), np.zeros(len(features), dtype=int)
    cosines = features @ means.T
    cosines[np.arange(len(features)), classes] = -np.inf
    return same_class, cosines.max(axis=1), cosines.argmax(axis=1)


def _nearest_sentences(
    features: Float[ndarray, "n d"], classes: Int[ndarray, " n"]
) -> tuple[tuple[ndarray, ndarray], tuple[ndarray, ndarray]]:
    """For each sentence the nearest other one of its class, and of the others: indices and cosines (-inf: none)."""
    result: list[list[ndarray]] = [[], [], [], []]
    for start in range(0, len(features), CHUNK):
        rows = np.arange(start, min(start + CHUNK, len(features)))
        cosines = features[rows] @ features.T
        cosines[np.arange(len(rows)), rows] = -np.inf
        same = classes[rows][:, None] == classes[None, :]
        for offset, allowed in ((0, same), (2, ~same)):
            masked = np.where(allowed, cosines, -np.inf)
            result[offset].append(masked.argmax(axis=1))
            result[offset + 1].append(masked.max(axis=1))
    inside, inside_cosine, across, across_cosine = (np.concatenate(part) for part in result)
    return (inside, inside_cosine), (across, across_cosine)


def _label_indices(labels: Sequence[str], names: Sequence[str]) -> Int[ndarray, " m"]:
    places = {name: place for place, name in enumerate(names)}
    for label in labels:
        if label not in places:
            raise unknown("label of an image", str(label), names)
    return np.array([places[label] for label in labels])


def _accuracies(
    features: Float[ndarray, "n d"],
    classes: Int[ndarray, " n"],
    means: Float[ndarray, "c d"],
    images: Float[ndarray, "m d"],
    labels: Int[ndarray, " m"],
) -> tuple[Float[ndarray, " n"], float]:
    """Mean per-class accuracy with each sentence in place of its class's mean, and with all means.

    Only classes that have images count. One class's similarity changes at a time, so each sentence costs O(M).
    """
    if images.shape[1] != features.shape[1]:
        raise InputError(f"image features: are {images.shape[1]} wide, those of the text {features.shape[1]}")
    counts = np.bincount(labels, minlength=len(means))
    weights = 1.0 / (counts[labels] * np.count_nonzero(counts))
    logits = images @ means.T
    baseline = float(np.sum(weights * (logits.argmax(axis=1) == labels)))
    accuracy = np.empty(len(features))
    for place in range(len(means)):
        others = logits.copy()
        others[:, place] = -np.inf
        best_other, rival = others.max(axis=1), others.argmax(axis=1)
        for index in np.flatnonzero(classes == place):
            predicted = np.where(images @ features[index] > best_other, place, rival)
            accuracy[index] = np.sum(weights * (predicted == labels))
    return accuracy, baseline
