"""Predictions with their reasons: for one image, for a scan of a prepared set, for many.

The text is filled from the computation and read back by `debian_mri.explanation.verify`, which also computes everything a second
time from the image; nothing is written before both agree.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from debian_mri import RESEARCH_ONLY
from debian_mri.data.dataset import rows_of
from debian_mri.data.manifest import Manifest
from debian_mri.explanation.contributions import Deletion
from debian_mri.explanation.explain import explanation_of
from debian_mri.explanation.html_report import save_report, write_page, write_tsv
from debian_mri.explanation.record import Explanation
from debian_mri.explanation.report_text import explain, top_slices
from debian_mri.explanation.slice_attribution import slice_evidence, slice_parts, without
from debian_mri.explanation.verify import check_report
from debian_mri.inference.scan_input import OneScan, check_values, of_sequence, read_scan
from debian_mri.inference.single_image import single
from debian_mri.models.checkpoint import SavedModel, load_model
from icube_common.errors import InputError
from icube_common.runs import refuse_existing

DRAWS = 20


@dataclass(frozen=True, eq=False)
class Prediction:
    """A prediction that has been verified.

    Attributes:
        explanation: all that was computed.
        text: the report.
        pictures: the slices (H, W), 0 to 1.
    """

    explanation: Explanation
    text: str
    pictures: tuple[Any, ...]

    def write(
        self,
        *,
        html: str | Path | None = None,
        tsv: str | Path | None = None,
        report: str | Path | None = None,
        overwrite: bool = False,
    ) -> None:
        """Write what is asked for: page, table, report (``debian-mri verify`` checks it)."""
        if html is not None:
            write_page(html, self.explanation, self.pictures, self.text, overwrite=overwrite)
        if tsv is not None:
            write_tsv(tsv, self.explanation, overwrite=overwrite)
        if report is not None:
            save_report(report, self.explanation, self.text, overwrite=overwrite)

    def record(self) -> dict[str, Any]:
        """For JSON."""
        found = self.explanation
        return {
            "notice": RESEARCH_ONLY,
            "id": found.id,
            "simulated": found.simulated,
            "predicted": found.predicted,
            "probabilities": dict(zip(found.classes, found.probabilities, strict=True)),
            "calibrated": found.calibrated,
            "abstained": found.abstained,
            "text": self.text,
            "explanation": found.to_dict(),
        }


def predict(
    run: str | Path,
    image: str | Path | Sequence[str | Path] | None = None,
    *,
    data: str | Path | None = None,
    scan_id: str | None = None,
    planes: Sequence[str] = (),
    fill_nan: bool = False,
    sequence: str | None = None,
    values: Mapping[str, str] | None = None,
    root: str | Path | None = None,
    html: str | Path | None = None,
    tsv: str | Path | None = None,
    report: str | Path | None = None,
    overwrite: bool = False,
) -> Explanation:
    """Tell the class of one scan, with the reasons, verified.

    Args:
        run: a run folder of `debian_mri.training.run.train`, or its ``model``.
        image: a NIfTI volume (preprocessed as the run's configuration says), a DICOM folder, or slice images of one
            person with their ``planes``; None where ``data`` and ``scan_id`` name a scan.
        data: a prepared set.
        scan_id: a scan of it.
        planes: ``axial``, ``coronal`` or ``sagittal`` of each slice image.
        fill_nan: NaN voxels of a volume that lie outside the head become background.
        sequence: MRI sequence of the image (``T1w``), in place of what its name or header says.
        values: the person's variables as text, such as ``{"age": "74", "sex": "F"}``; they stand before those of the
            set. What is missing is taken as the run's ``demographics.missing`` says.
        root: where the images of ``data`` lie now, if they moved.
        html: where to write a page.
        tsv: where to write all numbers as a table.
        report: where to write text and numbers as JSON.
        overwrite: replace existing files.

    Raises:
        InputError: an image, value, run or output that cannot be used; a text that the verifier finds fault with.
            Nothing is written then.
    """
    found = predict_one(
        run,
        image,
        data=data,
        scan_id=scan_id,
        planes=planes,
        fill_nan=fill_nan,
        sequence=sequence,
        values=values,
        root=root,
        outputs=(html, tsv, report),
        overwrite=overwrite,
    )
    found.write(html=html, tsv=tsv, report=report, overwrite=overwrite)
    return found.explanation


def predict_one(
    run: str | Path,
    image: str | Path | Sequence[str | Path] | None = None,
    *,
    data: str | Path | None = None,
    scan_id: str | None = None,
    planes: Sequence[str] = (),
    fill_nan: bool = False,
    sequence: str | None = None,
    values: Mapping[str, str] | None = None,
    root: str | Path | None = None,
    outputs: Sequence[str | Path | None] = (),
    overwrite: bool = False,
) -> Prediction:
    """As `predict`, with text and pictures, and without writing; ``outputs`` are checked to be free first."""
    for path in outputs:
        if path is not None:
            if Path(path).is_dir():
                raise InputError(f"{path}: is a folder; give the file to write, such as {Path(path) / 'page.html'}")
            refuse_existing(path, overwrite=overwrite)
    if (image is None) == (data is None):
        raise InputError("one image, or --data DATA with --id ID, is needed")
    if data is not None and scan_id is None:
        raise InputError(f"--data {data}: which scan? --id ID, or --out PRED for all of them")
    saved = load_model(run)
    given = check_values(saved, values or {})
    if data is not None:
        manifest = Manifest.load(data, root=root)
        scan, notes = of_sequence(saved, manifest.scan(str(scan_id)), sequence)
        return predict_scan(saved, lambda: read_scan(saved, manifest, scan, values=given, notes=notes))
    assert image is not None
    paths = [image] if isinstance(image, (str, Path)) else list(image)
    with single(saved, paths, planes=planes, fill_nan=fill_nan, sequence=sequence) as (manifest, scan, notes):
        return predict_scan(saved, lambda: read_scan(saved, manifest, scan, values=given, notes=notes))


def predict_scan(saved: SavedModel, read: Callable[[], OneScan]) -> Prediction:
    """The prediction for one scan, computed twice and held against its text.

    Args:
        saved: the model.
        read: reads the scan.

    Raises:
        InputError: the scan cannot be read, or the verifier finds fault.
    """
    one = read()
    explanation = explanation_for(saved, one)
    text = explain(explanation)
    check_report(text, explanation, lambda: explanation_for(saved, read()))
    return Prediction(explanation, text, one.pictures)


def explanation_for(saved: SavedModel, one: OneScan) -> Explanation:
    """All that may be said about a scan: the sum, its slices by evidence, the check by deletion."""
    model = saved.model
    batch = rows_of(one.inputs, model.device)
    space = model.config.preprocess.space
    plain = explanation_of(
        saved,
        one.inputs,
        one.scan.id,
        sequences=(one.scan.sequence,),
        space=space,
        simulated=one.simulated,
        slices=(),
    )
    evidence = slice_evidence(model, batch, one.infos, one.measured)
    first = plain.classes.index(plain.predicted)
    second = plain.classes.index(plain.runner_up)
    parts = slice_parts(evidence, one.infos, first, second, sequence=one.scan.sequence)
    notes = [*one.notes, *plain.notes]
    if saved.about["data"]["simulated"]:
        notes.append("The model was trained on simulated scans, of nobody.")
    if np.abs(evidence.unplaced).max() > 1e-9:
        notes.append("Some signs were measured where no slice is shown; the slices do not have their part.")
    found = replace(plain, slices=parts, notes=tuple(dict.fromkeys(notes)))
    return replace(found, deletion=_deletion(saved, batch, one, found, first))


def _deletion(saved: SavedModel, batch: dict[str, torch.Tensor], one: OneScan, found: Explanation, first: int) -> Any:
    """How the probability falls without the named slices, and without as many random ones."""
    named, total = top_slices(found), len(found.slices)
    if not named or len(named) == total:
        return None
    before = found.probabilities[first]
    seed = int.from_bytes(hashlib.sha256(found.id.encode()).digest()[:8], "big")
    generator = np.random.default_rng(seed)
    draws = [generator.choice(total, len(named), replace=False).tolist() for _ in range(DRAWS)]
    after = [probability_without(saved, batch, one, gone)[first] for gone in (named, *draws)]
    return Deletion(named=float(before - after[0]), random=float(before - np.mean(after[1:])), draws=DRAWS)


@torch.no_grad()
def logits_without(saved: SavedModel, batch: dict[str, torch.Tensor], one: OneScan, gone: Sequence[int]) -> Any:
    """(C,) logits as if some slices were not there, before calibration."""
    changed = without(saved.model, batch, one.infos, one.measured, gone)
    return saved.model(changed)[0].double().cpu().numpy()


def probability_without(saved: SavedModel, batch: dict[str, torch.Tensor], one: OneScan, gone: Sequence[int]) -> Any:
    """(C,) calibrated probabilities as if some slices were not there."""
    return saved.calibration.probabilities(logits_without(saved, batch, one, gone)[None])[0]
