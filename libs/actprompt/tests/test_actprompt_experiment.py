"""Studies: every key of a training arrives in a trial, and one that has no effect is refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from other_values import other_values, values

from actprompt.config import ActConfig, unused_keys
from actprompt.evaluation import experiment
from icube_common.config import load_config
from icube_common.errors import InputError
from icube_common.experiments import Grid, override_texts
from icube_common.experiments.overrides import SET_BY_STUDY

NEEDS: dict[str, dict[str, Any]] = {
    "prompt.": {"prompt.init": "template"},
    "visual.enabled": {"numeric.enabled": True},
    "loss.label_smoothing": {},
}
REFUSED = frozenset({"prompt.seed"})


def test_every_key_of_a_training_arrives_in_the_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    def record(config: ActConfig, **options: Any) -> None:
        asked.append(values(config))
        raise InputError("recorded")

    monkeypatch.setattr(experiment, "evaluate", record)
    for key, overrides in other_values(ActConfig, NEEDS, refused=REFUSED):
        if key in SET_BY_STUDY:
            with pytest.raises(InputError, match=f"{key}=.*cannot be set for a trial"):
                experiment.run_trial(overrides, 5, tmp_path, data="data")
            continue
        with pytest.raises(InputError, match="recorded"):
            experiment.run_trial(overrides, 5, tmp_path, data="data")
        expected = values(load_config(ActConfig, overrides=override_texts(overrides)))
        assert asked[-1] == {**expected, "train.seed": 5, "train.report_to": "none"}, key
        assert asked[-1][key] != values(ActConfig())[key]


@pytest.mark.parametrize(("key", "value"), [("prompt.seed", 3), ("train.seed", 3), ("train.report_to", "wandb")])
def test_keys_that_a_training_cannot_use_are_refused(key: str, value: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=key.replace(".", r"\.")):
        experiment.run_trial({key: value}, 0, tmp_path, data="data")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompt.template": "a video of {}"}, "other: prompt.template has no effect: prompt.init=descriptions"),
        ({"visual.layers": 2}, "other: visual.layers has no effect: visual.head=mean"),
        ({"numeric.caption_weight": 0.0}, "other: numeric.caption_weight has no effect: numeric.enabled=false"),
        (
            {"ridge_init.enabled": False, "ridge_init.visual_alpha": 1.0},
            "other: ridge_init.visual_alpha has no effect: ridge_init.enabled=false",
        ),
        ({"loss.gamma": 1.0}, "other: loss.gamma has no effect: loss.name=cross_entropy"),
        ({"knowledge": "x", "prompt.init": "random"}, "other: knowledge has no effect: prompt.init=random"),
    ],
)
def test_keys_without_effect_are_refused_by_name(changes: dict[str, Any], message: str) -> None:
    grid = {"variants": [{"name": "base"}, {"name": "other", **changes}], "seeds": [0], "metric": "top1"}
    with pytest.raises(InputError, match=message):
        Grid.from_mapping(grid, ActConfig, unused=unused_keys)
