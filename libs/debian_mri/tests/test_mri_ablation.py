from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from other_values import other_values, values

from debian_mri.config import MriConfig, unused_keys
from debian_mri.evaluation import experiment
from icube_common.config import load_config
from icube_common.errors import InputError
from icube_common.experiments import Grid, override_texts
from icube_common.experiments.overrides import SET_BY_STUDY

NEEDS: dict[str, dict[str, Any]] = {
    "prompt.": {"prompt.init": "template"},
    "vlm.encoder_": {"vlm.encoder": "monai:DenseNet121"},
}
REFUSED = frozenset({"prompt.seed", "prompt.conditional", "tabular.enabled", "tabular.fusion_mode"})

CONFIGS = Path(__file__).resolve().parents[1] / "configs"


def test_ablation_variants_change_known_keys() -> None:
    path = CONFIGS / "ablation_oasis_slices.yaml"
    grid = Grid.load(path, MriConfig, unused=unused_keys)
    assert path.read_text(encoding="utf-8").startswith("# debian-mri ablate ")
    assert len(grid.seeds) >= 3 and grid.baseline == "base" and len(grid.variants) >= 15
    factors = {key for variant in grid.variants for key in variant.changes}
    wanted = {"slices.planes", "visual.pooling", "prompt.init", "demographics.mode", "vlm.name"}
    assert wanted | {"concepts.enabled", "concepts.prior_strength", "shuffle_class_texts"} <= factors


def test_every_key_of_a_training_arrives_in_the_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    def record(data: str, config: MriConfig, out: Path, **options: Any) -> None:
        asked.append(values(config))
        raise InputError("recorded")

    monkeypatch.setattr(experiment, "evaluate", record)
    for key, overrides in other_values(MriConfig, NEEDS, refused=REFUSED):
        if key in SET_BY_STUDY:
            with pytest.raises(InputError, match=f"{key}=.*cannot be set for a trial"):
                experiment.run_trial(overrides, 5, tmp_path, data="data")
            continue
        with pytest.raises(InputError, match="recorded"):
            experiment.run_trial(overrides, 5, tmp_path, data="data")
        expected = values(load_config(MriConfig, overrides=override_texts(overrides)))
        assert asked[-1] == {**expected, "train.seed": 5, "train.report_to": "none"}, key
        assert asked[-1][key] != values(MriConfig())[key]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("prompt.seed", 3),
        ("prompt.conditional", True),
        ("tabular.enabled", True),
        ("tabular.fusion_mode", "memory"),
        ("train.seed", 3),
        ("train.report_to", "wandb"),
    ],
)
def test_keys_that_a_training_cannot_use_are_refused(key: str, value: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=key.replace(".", r"\.")):
        experiment.run_trial({key: value}, 0, tmp_path, data="data")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tabular.hidden": 8}, "other: tabular.hidden has no effect: demographics.mode=none"),
        ({"demographics.columns": ["age"]}, "other: demographics.columns has no effect: demographics.mode=none"),
        ({"visual.enabled": False, "vlm.name": "icube-tiny"}, "other: vlm.name has no effect: visual.enabled=false"),
        (
            {"concepts.covariate_adjusted": True},
            "other: concepts.covariate_adjusted has no effect: demographics.mode=none",
        ),
        ({"visual.logit_weight": 0.5}, "other: visual.logit_weight has no effect: visual.tune=true"),
    ],
)
def test_keys_without_effect_are_refused_by_name(changes: dict[str, Any], message: str) -> None:
    grid = {"variants": [{"name": "base"}, {"name": "other", **changes}], "seeds": [0], "metric": "top1"}
    with pytest.raises(InputError, match=message):
        Grid.from_mapping(grid, MriConfig, unused=unused_keys)
