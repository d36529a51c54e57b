"""Captions: verb forms, what a store gives, draws that vary and stay what they are, and the held-out paraphrases."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from icube_common.errors import InputError
from motiondiff.config import ClassifierConfig
from motiondiff.data.labels.captions import (
    Captions,
    EmbeddedCaptions,
    action_captions,
    gerund,
    load_phrases,
    normalise_text,
    store_captions,
    third_person,
)
from motiondiff.data.labels.label_map import load_builtin_map
from motiondiff.data.store import MotionStore
from motiondiff.pipelines.sampling import SampleOptions

ROOT = Path(__file__).resolve().parents[4]
SMALL_WORDS = re.compile(
    "after|along|and|back|both|for|from|into|lying|one|oneself|onto|out|over|someone|person|something|the|through|with|"
    "long|heavy|hard|against|closer|overhead|arms|round|shows|book|wall|water|taking|getting"
)
"""Words of held-out paraphrases that say nothing of the action, so that captions may use them."""


@pytest.fixture(scope="module")
def paraphrases() -> Any:
    spec = importlib.util.spec_from_file_location("paraphrases", ROOT / "benchmarks" / "motiondiff_paraphrases.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("verb", "third", "ing"),
    [
        ("sit", "sits", "sitting"),
        ("wave", "waves", "waving"),
        ("push", "pushes", "pushing"),
        ("carry", "carries", "carrying"),
        ("go", "goes", "going"),
        ("lie", "lies", "lying"),
        ("throw", "throws", "throwing"),
        ("box", "boxes", "boxing"),
        ("eat", "eats", "eating"),
        ("squat", "squats", "squatting"),
        ("play", "plays", "playing"),
        ("have", "has", "having"),
        ("clap", "claps", "clapping"),
        ("open", "opens", "opening"),
    ],
)
def test_verb_forms(verb: str, third: str, ing: str) -> None:
    assert third_person(verb) == third and gerund(verb) == ing


def test_captions_of_an_action() -> None:
    texts = action_captions("pick up")
    assert texts[0] == "pick up something" and len(texts) == len(set(texts)) >= 50
    assert "someone bends down and grabs an object" in texts and "crouching to lift an object" in texts
    assert not any("&" in text or "{" in text for text in texts)
    assert "a man puts the palms together again and again" in action_captions("clap hands")
    assert action_captions("Clap_Hands") == action_captions("clap hands")
    # a label that is in no book is all that is known
    assert action_captions("wave-left-hand")[:2] == ("wave left hand", "a person doing: wave left hand")


def test_every_daily_action_has_phrases() -> None:
    for action in load_builtin_map("residential")["vocabulary"]:
        assert len(action_captions(action)) >= 8, action


def test_no_two_actions_of_a_set_share_a_caption() -> None:
    for action in ("carry", "clap hands", "pick up", "pull", "push", "sit down", "stand up", "throw", "walk"):
        others = set(action_captions("wave hands"))
        assert not others & set(action_captions(action))


def test_held_out_paraphrases_never_occur_in_training(paraphrases: Any) -> None:
    """Neither they nor any of their telling words, in any form, in the captions of any action."""
    captions = [text for action in load_phrases() for text in action_captions(action)]
    everything = Captions(tuple(captions), ())
    paraphrases.check_unseen(paraphrases.HELD_OUT, everything)
    words = {word for text in captions for word in re.findall(r"[a-z]+", text.lower())}
    for action, texts in paraphrases.HELD_OUT.items():
        assert len(texts) >= 4, action
        for text in texts:
            telling = [word for word in re.findall(r"[a-z]{3,}", text.lower()) if not SMALL_WORDS.fullmatch(word)]
            assert telling, text
            for word in telling:
                stem = re.sub(r"(ing|es|s|ed)$", "", word)
                assert not {stem, word, f"{stem}e", f"{stem}s", f"{stem}ing"} & words, (text, word)


def test_a_paraphrase_that_training_has_seen_ends_the_benchmark(paraphrases: Any) -> None:
    with pytest.raises(InputError, match="'strolling' occurs in the training caption 'a man is Strolling'"):
        paraphrases.check_unseen({"walk": ("strolling",)}, Captions(("walk", "a man is Strolling"), ()))


def with_texts(store: Path, target: Path, texts: list[list[str]]) -> MotionStore:
    shutil.copytree(store, target)
    (target / "texts.json").write_text(json.dumps(texts))
    return MotionStore(target)


def test_captions_of_a_store(store: MotionStore, store_path: Path, tmp_path: Path) -> None:
    made = store_captions(store)
    assert len(made.clip_indices) == len(store)
    for action, numbers in zip(store.columns["action"], made.clip_indices, strict=True):
        assert {made.texts[number] for number in numbers} == set(action_captions(store.actions[action]))
    own = [["  somebody\n strides  ", "somebody strides", "..."] if clip == 0 else [] for clip in range(len(store))]
    written = with_texts(store_path, tmp_path / "texts", own)
    found = store_captions(written)
    assert [found.texts[number] for number in found.clip_indices[0]] == ["somebody strides"]
    assert len(found.clip_indices[1]) > 5
    both = store_captions(written, labels=True)
    assert len(both.clip_indices[0]) == 1 + len(action_captions(store.actions[store.columns["action"][0]]))


def test_store_without_captions_is_refused(store_path: Path, tmp_path: Path) -> None:
    silent = with_texts(store_path, tmp_path / "silent", [[] for _ in range(40)])
    silent.columns["action"][:] = -1
    with pytest.raises(InputError, match="no clip has a text or an action"):
        store_captions(silent)


@pytest.mark.parametrize(
    ("text", "words"),
    [*((text, "empty; describe") for text in ("", " \n", "?!")), ("sit\x00down", "control characters")],
)
def test_texts_that_are_none(text: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        normalise_text(text, "text")


def test_clean_text() -> None:
    assert normalise_text("  a person\tsits \n down ", "text") == "a person sits down"
    assert normalise_text("il s'assied à côté", "text") == "il s'assied à côté"


def embedded(**changes: Any) -> EmbeddedCaptions:
    captions = Captions(("a", "b", "c"), (np.array([0, 1]), np.array([], dtype=np.int64), np.array([2])))
    return EmbeddedCaptions(captions, np.eye(3, 4, dtype=np.float32), **changes)


def test_draws() -> None:
    plain = embedded()
    assert plain.size == 4 and plain.sample(1, np.random.default_rng(0)) is None and plain.sample(1, None) is None
    np.testing.assert_array_equal(plain.sample(0, None), [1, 0, 0, 0])
    seen = {tuple(plain.sample(0, np.random.default_rng(seed)).tolist()) for seed in range(20)}  # type: ignore[union-attr]
    assert seen == {(1, 0, 0, 0), (0, 1, 0, 0)}
    blended = embedded(blend=1.0).sample(0, np.random.default_rng(1))
    assert blended is not None and blended[2:].tolist() == [0, 0]
    varied = embedded(noise=0.5, blend=0.5)
    first, again, other = (varied.sample(0, np.random.default_rng(seed)) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)  # type: ignore[arg-type]
    for vector in (blended, first, other):
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-6)  # type: ignore[arg-type]
    # in the mean the noise is as long as it says: the cosine to the caption is 1 / sqrt(1 + noise^2)
    noisy = embedded(noise=1.0)
    cosines = [noisy.sample(2, np.random.default_rng(seed))[2] for seed in range(500)]  # type: ignore[index]
    assert 0.6 < float(np.mean(cosines)) < 0.85


def test_mean_of_actions() -> None:
    means = embedded().action_means(np.array([0, 0, 2]), 3, np.array([0, 1, 2]))
    np.testing.assert_allclose(means, [[2**-0.5, 2**-0.5, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0]], atol=1e-6)
    # clips that are not for training do not count
    np.testing.assert_allclose(embedded().action_means(np.array([0, 0, 2]), 3, np.array([0]))[2], 0)


def test_the_benchmark(
    paraphrases: Any, text_run_path: Path, run_path: Path, store_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paraphrases, "ClassifierConfig", lambda: ClassifierConfig(steps=3, frames=8))
    table = paraphrases.run(str(store_path), str(text_run_path), SampleOptions(count=4, steps=2))
    assert set(table["actions"]) == {"walk", "pick up", "sit down"} and set(table["actions"]["walk"]["each"]) == set(
        paraphrases.HELD_OUT["walk"]
    )
    assert table["chance"] == 1 / 5 and table["over_chance"] == pytest.approx(5 * table["paraphrases"])
    assert table["targets"]["over_chance"] == (table["over_chance"] >= 3)
    for name in ("class_name", "paraphrases", "by_action", "nearest_caption", "real_test_clips"):
        assert 0 <= table[name] <= 1
    with pytest.raises(InputError, match="takes no text"):
        paraphrases.run(str(store_path), str(run_path), SampleOptions(count=4, steps=2))
