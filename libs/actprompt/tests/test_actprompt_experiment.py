"""Studies: every key of a training arrives in a trial, and one that has no effect is refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from other_values import check_keys_of_a_trial

from actprompt.config import ActConfig, unused_keys
from actprompt.evaluation import experiment
from icube_common.errors import InputError
from icube_common.experiments import Grid

NEEDS: dict[str, dict[str, Any]] = {
    "prompt.": {"prompt.init": "template"},
    "visual.enabled": {"skeleton.enabled": True},
    "loss.label_smoothing": {},
    "vlm.encoder_": {"vlm.encoder": "monai:DenseNet121"},
}
REFUSED = frozenset({"prompt.seed"})


def test_every_key_of_a_training_arrives_in_the_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(overrides: dict[str, Any]) -> None:
        experiment.run_trial(overrides, 5, tmp_path, data="data")

    check_keys_of_a_trial(experiment, ActConfig, NEEDS, REFUSED, monkeypatch, run)


@pytest.mark.parametrize(("key", "value"), [("prompt.seed", 3), ("train.seed", 3), ("train.report_to", "wandb")])
def test_keys_that_a_training_cannot_use_are_refused(key: str, value: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=key.replace(".", r"\.")):
        experiment.run_trial({key: value}, 0, tmp_path, data="data")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompt.template": "a video of {}"}, "other: prompt.template has no effect: prompt.init=descriptions"),
        ({"visual.layers": 2}, "other: visual.layers has no effect: visual.head=mean"),
        ({"skeleton.caption_weight": 0.0}, "other: skeleton.caption_weight has no effect: skeleton.enabled=false"),
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
