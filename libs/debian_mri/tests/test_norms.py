"""Normative curves of biomarkers over age, against the scores of the model and by hand."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from made_up import draw_slices, make_explanation
from model_world import BIOMARKERS, LABELS, SIGNS_ONLY, people, settings, texts

from debian_mri.data.dataset import to_tensors
from debian_mri.data.inputs import Inputs, used_by
from debian_mri.explanation.html_report import prediction_page
from debian_mri.explanation.norms import NormCurve, drawings, norm_curves
from debian_mri.models.mri_model import MriModel


def fitted(*overrides: str) -> tuple[MriModel, Inputs]:
    """A model whose statistics are of simulated people, half of them controls."""
    config = settings(*SIGNS_ONLY, "demographics.mode=linear", *overrides)
    samples, inputs = people(40)
    inputs = used_by(inputs, config)
    model = MriModel.for_inputs(inputs, LABELS, config, None, texts(config)).eval()
    rows = to_tensors(inputs)
    assert model.variables is not None and model.biomarkers is not None
    model.variables.fit(rows["variables"])
    adjusted = model.variables(rows["variables"]) if len(model.biomarkers.slope) else None
    model.biomarkers.fit(rows["biomarkers"], torch.from_numpy(samples.labels == 0), adjusted)
    return model, inputs


@pytest.mark.parametrize("adjusted", ["true", "false"])
def test_the_person_lies_as_far_from_the_curve_as_the_model_scores(adjusted: str) -> None:
    model, inputs = fitted(f"concepts.covariate_adjusted={adjusted}")
    curves = norm_curves(model, inputs, "s07")
    assert [curve.name for curve in curves] == list(BIOMARKERS) and curves[0].controls == 20
    batch = to_tensors(replace(inputs, ids=("s07",)))
    assert model.biomarkers is not None and model.variables is not None
    covariates = model.variables(batch["variables"]) if adjusted == "true" else None
    scores = model.biomarkers.scores(batch["biomarkers"], covariates)[0].tolist()
    assert [curve.score for curve in curves] == pytest.approx(scores, abs=0.02)
    # without adjustment the expected value is the controls' mean at every age
    flat = np.ptp(curves[0].expected)
    assert flat > 1e-4 if adjusted == "true" else flat == 0.0


def test_no_curve_without_an_age_or_a_biomarker() -> None:
    model, inputs = fitted()
    assert inputs.demographics is not None and inputs.biomarkers is not None
    ages, measured = inputs.demographics.values.copy(), inputs.biomarkers.values.copy()
    ages[3, 0], measured[4, 1] = np.nan, np.nan
    gaps = replace(
        inputs,
        demographics=replace(inputs.demographics, values=ages),
        biomarkers=replace(inputs.biomarkers, values=measured),
    )
    assert norm_curves(model, gaps, "s03") == ()
    assert [curve.name for curve in norm_curves(model, gaps, "s04")] == [BIOMARKERS[0], BIOMARKERS[2]]
    bare = MriModel.for_inputs(replace(inputs, demographics=None), LABELS, model.config, None, texts(model.config))
    assert norm_curves(bare, inputs, "s05") == ()


def curve(**changes: float) -> NormCurve:
    values = {"std": 0.5, "age": 75.0, "value": 2.0, **changes}
    return NormCurve(
        name="x",
        label="hippocampal volume loss",
        ages=(60.0, 70.0, 80.0),
        expected=(0.0, 0.5, 1.0),
        controls=30,
        **values,
    )


def test_drawing_by_hand() -> None:
    # expected 0.75 at 75 years
    assert curve().score == pytest.approx((2.0 - 0.75) / 0.5)
    (drawing,) = drawings([curve()])
    line = [tuple(map(float, point.split(","))) for point in drawing["line"].split(" ")]
    assert line[0][0] == 26.0 and line[-1][0] == 300.0 - 26.0
    assert drawing["point"][0] == pytest.approx((line[1][0] + line[2][0]) / 2)
    # up is more: the person is above the line, the band of two deviations above that of one
    assert drawing["point"][1] < line[2][1] < line[0][1]
    upper_two, upper_one = (float(drawing[name].split(" ")[0].split(",")[1]) for name in ("two", "one"))
    assert upper_two < upper_one < line[0][1]
    assert len(drawing["two"].split(" ")) == 6


def test_page_shows_the_curves() -> None:
    explanation = make_explanation()
    page = prediction_page(explanation, draw_slices(explanation), norms=[curve()])
    assert page.count("<svg") == 1 and "beside the 30 training controls" in page
    assert re.search(r"<figcaption>hippocampal volume loss: \+2\.5 SD at 75 years", page)
    assert "<svg" not in prediction_page(explanation, draw_slices(explanation))
