"""R-precision and MM-distance: by hand, on a matching that can be learned, and in an evaluation of a run with text."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from icube_common.errors import InputError
from motiondiff.cli import main
from motiondiff.config import ClassifierConfig, EvaluateOptions
from motiondiff.data.captions import Captions, EmbeddedCaptions
from motiondiff.data.clips import ClipSet
from motiondiff.data.store import MotionStore
from motiondiff.evaluation.runner import evaluate
from motiondiff.evaluation.text_to_motion.matching import contrastive_loss, fit_matcher, rank_own
from motiondiff.evaluation.text_to_motion.metrics import MEANING, meanings_of, sample_pools

TINY = ClassifierConfig(steps=3, frames=8, batch_size=8)
OPTIONS = EvaluateOptions(seeds=2, per_action=2, steps=2, classifier=TINY)


def test_contrastive_loss_by_hand() -> None:
    motions = torch.tensor([[0.0, 0.0], [3.0, 4.0]])
    texts = torch.tensor([[0.0, 1.0], [3.0, 4.0]])
    # own pairs: 1 and 0; motion 0 to text 1: 5, short of 10 by 5; motion 1 to text 0: sqrt(18)
    shortfall = (25 + (10 - math.sqrt(18)) ** 2) / 2
    different = torch.eye(2, dtype=torch.bool)
    assert contrastive_loss(motions, texts, different).item() == pytest.approx(0.5 + shortfall, rel=1e-4)
    # pairs that mean the same are not pushed apart
    assert contrastive_loss(motions, texts, torch.ones(2, 2, dtype=torch.bool)).item() == pytest.approx(0.5)
    assert contrastive_loss(motions, texts, different, margin=4).item() == pytest.approx(0.5, rel=1e-4)


def test_rank_by_hand() -> None:
    texts = np.array([[0.0], [1.0], [5.0], [2.0]])
    motions = np.array([[0.2], [4.0], [2.0]])
    pools = np.array([[0, 1, 2], [1, 2, 3], [3, 0, 1]])
    assert rank_own(motions, texts, pools).tolist() == [0, 2, 0]
    # a tie is no success
    assert rank_own(np.zeros((1, 1)), np.zeros((3, 1)), np.array([[0, 1, 2]])).tolist() == [2]


def test_pools_hold_different_meanings_and_their_own_first() -> None:
    meanings = np.array([4, 4, 7, 7, 9, 11])
    pools = sample_pools(meanings, 3, np.random.default_rng(0))
    assert pools.shape == (6, 3) and pools[:, 0].tolist() == list(range(6))
    for pool in pools:
        assert len(set(meanings[pool].tolist())) == 3
    assert len({tuple(sample_pools(meanings, 3, np.random.default_rng(seed))[0]) for seed in range(20)}) > 3


def test_meaning_is_the_action_or_the_clip(store: MotionStore) -> None:
    rows = np.arange(4)
    assert meanings_of(store, rows).tolist() == store.columns["action"][:4].tolist()
    described = MotionStore(store.path)
    described.__dict__["texts"] = [("somebody strides",)] + [()] * (len(store) - 1)
    assert meanings_of(described, rows).tolist()[0] == len(store.actions)


@pytest.fixture(scope="module")
def clips(store: MotionStore) -> ClipSet:
    return ClipSet.from_store(store)


def captions_like_labels(clips: ClipSet) -> EmbeddedCaptions:
    """One caption for each class, all orthogonal."""
    count = len(clips.class_names)
    captions = Captions(tuple(clips.class_names), tuple(np.array([label]) for label in clips.labels))
    return EmbeddedCaptions(captions, np.eye(count, dtype=np.float32))


def test_a_matching_is_learned_and_the_same_again(clips: ClipSet) -> None:
    captions = captions_like_labels(clips)
    config = ClassifierConfig(steps=150, frames=16, batch_size=16)
    matchers = [fit_matcher(clips, range(len(clips)), clips.labels, captions, config, seed=1) for _ in range(2)]
    texts = matchers[0].texts(captions.embeddings[clips.labels])
    motions = matchers[0].motions(clips)
    np.testing.assert_array_equal(motions, matchers[1].motions(clips))
    place = rank_own(motions, texts, sample_pools(clips.labels, 5, np.random.default_rng(0)))
    assert (place == 0).mean() > 0.8
    # of wrong captions it says so: each clip with another class's
    wrong = matchers[0].texts(captions.embeddings[(clips.labels + 1) % 5])
    assert np.linalg.norm(motions - wrong, axis=1).mean() > 2 * np.linalg.norm(motions - texts, axis=1).mean()


def test_unmatchable_clips(clips: ClipSet) -> None:
    captions, rows = captions_like_labels(clips), range(len(clips))
    with pytest.raises(InputError, match="all training clips mean the same"):
        fit_matcher(clips, rows, np.zeros(len(clips), dtype=np.int64), captions, TINY)
    silent = EmbeddedCaptions(
        Captions(captions.captions.texts, tuple(np.array([], dtype=np.int64) for _ in clips.labels)),
        captions.embeddings,
    )
    with pytest.raises(InputError, match="clip number 0 has no caption"):
        fit_matcher(clips, rows, clips.labels, silent, TINY)


def test_an_evaluation_of_a_run_with_text(
    text_run_path: Path, store_path: Path, store: MotionStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = evaluate(text_run_path, store_path, tmp_path / "out", OPTIONS)
    text = result["text"]
    assert set(MEANING) == set(text["real"]) <= set(text)
    for name in MEANING:
        assert math.isfinite(text[name]["mean"]) and len(text[name]["ci95"]) == 2
    shares = [text[f"r_precision_top{k}"]["mean"] for k in (1, 2, 3)]
    assert shares == sorted(shares) and shares[0] >= 0 and shares[2] <= 1
    held_out = store.select("test")
    assert text["captions"] == len(held_out) and text["pool"] == len(set(store.columns["action"][held_out].tolist()))
    assert text["chance"]["r_precision_top1"] == 1 / text["pool"] and text["mm_distance"]["mean"] > 0
    assert text["encoder"]["encoder"] == "icube-tiny"
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["text"] == text
    page = (tmp_path / "out" / "report.html").read_text()
    assert "r_precision_top1" in page and "captions alone" in page
    words = (
        f"evaluate {text_run_path} --data {store_path} --out {tmp_path / 'again'} --seeds 2 --per-action 2 --steps 2"
    )
    assert (
        main([*words.split(), "--quiet", "classifier.steps=3", "classifier.frames=8", "classifier.batch_size=8"]) == 0
    )
    out = capsys.readouterr().out
    assert "from captions alone, 5 captions to choose from:" in out and "mm_distance" in out
    again = json.loads((tmp_path / "again" / "metrics.json").read_text())["text"]
    assert again == text


def test_a_run_without_text_has_no_text_figures(run_path: Path, store_path: Path, tmp_path: Path) -> None:
    assert "text" not in evaluate(run_path, store_path, tmp_path / "out", OPTIONS)
