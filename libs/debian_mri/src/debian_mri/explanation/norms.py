"""Normative curves of biomarkers: the person's value beside that of the training controls over age.

The expected value at an age is the controls' mean, or, for w-scores (``concepts.covariate_adjusted``), their regression
on the clinical variables with the person's own other variables (La Joie et al., J Neurosci 2012); the band is one and
two standard deviations of the controls around it. No value of a single control is stored in a model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from debian_mri.biomarkers.concepts import load_concepts
from debian_mri.data.dataset import to_tensors
from debian_mri.data.inputs import Inputs, used_by
from debian_mri.models.mri_model import MriModel

AGE = "age"
_POINTS, _REACH = 25, 2.0
# of the drawing
_WIDTH, _HEIGHT, _MARGIN = 300.0, 150.0, 26.0


@dataclass(frozen=True, kw_only=True)
class NormCurve:
    """A person's biomarker among the training controls.

    Attributes:
        name: of the biomarker.
        label: of its concept.
        ages: years, ascending: two standard deviations around the mean age of the training, widened to the person's.
        expected: of the controls at these ages.
        std: of the controls around it.
        age: of the person, years.
        value: of the person.
        controls: number of training controls; 0 where all training people replace too few of them.
    """

    name: str
    label: str
    ages: tuple[float, ...]
    expected: tuple[float, ...]
    std: float
    age: float
    value: float
    controls: int

    @property
    def score(self) -> float:
        """Standard deviations above the controls of the person's age."""
        return (self.value - float(np.interp(self.age, self.ages, self.expected))) / self.std


@torch.no_grad()
def norm_curves(model: MriModel, inputs: Inputs, scan_id: str) -> tuple[NormCurve, ...]:
    """Curves of the biomarkers that were measured; none for a model, or a person, without an age.

    Args:
        model: in eval mode.
        inputs: tables that hold the scan.
        scan_id: which.
    """
    head, variables = model.biomarkers, model.variables
    if head is None or variables is None or AGE not in variables.names:
        return ()
    batch = to_tensors(replace(used_by(inputs, model.config), ids=(scan_id,)), model.device)
    row, place = batch["variables"], variables.names.index(AGE)
    age = float(row[0, place])
    if math.isnan(age):
        return ()
    middle, reach = float(variables.mean[place]), _REACH * float(variables.std[place])
    ages = torch.linspace(min(middle - reach, age), max(middle + reach, age), _POINTS, device=row.device)
    people = row.repeat(_POINTS, 1)
    people[:, place] = ages
    expected = head.mean.expand(_POINTS, -1)
    if len(head.slope):
        expected = head.mean + variables(people) @ head.slope
    concepts = load_concepts(model.config.concept_file or None)
    return tuple(
        NormCurve(
            name=name,
            label=concepts[name].label,
            ages=tuple(ages.tolist()),
            expected=tuple(expected[:, at].tolist()),
            std=float(head.std[at]),
            age=age,
            value=float(batch["biomarkers"][0, at]),
            controls=int(head.control_count),
        )
        for at, name in enumerate(head.names)
        if not bool(batch["biomarkers"][0, at].isnan())
    )


def drawings(curves: Sequence[NormCurve]) -> list[dict[str, Any]]:
    """Coordinates of each curve's drawing, for the template of the page: bands, line, point, ends of the axes."""
    return [_drawing(curve) for curve in curves]


def _drawing(curve: NormCurve) -> dict[str, Any]:
    ages, expected = np.array(curve.ages), np.array(curve.expected)
    low = min(float((expected - 2.3 * curve.std).min()), curve.value - 0.3 * curve.std)
    high = max(float((expected + 2.3 * curve.std).max()), curve.value + 0.3 * curve.std)

    def x(age: Any) -> Any:
        return _MARGIN + (age - ages[0]) / (ages[-1] - ages[0]) * (_WIDTH - 2 * _MARGIN)

    def y(value: Any) -> Any:
        return _HEIGHT - _MARGIN - (value - low) / (high - low) * (_HEIGHT - 1.5 * _MARGIN)

    def path(values: np.ndarray[Any, Any]) -> str:
        return " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x(ages), y(values), strict=True))

    def band(deviations: float) -> str:
        upper, lower = expected + deviations * curve.std, expected - deviations * curve.std
        back = " ".join(reversed(path(lower).split(" ")))
        return f"{path(upper)} {back}"

    return {
        "label": curve.label,
        "width": _WIDTH,
        "height": _HEIGHT,
        "two": band(2.0),
        "one": band(1.0),
        "line": path(expected),
        "point": (round(float(x(curve.age)), 1), round(float(y(curve.value)), 1)),
        "ages": (f"{ages[0]:.0f}", f"{ages[-1]:.0f}"),
        "left": _MARGIN,
        "right": _WIDTH - _MARGIN,
        "bottom": _HEIGHT - 8,
        "age": f"{curve.age:g}",
        "score": f"{curve.score:+.1f}",
    }
