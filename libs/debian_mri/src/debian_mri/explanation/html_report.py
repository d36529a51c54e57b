"""Files of a prediction: an HTML page that loads nothing, a report as JSON, and a table."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from debian_mri import RESEARCH_ONLY
from debian_mri.biomarkers.volumes.regional import StructureLabels
from debian_mri.explanation.norms import NormCurve, drawings
from debian_mri.explanation.record import Explanation
from debian_mri.explanation.report_text import (
    explain,
    listed,
    named_concepts,
    percent,
    place,
    quantity,
    signed,
    standing,
    top_slices,
)
from debian_mri.explanation.volume_viewer import known_sides, plane_sides, turns, viewer_values
from debian_mri.imaging.preprocess import Volume
from icube_common.errors import InputError
from icube_common.io.reports import jpeg_uri, render_page
from icube_common.io.runs import atomic_file

IMAGE_SIZE = (320, 320)
"""Pixels that a slice is made to fit into."""
SHOWN = 12
"""Slices on a page, at most; those with the greatest weight."""
MIN_SHOWN = 6
"""Slices on a page, where there are as many, though most may have no weight."""
REPORT_FORMAT = "debian-mri report 1"

SliceArray = npt.NDArray[np.floating[Any]]


def write_page(
    path: str | Path,
    explanation: Explanation,
    images: Sequence[SliceArray],
    *,
    volume: Volume | None = None,
    norms: Sequence[NormCurve] = (),
    structures: StructureLabels | None = None,
    boxes: bool = True,
    overwrite: bool = False,
) -> Path:
    """Write `prediction_page` atomically.

    Raises:
        InputError: the file exists and ``overwrite`` is False, it cannot be written, or as `prediction_page`.
    """
    page = prediction_page(explanation, images, volume, norms, structures, boxes=boxes)
    with atomic_file(path, overwrite=overwrite) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return Path(path)


def prediction_page(
    explanation: Explanation,
    images: Sequence[SliceArray],
    volume: Volume | None = None,
    norms: Sequence[NormCurve] = (),
    structures: StructureLabels | None = None,
    *,
    boxes: bool = True,
) -> str:
    """The page as text.

    Args:
        explanation: of the prediction.
        images: (H, W) each, values 0 to 1, one for each of the explanation's slices; those with a position as
            `debian_mri.imaging.slices` makes them (x or y to the right, z or y up, RAS), since the page names the left
            side.
        volume: that the slices are of, for a viewer of three planes; None for none.
        norms: curves of biomarkers over age.
        structures: of an atlas that was registered to the volume, for the viewer.
        boxes: draw the boxes of the biomarkers in the viewer; false where they were not measured in boxes.

    Raises:
        InputError: images that do not fit the slices.
    """
    if len(images) != len(explanation.slices):
        raise InputError(f"page of {explanation.id!r}: {len(images)} images for {len(explanation.slices)} slices")
    shown = _slices(explanation, images)
    return render_page(
        "prediction.html.j2",
        package="debian_mri.explanation.record",
        title="The model abstains" if explanation.abstained else explanation.predicted,
        notice=RESEARCH_ONLY,
        explanation=explanation,
        probability=_unbroken(percent(explanation.probability(explanation.predicted))),
        runner_up_probability=_unbroken(percent(explanation.probability(explanation.runner_up))),
        threshold=None if explanation.threshold is None else _unbroken(percent(explanation.threshold)),
        scores=listed([part.name for part in explanation.demographics if part.leakage_tier == "C"], ""),
        absent=listed(sorted({name for names in explanation.not_judged.values() for name in names}), ""),
        probabilities=_probabilities(explanation),
        slices=shown,
        sides=_sides(explanation),
        switch=known_sides([(part.plane, part.position_mm) for part in explanation.slices]),
        norms=drawings(norms),
        controls=norms[0].controls if norms else 0,
        viewer=None if volume is None else viewer_values(volume, explanation, structures, boxes=boxes),
        hidden=len(explanation.slices) - len(shown),
        evidence=explanation.weighting == "evidence",
        silent=not any(part.weight for part in explanation.slices),
        concepts=_concepts(explanation),
        parts=_parts(explanation),
        margin=signed(explanation.difference(explanation.logits)),
        share=percent(explanation.demographics_share()),
        share_bar=round(100 * explanation.demographics_share(), 1),
        sources=[(concept.label, concept.source) for concept in explanation.concepts if concept.source],
        sentences=[
            _unbroken(line) for line in explain(explanation).splitlines() if line.strip() and line != RESEARCH_ONLY
        ],
        rows=_contribution_rows(explanation),
        signed=signed,
    )


def _unbroken(text: str) -> str:
    """The text with numbers kept on one line with their unit."""
    return re.sub(r"(?<=\d) (?=(?:%|mm)(?!\w))", "\N{NO-BREAK SPACE}", text)


def _sides(explanation: Explanation) -> str:
    """Orientation of the shown slices; unknown for an image without a position."""
    placed = {part.plane for part in explanation.slices if part.position_mm is not None}
    sentences = []
    if placed & {"axial", "coronal"}:
        sentences.append("Axial and coronal slices are in radiological convention: the person's left is on the right.")
    if "sagittal" in placed:
        sentences.append("Sagittal slices have the front on the right.")
    if any(part.position_mm is None for part in explanation.slices):
        sentences.append("Of slices without a position the sides are not known.")
    return " ".join(sentences)


def _probabilities(explanation: Explanation) -> list[dict[str, Any]]:
    order = sorted(range(len(explanation.classes)), key=lambda index: -explanation.probabilities[index])
    return [
        {
            "name": explanation.classes[index],
            "shown": percent(explanation.probabilities[index]),
            "bar": round(100 * explanation.probabilities[index], 1),
        }
        for index in order
    ]


def _bar(value: float, longest: float) -> dict[str, Any]:
    """A signed number in words, and its bar in percent of the longest."""
    return {
        "signed": signed(value),
        "bar": round(100 * abs(value) / longest, 1) if longest else 0.0,
        "sign": "for" if value > 0 else "against" if value < 0 else "neither",
        "side": "left" if value < 0 else "right",
    }


def _longest(explanation: Explanation) -> float:
    margins = [explanation.difference(part.contributions) for part in explanation.parts]
    return max(map(abs, [*margins, explanation.difference(explanation.bias)]), default=0.0)


def _concepts(explanation: Explanation) -> list[dict[str, Any]]:
    named = {concept.name for concept in named_concepts(explanation)}
    longest = _longest(explanation)
    order = sorted(explanation.concepts, key=lambda part: -abs(explanation.difference(part.contributions)))
    return [
        {
            **_bar(explanation.difference(concept.contributions), longest),
            "label": concept.label,
            "named": concept.name in named,
            "standing": standing(concept.score, None, explanation.n_controls),
            "percentile": concept.percentile,
            "percent": None if concept.percentile is None else _unbroken(percent(concept.percentile / 100)),
            "regions": listed(concept.regions, ""),
            "sure": concept.sure,
            "unexpected": explanation.unexpected(concept),
        }
        for concept in order
    ]


def _parts(explanation: Explanation) -> list[dict[str, Any]]:
    """Parts of the logits beside the concepts: variables, other parts, bias."""
    longest = _longest(explanation)
    rows = [
        (
            f"{part.name.replace('_', ' ')}: {quantity(part.value, part.unit)} (tier {part.leakage_tier})",
            part.contributions,
        )
        for part in explanation.demographics
    ]
    rows += [(part.label, part.contributions) for part in explanation.rest]
    rows.append(("where the model starts without evidence", explanation.bias))
    return [{"label": label, **_bar(explanation.difference(values), longest)} for label, values in rows]


def _slices(explanation: Explanation, images: Sequence[SliceArray]) -> list[dict[str, Any]]:
    named = top_slices(explanation)
    order = sorted(range(len(images)), key=lambda index: -explanation.slices[index].weight)[:SHOWN]
    if explanation.weighting == "evidence" and any(part.weight for part in explanation.slices):
        # of slices without any say a few show what else was looked at
        order = [index for at, index in enumerate(order) if explanation.slices[index].weight > 0 or at < MIN_SHOWN]
    heaviest = max((part.weight for part in explanation.slices), default=0.0) or 1.0
    rows = []
    for index in order:
        part = explanation.slices[index]
        rows.append(
            {
                "picture": _slice_image(
                    np.fliplr(images[index]) if turns(part.plane, part.position_mm) else images[index]
                ),
                "turns": turns(part.plane, part.position_mm),
                "letters": plane_sides(part.plane, part.position_mm),
                "plane": part.plane,
                "place": _unbroken(place(part.plane, part.position_mm, explanation.space)),
                "sequence": part.sequence,
                "regions": listed(part.regions, "no named region"),
                "weight": percent(part.weight),
                "attention": None if part.attention is None else percent(part.attention),
                "bar": round(100 * part.weight / heaviest, 1),
                "named": index in named,
            }
        )
    return rows


def _slice_image(image: SliceArray) -> str:
    """A slice as a JPEG in a data URI."""
    image = np.asarray(image)
    if image.ndim != 2 or not np.isfinite(image).all() or image.min() < 0 or image.max() > 1:
        raise InputError(f"image of shape {image.shape}: must be (H, W) with values from 0 to 1")
    grey = Image.fromarray(np.round(image * 255).astype(np.uint8))
    scale = min(IMAGE_SIZE[0] / grey.width, IMAGE_SIZE[1] / grey.height)
    size = (max(1, round(grey.width * scale)), max(1, round(grey.height * scale)))
    picture = grey.resize(size, Image.Resampling.BICUBIC).convert("RGB")
    return jpeg_uri(picture, quality=85)


def _contribution_rows(explanation: Explanation) -> list[tuple[str, list[str]]]:
    rows = [("without evidence (bias)", explanation.bias)]
    rows += [(part.label, part.contributions) for part in explanation.concepts]
    rows += [(part.name.replace("_", " "), part.contributions) for part in explanation.demographics]
    rows += [(part.label, part.contributions) for part in explanation.rest]
    rows.append(("logit, the sum", explanation.logits))
    return [(label, [signed(value) for value in values]) for label, values in rows]


def save_report(path: str | Path, explanation: Explanation, *, overwrite: bool = False) -> Path:
    """Write text and explanation as one JSON file, which ``debian-mri verify`` checks.

    Raises:
        InputError: the file exists and ``overwrite`` is False.
    """
    import json

    value = {
        "format": REPORT_FORMAT,
        "notice": RESEARCH_ONLY,
        "text": explain(explanation),
        "explanation": explanation.to_dict(),
    }
    with atomic_file(path, overwrite=overwrite) as temporary:
        temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return Path(path)


def write_tsv(path: str | Path, explanation: Explanation, *, overwrite: bool = False) -> Path:
    """Write all numbers as a table with tabs: ``id kind name class value``, a number a line; the notice is a row too.

    Raises:
        InputError: the file exists and ``overwrite`` is False, or it cannot be written.
    """
    lines = ["id\tkind\tname\tclass\tvalue"]
    for row in _tsv_rows(explanation):
        cells = [explanation.id, *("" if cell is None else str(cell) for cell in row)]
        lines.append("\t".join(cell.replace("\t", " ") for cell in cells))
    with atomic_file(path, overwrite=overwrite) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return Path(path)


def _tsv_rows(explanation: Explanation) -> Iterator[tuple[object, ...]]:
    yield "notice", RESEARCH_ONLY, None, None
    yield "simulated", "image", None, int(explanation.simulated)
    yield "trained", explanation.backbone, None, int(explanation.trained)
    yield "predicted", None, explanation.predicted, explanation.probability(explanation.predicted)
    yield "abstained", None, None, int(explanation.abstained)
    for kind in ("probabilities", "logits", "bias"):
        for name, value in zip(explanation.classes, getattr(explanation, kind), strict=True):
            yield kind, None, name, value
    for concept in explanation.concepts:
        yield "score", concept.name, None, concept.score
        yield "percentile", concept.name, None, concept.percentile
    for variable in explanation.demographics:
        yield "value", variable.name, None, variable.value
    for part in explanation.parts:
        label = getattr(part, "name", None) or getattr(part, "label", None)
        for name, value in zip(explanation.classes, part.contributions, strict=True):
            yield "contribution", label, name, value
    for number, slice_part in enumerate(explanation.slices, start=1):
        where = f"slice {number}: {slice_part.sequence} {slice_part.plane}"
        yield explanation.weighting, where, slice_part.position_mm, slice_part.weight
        for name, value in zip(explanation.classes, slice_part.contributions, strict=False):
            yield "slice", where, name, value
        if explanation.weighting != "attention" and slice_part.attention is not None:
            yield "attention", where, slice_part.position_mm, slice_part.attention
