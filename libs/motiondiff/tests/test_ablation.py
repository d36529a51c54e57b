"""``ablate`` and ``tune``: one cell from end to end, its metrics, the grid that is shipped, bad stores."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from other_values import other_values, values
from safetensors.torch import load_file

from icube_common.config import load_config, read_yaml
from icube_common.errors import InputError
from icube_common.experiments import override_texts
from icube_common.experiments.ablation import ablate
from icube_common.experiments.grid import Grid
from icube_common.experiments.overrides import SET_BY_STUDY, leaves
from icube_common.experiments.search import Search
from icube_common.experiments.tuning import tune
from motiondiff.augmentation import experiment
from motiondiff.augmentation.config import TrialConfig, unused_keys
from motiondiff.augmentation.experiment import run_trial
from motiondiff.augmentation.study.subsets import write_subset
from motiondiff.cli import main
from motiondiff.config import MotionDiffConfig
from motiondiff.data.prepare import PrepareOptions, write_store
from motiondiff.data.store import MotionStore
from motiondiff.data.synthetic import simulate_clips

ROOT = Path(__file__).resolve().parents[3]
BASE = """
base: {train.max_steps: 1, train.batch_size: 4, train.device: cpu, model.num_layers: 1, model.width: 16,
       model.num_heads: 2, model.feedforward: 16, data.max_frames: 32, data.min_frames: 8,
       diffusion.num_train_timesteps: 50, sample.per_class: 2, sample.steps: 2, classifier.model: gru,
       classifier.frames: 16, classifier.steps: 3, classifier.batch_size: 8}
"""


@pytest.fixture(scope="module")
def study_store(tmp_path_factory: pytest.TempPathFactory) -> MotionStore:
    """75 simulated clips: three of each action by each of five subjects, one of them validation, one test."""
    path = tmp_path_factory.mktemp("ablation") / "store"
    description = {"format": "simulated", "source": "tests", "simulated": True}
    return write_store(simulate_clips(75, fps=10), path, PrepareOptions(), description=description)


def test_an_ablation_from_end_to_end(study_store: MotionStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: set[int] = set()
    rows = MotionStore.frames

    def spy(self: MotionStore, clip: int, start: int = 0, stop: int | None = None) -> np.ndarray:
        read.add(int(clip))
        return rows(self, clip, start, stop)

    monkeypatch.setattr(MotionStore, "frames", spy)
    grid = tmp_path / "grid.yaml"
    grid.write_text(
        f"{BASE}variants: [{{name: base}}, {{name: no contact, diffusion.weight_contact: 0.0}}]\n"
        "seeds: [0, 1]\nmetric: accuracy\nbaseline: base\n"
    )
    run = functools.partial(run_trial, data=str(study_store.path))
    study = ablate(run, Grid.load(grid, TrialConfig), tmp_path / "study")
    assert study.failed == 0
    found = {"within_class_diversity", "kid", "jitter", "penetration", "accuracy_of_real", "training_seconds"}
    for variant in study.variants:
        assert found <= set(variant.others) and set(variant.values) == {0, 1}
    difference = study.variant("no contact").difference
    assert difference is not None and difference.over == "2 seeds"
    a, b = (study.variant(name).values for name in ("no contact", "base"))
    assert difference.interval.mean == pytest.approx(np.mean([a[seed] - b[seed] for seed in (0, 1)]))
    assert (tmp_path / "study" / "report.html").is_file()
    # settings are chosen without a look at the test subjects
    assert read and not read & set(study_store.select("test").tolist())
    assert read == {*study_store.select("train").tolist(), *study_store.select("validation").tolist()}


def test_every_key_of_a_training_arrives_in_the_trial(
    study_store: MotionStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []

    def record(model: None, data: Path, config: MotionDiffConfig, *, out: Path) -> None:
        asked.append(values(config))
        raise InputError("recorded")

    monkeypatch.setattr(experiment, "train", record)
    known = leaves(MotionDiffConfig)
    for key, overrides in other_values(MotionDiffConfig, {}):
        if key in SET_BY_STUDY:
            with pytest.raises(InputError, match=f"{key}=.*cannot be set for a trial"):
                run_trial(overrides, 5, tmp_path / "cell" / "5", data=str(study_store.path))
            continue
        with pytest.raises(InputError, match="recorded"):
            run_trial(overrides, 5, tmp_path / "cell" / "5", data=str(study_store.path))
        expected = values(load_config(TrialConfig, overrides=override_texts(overrides)))
        expected |= {"train.seed": 5, "train.report_to": "none"}
        assert asked[-1] == {name: expected[name] for name in known}, key
        assert asked[-1][key] != values(MotionDiffConfig())[key]


def test_an_ablation_of_text_trains_two_models(study_store: MotionStore, tmp_path: Path) -> None:
    grid = tmp_path / "grid.yaml"
    base = BASE.replace("max_steps: 1", "max_steps: 3")
    grid.write_text(
        f"{base}variants: [{{name: actions}}, {{name: texts, text.enabled: true, text.encoder: icube-tiny}}, "
        "{name: noise, text.enabled: true, text.encoder: icube-tiny, text.noise: 0.0}]\n"
        "seeds: [0]\nmetric: jitter\nbaseline: actions\n"
    )
    run = functools.partial(run_trial, data=str(study_store.path))
    ablate(run, Grid.load(grid, TrialConfig, unused=unused_keys), tmp_path / "study", strict=True)
    runs = {path.parts[-3]: path for path in (tmp_path / "study").glob("cells/*/seed-0/run")}
    assert set(runs) == {"actions", "texts", "noise"}  # none took the training of another
    weights = {
        name: load_file(next((path / "model" / "denoiser").glob("*.safetensors"))) for name, path in runs.items()
    }
    assert any("text" in name for name in weights["texts"].keys() - weights["actions"].keys())
    shared = weights["texts"].keys() & weights["noise"].keys()
    assert any(not torch.equal(weights["texts"][name], weights["noise"][name]) for name in shared)
    assert "encoder: icube-tiny" in (runs["texts"] / "config.yaml").read_text()


@pytest.mark.parametrize(
    ("variant", "message"),
    [
        ("text.noise: 0.1", "text.noise has no effect: text.enabled=false"),
        ("diffusion.text_dropout: 0.5", "diffusion.text_dropout has no effect: text.enabled=false"),
        ("classifier.synthetic_fraction: 0.4", "classifier.synthetic_fraction has no effect"),
        ("train.seed: 3", "train.seed=3: cannot be set for a trial: the seeds of the study"),
        ("train.report_to: wandb", "train.report_to=wandb: cannot be set for a trial"),
    ],
)
@pytest.mark.parametrize("command", ["ablate", "tune"])
def test_a_key_that_a_trial_cannot_use_is_refused_by_name(
    command: str, variant: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "file.yaml"
    if command == "ablate":
        file.write_text(f"variants: [{{name: a}}, {{name: b, {variant}}}]\nseeds: [0]\nmetric: jitter\n")
    else:
        key, _, value = variant.partition(": ")
        choices = "[tensorboard, wandb]" if value == "wandb" else f"[{value}, 0.9]" if "." in value else f"[{value}, 9]"
        file.write_text(
            f"space: {{{key}: {{type: categorical, choices: {choices}}}}}\n"
            "metric: jitter\ndirection: minimize\ntrials: 1\nseeds: [0]\n"
        )
        message = message.replace("wandb", "tensorboard")
    option = "--grid" if command == "ablate" else "--space"
    words = [command, "--data", str(tmp_path / "none"), option, str(file), "--out", str(tmp_path / "study")]
    assert main(words) == 2
    error = capsys.readouterr().err
    assert message in error and str(file) in error and error.count("\n") == 1
    assert not (tmp_path / "study").exists()


def test_a_base_key_that_serves_some_variants_only_is_taken() -> None:
    variants = [{"name": "texts"}, {"name": "actions", "text.enabled": False}]
    values = {"base": {"text.enabled": True, "text.noise": 0.1}, "variants": variants, "seeds": [0], "metric": "kid"}
    assert len(Grid.from_mapping(values, TrialConfig, unused=unused_keys).variants) == 2


def test_a_cell_comes_from_its_seed(study_store: MotionStore, tmp_path: Path) -> None:
    file = tmp_path / "base.yaml"
    file.write_text(BASE)
    base = read_yaml(file)["base"]
    outcome = run_trial(base, 0, tmp_path / "one", data=str(study_store.path))
    judged = outcome.metrics
    assert judged["jitter_of_real"] > 0 and judged["accuracy"] <= 1
    again = run_trial(base, 0, tmp_path / "again", data=str(study_store.path)).metrics
    names = [name for name in judged if name != "training_seconds"]
    assert [judged[name] for name in names] == [again[name] for name in names]
    assert run_trial(base, 1, tmp_path / "other", data=str(study_store.path)).metrics["jitter"] != judged["jitter"]


def test_a_training_serves_all_cells_that_only_sample_otherwise(study_store: MotionStore, tmp_path: Path) -> None:
    grid = tmp_path / "grid.yaml"
    grid.write_text(
        f"{BASE}variants: [{{name: base}}, {{name: guided, sample.guidance: 5.0}}, "
        "{name: short, train.max_steps: 2}]\n"
        "seeds: [0]\nmetric: jitter\nbaseline: base\n"
    )
    study = ablate(
        functools.partial(run_trial, data=str(study_store.path)), Grid.load(grid, TrialConfig), tmp_path / "s"
    )
    assert sorted(path.parts[-3].split("-")[0] for path in (tmp_path / "s").glob("cells/*/*/run")) == ["base", "short"]
    base, guided = (study.variant(name) for name in ("base", "guided"))
    assert base.values != guided.values
    settings = {**read_yaml(grid)["base"], "sample.guidance": 5.0}
    alone = run_trial(settings, 0, tmp_path / "x" / "y", data=str(study_store.path))
    assert alone.metrics["jitter"] == guided.values[0]
    assert (tmp_path / "x" / "y" / "run").is_dir()


def test_a_search_from_end_to_end(study_store: MotionStore, tmp_path: Path) -> None:
    space = tmp_path / "space.yaml"
    space.write_text(
        f"{BASE}space: {{sample.guidance: {{type: float, low: 1.0, high: 5.0}}}}\n"
        "metric: kid\ndirection: minimize\ntrials: 2\nseeds: [0]\n"
    )
    run = functools.partial(run_trial, data=str(study_store.path))
    result = tune(run, Search.load(space, TrialConfig), tmp_path / "study")
    assert result.count("finished") == 2 and 1 <= result.overrides["sample.guidance"] <= 5


def test_the_shipped_grid_fits_the_schema() -> None:
    file = ROOT / "libs" / "motiondiff" / "configs" / "ablation_utkinect.yaml"
    grid = Grid.load(file, TrialConfig, unused=unused_keys)
    assert len(grid.seeds) >= 3 and len(grid.variants) == 18
    assert not grid.variants[0].changes and all(variant.changes for variant in grid.variants[1:])
    changed = {key for variant in grid.variants for key in variant.changes}
    assert {"model.preconditioning", "model.gates", "model.convolution", "diffusion.min_snr_gamma"} < changed


def test_a_store_without_validation_subjects(store: MotionStore, tmp_path: Path) -> None:
    part = write_subset(store, store.select("train"), tmp_path / "part")
    with pytest.raises(InputError, match="has no validation split to choose settings by"):
        run_trial({}, 0, tmp_path, data=str(part.path))


def test_the_command(study_store: MotionStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    grid = tmp_path / "grid.yaml"
    grid.write_text("variants: [{name: a, sample.guidence: 1}]\nseeds: [0]\nmetric: accuracy\n")
    words = ["ablate", "--data", str(study_store.path), "--grid", str(grid), "--out", str(tmp_path / "study")]
    assert main(words) == 2
    assert "'sample.guidence': did you mean 'sample.guidance'" in capsys.readouterr().err
    grid.write_text(f"{BASE}variants: [{{name: a}}]\nseeds: [0]\nmetric: accuracy\n")
    assert main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["failed"] == 0 and told["variants"][0]["interval"]["groups"] == 1
