"""Training, evaluation, ablation and search through the command line, on simulated videos; and wrong input."""

from __future__ import annotations

import csv
import json
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from act_world import LABELS, write_knowledge, write_set
from command_line import Command, CountedTrainings, Ran, as_json, command_fixture

import actprompt.evaluation.baselines as baselines
import actprompt.evaluation.runner as evaluate_module
from actprompt.cli import main
from actprompt.training.calibration import train_calibrated
from icube_common.io.runs import read_json
from icube_common.vlm import VLMConfig

METRICS = ("top1", "mean_class_accuracy", "macro_f1")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of 3 people, 4 classes, 2 takes; another of 2 other people; one without skeletons; class descriptions."""
    folder = tmp_path_factory.mktemp("act")
    write_set(folder / "data")
    write_set(folder / "others", people=("p8", "p9"), labels=("wave", "bow"), takes=1, seed=5)
    write_set(folder / "pictures", people=("p5", "p6"), takes=1, skeletons=False)
    write_knowledge(folder / "knowledge.yaml")
    write_knowledge(folder / "half.yaml", LABELS[:2])
    return folder


@pytest.fixture
def settings(place: Path) -> list[str]:
    return [
        "vlm.name=icube-tiny",
        f"knowledge={place / 'knowledge.yaml'}",
        "video.frames=2",
        "skeleton.frames=8",
        "skeleton.num_time_warps=1",
        "train.max_steps=2",
        "train.batch_size=8",
        "train.report_to=none",
        "train.device=cpu",
    ]


command = command_fixture(main, "actprompt")


@pytest.fixture
def fitted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the folds that evaluations train on; a training beyond ``stop_at`` of them is interrupted."""
    counting = CountedTrainings(train_calibrated)
    monkeypatch.setattr(evaluate_module, "train_calibrated", counting)
    monkeypatch.setattr(baselines, "_TREES", 20)
    return counting.names


def refused(ran: Ran, *messages: str) -> str:
    """The one line of the error."""
    status, out, err = ran
    assert status == 2 and out == "", ran
    assert not any("Traceback" in line for line in err)
    lines = [line for line in err if line.startswith("actprompt: ")]
    assert len(lines) == 1 and err[-1] == lines[0]
    for message in messages:
        assert message in lines[0], lines[0]
    return lines[0]


def rows(path: Path) -> list[list[str]]:
    with path.open(newline="") as handle:
        return list(csv.reader(handle))


def check_figures(found: Any, people: int) -> None:
    for name in METRICS:
        assert 0 <= found[name]["mean"] <= 1 and found[name]["groups"] == people
        assert len(found[name]["ci95"]) == 2
    assert "top5" not in found  # of four classes


# a trained run on other people


@pytest.fixture(scope="module")
def run(place: Path) -> Path:
    """Trained on p1 and p2."""
    words = [
        "vlm.name=icube-tiny",
        f"knowledge={place / 'knowledge.yaml'}",
        "video.frames=2",
        "skeleton.enabled=true",
        "skeleton.num_time_warps=1",
        "train.max_steps=2",
        "train.batch_size=8",
        "train.report_to=none",
        "train.device=cpu",
    ]
    status = main(
        [
            "train",
            "--data",
            str(place / "data"),
            "--out",
            str(place / "run"),
            "--exclude-subjects",
            "p3",
            "--quiet",
            *words,
        ]
    )
    assert status == 0
    logging.getLogger("actprompt").handlers[:] = [logging.NullHandler()]
    return place / "run"


def test_train_writes_a_run(run: Path) -> None:
    names = {path.name for path in run.iterdir()}
    assert {"config.yaml", "environment.json", "metrics.jsonl", "model", "report.html", "checkpoints"} <= names
    description = read_json(run / "model" / "model.json")
    assert description["trained_on"]["subjects"] == ["p1", "p2"] and description["trained_on"]["clips"] == 16
    assert description["data"]["simulated"] is True and description["labels"] == list(LABELS)
    environment = read_json(run / "environment.json")
    assert environment["data_fingerprint"] == description["data"]["fingerprint"]
    assert environment["knowledge"]["hash"]
    page = (run / "report.html").read_text()
    assert "untrained backbone" in page and "not checked by a specialist" in page


def test_evaluate_a_run_on_other_people(command: Command, run: Path, place: Path, tmp_path: Path) -> None:
    out = tmp_path / "eval"
    result = as_json(command("evaluate", run, "--data", place / "data", "--out", out, "--subjects", "p3", "--json"))
    assert (result["clips"], result["subjects"]) == (8, 1)
    table = rows(out / "predictions.csv")
    assert table[0] == ["id", "subject", "repeat", "fold", "label", "predicted", *(f"p_{label}" for label in LABELS)]
    assert len(table) == 9 and {row[1] for row in table[1:]} == {"p3"}
    for row in table[1:]:
        values = [float(value) for value in row[6:]]
        assert sum(values) == pytest.approx(1) and LABELS[values.index(max(values))] == row[5]
    right = sum(row[4] == row[5] for row in table[1:]) / 8
    assert result["top1"]["mean"] == pytest.approx(right) and right >= 0.75
    assert result["top1"]["ci95"] == [None, None] and result["top1"]["note"] == "one group only"
    assert read_json(out / "metrics.json")["top1"] == result["top1"]
    assert "untrained backbone" in (out / "report.html").read_text()


def test_evaluate_a_run_on_another_set(command: Command, run: Path, place: Path, tmp_path: Path) -> None:
    """A set with two of the classes, in another order."""
    result = as_json(command("evaluate", run, "--data", place / "others", "--out", tmp_path / "eval", "--json"))
    assert (result["clips"], result["subjects"]) == (4, 2)
    table = rows(tmp_path / "eval" / "predictions.csv")
    assert {row[4] for row in table[1:]} == {"wave", "bow"} and len(table[0]) == 6 + 4
    assert all(row[0].split("-")[1] == row[4] for row in table[1:])
    assert sum(row[4] == row[5] for row in table[1:]) >= 3


def test_an_evaluation_of_a_run_is_replaced_whole(command: Command, run: Path, place: Path, tmp_path: Path) -> None:
    out = tmp_path / "eval"
    words = ["evaluate", run, "--data", place / "others", "--out", out]
    as_json(command(*words, "--json"))
    (out / "old.txt").touch()
    refused(command(*words), "exists already")
    as_json(command(*words, "--overwrite", "--json"))
    assert not (out / "old.txt").exists() and (out / "predictions.csv").exists()


def test_trained_people_are_refused(command: Command, run: Path, place: Path, tmp_path: Path) -> None:
    words = ["evaluate", run, "--data", place / "data", "--out", tmp_path / "eval"]
    refused(command(*words), "trained on subject 'p1' (2 of the set's)", "--subjects p3 takes the others")
    refused(command(*words, "--subjects", "p2,p3"), "trained on subject 'p2'")
    refused(command(*words, "--subjects", "p4"), "--subjects p4: no such subject; there are p1, p2, p3")
    assert not (tmp_path / "eval").exists()


def test_classes_that_the_run_does_not_know(command: Command, place: Path, tmp_path: Path, settings: list[str]) -> None:
    out = tmp_path / "run"
    as_json(command("train", "--data", place / "others", "--out", out, *settings, "--json"))
    ran = command("evaluate", out, "--data", place / "data", "--out", tmp_path / "eval")
    refused(ran, "class 'clap' is none of the 2 that", "(2 are not)")


def test_a_run_has_its_settings(command: Command, run: Path, place: Path, tmp_path: Path) -> None:
    words = ["evaluate", run, "--data", place / "others", "--out", tmp_path / "eval"]
    for extra in (["video.frames=2"], ["--protocol", "k-fold"], ["--comparisons"], ["--shots", "1"]):
        refused(command(*words, *extra), f"{extra[0]}: a trained RUN has its settings")
    refused(command("evaluate", "--subjects", "p1", *words[2:]), "--subjects p1: goes with a trained RUN only")
    refused(command("evaluate", place / "data", *words[2:]), "no trained model in it")
    # the run looks at skeletons, and this set has none
    ran = command("evaluate", run, "--data", place / "pictures", "--out", tmp_path / "eval")
    refused(ran, "no recorded skeletons; run `actprompt pose")
    assert not (tmp_path / "eval").exists()


def test_the_same_set_is_resumed_with(command: Command, run: Path, place: Path, tmp_path: Path) -> None:
    before = (run / "model" / "model.safetensors").read_bytes()
    words = ["train", "--out", run, "--resume", "--json"]
    refused(command(*words, "--data", place / "others"), "was trained on other data")
    # nor with other people, however many: the model would be said to have seen others than it has
    for side in ([], ["--exclude-subjects", "p2"], ["--protocol", "cross-subject"]):
        refused(
            command(*words, "--data", place / "data", *side),
            "with --exclude-subjects p3; resume with the same",
        )
    result = as_json(command(*words, "--data", place / "data", "--exclude-subjects", "p3"))
    assert result["resumed_from"] == 2 and (run / "model" / "model.safetensors").read_bytes() == before


# protocols


def test_leave_one_subject_out(
    command: Command, place: Path, tmp_path: Path, settings: list[str], fitted: list[str]
) -> None:
    out = tmp_path / "eval"
    result = as_json(command("evaluate", "--data", place / "data", "--out", out, *settings, "--json"))
    check_figures(result, 3)
    assert fitted == ["without p1", "without p2", "without p3"]
    assert (result["clips"], result["subjects"], result["metric"]) == (24, 3, "top1")
    # colours tell the classes apart even to random weights
    assert result["top1"]["mean"] >= 0.75 and result["comparisons"] == {}
    table = rows(out / "predictions.csv")
    assert len({row[0] for row in table[1:]}) == 24 == len(table) - 1
    assert {row[1]: row[3] for row in table[1:]} == {"p1": "0", "p2": "1", "p3": "2"}
    warnings = " ".join(result["warnings"])
    assert "untrained backbone" in warnings and "not checked by a specialist" in warnings
    assert sorted(path.name for path in (out / "folds").iterdir()) == ["00-000", "00-001", "00-002"]


def test_a_sets_own_protocol_has_its_own_figure(
    command: Command, place: Path, tmp_path: Path, settings: list[str], fitted: list[str]
) -> None:
    words = ["evaluate", "--data", place / "data", *settings, "--json"]
    result = as_json(command(*words, "--out", tmp_path / "1", "--protocol", "cross-view"))
    assert result["metric"] == "mean_class_accuracy" and result["clips"] == 12 and result["subjects"] == 3
    result = as_json(command(*words, "--out", tmp_path / "2", "--protocol", "cross-subject"))
    assert result["metric"] == "top1" and result["clips"] == 8
    refused(command(*words, "--out", tmp_path / "3", "--protocol", "official"), "several: name one of cross-subject")
    assert len(fitted) == 2


def test_few_shot(command: Command, place: Path, tmp_path: Path, settings: list[str], fitted: list[str]) -> None:
    out = tmp_path / "eval"
    words = ["--protocol", "few-shot", "--shots", "2,1", "--draws", "1", "--json"]
    result = as_json(command("evaluate", "--data", place / "data", "--out", out, *words, *settings))
    assert list(result["shots"]) == ["1", "2"] and len(fitted) == 6
    for figures in result["shots"].values():
        check_figures(figures, 3)
    assert result["top1"] == result["shots"]["2"]["top1"]
    assert len(rows(out / "predictions_1_shots.csv")) == 25
    assert (out / "predictions_2_shots.csv").read_bytes() == (out / "predictions.csv").read_bytes()
    assert "Few shots" in (out / "report.html").read_text()


def test_base_to_new(command: Command, place: Path, tmp_path: Path, settings: list[str], fitted: list[str]) -> None:
    out = tmp_path / "eval"
    words = ["--protocol", "base-to-new", "--draws", "2", "--json", "skeleton.enabled=true"]
    result = as_json(command("evaluate", "--data", place / "data", "--out", out, *words, *settings))
    found = result["base_to_new"]
    assert len(fitted) == 6 and len(found["draws"]) == 2
    first, second = (draw["new_classes"] for draw in found["draws"])
    assert len(first) == len(second) == 2 and first != second
    for key in ("base", "new", "harmonic_mean"):
        assert found[key]["mean"] == pytest.approx(sum(draw[key] for draw in found["draws"]) / 2)
    for draw in found["draws"]:
        assert draw["new_above_chance"] == pytest.approx(draw["new"] - 0.5)
    assert found["base"]["mean"] >= 0.9
    table = rows(out / "predictions.csv")
    place_of = {name: 6 + at for at, name in enumerate(LABELS)}
    for row in table[1:]:
        # a prediction is among the classes of its own side
        new = found["draws"][int(row[2])]["new_classes"]
        side = new if row[4] in new else [label for label in LABELS if label not in new]
        assert row[5] in side and sum(float(row[place_of[label]]) for label in side) == pytest.approx(1)
    assert len(table) == 1 + 2 * 24


def test_comparisons(command: Command, place: Path, tmp_path: Path, settings: list[str], fitted: list[str]) -> None:
    out = tmp_path / "eval"
    words = ["--protocol", "cross-subject", "--comparisons", "--json", "skeleton.enabled=true"]
    result = as_json(command("evaluate", "--data", place / "data", "--out", out, *words, *settings))
    found = result["comparisons"]
    names = ["images only", "skeletons only", "class texts shuffled", "nearest neighbour", "randomised trees"]
    assert list(found) == names and len(fitted) == 4
    for name, row in found.items():
        check_figures(row, 1)
        assert row["difference"]["top1"]["mean"] == pytest.approx(result["top1"]["mean"] - row["top1"]["mean"])
        assert len(rows(out / "comparisons" / f"{name.replace(' ', '-')}.csv")) == 9
    assert found["nearest neighbour"]["top1"]["mean"] >= 0.75
    roles = {name: row["comparison"] for name, row in found.items()}
    assert roles.pop("class texts shuffled") == "primary" and set(roles.values()) == {"descriptive"}
    page = (out / "report.html").read_text()
    assert "On the same folds" in page and "The primary comparison, class texts shuffled" in page
    # nothing is trained again
    again = as_json(command("evaluate", "--data", place / "data", "--out", out, *words, *settings))
    assert again == result and len(fitted) == 4


def test_interrupted_evaluation_resumes(
    command: Command, place: Path, tmp_path: Path, settings: list[str], fitted: list[str]
) -> None:
    words = ["evaluate", "--data", place / "data", "--out", tmp_path / "eval", *settings, "--json"]
    counting: Any = evaluate_module.train_calibrated
    counting.stop_at = 2
    status, out, err = command(*words)
    assert (status, out, err[-1]) == (1, "", "actprompt: interrupted")
    assert fitted == ["without p1", "without p2"]
    counting.stop_at = None
    result = as_json(command(*words))
    assert fitted == ["without p1", "without p2", "without p3"]
    whole = as_json(command(*words[:4], tmp_path / "whole", *words[5:]))
    assert result["top1"] == whole["top1"]
    tables = [(tmp_path / name / "predictions.csv").read_bytes() for name in ("eval", "whole")]
    assert tables[0] == tables[1]
    # other settings, another protocol or other options are another evaluation
    fitted.clear()
    before = (tmp_path / "eval" / "predictions.csv").read_bytes()
    for extra in (["train.seed=1"], ["--protocol", "k-fold"], ["--comparisons"], ["--protocol-seed", "3"]):
        refused(command(*words, *extra), "holds an evaluation of other settings or data (--overwrite replaces it)")
    refused(command(*words, "--overwrite", "--protocol", "leave-one-out"), "unknown protocol")
    assert fitted == [] and (tmp_path / "eval" / "predictions.csv").read_bytes() == before
    as_json(command(*words, "--overwrite", "train.seed=1"))
    assert len(fitted) == 3


# studies


def test_ablate(command: Command, place: Path, tmp_path: Path, settings: list[str], fitted: list[str]) -> None:
    grid = tmp_path / "grid.yaml"
    grid.write_text("grid:\n  visual.head: [mean, mean_std]\nseeds: [0]\nmetric: top1\n")
    words = ["ablate", "--data", place / "data", "--grid", grid, "--out", tmp_path / "study", *settings, "--json"]
    counting: Any = evaluate_module.train_calibrated
    counting.stop_at = 4
    assert command(*words)[0] == 1
    assert len(fitted) == 4
    counting.stop_at = None
    result = as_json(command(*words))
    # the first cell is there; the second, which was interrupted in its second fold, is begun again
    assert len(fitted) == 7 and result["failed"] == 0
    assert "head=mean" in result["table"] and "head=mean_std" in result["table"]
    assert Path(result["report"]).is_file() and len(result["variants"]) == 2
    assert as_json(command(*words))["table"] == result["table"] and len(fitted) == 7


def test_tune(command: Command, place: Path, tmp_path: Path, settings: list[str], fitted: list[str]) -> None:
    space = tmp_path / "space.yaml"
    space.write_text(
        "space:\n  ridge_init.visual_alpha: {type: float, low: 0.1, high: 100, log: true}\nmetric: top1\n"
        "direction: maximize\ntrials: 2\nseeds: [0]\n"
    )
    words = ["--protocol", "cross-subject", "--trials", "2", *settings, "--json"]
    result = as_json(command("tune", "--data", place / "data", "--space", space, "--out", tmp_path / "s", *words))
    assert result["finished"] == 2 and result["failed"] == 0 and len(fitted) == 2
    assert 0.1 <= result["best"]["overrides"]["ridge_init.visual_alpha"] <= 100 and 0 <= result["best"]["top1"] <= 1
    assert "visual" in Path(result["config"]).read_text()


# wrong input

WRONG: list[tuple[Sequence[str], Sequence[str]]] = [
    (["visual.hed=mean"], ["visual.hed", "did you mean", "head"]),
    (["visual.head=men"], ["visual.head", "men", "mean"]),
    (["knowledge=HALF"], ["sit down", "wave", "half.yaml"]),
    (["knowledge=florence3"], ["unknown class knowledge 'florence3'", "florence3d"]),
    (["knowledge=''"], ["class knowledge: none comes with the library for the format 'simulated'"]),
    (["knowledge=none.yaml"], ["none.yaml"]),
    (["visual.enabled=false"], ["no input is left"]),
    (["ridge_init.fusion=late", "ridge_init.tune=false"], ["set ridge_init.tune=true"]),
    (["skeleton.enabled=true", "--data", "PICTURES"], ["no recorded skeletons; run `actprompt pose"]),
    (["--shots", "0", "--protocol", "few-shot"], ["--shots 0: must be positive whole numbers"]),
    (["--shots", "1,x", "--protocol", "few-shot"], ["--shots 1,x"]),
    (["--shots", "9", "--protocol", "few-shot"], ["9 shots: class 'bow' has 4 training rows"]),
    (["--draws", "0", "--protocol", "few-shot"], ["draws 0: must be at least 1"]),
    (["--repeats", "0", "--protocol", "k-fold"], ["repeats 0"]),
    (["--folds", "9", "--protocol", "k-fold"], ["9 folds of 3 groups"]),
    (["--new-classes", "3", "--protocol", "base-to-new"], ["3 new of 4 classes"]),
    (["--draws", "7", "--protocol", "base-to-new"], ["only 6 choices"]),
    (["--protocol-seed", "-1"], ["seed -1"]),
    (["--protocol", "leave-one-subjct-out"], ["did you mean 'leave-one-subject-out'"]),
    (["--protocol", "cross-veiw"], ["did you mean 'cross-view'"]),
    (["--data", "NONE"], ["not a prepared set"]),
    (["video.mode=random"], ["video.mode=random"]),
    (["video.frames=0"], ["video.frames"]),
    (["train.eval_steps=1", "--data", "PICTURES"], ["eval_steps=1: no validation rows"]),
    (["train.mixed_precision=fp16"], ["fp16"]),
    (["--features", "OTHER"], ["fingerprint"]),
    (
        ["skeleton.fusion_mode=memory", "skeleton.trajectory=false", "skeleton.enabled=true", "visual.enabled=false"],
        ["is none"],
    ),
    (["prompt.num_context=-3"], ["num_context=-3"]),
]


@pytest.mark.parametrize(("words", "messages"), WRONG, ids=[" ".join(words) for words, _ in WRONG])
def test_wrong_input(
    command: Command,
    place: Path,
    tmp_path: Path,
    settings: list[str],
    fitted: list[str],
    words: Sequence[str],
    messages: Sequence[str],
) -> None:
    out = tmp_path / "out" / "eval"
    places = {"HALF": "half.yaml", "PICTURES": "pictures", "NONE": "none", "OTHER": "of-another-backbone"}
    if "OTHER" in words:
        other = ["vlm.name=icube-tiny", "vlm.seed=4", "video.frames=2"]
        folder = place / "of-another-backbone"
        assert command("extract", "--data", place / "data", "--out", folder, *other)[0] == 0
    given = [str(place / places[word]) if word in places else word for word in words]
    given = [word.replace("=HALF", f"={place / 'half.yaml'}") for word in given]
    refused(command("evaluate", "--data", place / "data", "--out", out, *settings, *given), *messages)
    assert fitted == [] and not out.parent.exists()


@pytest.mark.parametrize(
    ("words", "messages"),
    [
        (["--exclude-subjects", "p7"], ["--exclude-subjects p7: no such subject; there are p1, p2, p3"]),
        (["--exclude-subjects", "p1,p2,p3"], ["no subject is left"]),
        (["--exclude-subjects", "p1", "--protocol", "cross-subject"], ["does not go with --protocol"]),
        (["--protocol", "cross-sub"], ["did you mean 'cross-subject'"]),
        (
            ["train.eval_steps=1", "--exclude-subjects", "p3"],
            ["eval_steps=1: no validation rows: 2 training groups"],
        ),
        (["--resume", "--config", "none.yaml"], ["none.yaml"]),
    ],
)
def test_wrong_input_to_train(
    command: Command,
    place: Path,
    tmp_path: Path,
    settings: list[str],
    words: Sequence[str],
    messages: Sequence[str],
) -> None:
    out = tmp_path / "out" / "run"
    refused(command("train", "--data", place / "data", "--out", out, *settings, *words), *messages)
    assert not out.parent.exists()


def test_a_run_is_not_overwritten(command: Command, run: Path, place: Path, settings: list[str]) -> None:
    before = (run / "model" / "model.safetensors").read_bytes()
    refused(command("train", "--data", place / "data", "--out", run, *settings), "exists already")
    assert (run / "model" / "model.safetensors").read_bytes() == before


def test_a_person_on_both_sides_of_a_split_by_subject(
    command: Command, place: Path, tmp_path: Path, settings: list[str]
) -> None:
    data = write_set(tmp_path / "data", people=("p1", "p2"), takes=1)
    description = read_json(data / "dataset.json")
    description["protocols"][2]["name"] = "cross-people"
    (data / "dataset.json").write_text(json.dumps(description))
    table = (data / "manifest.csv").read_text().splitlines()
    changed = [line.replace(",test,6,", ",train,6,") if "wave" in line else line for line in table]
    (data / "manifest.csv").write_text("\n".join(changed) + "\n")
    words = ["evaluate", "--data", data, "--out", tmp_path / "eval", "--protocol", "cross-people", *settings]
    refused(command(*words), "group 'p1' has training and test rows")


def test_zeroshot_and_evaluate_are_distinguished(command: Command, place: Path, tmp_path: Path) -> None:
    words = ["--data", place / "data", "--out", tmp_path / "eval", "vlm.name=icube-tiny", "video.frames=2", "--json"]
    result = as_json(command("zeroshot", *words, "--features", tmp_path / "features"))
    assert result["clips"] == 24 and any("simulated videos" in note for note in result["warnings"])


@pytest.mark.parametrize("job", ["train", "evaluate", "zeroshot"])
def test_classes_of_one_name_are_refused_before_the_backbone_is_loaded(
    command: Command, place: Path, tmp_path: Path, settings: list[str], job: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*arguments: Any, **options: Any) -> None:
        raise AssertionError("the backbone was loaded")

    monkeypatch.setattr(VLMConfig, "load", load)
    data = tmp_path / "data"
    shutil.copytree(place / "data", data)
    description = json.loads((data / "dataset.json").read_text())
    description["class_texts"] |= {LABELS[0]: "Walk", LABELS[2]: "walk"}
    (data / "dataset.json").write_text(json.dumps(description))
    words = [] if job == "zeroshot" else [word for word in settings if word.startswith("knowledge=")]
    ran = command(job, "--data", str(data), "--out", str(tmp_path / "out"), "vlm.name=icube-tiny", *words)
    refused(ran, f"classes '{LABELS[0]}' and '{LABELS[2]}': both are called 'walk'")
    assert not (tmp_path / "out").exists()
