"""Device and batch size of the frozen tower in each command."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState
from act_world import settings as act_settings
from act_world import world
from command_line import Command, command_fixture
from device_checks import rows_fixture, run_device_job

from actprompt.cli import main
from actprompt.data.extract import extract, video_features
from actprompt.data.feature_store import FeatureFolder
from actprompt.data.frame_sampling import Sampling
from actprompt.data.manifest import Manifest
from actprompt.data.prepare import prepare
from actprompt.models.visual_prompts import PromptedTower
from actprompt.training.trainer import predict_test, train_fold
from icube_common.errors import InputError
from icube_common.evaluation import leave_one_group_out
from icube_common.io.runs import RunFolder, read_json
from icube_common.knowledge.commands import load_encoder
from icube_common.vlm import VLMConfig

MakeVideo = Callable[..., Path]
TINY = ("vlm.name=icube-tiny", "video.frames=8")
FAST = (
    "skeleton.enabled=false",
    "train.max_steps=1",
    "train.batch_size=2",
    "train.report_to=none",
    "train.device=cpu",
    "prompt.init=template",
)

command = command_fixture(main, "actprompt")


rows = rows_fixture()


@pytest.fixture
def data(make_video: MakeVideo, tmp_path: Path) -> Path:
    """Five videos of two classes."""
    for number in range(5):
        make_video(tmp_path / "videos" / ("wave", "sit down")[number % 2] / f"{number}.avi", 9 + number)
    prepare("folder", tmp_path / "videos", tmp_path / "data")
    return tmp_path / "data"


def test_each_command_joins_clips_in_a_batch(data: Path, tmp_path: Path, rows: list[int], command: Command) -> None:
    batch = (*TINY, "vlm.batch_size=16")
    assert command("extract", "--data", str(data), "--out", str(tmp_path / "extracted"), *batch)[0] == 0
    assert rows == [16, 16, 8]
    rows.clear()
    # the option stands before the key
    own = ["--batch-size", "20", "--out", str(tmp_path / "by option")]
    assert command("extract", "--data", str(data), *own, *batch)[0] == 0
    assert rows == [20, 20]
    rows.clear()
    out = ["--data", str(data), "--out", str(tmp_path / "run"), "--features", str(tmp_path / "trained")]
    assert command("train", *out, *batch, *FAST)[0] == 0
    assert rows == [16, 16, 8]
    rows.clear()
    video = tmp_path / "videos" / "wave" / "0.avi"
    assert command("predict", str(tmp_path / "run"), str(video))[0] == 0
    assert rows == [8]
    rows.clear()
    out = ["--data", str(data), "--out", str(tmp_path / "zero"), "--features", str(tmp_path / "zeroshot")]
    assert command("zeroshot", *out, *batch)[0] == 0
    assert rows == [16, 16, 8]
    rows.clear()
    out = ["--data", str(data), "--out", str(tmp_path / "judged"), "--features", str(tmp_path / "evaluated")]
    assert command("evaluate", *out, "--protocol", "k-fold", "--folds", "2", *batch, *FAST)[0] == 0
    assert rows == [16, 16, 8]
    rows.clear()
    # another size of batches is no other question, and what is stored answers for all of them
    folder = ["--features", str(tmp_path / "extracted")]
    out = ["--data", str(data), "--out", str(tmp_path / "judged"), *folder]
    other = (*TINY, "vlm.batch_size=3")
    assert command("evaluate", *out, "--protocol", "k-fold", "--folds", "2", *other, *FAST)[0] == 0
    assert rows == []


def test_joined_clips_have_the_features_that_they_have_alone(data: Path) -> None:
    manifest, sampling = Manifest.load(data), Sampling(frames=8)
    vlm = VLMConfig(name="icube-tiny").load("cpu")
    alone = video_features(manifest, manifest.clips, vlm, sampling, batch_size=8)
    joined = video_features(manifest, manifest.clips, vlm, sampling, batch_size=64)
    for name, features in alone.items():
        # in the float16 in which features are kept: rounding may fall to the other side
        torch.testing.assert_close(joined[name], features, atol=5e-4, rtol=0)


def test_a_clip_that_cannot_be_read_keeps_its_neighbours(data: Path, tmp_path: Path, rows: list[int]) -> None:
    (tmp_path / "videos" / "wave" / "2.avi").write_bytes(b"no video")
    options: dict[str, Any] = {"vlm": VLMConfig(name="icube-tiny", batch_size=16), "sampling": Sampling(frames=8)}
    result = extract(data, tmp_path / "features", **options)
    assert (result["computed"], result["rejected"]) == (4, 1) and rows == [16, 16]
    index = (tmp_path / "features" / "index.csv").read_text()
    assert all(f"{number}.avi" in index for number in (0, 1, 3, 4))


def test_features_of_mixed_precision_are_others(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest, sampling = Manifest.load(data), Sampling(frames=8)
    whole, half = (VLMConfig(name="icube-tiny").load("cpu") for _ in range(2))
    # as `VLMConfig.load` sets it on a GPU
    half.mixed_precision = "bf16"
    first = video_features(manifest, manifest.clips, whole, sampling, folder=tmp_path / "fp32")
    second = video_features(manifest, manifest.clips, half, sampling, folder=tmp_path / "bf16")
    assert not any(torch.equal(first[name], second[name]) for name in first)
    names = [{path.name for path in (tmp_path / name).glob("??/*.safetensors")} for name in ("fp32", "bf16")]
    assert len(names[0]) == 5 and not names[0] & names[1]
    message = r"mixed_precision={}, this run computes with mixed_precision={} on cpu; set train.mixed_precision={}"
    with pytest.raises(InputError, match=r"fp32: its features.*" + message.format("no", "bf16", "no")):
        video_features(manifest, manifest.clips, half, sampling, folder=tmp_path / "fp32")
    with pytest.raises(InputError, match=r"bf16: its features.*" + message.format("bf16", "no", "bf16")):
        FeatureFolder(tmp_path / "bf16", vlm=whole, sampling=sampling)
    # a folder of before there was a mixed precision
    head = read_json(tmp_path / "fp32" / "features.json")
    assert head["backbone"].pop("mixed_precision") == "no" and head["backbone"]["fingerprint"] == whole.fingerprint
    (tmp_path / "fp32" / "features.json").write_text(json.dumps(head))
    assert len(FeatureFolder(tmp_path / "fp32", vlm=whole, sampling=sampling).records(manifest)) == 5


def test_prompted_towers_see_as_many_frames_as_a_batch_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    forward = PromptedTower.forward

    def counting(self: PromptedTower, pixels: torch.Tensor) -> torch.Tensor:
        seen.append(pixels.shape[0] * pixels.shape[1])
        return forward(self, pixels)

    monkeypatch.setattr(PromptedTower, "forward", counting)
    made = world(pixels=96, subjects=3, takes=1)
    config = act_settings(visual={"prompts": 1}, skeleton={"enabled": False}, train={"max_steps": 1, "batch_size": 2})
    vlm = VLMConfig(name="icube-tiny", batch_size=7).load("cpu")
    fold = next(iter(leave_one_group_out(made.samples, seed=0)))
    inputs, run = made.seen_by(config), RunFolder.create(tmp_path / "run", config_yaml="", environment={})
    trained = train_fold(inputs, fold, config, vlm, made.texts, run)
    # the start of the map on eight clips of three frames, then a step of two clips
    assert seen == [6, 6, 6, 6, 6]
    seen.clear()
    predict_test(trained.model, inputs, fold, made.texts)
    assert seen == [6, 6]


def test_describe_scores_on_the_device_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    AcceleratorState._reset_state(reset_partial_state=True)
    monkeypatch.setenv("ACCELERATE_TORCH_DEVICE", "meta")
    try:
        assert load_encoder("icube-tiny", None, None).device.type == "meta"
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.parametrize(
    "overrides",
    [("skeleton.enabled=true",), ("visual.prompts=1", "skeleton.enabled=true", "skeleton.fusion_mode=fusion")],
    ids=["sentences", "visual prompts and fusion"],
)
def test_all_commands_run_on_the_device_of_the_process(tmp_path: Path, overrides: tuple[str, ...]) -> None:
    cpu, second = run_device_job(Path(__file__).with_name("device_job.py"), tmp_path, overrides)
    for one, other in zip(cpu, second, strict=True):
        assert other == pytest.approx(one, abs=2e-4)
