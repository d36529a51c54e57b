"""A user's own encoder of frames or clips: features, training, evaluation, prediction, refusals."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from act_world import FRAMES, settings, write_knowledge, write_set
from torch import Tensor, nn
from user_encoders import ClipNet, SmallNet, VolumeNet

import actprompt
from actprompt import ActionModel, ActionPipeline, VideoDataset, evaluate, evaluate_run, evaluate_zero_shot, train
from actprompt.cli import main
from actprompt.config import ZeroShotConfig
from actprompt.data.extract import video_features
from icube_common.errors import InputError
from icube_common.vlm import VLMConfig

UNTRAINED = "untrained encoder: random weights of seed 0"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoders")
    write_set(folder / "data", takes=1)
    write_knowledge(folder / "knowledge.yaml")
    return folder


def config(place: Path, encoder: str | None = None, **sections: Any) -> actprompt.ActConfig:
    made = settings(knowledge=str(place / "knowledge.yaml"), skeleton={"enabled": False}, **sections)
    return replace(made, vlm=VLMConfig(name="icube-tiny", encoder=encoder))


@pytest.mark.parametrize(("encoder", "width", "rows"), [(SmallNet, 5, FRAMES), (ClipNet, 7, 1)])
def test_an_encoder_is_trained_with_saved_and_used(
    place: Path, tmp_path: Path, encoder: Any, width: int, rows: int
) -> None:
    data, chosen = VideoDataset(place / "data"), config(place)
    model = ActionModel.for_dataset(data, chosen, encoder=encoder)
    result = train(model, data, out=tmp_path / "RUN", exclude_subjects=["p3"])
    assert any(UNTRAINED in warning for warning in result.warnings)
    name = encoder.__name__
    assert f"{name} ({UNTRAINED})" in (tmp_path / "RUN" / "report.html").read_text()
    # features are cached like those of a tower, under the encoder's own fingerprint
    assert model.vlm.encoder is not None
    (folder,) = (place / "data" / "features").glob(f"{model.vlm.encoder.fingerprint[:12]}-*")
    assert len(list(folder.glob("*/*.safetensors"))) == 12
    features = video_features(data.manifest, data.manifest.clips[:1], model.vlm, chosen.video.sampling, folder=folder)
    assert next(iter(features.values())).shape == (1, rows, width)

    video = place / "data" / "videos" / "p3-wave-0.avi"
    loaded = ActionPipeline.from_pretrained(tmp_path / "RUN", encoder=encoder)
    found, mine = loaded(video), ActionPipeline(model)(video)
    np.testing.assert_array_equal(found.probabilities, mine.probabilities)
    assert any(UNTRAINED in warning for warning in found.warnings)
    # without features of single frames none of them has an importance of its own
    importance = [row["importance"] for row in found.reasons["frames"]]
    assert all(value is None for value in importance) == (rows == 1)
    found.save_html(tmp_path / "why.html")
    with pytest.raises(InputError, match=f"was trained with the encoder {name}; load it with encoder={name}"):
        ActionPipeline.from_pretrained(tmp_path / "RUN")
    with pytest.raises(InputError, match="the prompts were learned on"):
        ActionPipeline.from_pretrained(tmp_path / "RUN", encoder=VolumeNet)

    judged = evaluate_run(tmp_path / "RUN", data, tmp_path / "EVAL", encoder=encoder, subjects=["p3"])
    assert len(judged.predictions) == 4
    assert actprompt.predict(tmp_path / "RUN", video, encoder=encoder).label == found.label


class Shade(nn.Module):
    """Mean colour of each third of a clip: enough for shapes of one colour a class."""

    kind, image_size, trained_on = "clip", 32, "no training (mean colours)"

    def forward(self, pixels: Tensor) -> Tensor:
        parts = pixels.mean((3, 4)).chunk(3, dim=1)
        return torch.cat([part.mean(1) for part in parts], dim=1)


def test_an_encoder_in_each_fold(place: Path) -> None:
    """Colours that separate the classes recognise them in clips of other people; by chance 0.25."""
    result = evaluate(place / "data", config(place), encoder=Shade)
    assert result.metrics["top1"].mean > 0.9 and "no training (mean colours)" in str(result.facts["backbone"])
    again = evaluate(place / "data", config(place), encoder=Shade())
    np.testing.assert_array_equal(again.predictions.probabilities, result.predictions.probabilities)


def test_evaluations_of_other_encoders_are_not_mixed(place: Path, tmp_path: Path) -> None:
    evaluate(place / "data", config(place), tmp_path / "EVAL", encoder=Shade, protocol="cross-subject")
    with pytest.raises(InputError, match="holds an evaluation of other settings"):
        evaluate(place / "data", config(place), tmp_path / "EVAL", encoder=SmallNet, protocol="cross-subject")


@pytest.fixture
def quiet() -> Iterator[None]:
    import logging

    yield
    for name in ("icube_common", "actprompt"):
        logging.getLogger(name).handlers[:] = [logging.NullHandler()]


def run(*words: object) -> int:
    return main([str(word) for word in words])


def test_the_commands(place: Path, tmp_path: Path, quiet: None, capsys: pytest.CaptureFixture[str]) -> None:
    weights = tmp_path / "clip.pth"
    torch.save(ClipNet().state_dict(), weights)
    keys = ["vlm.name=icube-tiny", "vlm.encoder=user_encoders:ClipNet", f"vlm.encoder_weights={weights}"]
    keys += [f"video.frames={FRAMES}"]
    data, folder, out = place / "data", tmp_path / "features", tmp_path / "run"
    assert run("extract", "--data", data, "--out", folder, "--json", *keys) == 0
    extracted = json.loads(capsys.readouterr().out)
    assert extracted["shape"] == [1, 1, 7] and str(weights) in extracted["backbone"]
    train_keys = ["skeleton.enabled=false", "train.max_steps=2", f"knowledge={place / 'knowledge.yaml'}"]
    arguments = ["--data", data, "--out", out, "--features", folder, "--exclude-subjects", "p3"]
    assert run("train", *arguments, *keys, *train_keys) == 0
    capsys.readouterr()
    assert run("predict", out, data / "videos" / "p3-bow-0.avi", "--json") == 0
    predicted = json.loads(capsys.readouterr().out)
    assert "untrained" not in predicted["backbone"].partition(",")[0]
    assert run("evaluate", out, "--data", data, "--out", tmp_path / "eval", "--subjects", "p3") == 0
    capsys.readouterr()
    assert run("zeroshot", "--data", data, "--out", tmp_path / "zero", *keys) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("actprompt: zero-shot recognition: ClipNet has no joint space with the texts of icube-tiny")


def test_zero_shot_needs_a_joint_space(place: Path, tmp_path: Path) -> None:
    chosen = ZeroShotConfig(vlm=VLMConfig(name="icube-tiny", encoder="user_encoders:make"))
    with pytest.raises(InputError, match="zero-shot recognition: SmallNet has no joint space with the texts of icube"):
        evaluate_zero_shot(place / "data", tmp_path / "zero", chosen)
    assert not (tmp_path / "zero").exists()


class Bound(ClipNet):
    frames = 5


REFUSED: list[tuple[Any, dict[str, Any], str]] = [
    (VolumeNet, {}, "VolumeNet .* is an encoder of volumes; videos take encoders of images or clips"),
    (Bound, {}, f"video.frames={FRAMES}: encoder Bound takes clips of 5 frames; set video.frames=5"),
    (ClipNet, {"visual": {"head": "mean_std"}}, "visual.head=mean_std: ClipNet .* gives one feature of a clip"),
    (SmallNet, {"visual": {"prompts": 2}}, "visual prompts can't go into its image tower, a Encoder|SmallNet"),
]


@pytest.mark.parametrize(("encoder", "sections", "message"), REFUSED)
def test_encoders_that_do_not_fit(place: Path, encoder: Any, sections: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        ActionModel.for_dataset(place / "data", config(place, **sections), encoder=encoder)
    assert "\n" not in str(error.value)
    model = ActionModel.for_dataset(place / "data", config(place), encoder=SmallNet)
    with pytest.raises(InputError, match="the model has its own"):
        train(model, place / "data", "unused", encoder=SmallNet)
