"""The Python interface: data sets by number, a user's own temporal head, training, evaluation and prediction."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import torch
from act_world import settings, world, write_knowledge, write_set
from torch import Tensor, nn
from torch.utils.data import DataLoader

import actprompt
from actprompt import ActionModel, ActionPipeline, Sampling, VideoDataset, evaluate, evaluate_run, predict, train
from actprompt.models.visual_branch import build_custom_head
from icube_common.errors import InputError
from icube_common.vlm import FrozenVLM


class LastFrame(nn.Module):
    """The last frame through a linear layer to ``out`` numbers."""

    def __init__(self, width: int, out: int = 10) -> None:
        super().__init__()
        self.width = width
        self.linear = nn.Linear(width, out)

    def forward(self, frames: Tensor) -> Tensor:
        found: Tensor = self.linear(frames[:, -1])
        return found


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("api")
    write_set(folder / "data", takes=1)
    write_knowledge(folder / "knowledge.yaml")
    return folder


def config(place: Path, **sections: Any) -> actprompt.ActConfig:
    return settings(knowledge=str(place / "knowledge.yaml"), **sections)


def test_a_data_set_of_a_csv_file(make_video: Callable[..., Path], tmp_path: Path) -> None:
    rows = [("path", "label", "subject")]
    for number in range(4):
        make_video(tmp_path / f"{number}.avi", 6, size=(48, 32))
        rows.append((f"{number}.avi", ("wave", "bow")[number % 2], f"s{number // 2}"))
    with (tmp_path / "clips.csv").open("w", newline="") as handle:
        csv.writer(handle).writerows(rows)
    data = VideoDataset.from_csv(tmp_path / "clips.csv", tmp_path / "DATA")
    assert len(data) == 4 and set(data.class_names) == {"wave", "bow"}
    item = data[1]
    assert item["frames"].shape == (8, 3, 32, 48) and item["frames"].dtype == torch.uint8
    assert item["id"] == "1.avi" and data.class_names[item["label"]] == "bow" and item["subject"] == "s0"
    # grey of level 16 + 8 n, the first frame 0
    assert abs(int(item["frames"][0].float().mean()) - 16) <= 4
    assert data[-1]["id"] == "3.avi" and data.skeleton(0) is None
    with pytest.raises(IndexError):
        data[4]
    batch = next(iter(DataLoader(data, batch_size=4)))
    assert batch["frames"].shape == (4, 8, 3, 32, 48) and batch["label"].tolist() == [
        data[k]["label"] for k in range(4)
    ]
    views = VideoDataset(
        tmp_path / "DATA", sampling=Sampling(frames=2, views=3), transform=lambda frames: frames.float() / 255
    )
    assert views[0]["frames"].shape == (3, 2, 3, 32, 48) and float(views[0]["frames"].max()) <= 1
    random = VideoDataset(tmp_path / "DATA", sampling=Sampling(frames=2, mode="random"))
    assert torch.equal(random[2]["frames"], random[2]["frames"])


def test_a_data_set_of_a_folder(make_video: Callable[..., Path], tmp_path: Path) -> None:
    for label in ("wave", "bow"):
        make_video(tmp_path / "videos" / label / f"{label}.avi", 6)
    data = VideoDataset.prepare("folder", tmp_path / "videos", tmp_path / "DATA")
    assert [data[k]["id"] for k in range(2)] == ["bow.avi", "wave.avi"] and VideoDataset.open(data) is data
    with pytest.raises(InputError, match="exists already"):
        VideoDataset.prepare("folder", tmp_path / "videos", tmp_path / "DATA")
    with pytest.raises(InputError, match="not a prepared set"):
        VideoDataset(tmp_path)


def test_skeletons_come_with_a_data_set(place: Path) -> None:
    found = VideoDataset(place / "data").skeleton(0)
    assert found is not None and found[0].shape == (6, 8, 3) and found[1].shape == (6,)


@pytest.mark.parametrize("skeleton", [False, True])
@pytest.mark.parametrize("made", [False, True], ids=["class", "instance"])
def test_a_custom_head_is_trained_saved_and_used(place: Path, tmp_path: Path, made: bool, skeleton: bool) -> None:
    data = VideoDataset(place / "data")
    head: Any = LastFrame(64, out=5) if made else LastFrame
    chosen = config(place, skeleton={"enabled": skeleton})
    model = ActionModel.for_dataset(data, chosen, head=head)
    assert model.visual is not None and isinstance(model.visual.head, LastFrame)
    before = model.visual.head.linear.weight.clone()
    result = train(model, data, out=tmp_path / "RUN", exclude_subjects=["p3"])
    assert result.model is model and result.facts["clips"] == 8 and result.facts["subjects"] == 2
    assert result.to_dict()["run"] == str(tmp_path / "RUN") and result.fit.steps == 3
    assert not torch.equal(model.visual.head.linear.weight, before)
    assert "LastFrame" in (tmp_path / "RUN" / "report.html").read_text()

    video = place / "data" / "videos" / "p3-wave-0.avi"
    pipeline = ActionPipeline.from_pretrained(tmp_path / "RUN", head=head)
    found = pipeline(video, data=data.manifest.folder)
    assert found.label == found.top(1)[0]["action"] and found.probability == found.top(1)[0]["probability"]
    own = ActionPipeline(model)(video, data=place / "data")
    np.testing.assert_allclose(found.probabilities, own.probabilities, atol=1e-6, rtol=1e-4)
    assert sum(row["margin"] for row in found.reasons["shares"]) == pytest.approx(found.reasons["margin"], abs=1e-5)
    with pytest.raises(InputError, match="was trained with the custom head LastFrame; load it with head=LastFrame"):
        ActionPipeline.from_pretrained(tmp_path / "RUN")

    judged = evaluate_run(tmp_path / "RUN", data, tmp_path / "EVAL", head=head, subjects=["p3"])
    assert len(judged.predictions) == 4 and judged.out == tmp_path / "EVAL"


def test_a_custom_head_in_each_fold(place: Path) -> None:
    data, head = VideoDataset(place / "data"), LastFrame(64)
    before = head.linear.weight.clone()
    result = evaluate(data, config(place), head=head, protocol="leave-one-subject-out")
    assert 0 <= result.metrics["top1"].mean <= 1 and result.metrics["top1"].groups == 3
    assert result.out is None and result.to_dict()["clips"] == 12
    # an instance is copied for each training
    assert torch.equal(head.linear.weight, before)
    again = evaluate(data, config(place), head=head)
    np.testing.assert_array_equal(again.predictions.probabilities, result.predictions.probabilities)
    other = evaluate(data, config(place), head=LastFrame)
    assert not np.array_equal(other.predictions.probabilities, result.predictions.probabilities)


def test_evaluations_of_other_heads_are_not_mixed(place: Path, tmp_path: Path) -> None:
    chosen = config(place)
    first = evaluate(place / "data", chosen, tmp_path / "EVAL", head=LastFrame, protocol="cross-subject")
    again = evaluate(place / "data", chosen, tmp_path / "EVAL", head=LastFrame, protocol="cross-subject")
    assert again.to_dict() == first.to_dict()
    with pytest.raises(InputError, match="holds an evaluation of other settings"):
        evaluate(place / "data", chosen, tmp_path / "EVAL", protocol="cross-subject")


class Wrong(nn.Module):
    def forward(self, frames: Tensor) -> Tensor:
        return frames


class Text(nn.Module):
    def forward(self, frames: Tensor) -> str:
        return "text"


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (LastFrame(512), "head LastFrame: takes frame features of width 512, those of the backbone have 64"),
        (nn.Sequential(nn.Linear(32, 4)), "head Sequential: does not take frame features of width 64"),
        (Wrong(), r"head Wrong: returns \(2, 3, 64\) for features \(2, 3, 64\), need \(2, F\)"),
        (Text(), r"head Text: returns str for features \(2, 3, 64\), need \(2, F\)"),
    ],
)
def test_heads_that_do_not_fit(head: nn.Module, message: str) -> None:
    with pytest.raises(InputError, match=message):
        build_custom_head(head, 64, frames=3, seed=0)


def test_the_seed_makes_the_head() -> None:
    torch.manual_seed(7)
    state = torch.random.get_rng_state()
    first, width = build_custom_head(LastFrame, 16, frames=3, seed=1)
    second, _ = build_custom_head(LastFrame, 16, frames=3, seed=1)
    third, _ = build_custom_head(LastFrame, 16, frames=3, seed=2)
    weights = [head.linear.weight for head in (first, second, third)]  # type: ignore[union-attr]
    assert width == 10 and torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])  # type: ignore[arg-type]
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_head_of_one_width_starts_at_the_ridge_solution(tiny: FrozenVLM) -> None:
    """Of an untrained tower nothing but the head's own features enters."""
    made = world(subjects=2)
    assert made.inputs.frames is not None
    model = ActionModel.for_classes(tiny, made.texts, made.samples.class_names, settings(), head=LastFrame)
    frames = torch.stack([made.inputs.frames[name][0] for name in made.inputs.ids[:3]])
    assert model.visual is not None
    with torch.no_grad():
        pooled = model.visual.pooled({"frames": frames})
        features = model.visual.head_features(pooled)
        torch.testing.assert_close(features, model.visual.head(frames))
        torch.testing.assert_close(pooled[:, :64], frames.mean(1))
        assert (model.visual.prior(pooled) == 0).all()


def test_a_model_of_other_classes_is_refused(place: Path, tmp_path: Path) -> None:
    write_set(tmp_path / "two", labels=("wave", "bow"), takes=1)
    model = ActionModel.for_dataset(place / "data", config(place))
    with pytest.raises(InputError, match=r"2 training classes are not the 4 of the model"):
        train(model, tmp_path / "two", tmp_path / "RUN")
    assert not (tmp_path / "RUN").exists()


def test_a_model_from_the_hub(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = train(config(place), place / "data", tmp_path / "RUN")
    asked: list[str] = []

    def download(repo_id: str, **options: Any) -> str:
        asked.append(repo_id)
        return str(tmp_path / "RUN" / "model")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    pipeline = ActionPipeline.from_pretrained("someone/actions")
    assert asked == ["someone/actions"] and pipeline.model.labels == result.model.labels
    pipeline.save_pretrained(tmp_path / "copy")
    assert ActionModel.from_pretrained(tmp_path / "copy").labels == result.model.labels
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda repo_id: (_ for _ in ()).throw(OSError("offline")))
    with pytest.raises(
        InputError, match=r"someone/actions: no such folder, and no download from the Hugging Face hub \(offline\)"
    ):
        ActionPipeline.from_pretrained("someone/actions")


def test_a_model_of_an_earlier_version_is_refused(place: Path, tmp_path: Path) -> None:
    train(config(place), place / "data", tmp_path / "RUN")
    path = tmp_path / "RUN" / "model" / "model.json"
    path.write_text(path.read_text().replace('"format": 3,', ""))
    with pytest.raises(
        InputError, match=r"model.json: an earlier format of saved models, here 3: train again with `actprompt train`"
    ):
        ActionModel.from_pretrained(tmp_path / "RUN")


def test_a_prediction_as_an_object(place: Path, tmp_path: Path) -> None:
    train(config(place), place / "data", tmp_path / "RUN", exclude_subjects=["p1"])
    video = place / "data" / "videos" / "p1-wave-0.avi"
    found = predict(tmp_path / "RUN", video, html=tmp_path / "page.html")
    assert [row["action"] for row in found.top(2)] == [row["action"] for row in found.to_dict(2)["top"]]
    assert found.n_frames == 6 and found.probabilities.sum() == pytest.approx(1) and found.frames.frames.ndim == 5
    assert found.save_html(tmp_path / "again.html").read_text() == (tmp_path / "page.html").read_text()


def test_no_module_is_named_like_a_function() -> None:
    folder = Path(actprompt.__file__).parent
    for name in ("train", "evaluate", "predict", "prepare"):
        assert callable(getattr(actprompt, name)) and not (folder / name).exists()
        assert not (folder / f"{name}.py").exists()
    assert set(dir(actprompt)) >= {"VideoDataset", "ActionModel", "ActConfig", "ActionPipeline"}
