from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from icube_common.errors import InputError
from icube_common.knowledge import ClassKnowledge, Sentence, Source, score_sentences
from icube_common.knowledge.score import names_class

PERSON = Source("person", person="A. B.")

# unit vectors in a plane, by their angle in degrees
ANGLES = {
    "A person walks.": 0.0,
    "Walking legs.": 10.0,
    "It strides.": 60.0,
    "A person runs.": 90.0,
    "Fast legs.": 80.0,
}


def encode(texts: list[str]) -> np.ndarray:
    angles = np.deg2rad([ANGLES[text] for text in texts])
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def knowledge() -> ClassKnowledge:
    def sentences(*texts: str) -> tuple[Sentence, ...]:
        return tuple(Sentence(text, PERSON) for text in texts)

    return ClassKnowledge(
        "t",
        {
            "walk": (
                *sentences("A person walks.", "Walking legs.", "It strides."),
                Sentence("Rejected words.", PERSON, "rejected", reason="no"),
            ),
            "run": sentences("A person runs.", "Fast legs."),
        },
    )


def cosine(first: float, second: float) -> float:
    return float(np.cos(np.deg2rad(first - second)))


def test_margins_by_hand() -> None:
    scores = score_sentences(knowledge(), encode).sentences
    assert [s.text for s in scores] == list(ANGLES)  # what is rejected is not scored
    run = 85.0  # the mean of 80 and 90 degrees; the mean of 10 and 60 is at 35 degrees, as both have the same length
    assert scores[0].margin == pytest.approx(cosine(0, 35) - cosine(0, run))
    assert scores[2].margin == pytest.approx(cosine(60, 5) - cosine(60, run))
    assert scores[2].problems == ("nearer to another class",) and scores[2].nearest_class == "run"
    walk = np.rad2deg(np.arctan2(*encode(list(ANGLES)[:3]).sum(axis=0)[::-1]))
    assert scores[3].margin == pytest.approx(cosine(90, 80) - cosine(90, walk)) and scores[3].nearest_class == "walk"


def test_near_duplicates_by_hand() -> None:
    scores = score_sentences(knowledge(), encode, duplicate_threshold=cosine(0, 12)).sentences
    assert [s.duplicate_in_class for s in scores] == [
        "Walking legs.",
        "A person walks.",
        None,
        "Fast legs.",
        "A person runs.",
    ]
    scores = score_sentences(knowledge(), encode, duplicate_threshold=cosine(0, 21)).sentences
    assert [s.duplicate_across for s in scores] == [None, None, "run: Fast legs.", None, "walk: It strides."]


def test_length_and_class_name() -> None:
    scores = score_sentences(knowledge(), encode, count_tokens=lambda text: len(text.split()), budget=2)
    assert [s.tokens for s in scores.sentences] == [3, 2, 2, 3, 2]
    assert [s.over_budget for s in scores.sentences] == [True, False, False, True, False]
    assert scores.summary()["problems"]["too long"] == 2
    assert [s.names_class for s in scores.sentences] == [False] * 5
    assert names_class("He will Brush, hair", "BrushHair") and not names_class("A brushed hair", "brush_hair")


def test_training_images_by_hand() -> None:
    # three walkers at 0, 0 and 40 degrees, one runner at 70; the means lie at 23.0 and 85 degrees
    angles = np.deg2rad([0.0, 0.0, 40.0, 70.0])
    images = torch.tensor(np.stack([np.cos(angles), np.sin(angles)], axis=1))
    scores = score_sentences(knowledge(), encode, image_features=images, labels=["walk", "walk", "walk", "run"])
    assert scores.baseline == 1.0
    # "It strides." at 60 in place of walk: the runner at 70 is nearer to it than to 85, the rest stays right
    # "A person walks." at 0: 40 is nearer to 0 than to 85; "Walking legs." likewise
    # "Fast legs." at 80 and "A person runs." at 90 in place of run: 70 is nearer to them than to 23
    assert [s.accuracy for s in scores.sentences] == pytest.approx([1, 1, 1 / 2, 1, 1])
    assert [s.gain for s in scores.sentences] == pytest.approx([0, 0, -1 / 2, 0, 0])


def test_every_sentence_against_a_slow_independent_computation() -> None:
    rng = np.random.default_rng(0)
    texts = [f"sentence number {n}" for n in range(30)]
    table = rng.normal(size=(30, 6)).astype(np.float32)
    table /= np.linalg.norm(table, axis=1, keepdims=True)
    owner = np.sort(rng.integers(0, 4, size=30))
    classes = {f"c{c}": tuple(Sentence(texts[n], PERSON) for n in np.flatnonzero(owner == c)) for c in range(4)}
    images = rng.normal(size=(50, 6))
    images /= np.linalg.norm(images, axis=1, keepdims=True)
    labels = rng.integers(0, 4, size=50)
    scores = score_sentences(
        ClassKnowledge("t", classes),
        lambda batch: torch.tensor(np.stack([table[texts.index(text)] for text in batch])),
        image_features=images,
        labels=[f"c{c}" for c in labels],
    )

    def accuracy(prototypes: list[np.ndarray]) -> float:
        predicted = np.array([int(np.argmax([p @ image / np.linalg.norm(p) for p in prototypes])) for image in images])
        return float(np.mean([np.mean(predicted[labels == c] == c) for c in range(4)]))

    means = [table[owner == c].sum(axis=0) for c in range(4)]
    assert scores.baseline == pytest.approx(accuracy(means))
    for n, found in enumerate(scores.sentences):
        c = int(owner[n])
        own = table[(owner == c) & (np.arange(30) != n)].sum(axis=0)
        others = [means[d] @ table[n] / np.linalg.norm(means[d]) for d in range(4) if d != c]
        assert found.margin == pytest.approx(own @ table[n] / np.linalg.norm(own) - max(others), abs=1e-5)
        assert found.accuracy == pytest.approx(accuracy([table[n] if d == c else means[d] for d in range(4)]))


def test_an_only_sentence_and_an_only_class_have_no_margin() -> None:
    one = ClassKnowledge(
        "t", {"walk": (Sentence("A person walks.", PERSON),), "run": (Sentence("Fast legs.", PERSON),)}
    )
    scores = score_sentences(one, encode).sentences
    assert [s.margin for s in scores] == [None, None] and scores[0].nearest_class == "run"
    scores = score_sentences(one.select(["walk"]), encode).sentences
    assert (scores[0].margin, scores[0].nearest_class, scores[0].problems) == (None, None, ())


def test_page_states_the_missing_review(tmp_path: Path) -> None:
    scores = score_sentences(knowledge(), encode)
    page = scores.report("Scores").save(tmp_path / "s.html").read_text()
    assert "not checked by a specialist" in page and "It strides." in page and "nearer to another class" in page
    assert scores.to_dict()["scores"][2]["problems"] == ["nearer to another class"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encode_text": lambda texts: 2 * encode(texts)}, "text features: must be normalised"),
        ({"encode_text": lambda texts: np.nan * encode(texts)}, "text features: must be normalised"),
        ({"encode_text": lambda texts: encode(texts)[:1]}, r"must have the shape \(5, D\)"),
        ({"duplicate_threshold": 1.5}, "must lie between -1 and 1"),
        ({"labels": ["walk"]}, "image features and labels"),
        (
            {"image_features": np.eye(2), "labels": ["walk", "rnu"]},
            "unknown label of an image 'rnu': did you mean 'run'",
        ),
        ({"image_features": np.eye(3), "labels": ["walk"] * 3}, "are 3 wide, those of the text 2"),
        ({"image_features": np.eye(2), "labels": ["walk"]}, r"image features: must have the shape \(1, D\)"),
    ],
)
def test_wrong_input_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        score_sentences(knowledge(), **{"encode_text": encode, **change})


def test_a_class_with_nothing_but_rejected_sentences_is_refused() -> None:
    rejected = (Sentence("Rejected words.", PERSON, "rejected", reason="no"),)
    with pytest.raises(InputError, match="class 'swim': no sentence is in use"):
        score_sentences(knowledge().with_classes({**knowledge().classes, "swim": rejected}), encode)
