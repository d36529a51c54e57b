"""Effects of age, sex and diagnosis on simulated brains, as changes of log volumes.

The directions follow the literature, the sizes are chosen so that classes overlap:

- AD: the hippocampus loses about a third, ventricles grow by three quarters (Jack et al., Neurology 1999; Thompson
  et al., NeuroImage 2004); MCI lies half way.
- DLB: the medial temporal lobe is relatively preserved (McKeith et al., Neurology 2017, a supportive biomarker), the
  midbrain is smaller (Whitwell et al., Brain 2007), ventricles are a little wide.
- PD without dementia: near normal on T1.
- Age: the hippocampus loses about half a percent a year, ventricles gain two to three (Fjell et al., J Neurosci 2009).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from icube_common.errors import InputError, unknown

STRUCTURES = ("hippocampus", "medial_temporal", "lateral_ventricles", "parietal", "midbrain", "cortex")

# class -> structure -> change of log volume at severity 1
CLASSES: Mapping[str, Mapping[str, float]] = {
    "CN": {},
    "MCI": {
        "hippocampus": -0.18,
        "medial_temporal": -0.08,
        "lateral_ventricles": 0.30,
        "parietal": -0.05,
        "cortex": -0.015,
    },
    "AD": {
        "hippocampus": -0.36,
        "medial_temporal": -0.16,
        "lateral_ventricles": 0.60,
        "parietal": -0.10,
        "cortex": -0.03,
    },
    "DLB": {
        "hippocampus": -0.06,
        "medial_temporal": -0.02,
        "lateral_ventricles": 0.22,
        "parietal": -0.04,
        "midbrain": -0.08,
        "cortex": -0.02,
    },
    "PD": {"hippocampus": -0.02, "lateral_ventricles": 0.06, "cortex": -0.01},
}
# smaller changes count as unchanged in the ground truth of explanations
MIN_LOG_CHANGE = 0.05

_PER_DECADE = {
    "hippocampus": -0.05,
    "medial_temporal": -0.03,
    "lateral_ventricles": 0.22,
    "parietal": -0.02,
    "cortex": -0.02,
}
# standard deviation between subjects of one class and age, beside the random deformation
_SPREAD = {
    "hippocampus": 0.07,
    "medial_temporal": 0.04,
    "lateral_ventricles": 0.24,
    "parietal": 0.03,
    "midbrain": 0.03,
    "cortex": 0.015,
}
_HEAD = {"F": -0.012, "M": 0.012}  # log of the head's length against the template, after rough alignment


def most_affected_structure(label: str) -> str | None:
    """Structure with the largest change in a class, in standard deviations between subjects; without the cortex."""
    effects = {
        name: abs(change) / _SPREAD[name]
        for name, change in CLASSES[label].items()
        if name != "cortex" and abs(change) >= MIN_LOG_CHANGE
    }
    return max(effects, key=lambda name: effects[name]) if effects else None


@dataclass(frozen=True, kw_only=True)
class _Group:
    """Distribution of a class: mean age, share of women, years of education, MMSE with its spread."""

    age: float
    women: float
    education: float
    mmse: float
    mmse_spread: float


_GROUPS: Mapping[str, _Group] = {
    "CN": _Group(age=72, women=0.54, education=14.5, mmse=29.0, mmse_spread=1.0),
    "MCI": _Group(age=73, women=0.50, education=14.2, mmse=27.2, mmse_spread=1.6),
    "AD": _Group(age=74, women=0.55, education=13.6, mmse=22.0, mmse_spread=3.2),
    "DLB": _Group(age=73, women=0.42, education=13.8, mmse=22.8, mmse_spread=3.4),
    "PD": _Group(age=71, women=0.44, education=14.2, mmse=28.2, mmse_spread=1.4),
}


@dataclass(frozen=True, kw_only=True)
class Person:
    """Simulated person.

    Attributes:
        label: the class.
        age: years.
        sex: "F" or "M".
        education: years; None where missing.
        mmse: points; None where missing.
        severity: of the disease, about 1.
        head: factor of the head's length.
        changes: structure -> change of log volume against the template: disease, age and the person's own.
        disease: structure -> the disease's part of it.
    """

    label: str
    age: float
    sex: str
    education: int | None
    mmse: int | None
    severity: float
    head: float
    changes: Mapping[str, float]
    disease: Mapping[str, float]


def check_classes(names: Sequence[str]) -> tuple[str, ...]:
    """Check simulated classes.

    Raises:
        InputError: unknown or repeated class, or fewer than two.
    """
    for name in names:
        if name not in CLASSES:
            raise unknown("class to simulate", name, CLASSES)
    if len(set(names)) < len(names) or len(names) < 2:
        raise InputError(f"classes {','.join(names)}: at least two different ones are needed")
    return tuple(names)


def sample_person(label: str, generator: np.random.Generator) -> Person:
    """Sample a person of a class; with the same generator persons of two classes differ by their class only."""
    group = _GROUPS[label]
    age = float(np.clip(group.age + 8 * generator.standard_normal(), 52, 93))
    sex = "F" if generator.uniform() < group.women else "M"
    severity = float(np.exp(0.3 * generator.standard_normal() - 0.045))
    education = int(np.clip(round(group.education + 3 * generator.standard_normal()), 4, 22))
    # the more severe, the fewer points
    points = group.mmse - (severity - 1) * group.mmse_spread + 0.8 * group.mmse_spread * generator.standard_normal()
    mmse = int(np.clip(round(points), 5, 30))
    head = float(np.exp(_HEAD[sex] + 0.008 * generator.standard_normal()))
    deviation = {name: _SPREAD[name] * generator.standard_normal() for name in STRUCTURES}
    education_known, mmse_known = generator.uniform(size=2) > (0.03, 0.05)
    disease = {name: severity * change for name, change in CLASSES[label].items()}
    decades = (age - 70) / 10
    changes = {
        name: float(disease.get(name, 0.0) + decades * _PER_DECADE.get(name, 0.0) + deviation[name])
        for name in STRUCTURES
    }
    return Person(
        label=label,
        age=round(age, 1),
        sex=sex,
        education=education if education_known else None,
        mmse=mmse if mmse_known else None,
        severity=round(severity, 4),
        head=head,
        changes=changes,
        disease=disease,
    )
