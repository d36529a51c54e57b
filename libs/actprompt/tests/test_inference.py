"""Naming the action of a video: reasons that add up, a page that is whole, and wrong input."""

from __future__ import annotations

import json
import logging
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from act_world import FRAMES, LABELS, SENTENCES, World, settings, world, write_knowledge, write_set

from actprompt.cli import main
from actprompt.data.manifest import Manifest
from actprompt.data.video import VideoClip
from actprompt.inference.explain import AGAINST, FOR, MAX_PARAMETERS, Explanation, encode_views
from actprompt.inference.html_report import prediction_page, signed
from actprompt.inference.pipeline import predict
from actprompt.inference.terminal import render
from actprompt.skeleton.joint_angles import LIMB_JOINTS
from actprompt.training.run import train
from actprompt.training.trainer import TrainedFold, predict_probabilities, train_fold
from icube_common.errors import InputError
from icube_common.evaluation import train_on_all
from icube_common.io.runs import RunFolder
from icube_common.vlm import FrozenVLM, load_vlm

ON, OFF = {"enabled": True}, {"enabled": False}
NO_COURSE = {**ON, "trajectory": False}
CONFIGS: dict[str, dict[str, Any]] = {
    "picture": {},
    "mean_std": {"visual": {"head": "mean_std"}, "skeleton": ON},
    "segment_difference": {"visual": {"head": "segment_difference"}, "skeleton": ON},
    "cross_frame": {"visual": {"head": "cross_frame"}, "skeleton": ON},
    "visual prompts": {"visual": {"prompts": 2}},
    "numbers alone": {"skeleton": ON, "visual": OFF},
    "sentences and parameters": {"skeleton": NO_COURSE, "visual": OFF},
    "contrastive": {"skeleton": {**ON, "fusion_mode": "contrastive"}},
    "memory": {"skeleton": {**ON, "fusion_mode": "memory"}},
    "fusion": {"skeleton": {**ON, "fusion_mode": "fusion", "missing": "word"}},
    "conditional": {"prompt": {"init": "template", "conditional": True}},
}


@pytest.fixture(scope="module")
def vlm() -> FrozenVLM:
    return load_vlm("icube-tiny")


def fitted(folder: Path, vlm: FrozenVLM, made: World, **sections: Any) -> TrainedFold:
    config = settings(**sections)
    run = RunFolder.create(folder / "run", config_yaml="", environment={}, overwrite=True)
    trained = train_fold(made.seen_by(config), train_on_all(made.samples), config, vlm, made.texts, run)
    trained.model.eval()
    return trained


def case_of(trained: TrainedFold, made: World, name: str) -> Explanation:
    model = trained.model
    inputs = made.seen_by(model.config)
    tensors = model.clip_tensors([name], inputs)
    order = np.argsort(-predict_probabilities(model, tensors)[0]).tolist()
    return Explanation(model, encode_views(model, tensors), order[0], order[1])


@pytest.mark.parametrize("name", CONFIGS)
def test_shares_add_up_to_the_margin(name: str, tmp_path: Path, vlm: FrozenVLM) -> None:
    sections = CONFIGS[name]
    prompted = bool(sections.get("visual", {}).get("prompts"))
    made = world(subjects=2, takes=1, views=2, pixels=96 if prompted else 0)
    trained = fitted(tmp_path, vlm, made, **sections)
    case = case_of(trained, made, made.inputs.ids[3])
    model = case.model
    assert sum(row["margin"] for row in case.shares()) == pytest.approx(case.margin(), abs=1e-5)

    # the cosines are those that the logits are made of
    tensors = model.clip_tensors([made.inputs.ids[3]], made.seen_by(model.config))
    probabilities = predict_probabilities(model, tensors)[0]
    gap = np.log(probabilities[case.predicted]) - np.log(probabilities[case.other])
    assert case.cosines() * model.log_scale.exp().item() == pytest.approx(gap, abs=2e-3)

    shares = {row["source"]: row["margin"] for row in case.shares()}
    parts = case.parameters()
    if parts is not None:
        assert float(parts.sum()) == pytest.approx(shares["parameters"], abs=1e-5)
        captions = case.captions()
        assert captions
        assert sum(row["margin"] for row in captions) == pytest.approx(shares["captions of the parameters"], abs=1e-5)


def test_margin_by_hand(tmp_path: Path, vlm: FrozenVLM) -> None:
    made = world(subjects=2, takes=1)
    trained = fitted(tmp_path, vlm, made, visual=OFF, skeleton=NO_COURSE)
    case = case_of(trained, made, made.inputs.ids[0])
    model, batch = case.model, case.views[0].batch
    with torch.no_grad():
        texts = model.prompts(per_description=True)
        means = [texts[model.prompts.owner == place].mean(0) for place in (case.predicted, case.other)]
        total = sum(share[0] for _, share in model.shares(batch))
        told = model.parameters_map
        assert told is not None and isinstance(total, torch.Tensor)
        weight = told.start + told.gain * told.learned
        by_hand = told.standardise(batch["parameters"])[0] * (weight @ (means[0] - means[1]))
    assert case.margin() == pytest.approx(float(total @ (means[0] - means[1])), abs=1e-5)
    rows = case.numbers(("x",) * len(by_hand))
    listed = {row["name"]: row["margin"] for row in rows}
    for name, part in listed.items():
        assert part == pytest.approx(float(by_hand[model.parameter_names.index(name)]), abs=1e-6)
    # the most for and the most against, in their order
    sides = [row["direction"] for row in rows]
    assert sides.count(FOR) == min(MAX_PARAMETERS[FOR], int((by_hand > 0).sum()))
    assert sides.count(AGAINST) == min(MAX_PARAMETERS[AGAINST], int((by_hand < 0).sum()))
    assert max(listed.values()) == pytest.approx(float(by_hand.max()), abs=1e-6)
    assert min(listed.values()) == pytest.approx(float(by_hand.min()), abs=1e-6)
    assert [row["margin"] for row in rows] == sorted(listed.values(), reverse=True)


def test_sentences_are_the_classes_own(tmp_path: Path, vlm: FrozenVLM) -> None:
    made = world(subjects=2, takes=1)
    case = case_of(fitted(tmp_path, vlm, made), made, made.inputs.ids[2])
    rows = case.sentences()
    labels = case.model.labels
    assert case.other is not None
    for speaks, place in ((FOR, case.predicted), (AGAINST, case.other)):
        found = [row for row in rows if row["direction"] == speaks]
        assert sorted(row["text"] for row in found) == sorted(SENTENCES[labels[place]])
        assert {row["action"] for row in found} == {labels[place]}
    assert [row["above_mean"] for row in rows] == sorted((row["above_mean"] for row in rows), reverse=True)
    with torch.no_grad():
        cosines = case.model.prompts(per_description=True) @ case.views[0].sample
    for row in rows:
        assert row["cosine"] == pytest.approx(float(cosines[case.model.prompts.texts.index(row["text"])]), abs=1e-5)
        assert row["above_mean"] == pytest.approx(row["cosine"] - float(cosines.mean()), abs=1e-5)


def test_the_frame_that_carries_the_class_matters_most(tmp_path: Path, vlm: FrozenVLM) -> None:
    made = world(subjects=3, takes=2)
    trained = fitted(tmp_path, vlm, made)
    frames = made.inputs.frames
    assert frames is not None
    planted, neutral = "p1-wave-0.avi", torch.stack([frames[name][0, 0] for name in made.inputs.ids]).mean(0)
    changed = frames[planted].clone()
    changed[0] = neutral / neutral.norm()
    changed[0, 1] = frames[planted][0, 1]
    seen = replace(made, inputs=replace(made.inputs, frames={**frames, planted: changed}))
    case = case_of(trained, seen, planted)
    assert case.model.labels[case.predicted] == "wave"
    rows = case.frames(np.array([[4, 9, 14]]))
    assert [row["index"] for row in rows] == [4, 9, 14]
    assert max(rows, key=lambda row: row["importance"])["index"] == 9 and rows[1]["importance"] > 0
    # one that is there several times is left out at once, and the only one can't be
    assert len(case.frames(np.array([[4, 9, 9]]))) == 2
    assert case.frames(np.array([[0, 0, 0]])) == [{"index": 0, "importance": None}]


# --- through files


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set, class descriptions, and runs: images and parameters, images alone, parameters alone."""
    folder = tmp_path_factory.mktemp("predict")
    data = write_set(folder / "data", takes=1)
    write_set(folder / "bare", takes=1, skeletons=False)
    knowledge = str(write_knowledge(folder / "knowledge.yaml"))
    for name, sections in {"both": {"skeleton": ON}, "picture": {}, "numbers": {"skeleton": ON, "visual": OFF}}.items():
        train(settings(knowledge=knowledge, **sections), data, folder / name, exclude_subjects=["p1"])
    return folder


@pytest.fixture
def video(place: Path) -> Path:
    return place / "data" / "videos" / "p1-wave-0.avi"


def skeleton_of(place: Path, video: Path) -> Path:
    return place / "data" / "skeleton" / f"{video.name}.npz"


def test_result(place: Path, video: Path) -> None:
    result = predict(place / "both", video, data=place / "data").to_dict(2)
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert set(result) >= {"video", "backbone", "warnings", "predicted", "top", "reasons"}
    assert result["video"] == str(video) and result["backbone"].startswith("icube-tiny")
    assert result["predicted"] == result["top"][0] and set(result["predicted"]) == {"action", "words", "probability"}
    assert len(result["top"]) == 2 and result["top"][0]["probability"] >= result["top"][1]["probability"]
    assert len(set(map(str, result["warnings"]))) == len(result["warnings"])
    text = " ".join(result["warnings"])
    assert "icube-tiny" in text and "not checked by a specialist" in text and "simulated" in text
    assert "missing" not in text

    reasons = result["reasons"]
    assert reasons["runner_up"] == result["top"][1]
    assert [row["source"] for row in reasons["shares"]] == [
        "image",
        "trajectory",
        "parameters",
        "captions of the parameters",
    ]
    assert sum(row["margin"] for row in reasons["shares"]) == pytest.approx(reasons["margin"], abs=1e-5)
    assert len(reasons["frames"]) == FRAMES and all(row["importance"] is not None for row in reasons["frames"])
    for row in reasons["frames"]:
        assert row["time"] == pytest.approx(row["index"] / 10, abs=1e-3)
    manifest = Manifest.load(place / "data")
    table = manifest.parameters()
    own = dict(zip(table.names, zip(table.values[manifest.index[video.name]], table.units, strict=True), strict=True))
    assert reasons["numbers"]
    for row in reasons["numbers"]:
        assert (row["value"], row["unit"]) == (pytest.approx(own[row["name"]][0], rel=1e-5), own[row["name"]][1])
        assert (row["statement"] is None) == (abs(row["deviations"]) < 0.25)
    shown = render(result)
    assert result["predicted"]["words"] in shown and all(note in shown for note in result["warnings"])


def test_skeleton_file_predicts_as_the_prepared_set(place: Path, video: Path, tmp_path: Path) -> None:
    from_set = predict(place / "both", video, data=place / "data").to_dict()
    from_file = predict(place / "both", video, skeleton=skeleton_of(place, video)).to_dict()
    assert from_file["warnings"] == from_set["warnings"]
    for one, other in zip(from_set["top"], from_file["top"], strict=True):
        assert one["action"] == other["action"]
        assert one["probability"] == pytest.approx(other["probability"], abs=1e-4)
    # found by its name where it lies elsewhere, and that is said
    moved = tmp_path / video.name
    shutil.copy(video, moved)
    elsewhere = predict(place / "both", moved, data=place / "data").to_dict()
    assert elsewhere["top"] == from_set["top"] and "by its name" in elsewhere["warnings"][0]
    link = tmp_path / "linked.avi"
    link.symlink_to(video)
    assert predict(place / "both", link, data=place / "data").to_dict()["top"] == from_set["top"]


@pytest.mark.parametrize("bare", [False, True])
def test_missing_numbers(place: Path, video: Path, bare: bool) -> None:
    data = place / "bare" if bare else None
    if bare:
        video = place / "bare" / "videos" / video.name
    result = predict(place / "both", video, data=data).to_dict()
    assert result["warnings"][0].startswith("Skeleton missing") and "frames alone" in result["warnings"][0]
    shares = {row["source"]: row["margin"] for row in result["reasons"]["shares"]}
    assert shares["image"] != 0 and all(shares[name] == 0 for name in shares if name != "image")
    assert result["reasons"]["numbers"] == result["reasons"]["captions"] == []
    with pytest.raises(InputError, match=r"skeletons only; give --skeleton FILE, or --data SET"):
        predict(place / "numbers", video, data=data).to_dict()


def test_parameters_alone_and_images_alone(place: Path, video: Path) -> None:
    numbers = predict(place / "numbers", video, data=place / "data").to_dict()
    assert all(row["importance"] is None for row in numbers["reasons"]["frames"])
    picture = predict(place / "picture", video, skeleton=skeleton_of(place, video)).to_dict()
    assert [row["source"] for row in picture["reasons"]["shares"]] == ["image"]
    assert any("not used" in note for note in picture["warnings"])
    own = predict(place / "picture", place / "data" / "videos" / "p2-bow-0.avi").to_dict()
    assert any("was trained on" in note for note in own["warnings"])


# --- the page


class Page(HTMLParser):
    """Tested parts of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.images: list[dict[str, str | None]] = []
        self.bars = 0
        self.outside: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        if tag == "img":
            self.images.append(found)
        self.bars += tag == "i" and "width:" in (found.get("style") or "")
        for name in ("src", "href", "action", "data", "srcset", "poster"):
            value = found.get(name)
            if value is not None and not value.startswith(("data:", "#")):
                self.outside.append(value)
        if tag in ("script", "link", "iframe", "object", "embed"):
            self.outside.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def flat(text: str) -> str:
    return re.sub(r"\s+", " ", text)


def test_page(place: Path, video: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "why.html"
    result = predict(place / "both", video, data=place / "data", top=3, html=out).to_dict(3)
    source = out.read_text()
    page, reasons = Page(source), result["reasons"]
    assert page.outside == [] and "http:" not in source and "https:" not in source and "@import" not in source
    assert not re.search(r"url\(", source) and "default-src 'none'" in source
    frames = reasons["frames"]
    assert len(page.images) == len(frames) == FRAMES
    for row, image in zip(frames, page.images, strict=True):
        assert (image["src"] or "").startswith("data:image/jpeg;base64,")
        assert f"Frame {row['index']} of the video, at {row['time']:.2f} s" in (image["alt"] or "")
        assert signed(row["importance"]) in (image["alt"] or "")
    kinds = ("frames", "sentences", "shares", "captions", "numbers")
    assert page.bars == len(result["top"]) + sum(len(reasons[kind]) for kind in kinds)
    text = flat(page.text)
    for row in [*reasons["sentences"], *reasons["captions"]]:
        assert row["text"] in text
    for row in reasons["numbers"]:
        assert row["name"] in text and (row["statement"] or "neither high nor low") in text
    for wanted in [
        *result["warnings"],
        *(row["words"] for row in result["top"]),
        *(r["source"] for r in reasons["shares"]),
    ]:
        assert wanted in text


def test_small_parts_keep_their_digits() -> None:
    assert [signed(value) for value in (0.25, -0.0123, 0.00123, -0.000045, 0.0)] == [
        "+0.250",
        "\N{MINUS SIGN}0.012",
        "+0.0012",
        "\N{MINUS SIGN}0.000045",
        "0",
    ]


@pytest.mark.parametrize("classes", [1, 2, 40])
def test_page_of_any_number_of_classes_with_long_names(classes: int) -> None:
    names = [f"<b>{'very-long-name' * 12}</b> & {number}" for number in range(classes)]
    top = [{"action": name, "words": name, "probability": 1 / classes} for name in names]
    other = top[1] if classes > 1 else None
    result = {
        "video": "a.avi",
        "n_frames": 1,
        "seconds": 0.1,
        "backbone": "none",
        "warnings": [],
        "predicted": top[0],
        "top": top,
        "rejected": False,
        "threshold": None,
        "threshold_rule": "",
        "timeline": [],
        "window": None,
        "reasons": {
            "runner_up": other,
            "margin": 0.0,
            "cosine_margin": 0.0,
            "prompts_trained": True,
            "sentences": [],
            "shares": [{"source": "picture", "margin": 0.0}],
            "captions": [],
            "numbers": [],
            "frames": [{"index": 0, "time": 0.0, "importance": None}],
        },
    }
    frames = VideoClip(np.zeros((1, 1, 8, 6, 3), dtype=np.uint8), np.zeros((1, 1), dtype=np.int64))
    source = prediction_page(result, frames)
    assert "<b>very" not in source and "&lt;b&gt;very" in source
    page = Page(source)
    assert all(name in flat(page.text) for name in names) and len(page.images) == 1
    assert "None" not in page.text and "neither 0" in flat(page.text)


def test_video_of_one_frame(place: Path, tmp_path: Path, make_video: Any) -> None:
    video = make_video(tmp_path / "one.avi", 1, size=(48, 48))
    result = predict(place / "both", video, html=tmp_path / "why.html").to_dict()
    assert result["n_frames"] == 1
    assert result["reasons"]["frames"] == [{"index": 0, "time": 0.0, "importance": None}]
    page = Page((tmp_path / "why.html").read_text())
    assert len(page.images) == 1 and "The video has one frame" in page.text


# --- wrong input


def wrong(place: Path, tmp_path: Path, video: Path, case: str) -> tuple[dict[str, Any], str]:
    """Arguments that differ from good ones in one thing, and the words of the message."""
    good: dict[str, Any] = {"run": place / "both", "video": video, "skeleton": skeleton_of(place, video)}
    bad = tmp_path / "bad"
    joints, time = np.tile([1.0, 0, 0], (6, 8, 1)).astype(np.float32), np.linspace(0, 0.5, 6).astype(np.float32)

    def skeleton(**arrays: Any) -> Path:
        path = tmp_path / "bad.npz"
        np.savez(path, **arrays)
        return path

    if case == "no video":
        return {**good, "video": bad}, r"bad: no such file"
    if case == "no picture":
        bad.write_text("words")
        return {**good, "video": bad}, r"bad: cannot be decoded"
    if case == "truncated":
        bad = tmp_path / "cut.avi"
        content = video.read_bytes()
        bad.write_bytes(content[: len(content) // 2])
        return {**good, "video": bad}, r"cut\.avi: "
    if case == "no run":
        return {**good, "run": tmp_path}, r"no trained model in it .*actprompt train"
    if case == "damaged skeleton":
        bad.write_bytes(skeleton_of(place, video).read_bytes()[:200])
        return {**good, "skeleton": bad}, r"bad: not a skeleton file .*give an \.npz"
    if case == "no skeleton":
        return {**good, "skeleton": bad}, r"bad: no such file.*give an \.npz"
    if case == "no times":
        return {**good, "skeleton": skeleton(joints=joints)}, r"bad\.npz: not a skeleton file"
    if case == "shape":
        return {**good, "skeleton": skeleton(joints=joints[..., :2], time=time)}, r"bad\.npz: shapes"
    if case == "no frame of a skeleton":
        return {**good, "skeleton": skeleton(joints=joints[:0], time=time[:0])}, r"bad\.npz: .*give an \.npz"
    if case == "never tracked":
        return {**good, "skeleton": skeleton(joints=joints * np.nan, time=time)}, r"bad\.npz: no joint is tracked"
    if case == "other joints":
        return {**good, "skeleton": skeleton(joints=joints[:, :5], time=time)}, rf"5 joints, .*{LIMB_JOINTS[0]}"
    if case == "positions":
        return {**good, "skeleton": skeleton(joints=3 * joints, time=time)}, r"bad\.npz: .*no unit directions"
    if case == "not in data":
        shutil.copy(video, tmp_path / "other.avi")
        other = {"video": tmp_path / "other.avi", "skeleton": None, "data": place / "data"}
        return {**good, **other}, r"other\.avi: not in .*--skeleton"
    if case == "no set":
        return {**good, "skeleton": None, "data": tmp_path}, r"not a prepared set"
    if case == "both":
        return {**good, "data": place / "data"}, r"both give the skeleton; leave one away"
    if case == "top":
        return {**good, "top": 0}, r"--top 0: must be at least 1"
    assert case == "page"
    (tmp_path / "old.html").write_text("old")
    return {**good, "html": tmp_path / "old.html"}, r"old\.html: exists already \(--overwrite"


CASES = (
    *("no video", "no picture", "truncated", "no run", "damaged skeleton", "no skeleton", "no times", "shape"),
    *("no frame of a skeleton", "never tracked", "other joints", "positions", "not in data", "no set", "both", "top"),
    "page",
)


@pytest.mark.parametrize("case", CASES)
def test_wrong_input(place: Path, tmp_path: Path, video: Path, case: str) -> None:
    arguments, message = wrong(place, tmp_path, video, case)
    page = arguments.setdefault("html", tmp_path / "page.html")
    before = page.read_text() if page.exists() else None
    with pytest.raises(InputError, match=message) as found:
        predict(**arguments)
    assert "\n" not in str(found.value)
    assert (page.read_text() if page.exists() else None) == before


@pytest.fixture
def _quiet() -> Iterator[None]:
    yield
    for name in ("icube_common", "actprompt"):
        # the handler that the command made holds this test's stderr
        logging.getLogger(name).handlers[:] = [logging.NullHandler()]


@pytest.mark.usefixtures("_quiet")
def test_command(place: Path, video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "why.html"
    words = ["predict", str(place / "both"), str(video), "--data", str(place / "data"), "--html", str(page)]
    assert main([*words, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["predicted"]["action"] in LABELS
    assert main(words) == 2
    assert "exists already" in capsys.readouterr().err
    assert main([*words, "--overwrite", "--top", "1"]) == 0
    out = capsys.readouterr().out
    assert result["predicted"]["words"] in out and str(page) in out


@pytest.mark.usefixtures("_quiet")
def test_a_damaged_video_is_refused_or_used_knowingly(
    place: Path, make_video: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cut = make_video(tmp_path / "cut.avi", 40, size=(64, 48))
    cut.write_bytes(cut.read_bytes()[:9000])
    words = ["predict", str(place / "both"), str(cut), "--json"]
    assert main(words) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(f"actprompt: {cut}: truncated: ") and line.endswith(
        "to use them, prepare or predict with --keep-damaged"
    )
    assert main([*words, "--keep-damaged"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert 0 < result["n_frames"] < 40 and result["predicted"]["action"] in LABELS
    assert any(note.startswith("The video is not whole (truncated: ") for note in result["warnings"])
