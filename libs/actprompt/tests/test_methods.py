"""Comparison of published methods with the configured model, on simulated clips."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from act_world import write_knowledge, write_set
from command_line import Command, as_json, command_fixture

from actprompt import ProtocolOptions, compare_methods
from actprompt.cli import main
from actprompt.config import ActConfig
from icube_common.config import load_config
from icube_common.errors import InputError

PEOPLE = 3


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("methods")
    write_set(folder / "data")
    write_knowledge(folder / "knowledge.yaml")
    return folder


@pytest.fixture
def settings(place: Path) -> list[str]:
    return [
        "vlm.name=icube-tiny",
        f"knowledge={place / 'knowledge.yaml'}",
        "video.frames=2",
        "visual.head=mean_std",
        "skeleton.frames=8",
        "skeleton.num_time_warps=1",
        "train.max_steps=1",
        "train.report_to=none",
        "train.device=cpu",
    ]


command = command_fixture(main, "actprompt")


def test_the_command_on_images_and_on_poses(place: Path, settings: list[str], tmp_path: Path, command: Command) -> None:
    out = tmp_path / "out"
    words = ["compare-methods", "--data", place / "data", "--methods", "zero-shot,nearest mean", "--seeds", "1"]
    saved = as_json(command(*words, "--out", out, "--json", *settings))
    rows = {row["name"]: row for row in saved["methods"]}
    assert list(rows) == ["actprompt", "zero-shot", "nearest mean"] and saved["reference"] == "actprompt"
    assert rows["actprompt"]["trained_parameters"] > 0 and rows["zero-shot"]["trained_parameters"] == 0
    assert rows["nearest mean"]["metrics"]["all classes"]["top1"]["groups"] == PEOPLE
    assert rows["nearest mean"]["differences"]["all classes"]["over"] == f"{PEOPLE} groups"
    assert (out / "plot.svg").is_file() and r"\toprule" in (out / "table.tex").read_text()
    # the own model had the images alone
    trained_with = load_config(
        ActConfig, file=out / "runs" / "actprompt" / "00-000-seed-0" / "training" / "config.yaml"
    )
    assert trained_with.visual.enabled and not trained_with.skeleton.enabled
    code, _, error = command(*words, "--out", out, *settings, "video.frames=3")
    assert code == 2 and "other settings or data" in error[0]
    saved = as_json(command(*words, "--out", tmp_path / "pose", "--features", "pose", "--json", *settings))
    rows = {row["name"]: row for row in saved["methods"]}
    assert rows["zero-shot"]["not_applicable"] == {"all classes": "no features in the space of the texts"}
    # the simulated skeletons differ clearly
    assert rows["nearest mean"]["metrics"]["all classes"]["top1"]["mean"] > 0.7


def test_new_classes_from_python(place: Path, settings: list[str], tmp_path: Path) -> None:
    config = load_config(ActConfig, overrides=settings)
    result = compare_methods(
        place / "data",
        config,
        out=tmp_path / "out",
        methods=["zero-shot", "linear probe"],
        protocol="base-to-new",
        options=ProtocolOptions(draws=2, new_classes=2),
    )
    own, zero, probe = result.rows
    assert set(own.metrics) == set(zero.metrics) == {"base", "new", "harmonic mean"}
    assert set(probe.metrics) == {"base"} and "learns weights of each class" in probe.note
    assert json.loads((tmp_path / "out" / "results.json").read_text())["units"] == "draws of classes"


@pytest.mark.parametrize(
    ("options", "overrides", "pattern"),
    [
        ({"features": "audio"}, [], "features 'audio'.*images, pose"),
        ({}, ["visual.head=transformer"], "visual.head=transformer.*segment_difference"),
        ({"methods": "coopp"}, [], "method 'coopp'"),
        ({"seeds": 0}, [], "seeds 0"),
        ({"reference": "linear"}, [], "reference 'linear'"),
    ],
)
def test_refusals(place: Path, settings: list[str], tmp_path: Path, options, overrides, pattern) -> None:
    config = load_config(ActConfig, overrides=[*settings, *overrides])
    with pytest.raises(InputError, match=pattern):
        compare_methods(place / "data", config, out=tmp_path / "out", **{"methods": "none", **options})
