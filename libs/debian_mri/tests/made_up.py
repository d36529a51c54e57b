"""A made-up prediction for the tests of texts and pages: the numbers are invented, the images drawn by a program."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from debian_mri.biomarkers.concepts import load_concepts
from debian_mri.explanation.contributions import DemographicPart, RestPart, SlicePart, concept_part
from debian_mri.explanation.record import Explanation

CLASSES = ("CN", "MCI", "AD")
BIAS = (0.25, 0.5, 0.0)
# per concept: score, percentile, contributions to CN, MCI, AD; margins AD - MCI in the remark
BIOMARKERS: dict[str, tuple[float, float, tuple[float, float, float]]] = {
    "hippocampal_volume_loss": (2.1, 97.5, (-0.9, 0.1, 0.725)),  # 0.625
    "medial_temporal_atrophy": (1.4, 91.0, (-0.5, 0.125, 0.5)),  # 0.375
    "medial_temporal_sparing": (-0.8, 21.0, (0.0, 0.125, 0.25)),  # 0.125
    "ventricular_enlargement": (1.2, 88.0, (-0.25, 0.0, 0.25)),  # 0.25
    "global_cortical_atrophy": (0.3, 60.0, (0.0, 0.0625, 0.125)),  # 0.0625
    "parietal_atrophy": (0.4, 66.0, (0.0, 0.25, 0.0)),  # -0.25, against what is expected
    "occipital_volume_loss": (-0.1, 45.0, (0.0, 0.0, -0.125)),  # -0.125
    "midbrain_volume_loss": (0.0, 50.0, (0.0, 0.0, 0.0)),  # 0
    "volume_normal_for_age": (0.6, 72.0, (0.25, 0.125, 0.0)),  # -0.125
    "white_matter_hyperintensities": (0.9, 80.0, (0.0, 0.0, 0.5)),  # 0.5
    "swallow_tail_loss": (1.0, 85.0, (0.0, 0.0, 0.75)),  # 0.75
}
PEOPLE = (
    ("age", 74.0, "years", (-0.25, 0.0, 0.25)),
    ("sex", "F", "", (0.0, 0.0, 0.0625)),
    ("education", 16.0, "years", (0.0, 0.0625, 0.0)),
)
REST = (0.0, 0.125, 0.0625)
SLICES = (
    ("coronal", -21.0, 0.31, ("hippocampus", "medial_temporal")),
    ("coronal", -12.0, 0.22, ("hippocampus", "lateral_ventricles")),
    ("axial", 12.0, 0.17, ("lateral_ventricles",)),
    ("axial", -14.0, 0.12, ("midbrain", "medial_temporal")),
    ("sagittal", 26.0, 0.1, ("hippocampus",)),
    ("sagittal", 2.0, 0.05, ("midbrain", "parietal")),
    ("axial", 48.0, 0.03, ("parietal",)),
)


def softmax(logits: Sequence[float], temperature: float) -> tuple[float, ...]:
    raised = [math.exp((logit - max(logits)) / temperature) for logit in logits]
    return tuple(value / sum(raised) for value in raised)


def make_explanation(sequences: Sequence[str] = ("T1w",), *, temperature: float = 1.25, **changes: Any) -> Explanation:
    """The made-up prediction, with the concepts that can be seen on the sequences."""
    bank = load_concepts()
    kept, missing = bank.usable(sequences)
    concepts = tuple(
        concept_part(
            concept,
            CLASSES,
            contributions=BIOMARKERS[concept.name][2],
            score=BIOMARKERS[concept.name][0],
            percentile=BIOMARKERS[concept.name][1],
        )
        for concept in kept
        if concept.name in BIOMARKERS
    )
    fields: dict[str, Any] = {
        "id": "made-up-07",
        "classes": CLASSES,
        "bias": BIAS,
        "concepts": concepts,
        "demographics": tuple(
            DemographicPart(name=name, value=value, unit=unit, contributions=parts)
            for name, value, unit, parts in PEOPLE
        ),
        "rest": (RestPart(label="the image beyond the concepts", contributions=REST),),
        "slices": tuple(
            SlicePart(plane=plane, position_mm=at, weight=weight, regions=regions, sequence=sequences[0])
            for plane, at, weight, regions in SLICES
        ),
        "temperature": temperature,
        "threshold": 0.5,
        "n_controls": 120,
        "sequences": tuple(sequences),
        "not_judged": missing,
        "backbone": "made-up tower",
        "simulated": True,
        "reviewer": bank.reviewer,
        "warnings": ("All numbers of this example are invented.",),
        **changes,
    }
    parts = [*fields["concepts"], *fields["demographics"], *fields["rest"]]
    logits = tuple(
        fields["bias"][index] + sum(part.contributions[index] for part in parts) for index in range(len(CLASSES))
    )
    if "probabilities" not in fields:
        fields["probabilities"] = softmax(logits, temperature)
    best = max(fields["probabilities"])
    fields.setdefault("predicted", CLASSES[fields["probabilities"].index(best)])
    fields.setdefault("abstained", fields["threshold"] is not None and best < fields["threshold"])
    return Explanation(**{"logits": logits, **fields})


def changed(explanation: Explanation, **changes: Any) -> Explanation:
    return dataclasses.replace(explanation, **changes)


def draw_slices(explanation: Explanation) -> list[npt.NDArray[np.float32]]:
    """For each slice a drawing that looks a little like a brain: an ellipse with two dark ventricles."""
    shapes = {"axial": (217, 181), "coronal": (181, 181), "sagittal": (181, 217)}
    images = []
    for number, part in enumerate(explanation.slices):
        height, width = shapes[part.plane]
        rows, columns = np.mgrid[:height, :width].astype(np.float32)
        y, x = (rows - height / 2) / height, (columns - width / 2) / width
        radius = np.hypot(y / 0.45, x / 0.42)
        image = np.where(radius < 1, 0.55 + 0.2 * np.cos(9 * np.arctan2(y, x) + number) * (radius > 0.8), 0.0)
        image += 0.25 * ((radius > 1.06) & (radius < 1.13))
        for side in (-1, 1):
            image[np.hypot((y + 0.03) / 0.13, (x - side * 0.08) / 0.05) < 1] = 0.12
        noise = np.random.default_rng(number).normal(scale=0.025, size=image.shape)
        images.append(np.clip(image + noise, 0, 1).astype(np.float32))
    return images
