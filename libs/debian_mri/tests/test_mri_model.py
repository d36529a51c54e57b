"""The model: its logits are the sum of named terms, in every configuration; signs, missing values, pooling."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from model_world import BIOMARKERS, LABELS, changed, people, settings, texts

from debian_mri.biomarkers.head import BiomarkerHead
from debian_mri.config import MriConfig, restrict_modality
from debian_mri.data.dataset import pad, to_tensors
from debian_mri.data.inputs import used_by
from debian_mri.explanation.explain import contributions, slice_weights
from debian_mri.models.clinical_fusion import LinearTerms, VariableScaler
from debian_mri.models.mri_model import BIOMARKER, DESCRIPTION, JOINED, VARIABLE, MriModel
from debian_mri.models.slice_pooling import SlicePooling
from debian_mri.training.ridge_init import initialise_image_branch
from debian_mri.training.trainer import fit_statistics
from icube_common.errors import InputError
from icube_common.evaluation import train_on_all
from icube_common.vlm import FrozenVLM, load_vlm

NAN = float("nan")


@pytest.fixture(scope="module")
def tiny() -> FrozenVLM:
    return load_vlm("icube-tiny")


def shaken(config: MriConfig, vlm: FrozenVLM) -> tuple[MriModel, dict[str, torch.Tensor]]:
    """A model of the simulated people whose weights are all somewhere else than at their start."""
    samples, inputs = people()
    inputs, fold = used_by(inputs, config), train_on_all(samples)
    rows = to_tensors(inputs)
    model = MriModel.for_inputs(inputs, fold.train_class_names, config, vlm, texts(config))
    fit_statistics(model, inputs, fold, rows)
    if model.image_branch is not None:
        initialise_image_branch(model, rows, torch.from_numpy(fold.train_labels), samples.groups or ())
        model.image_branch.logit_weight.fill_(0.5)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for value in model.parameters():
            if value.requires_grad:
                value.add_(0.2 * torch.randn(value.shape, generator=generator))
    return model.eval(), rows


CONFIGURATIONS = {
    "biomarkers": ("visual.enabled=false",),
    "picture": ("concepts.enabled=false",),
    "table": ("visual.enabled=false", "concepts.enabled=false", "demographics.mode=linear"),
    "all": ("demographics.mode=linear", "visual.pooling=attention"),
    "adjusted": ("demographics.mode=linear", "concepts.covariate_adjusted=true", "visual.pooling=concat"),
    "film": ("demographics.mode=film", "visual.pooling=max"),
    "text": ("demographics.mode=text",),
    "learned prompts": ("prompt.learn=true", "prompt.init=template"),
}


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_the_terms_sum_to_the_logits(name: str, tiny: FrozenVLM) -> None:
    model, rows = shaken(settings(*CONFIGURATIONS[name]), tiny)
    if "variables" in rows:
        rows["variables"][3, 0] = NAN
    if "biomarkers" in rows:
        rows["biomarkers"][5, 1] = NAN
    with torch.no_grad():
        logits = model(rows)
    terms = contributions(model, rows)
    assert terms.logits.shape == (24, 2)
    np.testing.assert_allclose(terms.logits, logits.numpy(), atol=1e-5)
    assert len(set(zip(terms.kinds, terms.names, strict=True))) == len(terms.names)
    if "biomarkers" in rows:
        assert (terms.values[terms.names.index(BIOMARKERS[1]), 5] == 0).all()  # not measured: it adds nothing
        assert (terms.values[terms.names.index(BIOMARKERS[1]), 4] != 0).all()
    kinds = set(terms.kinds)
    assert (DESCRIPTION in kinds) == (model.image_branch is not None)
    assert (BIOMARKER in kinds) == (model.biomarkers is not None)
    assert (VARIABLE in kinds) == (model.linear is not None)
    assert (JOINED in kinds) == (name in ("film", "text"))


@pytest.mark.parametrize("mode", ["film", "text"])
def test_report_without_variables_names_none(mode: str, tiny: FrozenVLM) -> None:
    model, rows = shaken(settings(f"demographics.mode={mode}"), tiny)
    rows["variables"][:] = NAN
    terms = contributions(model, rows)
    assert np.abs(terms.values[terms.kinds.index(JOINED)]).max() < 1e-6


def test_only_variables_that_enter_matter(tiny: FrozenVLM) -> None:
    """The image branch alone ignores the table, even where scores are adjusted where it is there."""
    config = restrict_modality(settings("demographics.mode=linear", "concepts.covariate_adjusted=true"), "image")
    model, rows = shaken(config, tiny)
    assert model.variables is None and "variables" not in rows
    table = restrict_modality(config, "table")
    model, rows = shaken(table, tiny)
    assert set(rows) == {"variables"} and table.demographics.mode == "linear"
    with pytest.raises(InputError, match=r"part.*'tables'"):
        restrict_modality(config, "tables")


def test_a_missing_value_is_neutral_with_an_indicator() -> None:
    """Training ages 60, 70, 80: mean 70, deviation sqrt(200 / 3)."""
    variables = VariableScaler(["age", "sex"])
    variables.fit(torch.tensor([[60.0, 0.0], [70.0, 0.0], [80.0, NAN]]))
    found = variables(torch.tensor([[80.0, 0.0], [NAN, 1.0]]))
    std = (200 / 3) ** 0.5
    # sex was the same for all: it says nothing, whatever comes later
    torch.testing.assert_close(found, torch.tensor([[10 / std, 0, 0, 0], [0, 0, 1, 0]]))
    linear = LinearTerms(2, 2)
    with torch.no_grad():
        linear.weight.copy_(torch.tensor([[1.0, 0, 0.5, 0], [0, 0, -0.5, 0]]))
    torch.testing.assert_close(linear(found), torch.tensor([[[10 / std, 0], [0, 0]], [[0.5, 0], [-0.5, 0]]]))


def test_signs_are_scored_against_the_controls_and_weighted_as_published() -> None:
    """Twelve controls at -1, 0, 1 in turn: mean 0, deviation sqrt(2/3)."""
    layer = BiomarkerHead(["a", "b"], torch.tensor([[-1.0, 0.0], [1.0, 0.0]]), prior_weight=0.5)
    values = torch.tensor([-1.0, 0.0, 1.0] * 4 + [5.0, 9.0])
    controls = torch.tensor([True] * 12 + [False] * 2)
    assert layer.fit(torch.stack([values, 2 * values + 1], 1), controls) == ""
    found = layer(torch.tensor([[1.0, NAN]]))
    score = 1 / (2 / 3) ** 0.5
    torch.testing.assert_close(found, torch.tensor([[[-0.25 * score, 0.0], [0.25 * score, 0.0]]]))
    assert layer.percentiles(torch.tensor([[9.0, -9.0]])).tolist() == [[100.0, 0.0]]
    few = BiomarkerHead(["a"], torch.zeros(2, 1), prior_weight=0.5)
    assert "Fewer than ten" in few.fit(values[:, None], torch.tensor([True] * 3 + [False] * 11))


def test_adjusted_scores_do_not_follow_age_in_controls() -> None:
    """The sign is 0.1 times the age and noise: among controls the score is uncorrelated with age."""
    generator = torch.Generator().manual_seed(0)
    age = torch.randn(400, 1, generator=generator)
    sign = 0.1 * age + 0.05 * torch.randn(400, 1, generator=generator)
    covariates = torch.cat([age, torch.zeros(400, 1)], 1)
    layer = BiomarkerHead(["a"], torch.zeros(2, 1), prior_weight=0.5, covariates=2)
    layer.fit(sign, torch.ones(400, dtype=torch.bool), covariates)
    scores = layer.scores(sign, covariates)
    assert abs(float(torch.corrcoef(torch.cat([age, scores], 1).T)[0, 1])) < 0.01
    assert float(scores.std()) == pytest.approx(1, abs=0.02)
    assert layer.slope[0, 0].item() == pytest.approx(0.1, abs=0.01)


def test_pooling_by_hand() -> None:
    slices = pad([torch.tensor([[1.0, 0.0], [3.0, 2.0]]), torch.tensor([[5.0, 1.0]])])
    torch.testing.assert_close(SlicePooling("mean", 2, slices=0)(slices), torch.tensor([[2.0, 1.0], [5.0, 1.0]]))
    torch.testing.assert_close(SlicePooling("max", 2, slices=0)(slices), torch.tensor([[3.0, 2.0], [5.0, 1.0]]))
    attention = SlicePooling("attention", 2, slices=0, width=3)
    torch.testing.assert_close(attention(slices), torch.tensor([[2.0, 1.0], [5.0, 1.0]]))  # starts as the mean
    with torch.no_grad():
        attention.score.weight.fill_(2.0)
    weights = attention.weights(slices)
    assert weights[1].tolist() == [1.0, 0.0] and weights.sum(1).tolist() == pytest.approx([1.0, 1.0])
    assert weights[0, 0] != weights[0, 1]
    with pytest.raises(InputError, match="different numbers"):
        SlicePooling("concat", 2, slices=0)
    with pytest.raises(InputError, match="trained on 2 slices"):
        SlicePooling("concat", 2, slices=2)(slices)


def test_slices_have_weights_with_the_image_branch(tiny: FrozenVLM) -> None:
    model, rows = shaken(settings("visual.pooling=attention"), tiny)
    weights = slice_weights(model, rows)
    assert weights is not None and weights.shape == (24, 3)
    torch.testing.assert_close(weights.sum(1), torch.ones(24))
    without, rows = shaken(settings("visual.enabled=false"), tiny)
    assert slice_weights(without, rows) is None


def test_settings_that_do_not_fit_are_refused() -> None:
    for overrides, words in (
        (("visual.enabled=false", "concepts.enabled=false"), "no input is left"),
        (("visual.enabled=false", "demographics.mode=film"), "mode=linear"),
        (("demographics.mode=linear", "demographics.columns=[]"), "columns is empty"),
        (("prompt.conditional=true",), "conditional"),
        (("visual.pooling=attentive",), "attention"),
    ):
        with pytest.raises(InputError, match=words):
            settings(*overrides)


def test_directions_follow_the_classes_and_the_control_exchanges_them() -> None:
    config = settings("visual.enabled=false")
    found = texts(config).directions(BIOMARKERS, LABELS)
    assert found == [[-1.0] * 3, [1.0] * 3]
    exchanged = texts(replace(config, shuffle_class_texts=1))
    assert exchanged.directions(BIOMARKERS, LABELS) == [[1.0] * 3, [-1.0] * 3]
    assert any("Control" in note for note in exchanged.warnings)


def test_helper_changes_one_row() -> None:
    _, inputs = people(4)
    other = changed(inputs, "s02")
    assert inputs.biomarkers is not None and other.biomarkers is not None
    assert (other.biomarkers.values != inputs.biomarkers.values).any(axis=1).tolist() == [False, False, True, False]
