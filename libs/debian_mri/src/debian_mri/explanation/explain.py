"""Explanation of a prediction: named terms of its logits, attribution to slices, deletion of slices.

`contributions` gives every term of the logits by name, before and after calibration; `explain_inputs` and
`explain_scan` collect the explanation of one scan.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from debian_mri.biomarkers.concepts import ConceptSet, load_concepts
from debian_mri.data.clinical_variables import Column
from debian_mri.data.dataset import ScanInput, to_tensors
from debian_mri.data.inputs import UNMEASURED, Inputs, used_by
from debian_mri.explanation.contributions import (
    ConceptPart,
    Deletion,
    DemographicPart,
    RestPart,
    SlicePart,
    concept_part,
)
from debian_mri.explanation.record import Explanation
from debian_mri.explanation.report_text import top_slices
from debian_mri.explanation.slice_attribution import attribute_to_slices, mask_slices, slice_parts
from debian_mri.models.mri_model import BIAS, BIOMARKER, DESCRIPTION, JOINED, VARIABLE, Batch, MriModel
from icube_common.errors import unknown

Array = npt.NDArray[np.float64]

IMAGE_LABEL = "the image as a whole"
DRAWS = 20
"""Random choices of slices for the deletion check."""


@dataclass(frozen=True)
class Terms:
    """Named terms of the logits of B scans over C classes.

    Attributes:
        kinds: of each of the T terms, as `debian_mri.models.mri_model.Contribution` has them.
        names: likewise.
        values: (T, B, C); their sum over the terms are the logits.
    """

    kinds: tuple[str, ...]
    names: tuple[str, ...]
    values: Array

    @property
    def logits(self) -> Array:
        """(B, C)."""
        total: Array = self.values.sum(0)
        return total


def contributions(model: MriModel, batch: Batch) -> Terms:
    """Every term of the logits.

    Args:
        model: in eval mode.
        batch: B scans.
    """
    terms = model.contributions(batch)
    values = np.stack([term.values.double().cpu().numpy() for term in terms])
    return Terms(tuple(term.kind for term in terms), tuple(term.name for term in terms), values)


@torch.no_grad()
def slice_weights(model: MriModel, batch: Batch) -> Tensor | None:
    """(B, S) share of each slice in its scan's feature; None without image branch."""
    if model.image_branch is None:
        return None
    return model.image_branch.pooling.weights(batch["slices"])


def explain_inputs(
    model: MriModel,
    inputs: Inputs,
    scan_id: str,
    *,
    sequences: Sequence[str] = ("T1w",),
    space: str = "mni",
    simulated: bool = False,
    slices: tuple[SlicePart, ...] | None = None,
) -> Explanation:
    """The explanation of a prediction from tables of inputs.

    Args:
        model: the trained model.
        inputs: tables that hold the scan.
        scan_id: which.
        sequences: images of the person that were used.
        space: of the slices' positions.
        simulated: whether the image was made by a program.
        slices: with their evidence, of `debian_mri.explanation.slice_attribution`; by default those of the image
            encoder with its attention.

    Raises:
        InputError: no such scan, or tables that the model needs are missing.
    """
    config = model.config
    if scan_id not in inputs.ids:
        raise unknown("scan", scan_id, inputs.ids)
    inputs = replace(used_by(inputs, config, encoded=inputs.tower_inputs is None), ids=(scan_id,))
    batch = to_tensors(inputs, model.device)
    terms = contributions(model, batch)
    logits = terms.logits
    probabilities = model.calibration.probabilities(logits)
    confident = bool(model.abstention.answered(probabilities)[0])
    warnings = [*model.description["disclaimers"], *_counted(model.description["warnings"]), *_missing_warnings(inputs)]
    bank = None if model.biomarkers is None else load_concepts(config.concept_file or None)
    plain_temperature = not any(model.calibration.bias)
    branch = model.image_branch
    backbone = "" if branch is None else branch.source
    return Explanation(
        id=scan_id,
        classes=model.labels,
        logits=tuple(logits[0].tolist()),
        bias=tuple(terms.values[terms.kinds.index(BIAS), 0].tolist()),
        probabilities=tuple(probabilities[0].tolist()),
        predicted=model.labels[int(probabilities[0].argmax())],
        temperature=model.calibration.temperature if plain_temperature else None,
        calibrated=model.calibration.rows > 0 and config.calibration.method != "none",
        threshold=model.abstention.threshold if model.abstention.rows else None,
        abstained=not confident,
        concepts=() if bank is None else _concept_parts(model, batch, terms, bank),
        demographics=_demographic_parts(inputs, terms, model.columns),
        rest=_rest(terms),
        slices=_slice_parts(model, batch, inputs, scan_id) if slices is None else slices,
        weighting="attention" if slices is None else "evidence",
        n_controls=0 if model.biomarkers is None else int(model.biomarkers.control_count),
        sequences=tuple(sequences),
        not_judged={} if bank is None else bank.usable(sequences)[1],
        space=space,
        backbone=backbone,
        trained=branch is None or branch.pixels or branch.vlm.origin.image_trained,
        simulated=simulated,
        reviewer="" if bank is None else bank.reviewer,
        warnings=tuple(dict.fromkeys(warnings)),
    )


def _concept_parts(model: MriModel, batch: Batch, terms: Terms, bank: ConceptSet) -> tuple[ConceptPart, ...]:
    assert model.biomarkers is not None
    with torch.no_grad():
        covariates = model.covariates(batch) if len(model.biomarkers.slope) else None
        scores = model.biomarkers.scores(batch["biomarkers"], covariates)
        percentiles = model.biomarkers.percentiles(scores)
    parts = []
    for at, name in enumerate(model.biomarkers.names):
        if bool(batch["biomarkers"][0, at].isnan()):
            continue  # it was not measured and adds nothing; a note says so
        parts.append(
            concept_part(
                bank[name],
                model.labels,
                contributions=_values(terms, BIOMARKER, name),
                score=float(scores[0, at]),
                percentile=float(percentiles[0, at]) if int(model.biomarkers.control_count) else None,
            )
        )
    return tuple(parts)


def _demographic_parts(inputs: Inputs, terms: Terms, columns: Sequence[Column]) -> tuple[DemographicPart, ...]:
    table = inputs.demographics
    if table is None:
        return ()
    row = table.rows(inputs.ids)[0]
    parts = []
    for name, value in zip(table.names, row, strict=True):
        column = _column(name, columns)
        if VARIABLE in terms.kinds:
            parts.append(
                DemographicPart(
                    name=name,
                    value=_shown(column, name, float(value)),
                    unit=column.unit,
                    leakage_tier=column.leakage_tier,
                    contributions=_values(terms, VARIABLE, name),
                )
            )
    if JOINED in terms.kinds:
        # they join the picture's feature together: nothing tells one variable's part from another's
        shown = [
            f"{_shown(_column(name, columns), name, float(value))} {_column(name, columns).unit}".strip()
            for name, value in zip(table.names, row, strict=True)
            if not math.isnan(value)
        ]
        name = terms.names[terms.kinds.index(JOINED)]
        leakage_tier = max(column.leakage_tier for column in columns)
        values = _values(terms, JOINED, name)
        parts.append(
            DemographicPart(name=name, value=", ".join(shown) or None, leakage_tier=leakage_tier, contributions=values)
        )
    return tuple(parts)


def _rest(terms: Terms) -> tuple[RestPart, ...]:
    rows = [at for at, kind in enumerate(terms.kinds) if kind == DESCRIPTION]
    if not rows:
        return ()
    return (RestPart(label=IMAGE_LABEL, contributions=tuple(terms.values[rows, 0].sum(0).tolist())),)


def _slice_parts(model: MriModel, batch: Batch, inputs: Inputs, scan_id: str) -> tuple[SlicePart, ...]:
    weights = slice_weights(model, batch)
    if weights is None:
        return ()
    infos = inputs.slices[scan_id]
    return tuple(
        SlicePart(plane=info.plane, position_mm=info.position_mm, weight=float(weight), regions=info.regions)
        for info, weight in zip(infos, weights[0, : len(infos)], strict=True)
    )


def _counted(warnings: Sequence[str]) -> list[str]:
    """The warnings of the training, signs that its images do not show counted in place of named."""
    absent = [note for note in warnings if note.startswith(UNMEASURED)]
    remaining = [note for note in warnings if note not in absent]
    return [*remaining, f"Signs that images of this kind do not show: {len(absent)}."] if absent else remaining


def _missing_warnings(inputs: Inputs) -> list[str]:
    warnings = []
    if inputs.biomarkers is not None:
        row = inputs.biomarkers.rows(inputs.ids)[0]
        # a report names no sign that was not computed, in warnings neither
        if count := sum(map(math.isnan, row)):
            warnings.append(
                f"{count} of the {len(row)} signs of the model could not be measured on this scan: they add 0."
            )
    if inputs.demographics is not None:
        row = inputs.demographics.rows(inputs.ids)[0]
        warnings += [
            f"{name} is missing: it is imputed by the training mean, with a missing-value indicator."
            for name, value in zip(inputs.demographics.names, row, strict=True)
            if math.isnan(value)
        ]
    return warnings


def _column(name: str, columns: Sequence[Column]) -> Column:
    return next(column for column in columns if name == column.name or name.startswith(f"{column.name} = "))


def _shown(column: Column, name: str, value: float) -> float | str | None:
    """A value for readers: the word of a category, None where missing."""
    if math.isnan(value):
        return None
    if column.kind == "category" and name == column.name:
        return column.values[int(value)]
    return value


def _values(terms: Terms, kind: str, name: str) -> tuple[float, ...]:
    at = next(at for at, key in enumerate(zip(terms.kinds, terms.names, strict=True)) if key == (kind, name))
    return tuple(terms.values[at, 0].tolist())


def explain_scan(model: MriModel, scan_input: ScanInput) -> Explanation:
    """The explanation of a scan: contributions, attribution to slices, and the deletion check."""
    batch = to_tensors(scan_input.inputs, model.device)
    space = model.config.preprocess.space
    plain = explain_inputs(
        model,
        scan_input.inputs,
        scan_input.scan.id,
        sequences=(scan_input.scan.sequence,),
        space=space,
        simulated=scan_input.simulated,
        slices=(),
    )
    evidence = attribute_to_slices(model, batch, scan_input.infos, scan_input.measured)
    first = plain.classes.index(plain.predicted)
    second = plain.classes.index(plain.runner_up)
    parts = slice_parts(evidence, scan_input.infos, first, second, sequence=scan_input.scan.sequence)
    warnings = [*scan_input.warnings, *plain.warnings]
    if model.description["data"]["simulated"]:
        warnings.append("The model was trained on simulated scans, not on scans of people.")
    whole = model.image_branch is not None and model.image_branch.whole_volume
    measured = scan_input.measured
    if np.abs(evidence.unplaced).max() > 1e-9 and measured is not None and not measured.has_places:
        warnings.append("Volumes are of whole structures: the slices do not have their part.")
    elif np.abs(evidence.unplaced).max() > 1e-9 and not whole:
        warnings.append("Some signs were measured where no slice is shown; the slices do not have their part.")
    if whole:
        warnings.append("The image encoder takes the whole volume: the slices do not have its part of the evidence.")
    explanation = replace(plain, slices=parts, warnings=tuple(dict.fromkeys(warnings)))
    return replace(explanation, deletion=_deletion(model, batch, scan_input, explanation, first))


def _deletion(
    model: MriModel, batch: dict[str, torch.Tensor], scan_input: ScanInput, explanation: Explanation, first: int
) -> Any:
    """Fall of the probability without the named slices, and without as many random ones."""
    named, total = top_slices(explanation), len(explanation.slices)
    if not named or len(named) == total:
        return None
    before = explanation.probabilities[first]
    seed = int.from_bytes(hashlib.sha256(explanation.id.encode()).digest()[:8], "big")
    generator = np.random.default_rng(seed)
    draws = [generator.choice(total, len(named), replace=False).tolist() for _ in range(DRAWS)]
    after = [probabilities_without_slices(model, batch, scan_input, gone)[first] for gone in (named, *draws)]
    return Deletion(named=float(before - after[0]), random=float(before - np.mean(after[1:])), draws=DRAWS)


@torch.no_grad()
def logits_without_slices(
    model: MriModel, batch: dict[str, torch.Tensor], scan_input: ScanInput, gone: Sequence[int]
) -> Any:
    """Logits (C,) without some slices, before calibration."""
    changed = mask_slices(model, batch, scan_input.infos, scan_input.measured, gone)
    return model(changed)[0].double().cpu().numpy()


def probabilities_without_slices(
    model: MriModel, batch: dict[str, torch.Tensor], scan_input: ScanInput, gone: Sequence[int]
) -> Any:
    """Calibrated probabilities (C,) without some slices."""
    return model.calibration.probabilities(logits_without_slices(model, batch, scan_input, gone)[None])[0]
