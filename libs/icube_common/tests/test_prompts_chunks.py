"""Prompts in chunks by the memory that they take: when, with the same features, and within 4 GB."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from vlm_encoders import VISION

from icube_common.prompts import PromptLearner, chunks
from icube_common.vlm import FrozenVLM, load_vlm

NAMES = [f"class {number}" for number in range(101)]
WORDS = "the person bends both knees slowly and lifts one arm above the head while the other hand rests on the hip"
KNOWLEDGE = {name: [f"{name}: {WORDS} {way}" for way in ("a", "b", "c", "d")] for name in NAMES}
JOB = """
import json, resource, sys, time
import torch
from icube_common.prompts import PromptLearner
from icube_common.vlm import load_vlm
from test_prompts_chunks import KNOWLEDGE, NAMES
torch.set_num_threads(2)
learner = PromptLearner(load_vlm(sys.argv[1]), NAMES, "descriptions", knowledge=KNOWLEDGE)
images = torch.nn.functional.normalize(torch.randn(64, learner.vlm.embed_dim), dim=-1)
begun = time.monotonic()
torch.nn.functional.cross_entropy(learner.logits(images), torch.arange(64)).backward()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
print(json.dumps({"gigabytes": peak, "seconds": time.monotonic() - begun}))
"""


def write_clip_text_tower(folder: Path) -> Path:
    """The text tower of ViT-B-16 in full size, random weights, beside a small image tower."""
    import open_clip

    config = open_clip.get_model_config("ViT-B-16")
    config["vision_cfg"] = VISION
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    return folder


@pytest.fixture(scope="module")
def tiny() -> FrozenVLM:
    return load_vlm("icube-tiny")


def test_404_sentences_of_a_clip_text_tower_run_in_chunks_by_default(tmp_path: Path) -> None:
    vlm = load_vlm(str(write_clip_text_tower(tmp_path)))
    learner = PromptLearner(vlm, NAMES, "descriptions", knowledge=KNOWLEDGE)
    assert len(learner.ids) == 404
    chunk = learner._chunk(None, 1)
    assert chunk is not None and 16 <= chunk < 202
    few = PromptLearner(vlm, NAMES[:9], "descriptions", knowledge=KNOWLEDGE, max_descriptions=2)
    assert few._chunk(None, 1) is None  # a small set runs whole, as it did
    assert few._chunk(None, 64) == 18  # but not 64 graphs of it, one for each image of conditional prompts
    assert PromptLearner(vlm, NAMES, "descriptions", knowledge=KNOWLEDGE, chunk=404)._chunk(None, 1) is None


@pytest.mark.parametrize("conditional", [False, True])
def test_chunks_by_memory_give_the_same_logits_and_gradients(
    tiny: FrozenVLM, conditional: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = F.normalize(torch.randn(3, tiny.embed_dim, generator=torch.Generator().manual_seed(0)), dim=-1)
    found = []
    for budget in (2**40, 100_000):
        monkeypatch.setattr(chunks, "ACTIVATION_BYTES", budget)
        monkeypatch.setattr(chunks, "CHUNK_BYTES", budget)
        learner = PromptLearner(tiny, NAMES[:6], "descriptions", knowledge=KNOWLEDGE, conditional=conditional)
        logits = learner.logits(images)
        F.cross_entropy(logits, torch.arange(3)).backward()
        with torch.no_grad():
            torch.testing.assert_close(learner.logits(images), logits.detach())
        found.append((logits.detach(), {name: p.grad for name, p in learner.named_parameters() if p.requires_grad}))
    assert learner._chunk(None, 1) is not None
    torch.testing.assert_close(found[0][0], found[1][0])
    for name, gradient in found[0][1].items():
        torch.testing.assert_close(gradient, found[1][1][name], atol=1e-6, rtol=1e-4)


def test_saved_tensors_are_counted_once() -> None:
    weight = torch.ones(4, 4)
    x = torch.ones(8, 4, requires_grad=True)

    def run() -> torch.Tensor:
        y = (x @ weight).exp()  # the product's input and the exponential's result, not the weight
        return y * y

    assert chunks.saved_bytes(run, [weight]) == 8 * 4 * 4
    assert chunks.chunk_size(10, 1, 1) is None and chunks.chunk_size(10**12, 1, 2**27) == 2


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("ICUBE_SLOW"), reason="a minute; set ICUBE_SLOW=1")
def test_a_step_on_404_sentences_fits_4_gigabytes(tmp_path: Path) -> None:
    here = Path(__file__).parent
    code = f"import sys; sys.path.insert(0, {str(here)!r})\n{JOB}"
    folder = write_clip_text_tower(tmp_path)
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1])["gigabytes"] < 4
