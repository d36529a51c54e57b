"""Zero-shot recognition: planted solutions, protocols, warnings, wrong input."""

from __future__ import annotations

import csv
import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from vlm_encoders import write_small

import actprompt.data.video.pixels as pixels_module
from actprompt.cli import main
from actprompt.config import VideoConfig, ZeroShotConfig
from actprompt.data.extract import video_features
from actprompt.data.feature_store import FeatureFolder, FeatureRecord
from actprompt.data.frame_sampling import Sampling
from actprompt.data.manifest import Manifest
from actprompt.data.prepare import prepare
from actprompt.data.video import read_clip
from actprompt.evaluation.zero_shot import class_prompts, evaluate_zero_shot, predict
from icube_common.errors import InputError
from icube_common.evaluation import Predictions
from icube_common.io.runs import read_json
from icube_common.prompts import PromptConfig
from icube_common.vlm import FrozenVLM, VLMConfig, load_vlm

MakeVideo = Callable[..., Path]

CLASSES = ("Drink", "SitDown", "Wave")
SAMPLING = Sampling(frames=2)
KNOWLEDGE = """
title: three actions
language: en
reviewer: none (draft, not checked by a specialist)
sources: {words: {kind: person, person: a test}}
classes:
  Wave:
    - {text: a person waves a hand slowly, status: accepted, source: words}
    - {text: the hand of a person, status: accepted, source: words}
  SitDown:
    - {text: two people sitting down, status: accepted, source: words}
  Drink:
    - {text: a person drinks from the bottle, status: accepted, source: words}
"""


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    yield
    for name in ("icube_common", "actprompt"):
        # the handler that a command made holds this test's stderr
        logging.getLogger(name).handlers[:] = [logging.NullHandler()]


@pytest.fixture
def data(make_video: MakeVideo, tmp_path: Path) -> Path:
    """Four videos of each class by two subjects, each class of another grey; two of four in the test part."""
    lines = ["path,label,subject,split"]
    for number, label in enumerate(CLASSES):
        for take in range(4):
            name = f"{label}{take}.avi"
            make_video(tmp_path / name, 3 + take, level=lambda index, number=number: 40 + 80 * number + index)
            lines.append(f"{name},{label},s{take % 2},{'train' if take < 2 else 'test'}")
    (tmp_path / "videos.csv").write_text("\n".join(lines) + "\n")
    prepare("csv", tmp_path / "videos.csv", tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def knowledge(tmp_path: Path) -> Path:
    path = tmp_path / "knowledge.yaml"
    path.write_text(KNOWLEDGE)
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder as open_clip writes them: a small CLIP with weights."""
    folder = write_small(tmp_path / "model", "ViT-B-32")
    save_weights(load_vlm(str(folder), seed=3), folder)
    return folder


def save_weights(vlm: FrozenVLM, folder: Path) -> None:
    state = {name: value.contiguous() for name, value in vlm.model.state_dict().items()}
    save_file(state, folder / "open_clip_model.safetensors")


def config(name: str | Path = "icube-tiny", **prompt: Any) -> ZeroShotConfig:
    return ZeroShotConfig(vlm=VLMConfig(name=str(name)), prompt=PromptConfig(**prompt), video=VideoConfig(frames=2))


def test_features_that_are_those_of_the_prompts_give_everything(data: Path, tmp_path: Path, model: Path) -> None:
    manifest, vlm = Manifest.load(data), load_vlm(str(model))
    assert vlm.weights_warning == ""
    texts = {"Wave": "a photo of a wave.", "SitDown": "a photo of a sit down.", "Drink": "a photo of a drink."}
    folder = FeatureFolder(tmp_path / "features", vlm=vlm, sampling=SAMPLING)
    with folder.job(manifest, "planted") as record:
        for number, clip in enumerate(manifest.clips):
            key = f"{number:064x}"
            # every fourth clip is given the feature of the next class
            label = CLASSES[(CLASSES.index(clip.label) + (number % 4 == 0)) % 3]
            feature = vlm.encode_text(texts[label])
            folder.cache.put(key, {"features": feature.expand(1, 2, -1)})
            status = manifest.video(clip).stat()
            record.add(FeatureRecord(clip.id, clip.path, key, status.st_size, status.st_mtime_ns, 1))
    result = evaluate_zero_shot(data, tmp_path / "eval", config(model), features=tmp_path / "features").to_dict()
    assert result["top1"]["mean"] == pytest.approx(9 / 12)
    # three classes of four clips, one wrong in each
    assert result["macro_f1"]["mean"] == pytest.approx(0.75)
    assert result["top1"]["groups"] == 2
    predictions = Predictions.read_csv(tmp_path / "eval" / "predictions.csv")
    wrong = {
        name for name, a, b in zip(predictions.ids, predictions.labels, predictions.predicted, strict=True) if a != b
    }
    assert wrong == {clip.id for number, clip in enumerate(manifest.clips) if number % 4 == 0}
    test = evaluate_zero_shot(
        data, tmp_path / "test", config(model), features=tmp_path / "features", protocol="given"
    ).to_dict()
    assert test["clips"] == 6 and test["top1"]["mean"] == 1.0
    assert test["mean_class_accuracy"]["mean"] == 1.0
    assert result["warnings"] == ["top5 has no meaning with 3 classes"]


def test_weights_that_solve_the_task_solve_it_from_the_videos(data: Path, tmp_path: Path, model: Path) -> None:
    """A text projection under which each class prompt has a cosine with its own class's training videos alone."""
    manifest, vlm = Manifest.load(data), load_vlm(str(model))
    train = [clip for clip in manifest.clips if clip.splits["split"] == "train"]
    found = video_features(manifest, train, vlm, SAMPLING)
    means = {label: torch.stack([found[c.id].mean((0, 1)) for c in train if c.label == label]) for label in CLASSES}
    wanted = torch.stack([means[label].mean(0) for label in CLASSES])
    inner: Any = vlm.model
    inner.text_projection = None
    before = inner.encode_text(vlm.tokenize([f"a photo of a {manifest.class_texts[c]}." for c in CLASSES]))
    solution = torch.linalg.lstsq(before, torch.linalg.pinv(wanted).T).solution
    assert solution.shape == (64, 24)
    inner.text_projection = torch.nn.Parameter(solution)
    save_weights(vlm, model)
    result = evaluate_zero_shot(data, tmp_path / "eval", config(model), protocol="given").to_dict()
    assert result["top1"]["mean"] == 1.0 and result["clips"] == 6
    description = read_json(tmp_path / "eval" / "environment.json")
    assert description["backbone"]["image_trained"] and description["data_fingerprint"] == manifest.fingerprint
    other = evaluate_zero_shot(
        data,
        tmp_path / "file",
        ZeroShotConfig(
            vlm=VLMConfig(name=str(model), seed=8), prompt=PromptConfig(), video=VideoConfig(frames=2, views=2)
        ),
    ).to_dict()
    assert other["top1"]["mean"] == 1.0 and other["clips"] == 12


def test_a_named_architecture_with_a_weight_file(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The way of a real tag: an open_clip name, and its weights from a file."""
    name = "ViT-S-32-alt"  # the smallest text tower that open_clip knows by name
    file = tmp_path / "weights.safetensors"
    random = load_vlm(name, seed=5)
    save_file({k: v.contiguous() for k, v in random.model.state_dict().items()}, file)
    words = ["zeroshot", "--data", str(data), "--out", str(tmp_path / "eval"), f"vlm.name={name}"]
    assert main([*words, f"vlm.pretrained={file}"]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert str(file) in line and "vlm.weights_of=TAG" in line and "open_clip_config.json" in line
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": open_clip.get_model_config(name)}))
    settings = ZeroShotConfig(vlm=VLMConfig(name=name, pretrained=str(file)), video=VideoConfig(frames=1))
    result = evaluate_zero_shot(data, tmp_path / "eval", settings, protocol="given").to_dict()
    assert result["backbone"] == f"{name} ({file})" and result["warnings"] == ["top5 has no meaning with 3 classes"]
    manifest = Manifest.load(data)
    clip = manifest.clips[2]
    feature = video_features(manifest, [clip], random, Sampling(frames=1))[clip.id]
    texts = random.encode_text([f"a photo of a {manifest.class_texts[label]}." for label in CLASSES])
    want = (random.logit_scale * F.normalize(feature[0, 0], dim=-1) @ texts.T).softmax(-1)
    predictions = Predictions.read_csv(tmp_path / "eval" / "predictions.csv")
    found = predictions.probabilities[list(predictions.ids).index(clip.id)]
    np.testing.assert_allclose(found, want.numpy(), atol=1e-4)


def test_logits_are_means_over_views_of_cosines_with_means_over_frames(data: Path) -> None:
    manifest, vlm = Manifest.load(data), load_vlm("icube-tiny")
    sentences = {"drink": ["a bottle"], "sit down": ["two people sit"], "wave": ["a person waves", "a hand"]}
    learner = class_prompts(manifest, vlm, PromptConfig(init="descriptions"), sentences)
    generator = torch.Generator().manual_seed(0)
    clips = [F.normalize(torch.randn(2, 3, 64, generator=generator), dim=-1) for _ in range(2)]
    texts = [vlm.encode_text(sentences[name]) for name in sentences]
    for row, clip in zip(predict(learner, clips), clips, strict=True):
        by_view = []
        for view in clip:
            video = F.normalize(view.mean(0), dim=0)
            by_view.append(torch.stack([(vlm.logit_scale * (found @ video)).mean() for found in texts]))
        np.testing.assert_allclose(row, torch.stack(by_view).mean(0).softmax(0).numpy(), atol=1e-5)
        assert row.sum() == pytest.approx(1)


def figures(result: dict[str, Any]) -> dict[str, Any]:
    """Those entries of a result that are metrics."""
    return {name: found for name, found in result.items() if isinstance(found, dict) and "ci95" in found}


def test_written_files(data: Path, tmp_path: Path, knowledge: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["zeroshot", "--data", data, "--out", tmp_path / "eval", "--features", tmp_path / "f", "--json"]
    words += ["--knowledge", knowledge, "vlm.name=icube-tiny", "video.frames=2", "prompt.init=descriptions"]
    assert main([str(word) for word in words]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["clips"] == 12 and result["subjects"] == 2 and result["prompts"] == "descriptions"
    metrics = read_json(tmp_path / "eval" / "metrics.json")
    assert metrics == result and list(metrics)[:3] == ["top1", "mean_class_accuracy", "macro_f1"]
    assert set(metrics["top1"]) >= {"mean", "ci95", "groups", "method"} and len(metrics["top1"]["ci95"]) == 2
    with (tmp_path / "eval" / "predictions.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert list(rows[0])[:6] == ["id", "subject", "repeat", "fold", "label", "predicted"]
    assert [name for name in rows[0] if name.startswith("p_")] == [
        f"p_{label}" for label in Manifest.load(data).class_names
    ]
    page = (tmp_path / "eval" / "report.html").read_text()
    for text in (
        "untrained backbone",
        "not checked by a specialist",
        "two people sitting down",
        "a person waves a hand",
    ):
        assert text in page, text
    assert any("untrained backbone" in note for note in result["warnings"])
    assert any("not checked by a specialist" in note for note in result["warnings"])
    environment = read_json(tmp_path / "eval" / "environment.json")
    assert environment["knowledge"]["classes"] == 3 and environment["warnings"] == result["warnings"]
    assert "init: descriptions" in (tmp_path / "eval" / "config.yaml").read_text()


def test_features_in_a_folder_are_not_computed_again(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[str] = []

    def counting(path: Path, *args: Any, **options: Any) -> Any:
        decoded.append(path.name)
        return read_clip(path, *args, **options)

    monkeypatch.setattr(pixels_module, "read_clip", counting)
    first = evaluate_zero_shot(data, tmp_path / "1", config(), features=tmp_path / "f", protocol="given").to_dict()
    assert len(decoded) == 6
    again = evaluate_zero_shot(data, tmp_path / "2", config(), features=tmp_path / "f", protocol="given").to_dict()
    assert len(decoded) == 6 and figures(again) == figures(first)
    without = evaluate_zero_shot(data, tmp_path / "3", config(), protocol="given").to_dict()
    assert figures(without) == figures(first)
    tables = [(tmp_path / name / "predictions.csv").read_bytes() for name in ("1", "2", "3")]
    assert tables[0] == tables[1] == tables[2]
    # where each group is left out in turn, every clip is a test clip
    assert evaluate_zero_shot(data, tmp_path / "4", config(), protocol="leave-one-subject-out").to_dict()["clips"] == 12


def test_wrong_input(data: Path, tmp_path: Path, knowledge: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def refused(message: str, settings: ZeroShotConfig, **options: Any) -> None:
        with pytest.raises(InputError, match=message):
            evaluate_zero_shot(data, tmp_path / "eval", settings, **options)

    refused("class knowledge: none comes with the library for the format", config(init="descriptions"))
    refused("random: has no meaning before training; zero-shot takes template or descriptions", config(init="random"))
    refused("conditional=true: its network has no meaning", config(conditional=True))
    refused("unknown protocol 'givn': did you mean 'given'", config(), protocol="givn")
    refused("video.mode=random", ZeroShotConfig(video=VideoConfig(mode="random")))
    knowledge.write_text(KNOWLEDGE.replace("  Drink:", "  Eat:"))
    refused("class 'Drink'", config(init="descriptions"), knowledge=knowledge)
    refused("none.yaml", config(init="descriptions"), knowledge=tmp_path / "none.yaml")
    assert not (tmp_path / "eval").exists()
    (tmp_path / "eval").mkdir()
    (tmp_path / "eval" / "mine.txt").touch()
    refused("exists already", config())
    words = ["zeroshot", "--data", str(data), "--out", str(tmp_path / "eval"), "vlm.name=icube-tiny"]
    assert main(words) == 2
    assert "exists already (--overwrite replaces it)" in capsys.readouterr().err
    (Manifest.load(data).video(Manifest.load(data).clips[1])).unlink()
    assert main([*words, "--overwrite"]) == 2
    assert "no such file: prepare the set again" in capsys.readouterr().err
    assert (tmp_path / "eval" / "mine.txt").exists()


def test_unused_knowledge_gives_a_warning(data: Path, tmp_path: Path, knowledge: Path) -> None:
    result = evaluate_zero_shot(data, tmp_path / "eval", config(), knowledge=knowledge).to_dict()
    assert f"{knowledge}: not used, as prompt.init=template" in result["warnings"]
    assert read_json(tmp_path / "eval" / "environment.json")["knowledge"] is None


@pytest.mark.real_data
def test_real_clips(florence3d: Path, tmp_path: Path) -> None:
    prepare("florence3d", florence3d, tmp_path / "data")
    settings = ZeroShotConfig(vlm=VLMConfig(name="icube-tiny"), video=VideoConfig(frames=1))
    result = evaluate_zero_shot(
        tmp_path / "data", tmp_path / "eval", settings, protocol="leave-one-actor-out"
    ).to_dict()
    assert (result["clips"], result["subjects"], result["classes"]) == (129, 6, 9)
    assert list(figures(result)) == ["top1", "top5", "mean_class_accuracy", "macro_f1"]
    # random weights name nothing: about one in nine
    assert result["top1"]["mean"] < 0.35 and result["top1"]["groups"] == 6
    assert any("untrained backbone" in note for note in result["warnings"])
