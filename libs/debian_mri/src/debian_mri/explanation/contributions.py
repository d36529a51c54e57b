"""The parts of a prediction's logits, and the slices that it looked at. C classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from debian_mri.biomarkers.concepts import Concept


@dataclass(frozen=True, kw_only=True)
class ConceptPart:
    """A concept's part of the logits.

    Attributes:
        name: of `debian_mri.biomarkers.concepts.Concept`.
        label: name in a text.
        contributions: (C,) added to each class's logit.
        score: standard deviations above the mean of the training controls.
        percentile: share of the training controls with a lower score, 0 to 100; None where it was not computed.
        regions: where it is seen.
        requires: sequences without which it cannot be seen.
        expected: (C,) what its source expects of each class: 1, 0, -1; empty where nothing is expected.
        sure: whether source and directions are beyond doubt.
        source: the publication.
    """

    name: str
    label: str
    contributions: tuple[float, ...]
    score: float
    percentile: float | None = None
    regions: tuple[str, ...] = ()
    requires: tuple[str, ...] = ("T1w",)
    expected: tuple[int, ...] = ()
    sure: bool = True
    source: str = ""


def concept_part(
    concept: Concept,
    classes: Sequence[str],
    *,
    contributions: Sequence[float],
    score: float,
    percentile: float | None = None,
) -> ConceptPart:
    """A concept's part of a prediction, with its description from the concepts file.

    Args:
        concept: of `debian_mri.biomarkers.concepts.load_concepts`.
        classes: (C,) names, in the order of the logits.
        contributions: (C,) added to each class's logit.
        score: as in `ConceptPart`.
        percentile: as in `ConceptPart`.
    """
    return ConceptPart(
        name=concept.name,
        label=concept.label,
        contributions=tuple(float(value) for value in contributions),
        score=float(score),
        percentile=None if percentile is None else float(percentile),
        regions=concept.regions,
        requires=concept.requires,
        expected=tuple(concept.direction(name) for name in classes),
        sure=concept.sure,
        source=concept.source,
    )


@dataclass(frozen=True, kw_only=True)
class DemographicPart:
    """A demographic variable's part of the logits.

    Attributes:
        name: of the column (``age``).
        value: what the scan's person has; None where it is missing.
        unit: of the value (``years``), empty for none.
        leakage_tier: A (age, sex, education), B (volumes, APOE) or C (cognitive scores, derived from the diagnosis).
        contributions: (C,) added to each class's logit.
    """

    name: str
    value: float | str | None
    unit: str = ""
    leakage_tier: str = "A"
    contributions: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class RestPart:
    """Another part of the logits, such as that of the image branch.

    Attributes:
        label: name in a text.
        contributions: (C,) added to each class's logit.
    """

    label: str
    contributions: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class SlicePart:
    """A slice and its weight: a share of the attention, or of the evidence.

    Attributes:
        plane: ``axial``, ``coronal`` or ``sagittal``.
        position_mm: along z, y or x (RAS) of the space; None for an image without a place.
        weight: share, 0 to 1; the weights of all slices sum to 1. Of evidence: of the slices' contributions to the
            predicted class rather than the runner-up; all 0 where no slice contributes to it.
        regions: what the slice passes through.
        sequence: which image it is of.
        contributions: (C,) what the slice adds to each class's logit, before calibration; empty where it is not known.
        attention: share in the pooled feature; None without image branch.
    """

    plane: str
    position_mm: float | None
    weight: float
    regions: tuple[str, ...] = ()
    sequence: str = "T1w"
    contributions: tuple[float, ...] = ()
    attention: float | None = None


@dataclass(frozen=True, kw_only=True)
class Deletion:
    """Fall of the predicted class's probability when slices are deleted.

    Attributes:
        named: how far it falls without the slices that the text names.
        random: how far it falls without as many random slices, in the mean.
        draws: number of random choices.
    """

    named: float
    random: float
    draws: int
