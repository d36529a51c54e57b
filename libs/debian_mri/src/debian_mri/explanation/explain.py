"""Why: the terms that a prediction is the sum of, the slices that carried weight, the record that texts are made of.

`contributions` gives every term of the logits by name, before and after calibration; `explanation_of` gathers what a
report may say about one scan.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from debian_mri.biomarkers.concepts import ConceptSet, load_concepts
from debian_mri.data.clinical_variables import Column
from debian_mri.data.dataset import rows_of
from debian_mri.data.inputs import MISSING_VALUES, Inputs, used_by
from debian_mri.explanation.contributions import ConceptPart, DemographicPart, RestPart, SlicePart
from debian_mri.explanation.record import Explanation
from debian_mri.models.calibration import Calibration
from debian_mri.models.checkpoint import SavedModel
from debian_mri.models.mri_model import BIAS, DESCRIPTION, JOINED, SIGN, VARIABLE, Batch, MriModel
from icube_common.errors import unknown

Array = npt.NDArray[np.float64]

PICTURE_LABEL = "the picture as a whole"


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


def contributions(model: MriModel, batch: Batch, *, calibration: Calibration | None = None) -> Terms:
    """Every term of the logits.

    Args:
        model: in eval mode.
        batch: B scans.
        calibration: where given, the terms sum to the logits that the probabilities are the softmax of: all are
            divided by the temperature, and the calibration's bias joins that of the model.
    """
    found = model.contributions(batch)
    values = np.stack([term.values.double().cpu().numpy() for term in found])
    kinds, names = tuple(term.kind for term in found), tuple(term.name for term in found)
    if calibration is not None:
        values[kinds.index(BIAS)] += np.array(calibration.bias)
        values /= calibration.temperature
    return Terms(kinds, names, values)


@torch.no_grad()
def slice_weights(model: MriModel, batch: Batch) -> Tensor | None:
    """(B, S) share of each slice in its scan's feature; None where the picture does not enter."""
    if model.picture is None:
        return None
    return model.picture.pooling.weights(batch["slices"])


def explanation_of(
    saved: SavedModel,
    inputs: Inputs,
    scan_id: str,
    *,
    sequences: Sequence[str] = ("T1w",),
    space: str = "mni",
    simulated: bool = False,
    concepts: ConceptSet | None = None,
    slices: tuple[SlicePart, ...] | None = None,
) -> Explanation:
    """All that may be said about the prediction for one scan.

    Args:
        saved: the trained model.
        inputs: tables that hold the scan.
        scan_id: which.
        sequences: images of the person that were used.
        space: of the slices' positions.
        simulated: whether the image was made by a program.
        concepts: the file's that the model was trained with; read again where not given.
        slices: with their evidence, of `debian_mri.explanation.slice_attribution`; by default those of the tower with its attention.

    Raises:
        InputError: no such scan, or tables that the model needs are missing.
    """
    model, config = saved.model, saved.model.config
    if scan_id not in inputs.ids:
        raise unknown("scan", scan_id, inputs.ids)
    inputs = replace(used_by(inputs, config), ids=(scan_id,))
    batch = rows_of(inputs, model.device)
    terms = contributions(model, batch)
    logits = terms.logits
    probabilities = saved.calibration.probabilities(logits)
    confident = bool(saved.abstention.answered(probabilities)[0])
    notes = [*saved.about["stamps"], *_counted(saved.about["notes"]), *_missing_notes(inputs)]
    bank = concepts
    if bank is None and model.signs is not None:
        bank = load_concepts(config.concept_file or None)
    plain_temperature = not any(saved.calibration.bias)
    backbone = "" if model.picture is None else str(model.picture.vlm.origin)
    return Explanation(
        id=scan_id,
        classes=model.labels,
        logits=tuple(logits[0].tolist()),
        bias=tuple(terms.values[terms.kinds.index(BIAS), 0].tolist()),
        probabilities=tuple(probabilities[0].tolist()),
        predicted=model.labels[int(probabilities[0].argmax())],
        temperature=saved.calibration.temperature if plain_temperature else None,
        calibrated=saved.calibration.rows > 0 and config.calibration.method != "none",
        threshold=saved.abstention.threshold if saved.abstention.rows else None,
        abstained=not confident,
        concepts=() if bank is None else _concept_parts(model, batch, terms, bank),
        demographics=_demographic_parts(inputs, terms, saved.columns),
        rest=_rest(terms),
        slices=_slice_parts(model, batch, inputs, scan_id) if slices is None else slices,
        weighting="attention" if slices is None else "evidence",
        n_controls=0 if model.signs is None else int(model.signs.control_count),
        sequences=tuple(sequences),
        not_judged={} if bank is None else bank.usable(sequences)[1],
        space=space,
        backbone=backbone,
        trained=model.picture is None or model.picture.vlm.origin.image_trained,
        simulated=simulated,
        reviewer="" if bank is None else bank.reviewer,
        notes=tuple(dict.fromkeys(notes)),
    )


def _concept_parts(model: MriModel, batch: Batch, terms: Terms, bank: ConceptSet) -> tuple[ConceptPart, ...]:
    assert model.signs is not None
    with torch.no_grad():
        numbers = model.numbers(batch) if len(model.signs.slope) else None
        scores = model.signs.scores(batch["signs"], numbers)
        percentiles = model.signs.percentiles(scores)
    parts = []
    for at, name in enumerate(model.signs.names):
        if bool(batch["signs"][0, at].isnan()):
            continue  # it was not measured and adds nothing; a note says so
        concept = bank[name]
        parts.append(
            ConceptPart(
                name=name,
                label=concept.label,
                contributions=_values(terms, SIGN, name),
                score=float(scores[0, at]),
                percentile=float(percentiles[0, at]) if int(model.signs.control_count) else None,
                regions=concept.regions,
                requires=concept.requires,
                expected=tuple(concept.direction(label) for label in model.labels),
                sure=concept.sure,
                source=concept.source,
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
    return (RestPart(label=PICTURE_LABEL, contributions=tuple(terms.values[rows, 0].sum(0).tolist())),)


def _slice_parts(model: MriModel, batch: Batch, inputs: Inputs, scan_id: str) -> tuple[SlicePart, ...]:
    weights = slice_weights(model, batch)
    if weights is None:
        return ()
    infos = inputs.slices[scan_id]
    return tuple(
        SlicePart(plane=info.plane, position_mm=info.position_mm, weight=float(weight), regions=info.regions)
        for info, weight in zip(infos, weights[0, : len(infos)], strict=True)
    )


def _counted(notes: Sequence[str]) -> list[str]:
    """The notes of the training, signs that its images do not show counted in place of named."""
    absent = [note for note in notes if note.startswith(MISSING_VALUES)]
    kept = [note for note in notes if note not in absent]
    return [*kept, f"Signs that images of this kind do not show: {len(absent)}."] if absent else kept


def _missing_notes(inputs: Inputs) -> list[str]:
    notes = []
    if inputs.signs is not None:
        row = inputs.signs.rows(inputs.ids)[0]
        # a report names no sign that was not computed, in notes neither
        if count := sum(map(math.isnan, row)):
            notes.append(
                f"{count} of the {len(row)} signs of the model could not be measured on this scan: they add 0."
            )
    if inputs.demographics is not None:
        row = inputs.demographics.rows(inputs.ids)[0]
        notes += [
            f"{name} is missing; the middle of the training values stands for it, and that it is missing is told."
            for name, value in zip(inputs.demographics.names, row, strict=True)
            if math.isnan(value)
        ]
    return notes


def _column(name: str, columns: Sequence[Column]) -> Column:
    return next(column for column in columns if name == column.name or name.startswith(f"{column.name} = "))


def _shown(column: Column, name: str, value: float) -> float | str | None:
    """A value as a reader knows it: the word of a category, None where missing."""
    if math.isnan(value):
        return None
    if column.kind == "category" and name == column.name:
        return column.values[int(value)]
    return value


def _values(terms: Terms, kind: str, name: str) -> tuple[float, ...]:
    at = next(at for at, found in enumerate(zip(terms.kinds, terms.names, strict=True)) if found == (kind, name))
    return tuple(terms.values[at, 0].tolist())
