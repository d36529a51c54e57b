"""Request of a comparison, a library's own model as its row, and standardised features, by hand."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from icube_common.config import Config, load_config, section
from icube_common.errors import InputError
from icube_common.evaluation import Fold, Samples
from icube_common.evaluation.protocols import leave_one_group_out
from icube_common.experiments.runner.library_comparison import ComparisonRequest, LibraryModel, LibraryTraining
from icube_common.experiments.runner.method_cases import plain_cases, standardised_features
from icube_common.io.runs import RunFolder
from icube_common.prompts.layout import columns_needed, columns_shared
from icube_common.training import TrainConfig
from icube_common.vlm import VLMConfig


@dataclass(frozen=True, kw_only=True)
class ModelConfig(Config):
    """Settings of a model that predicts the first class."""

    train: TrainConfig = section(TrainConfig)
    vlm: VLMConfig = section(VLMConfig)


def folds() -> list[Fold]:
    samples = Samples(ids=list("abcd"), labels=np.asarray([0, 1, 0, 1]), class_names=["x", "y"], groups=list("ppqq"))
    return list(leave_one_group_out(samples, validation=0.0))


def request(out: Path, **keys: Any) -> ComparisonRequest:
    options = {"methods": "none", "protocol": "few-shot", "features": "images", "drawn": ("few-shot",), **keys}
    return ComparisonRequest.check(out, **options)


def test_defaults_of_a_request(tmp_path: Path) -> None:
    """One seed for a protocol that samples its rows, three for others, eight settings of each method."""
    assert (request(tmp_path).seeds, request(tmp_path, protocol="k-fold").seeds) == (1, 3)
    assert request(tmp_path).budget == 8 and request(tmp_path, seeds=2, budget=4).seeds == 2
    with pytest.raises(InputError, match="seeds 1, budget 0: must be at least 1"):
        request(tmp_path, budget=0)
    with pytest.raises(InputError, match="method 'tipp'"):
        request(tmp_path, methods="tipp")


def test_a_folder_of_another_comparison_is_refused(tmp_path: Path) -> None:
    """Methods and seeds are no part of the record, data, budget and a library's settings are."""
    out = tmp_path / "out"
    record = request(out).open_record(data="abc", options={"shots": 1}, head="mean")
    assert record == {
        "data": "abc",
        "protocol": "few-shot",
        "options": {"shots": 1},
        "features": "images",
        "head": "mean",
        "budget": 8,
    }
    from icube_common.experiments import open_comparison

    open_comparison(out, record)
    assert (
        request(out, seeds=5, methods="zero-shot").open_record(data="abc", options={"shots": 1}, head="mean") == record
    )
    for changed in ({"budget": 2}, {"protocol": "k-fold"}):
        with pytest.raises(InputError, match="other settings or data"):
            request(out, **changed).open_record(data="abc", options={"shots": 1}, head="mean")


def test_row_of_an_own_model(tmp_path: Path) -> None:
    """The seed of the comparison arrives, its settings do not depend on it, frozen parameters are not counted."""
    calls: list[tuple[int, list[int]]] = []

    def train(fold: Fold, config: ModelConfig, run: RunFolder) -> LibraryTraining:
        calls.append((config.train.seed, list(fold.train)))
        model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1).requires_grad_(False))
        return LibraryTraining(model, lambda part: np.tile([1.0, 0.0], (len(part.test), 1)), ["slow"])

    config = load_config(ModelConfig, overrides=["train.device=cpu", "train.seed=9"])
    row = LibraryModel(config, train)
    assert row.settings["train.seed"] == 9 and "vlm.name" in row.settings and "vlm.batch_size" not in row.settings
    (case, _) = plain_cases(folds())
    output = row(case, 4, tmp_path / "run")
    assert calls == [(4, [2, 3])]
    assert "seed: 4" in (tmp_path / "run" / "config.yaml").read_text()
    assert output.trained_parameters == 9 and list(output.warnings) == ["slow"]
    np.testing.assert_array_equal(output.probabilities["all classes"], [[1.0, 0.0], [1.0, 0.0]])
    row(case, 5, tmp_path / "run")  # a broken training is replaced
    assert calls[-1][0] == 5


def test_features_standardised_by_the_training_rows() -> None:
    """Training rows 2 and 6: mean 4, standard deviation 2; a missing value becomes the mean."""
    table = {"a": torch.tensor([8.0, 1.0]), "b": torch.tensor([4.0, torch.nan])}
    table |= {"c": torch.tensor([2.0, 3.0]), "d": torch.tensor([6.0, 3.0])}
    fold = folds()[0]
    encode = standardised_features(fold, lambda view: torch.stack(list(view(table).values())))
    training, test = encode(fold.training_rows), encode(fold.test_inputs)
    assert training.joint is None and training.features.dtype == torch.float32
    assert training.features[:, 0].tolist() == [-1.0, 1.0]
    assert test.features[:, 0].tolist() == [2.0, 0.0] and test.features[1, 1] == 0


def test_columns_of_prompts() -> None:
    """Start, two vectors, names of one and two words, end, padding."""
    ids = torch.tensor([[1, 5, 5, 7, 2, 0, 0], [1, 5, 5, 8, 9, 2, 0]])
    slots = torch.tensor([[-1, 0, 1, -1, -1, -1, -1]] * 2)
    assert columns_needed(ids, 0) == 6
    assert columns_shared(ids, slots) == 3 and columns_shared(ids, slots, shifted=True) == 1
    assert columns_shared(ids[:1], slots[:1]) == 0
    assert columns_shared(ids[[0, 0]], slots) == 6  # one column is left to follow
    specific = torch.stack([slots[0], slots[0] + 2 * (slots[0] >= 0)])
    assert columns_shared(ids, specific) == 1
