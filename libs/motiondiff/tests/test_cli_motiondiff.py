"""The ``motiondiff`` command: every good path, and wrong input answered in one line with nothing written."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import Command, as_json, command_fixture

from motiondiff import __version__
from motiondiff.cli import COMMANDS, main
from motiondiff.data.readers import FORMATS, get_reader
from motiondiff.data.store import MotionStore
from motiondiff.data.synthetic import simulate_motion
from motiondiff.export.npz import write_npz

command = command_fixture(main, "motiondiff")


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """Six .npz files of three subjects."""
    folder = tmp_path / "recordings"
    folder.mkdir()
    for number in range(6):
        write_npz(
            simulate_motion(("walk", "run")[number % 2], number, fps=10, subject=number % 3), folder / f"{number}.npz"
        )
    return folder


def test_prepare_and_info(command: Command, recordings: Path, tmp_path: Path) -> None:
    (recordings / "broken.npz").write_bytes(b"")
    labels = tmp_path / "labels.yaml"
    labels.write_text("labels: {run: jog}\n")
    status, out, lines = command(
        "prepare", recordings, "--format", "npz", "--out", tmp_path / "store", "--fps", "5", "--labels", labels,
        "--split-by", "subject", "--test-groups", "simulated-1", "--json",
    )  # fmt: skip
    assert status == 0 and len(lines) == 1 and "1 clips rejected: see" in lines[0]
    prepared = json.loads(out)
    assert prepared["store"] == str(tmp_path / "store")
    assert prepared["actions"] == {"jog": 3, "walk": 3} and prepared["fps"] == 5 and prepared["rejected"] == 1
    assert prepared["splits"] == {"train": 4, "test": 2} and prepared["simulated"] is False
    assert as_json(command("info", tmp_path / "store", "--json")) == {
        key: value for key, value in prepared.items() if key != "store"
    }
    status, out, lines = command("info", tmp_path / "store")
    assert status == 0 and not lines and re.search(r"clips +6", out) and re.search(r"jog +3", out)
    with (tmp_path / "store" / "rejected.csv").open(newline="") as handle:
        assert [row[0] for row in csv.reader(handle)] == ["clip", "broken"]


def test_train_then_resume_with_the_runs_own_settings(
    command: Command, store_path: Path, run_path: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    config = tmp_path / "config.yaml"
    shutil.copy(run_path / "config.yaml", config)
    overrides = ("train.eval_steps=0", "train.max_steps=2", "train.report_to=none", "diffusion.weight_contact=0.5")
    result = as_json(command("train", "--data", store_path, "--out", run, "--config", config, *overrides, "--json"))
    assert result["steps"] == 2 and result["resumed_from"] is None and result["last"]["loss"] > 0
    assert Path(result["model"], "model_index.json").is_file() and Path(result["report"]).is_file()
    assert "weight_contact: 0.5" in (run / "config.yaml").read_text()
    resumed = as_json(command("train", "--data", store_path, "--out", run, "--resume", "train.max_steps=3", "--json"))
    assert resumed["resumed_from"] == 2 and resumed["steps"] == 3


def test_sample_every_action(command: Command, run_path: Path, store: MotionStore, tmp_path: Path) -> None:
    out = tmp_path / "samples"
    options = "--per-action 2 --seconds 1.5 --steps 3 --formats bvh,npz --batch-size 4 --json"
    result = as_json(command("sample", run_path, "--out", out, *options.split()))
    assert (
        result["motions"] == 10 and result["scheduler"] == "dpmsolver++" and result["simulated_training_data"] is True
    )
    assert [row["action"] for row in result["samples"]] == [action for action in store.actions for _ in range(2)]
    for row in result["samples"]:
        assert row["frames"] == 15
        for kind, path in row["files"].items():
            reader = get_reader(kind)
            [clip] = reader.read_clips(reader.find_clips(Path(path))[0])
            assert len(clip.motion) == 15  # type: ignore[union-attr]
    with (out / "samples.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert rows[2] | {"name": "run-000", "action": "run", "style": "", "number": "2", "bvh": "run-000.bvh"} == rows[2]


def test_samples_are_reproducible_and_follow_the_options(command: Command, run_path: Path, tmp_path: Path) -> None:
    def positions(name: str, *options: object) -> np.ndarray:
        arguments = ("--seconds", "1", "--steps", "2", *options)
        result = as_json(command("sample", run_path / "model", "--out", tmp_path / name, *arguments, "--json"))
        with np.load(result["samples"][-1]["files"]["npz"]) as arrays:
            return np.asarray(arrays["positions"])

    walk = positions("a", "--action", "walk", "--seed", "1")
    np.testing.assert_array_equal(walk, positions("b", "--action", "walk", "--seed", "1"))
    np.testing.assert_array_equal(walk, positions("a", "--action", "walk", "--seed", "1", "--overwrite"))
    body = tmp_path / "body.yaml"
    body.write_text("scale: 1.2\n")
    others = [
        positions("c", "--action", "walk", "--seed", "2"),
        positions("d", "--unconditional", "--seed", "1"),
        positions("e", "--action", "walk", "--seed", "1", "--scheduler", "ddpm"),
        positions("f", "--action", "walk", "--seed", "1", "--guidance", "1"),
        positions("g", "--action", "walk", "--seed", "1", "--shape", body),
        positions("h", "--action", "run", "--action", "walk", "--count", "2", "--seed", "1"),
    ]
    assert all(other.shape == walk.shape and not np.array_equal(other, walk) for other in others)


def test_sample_for_people(command: Command, run_path: Path, tmp_path: Path) -> None:
    status, out, lines = command("sample", run_path, "--out", tmp_path / "out", "--action", "sit down", "--steps", "2")
    assert status == 0 and not lines
    assert "1 motions, dpmsolver++ 2 steps" in out and "trained on simulated motions" in out
    assert f"  {tmp_path / 'out' / 'sit-down-000.npz'}" in out.splitlines()


def test_export_a_file_and_a_store(command: Command, store_path: Path, recordings: Path, tmp_path: Path) -> None:
    result = as_json(command("export", recordings / "0.npz", "--to", "bvh", "--out", tmp_path / "one.bvh", "--json"))
    assert result == {"out": str(tmp_path / "one.bvh"), "motions": 1}
    assert as_json(
        command("export", store_path, "--to", "npz", "--out", tmp_path / "all", "--split", "test", "--json")
    )["motions"] == len(list((tmp_path / "all").iterdir()))
    status, _, _ = command(
        "export", store_path, "--to", "npz", "--out", tmp_path / "world", "--world", "--split", "test"
    )
    assert status == 0
    store = MotionStore(store_path)
    clip = int(store.select("test")[0])
    with np.load(tmp_path / "world" / f"{store.clip_ids[clip]}.npz") as arrays:
        shift = store.world_transform(clip).translation
        np.testing.assert_allclose(arrays["root"][0], store[clip].root[0] + shift, atol=1e-5)


def test_export_pages(command: Command, store_path: Path, recordings: Path, tmp_path: Path) -> None:
    """Files of one name are distinguished by their folders; a store is one page with all its clips."""
    (tmp_path / "generated").mkdir()
    second = write_npz(simulate_motion("run", 1, fps=20), tmp_path / "generated" / "0.npz")
    page = tmp_path / "two.html"
    result = as_json(command("export", recordings / "0.npz", second, "--to", "html", "--out", page, "--json"))
    assert result == {"out": str(page), "motions": 2}
    shown = page_data(page)
    assert [motion["name"] for motion in shown["motions"]] == ["recordings/0", "generated/0"]
    assert [motion["fps"] for motion in shown["motions"]] == [10, 20] and shown["compare"] == 1
    assert "<title>recordings/0 and generated/0</title>" in page.read_text()
    page = tmp_path / "all.html"
    assert as_json(command("export", store_path, "--to", "html", "--out", page, "--json"))["motions"] == 40
    assert [motion["name"] for motion in page_data(page)["motions"]] == list(MotionStore(store_path).clip_ids)
    assert page_data(page)["compare"] == -1


def page_data(page: Path) -> Any:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page.read_text(), re.DOTALL)
    assert found
    return json.loads(found[1])


def test_sample_pages(command: Command, run_path: Path, tmp_path: Path) -> None:
    out = tmp_path / "samples"
    options = ("--action", "walk", "--count", "2", "--steps", "2", "--seconds", "1", "--formats", "html,glb")
    result = as_json(command("sample", run_path, "--out", out, *options, "--json"))
    names = sorted(path.name for path in out.iterdir())
    assert names == ["samples.csv", "viewer.html", "walk-000.glb", "walk-000.html", "walk-001.glb", "walk-001.html"]
    assert result["viewer"] == str(out / "viewer.html")
    assert [motion["name"] for motion in page_data(out / "viewer.html")["motions"]] == ["walk-000", "walk-001"]
    assert [motion["name"] for motion in page_data(out / "walk-001.html")["motions"]] == ["walk-001"]
    status, said, _ = command("sample", run_path, "--out", out, *options, "--overwrite")
    assert status == 0 and said.splitlines()[-1] == f"viewer page: {out / 'viewer.html'}"


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, words in (
        (["--version"], __version__),
        (["train", "--help"], "diffusion.weight_contact"),
        *(([name, "--help"], command.help) for name, command in COMMANDS.items()),
    ):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 0 and words in capsys.readouterr().out


TRAIN = "train --data {store} --out {new} "
SAMPLE = "sample {run} --out {new} "
EVALUATE = "evaluate {run} --data {store} --out {new} "
CLASSIFY = "train-classifier --train {store} --test {store} --out {new} "
BAD = {
    "unknown command": ("trian", "unknown command 'trian': did you mean 'train'"),
    "unknown option": ("info {store} --jason", "unknown argument '--jason': did you mean --json"),
    "prepare: empty folder": ("prepare {empty} --format npz --out {new}", "empty: holds no motion files"),
    "prepare: absent folder": ("prepare {absent} --format npz --out {new}", "absent: no such folder"),
    "prepare: another format": ("prepare {recordings} --format utkinect --out {new}", "recordings"),
    "prepare: unknown format": ("prepare {recordings} --format bvhh --out {new}", "'bvhh': did you mean 'bvh'"),
    "prepare: no format": ("prepare {recordings} --out {new}", "--format"),
    "prepare: fps 0": ("prepare {recordings} --format npz --out {new} --fps 0", "--fps 0.0: must be positive"),
    "prepare: fps nan": ("prepare {recordings} --format npz --out {new} --fps nan", "--fps nan"),
    "prepare: fps word": ("prepare {recordings} --format npz --out {new} --fps fast", "invalid float value: 'fast'"),
    "prepare: labels": ("prepare {recordings} --format npz --out {new} --labels {absent}", "--labels .*no such file"),
    "prepare: split": ("prepare {recordings} --format npz --out {new} --split-by size", "unknown value of --split-by"),
    "prepare: style": ("prepare {recordings} --format npz --out {new} --split-by style", "fewer than two styles"),
    "prepare: groups": (
        "prepare {recordings} --format npz --out {new} --test-groups simulated-9",
        "unknown test group 'simulated-9'",
    ),
    "prepare: all bad": (
        "prepare {bad} --format npz --out {new}",
        r"bad: none of its 2 clips can be used; the first: ",
    ),
    "prepare: strict": ("prepare {bad} --format npz --out {new} --strict", "not a readable .npz"),
    "prepare: existing": ("prepare {recordings} --format npz --out {old}", "exists already .--overwrite replaces it"),
    "prepare: below a file": ("prepare {recordings} --format npz --out {text}/store", "cannot be written"),
    "info: no store": ("info {empty}", "is not a motion store"),
    "info: absent": ("info {absent}", "does not exist"),
    "info: a file": ("info {text}", "text.txt"),
    "info: nothing": ("info", "STORE"),
    "train: no store": ("train --data {empty} --out {new}", "is not a motion store"),
    "train: unknown key": (TRAIN + "train.batchsize=3", "'train.batchsize': did you mean 'train.batch_size'"),
    "train: negative": (TRAIN + "train.max_steps=-1", "train.max_steps=-1: must be at least 1"),
    "train: word": (TRAIN + "train.max_steps=many", "train.max_steps"),
    "train: width": (TRAIN + "model.width=30", "model.width=30: must be even and a multiple of model.num_heads=4"),
    "train: fp16": (TRAIN + "train.mixed_precision=fp16 train.device=cpu", "take mixed_precision=bf16 or no"),
    "train: windows": (TRAIN + "data.max_frames=8", "data.min_frames=12: must be at most data.max_frames=8"),
    "train: no override": (TRAIN + "max_steps", "unknown argument 'max_steps'"),
    "train: absent config": (TRAIN + "--config {absent}", "--config .*: no such file"),
    "train: bad config": (TRAIN + "--config {text}", "text.txt: "),
    "train: existing": ("train --data {store} --out {old}", "exists already"),
    "train: resume nothing": (TRAIN + "--resume", "is no run folder to resume"),
    "sample: untrained": ("sample {empty} --out {new} --action walk", "no trained model in it"),
    "sample: absent": ("sample {absent} --out {new} --action walk", "no trained model in it"),
    "sample: action": (SAMPLE + "--action wak", "unknown action 'wak': did you mean 'walk'"),
    "sample: style": (SAMPLE + "--action walk --style happy", "unknown style 'happy'"),
    "sample: two ways": (SAMPLE + "--action walk --per-action 2", "exclude each other"),
    "sample: two other ways": (SAMPLE + "--unconditional --per-action 2", "exclude each other"),
    "sample: scheduler": (
        SAMPLE + "--action walk --scheduler dim",
        "unknown value of scheduler 'dim': did you mean 'ddim'",
    ),
    "sample: format": (SAMPLE + "--action walk --formats bhv", "unknown format 'bhv': did you mean 'bvh'"),
    "sample: no format": (SAMPLE + "--action walk --formats ,", "names no format"),
    "sample: absent shape": (SAMPLE + "--action walk --shape {absent}", "--shape .*: no such file"),
    "sample: bad shape": (SAMPLE + "--action walk --shape {text}", "`scale:` and/or `bone_lengths:`"),
    "sample: no steps": (SAMPLE + "--action walk --steps 0", "--steps 0: must be at least 1"),
    "sample: too many steps": (SAMPLE + "--action walk --steps 99999", "99999 denoising steps: must be 1 to 50"),
    "sample: too long": (SAMPLE + "--action walk --seconds 60", r"600 frames .*up to 3\.2 s"),
    "sample: too short": (SAMPLE + "--action walk --seconds 0.01", "0 frames"),
    "sample: no length": (SAMPLE + "--action walk --seconds -1", "--seconds -1.0: must be greater than 0"),
    "sample: guidance": (SAMPLE + "--action walk --guidance -2", "--guidance -2.0: must be at least 0"),
    "sample: count": (SAMPLE + "--action walk --count 0", "--count 0: must be at least 1"),
    "sample: batch": (SAMPLE + "--action walk --batch-size 0", "--batch-size 0: must be at least 1"),
    "sample: seed": (SAMPLE + "--action walk --seed -1", "--seed -1: must be at least 0"),
    "sample: mixed styles": (SAMPLE + "--action walk --style happy --mix-styles", "exclude each other"),
    "sample: device": (SAMPLE + "--action walk --device gpu", "--device gpu: "),
    "sample: existing": ("sample {run} --out {old} --action walk", "exists already"),
    "evaluate: no run": ("evaluate {empty} --data {store} --out {new}", "no trained model in it"),
    "evaluate: no store": ("evaluate {run} --data {empty} --out {new}", "is not a motion store"),
    "evaluate: existing": ("evaluate {run} --data {store} --out {old}", "exists already"),
    "evaluate: split": (EVALUATE + "--split train", "unknown value of split 'train'"),
    "evaluate: seeds": (EVALUATE + "--seeds 0", "--seeds 0: must be at least 1"),
    "evaluate: one motion": (EVALUATE + "--per-action 1", "--per-action 1: must be at least 2"),
    "evaluate: steps": (EVALUATE + "--steps 0", "--steps 0: must be at least 1"),
    "evaluate: scheduler": (EVALUATE + "--scheduler dim", "unknown value of scheduler 'dim': did you mean 'ddim'"),
    "evaluate: evaluator": (EVALUATE + "--classifier grru", "'grru': did you mean 'gru'"),
    "evaluate: key": (EVALUATE + "step=3", "'step': did you mean 'steps'"),
    "train-classifier: no store": (
        "train-classifier --train {empty} --test {store} --out {new}",
        "is not a motion store",
    ),
    "train-classifier: existing": ("train-classifier --train {store} --test {store} --out {old}", "exists already"),
    "train-classifier: model": (CLASSIFY + "--model lstm", "unknown value of model 'lstm'"),
    "train-classifier: device": (CLASSIFY + "device=gpu", "--device gpu: "),
    "train-classifier: share": (CLASSIFY + "synthetic_fraction=1.0", "synthetic_fraction=1.0: must be "),
    "train-classifier: seeds": (CLASSIFY + "--seeds 0", "--seeds 0: must be at least 1"),
    "train-classifier: few clips": (CLASSIFY + "--min-clips 1", "--min-clips 1: must be at least 2"),
    "train-classifier: many clips": (CLASSIFY + "--min-clips 99", "--min-clips 99: 0 classes"),
    "train-classifier: same people": (CLASSIFY + "--with {store}", "is in the training and in the test clips"),
    "export: format": ("export {store} --to fbx --out {new}", "unknown format 'fbx'"),
    "export: absent": ("export {absent} --to bvh --out {new}", "does not exist"),
    "export: another file": ("export {text} --to bvh --out {new}", r"only \.npz, \.bvh and \.npy files"),
    "export: broken file": ("export {bad}/0.npz --to bvh --out {new}", r"0\.npz: not a readable \.npz"),
    "export: broken to glb": ("export {bad}/0.npz --to glb --out {new}", r"0\.npz: not a readable \.npz"),
    "export: nearly html": (
        "export {recordings}/0.npz --to htlm --out {new}",
        "unknown format 'htlm': did you mean 'html'",
    ),
    "export: two in one": (
        "export {recordings}/0.npz {recordings}/1.npz --to glb --out {new}",
        "--to glb: 2 sources are given, and only html takes several",
    ),
    "export: broken second": ("export {recordings}/0.npz {bad}/0.npz --to html --out {new}", r"0\.npz: not a readable"),
    "export: absent second": ("export {recordings}/0.npz {absent} --to html --out {new}", "absent: does not exist"),
    "export: page is a folder": ("export {recordings}/0.npz --to html --out {store} --overwrite", "is a folder"),
    "export: page exists": ("export {recordings}/0.npz --to html --out {text}", "exists already"),
    "export: split": ("export {store} --to npz --out {new} --split tset", "unknown split 'tset'"),
    "export: existing": ("export {store} --to npz --out {old}", "exists already"),
    "demo: steps": ("demo --out {new} --steps 0", "--steps 0: must be at least 1"),
    "demo: existing": ("demo --out {old}", "exists already"),
}


@pytest.fixture
def places(tmp_path: Path, store_path: Path, run_path: Path, recordings: Path) -> dict[str, Path]:
    """Input of the wrong commands; ``new`` and ``absent`` do not exist."""
    known = {"store": store_path, "run": run_path, "recordings": recordings}
    made = {name: tmp_path / name for name in ("empty", "bad", "old", "new", "absent")}
    for name in ("empty", "bad", "old"):
        made[name].mkdir()
    for number in range(2):
        (made["bad"] / f"{number}.npz").write_bytes(b"no archive")
    (made["old"] / "precious.txt").write_text("years of work")
    (tmp_path / "text.txt").write_text("some: words\n")
    return {**known, **made, "text": tmp_path / "text.txt"}


def everything_below(*folders: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for folder in folders for path in folder.rglob("*")}


@pytest.mark.parametrize("case", BAD)
def test_wrong_input(case: str, command: Command, places: dict[str, Path], tmp_path: Path) -> None:
    line, words = BAD[case]
    arguments = [word.format(**places) for word in line.split()]
    before = everything_below(tmp_path, places["store"], places["run"])
    status, out, lines = command(*arguments)
    assert status == 2
    assert len(lines) == 1 and lines[0].startswith("motiondiff: "), lines
    assert re.search(words, lines[0]), lines[0]
    assert "Traceback" not in lines[0] and out == ""
    assert everything_below(tmp_path, places["store"], places["run"]) == before


def test_debug_shows_the_traceback(command: Command, tmp_path: Path) -> None:
    status, _, lines = command("info", tmp_path, "--debug")
    assert status == 2 and lines[0].startswith("Traceback") and lines[-1].startswith("motiondiff: ")


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_a_folder_without_anything_of_the_format_is_one_line(command: Command, tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    for folder in ("empty", "absent"):
        status, out, lines = command("prepare", tmp_path / folder, "--format", name, "--out", tmp_path / "store")
        assert status == 2 and out == "" and len(lines) == 1 and folder in lines[0]
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("ntu-rgbd", "S001C001P001R001A001.skeleton"),
        ("etri", "A001_P001_G001_C001.csv"),
        ("uestc", "a0_d1_p001_c1_skeleton.txt"),
        ("humanact12", "humanact12poses.pkl"),
        ("humanml3d", "new_joints/000001.npy"),
        ("amass", "KIT/3/walk_poses.npz"),
        ("florence3d", "Florence_dataset_WorldCoordinates.txt"),
    ],
)
def test_a_file_that_is_none_is_one_line(command: Command, tmp_path: Path, name: str, path: str) -> None:
    file = tmp_path / "data" / path
    file.parent.mkdir(parents=True)
    file.write_text("this is no recording\n")
    status, out, lines = command("prepare", tmp_path / "data", "--format", name, "--out", tmp_path / "store")
    assert status == 2 and out == "" and len(lines) == 1, lines
    assert file.name in lines[0] and not (tmp_path / "store").exists()


def test_prepare_takes_a_folder_or_a_mix(command: Command, recordings: Path, tmp_path: Path) -> None:
    mix = tmp_path / "sources.yaml"
    mix.write_text("skeleton: kinect-v1\nsources:\n  own: {format: npz, path: recordings}\n")
    prepared = as_json(command("prepare", "--merge", mix, "--out", tmp_path / "store", "--fps", "5", "--json"))
    assert prepared["sources"] == {"own": 6} and prepared["joints"] == 20 and prepared["bodies"] == 1
    for arguments, words in (
        ((), "give a folder and --format, or --merge"),
        ((recordings,), "give a folder and --format, or --merge"),
        ((recordings, "--merge", mix), "give neither a folder nor --format"),
        (("--merge", mix, "--labels", "residential"), "write `labels:` into the file"),
        (("--merge", tmp_path / "absent.yaml"), "absent.yaml: no such file"),
        ((recordings, "--format", "npz", "--labels", "residental"), "did you mean 'residential'"),
        ((recordings, "--format", "npz", "--exclude", tmp_path / "no.txt"), "no.txt: no such file"),
    ):
        status, out, lines = command("prepare", *arguments, "--out", tmp_path / "other")
        assert status == 2 and out == "" and len(lines) == 1 and words in lines[0], lines
    assert not (tmp_path / "other").exists()
