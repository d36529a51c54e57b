"""Check of an image's MRI sequence against those that a model was trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from debian_mri.biomarkers.knowledge import check_sequences
from debian_mri.cohorts.mri_sequence.description import SequenceFinding
from debian_mri.cohorts.mri_sequence.image import header_sequence, image_type_reason
from icube_common.errors import InputError


def trained_sequences(description: Mapping[str, Any]) -> tuple[str, ...]:
    """Sequences of a saved model's training scans, from its ``description``."""
    return tuple(description["data"].get("sequences") or ("T1w",))


def resolve_sequence(
    finding: SequenceFinding, trained: Sequence[str], *, image: str, sequence: str | None = None
) -> tuple[str, list[str]]:
    """Sequence to take an image for, and warnings about how it is known.

    Args:
        finding: of the image.
        trained: sequences of the model's training scans.
        image: name of the image, for messages.
        sequence: sequence that the user states, in place of the finding.

    Raises:
        InputError: the image is of another sequence or of none that is known, or the stated one was not trained on.
    """
    names = ", ".join(trained)
    if sequence is not None:
        check_sequences([sequence], "--sequence")
        if sequence not in trained:
            raise InputError(f"--sequence {sequence}: the model was trained on {names}")
        indication = finding.reason or (f"it is {finding.sequence}" if finding.sequence else "nothing")
        differs = [] if finding.sequence == sequence else [f" The image itself indicates: {indication}."]
        return sequence, [f"The sequence was given by the user: {sequence} (--sequence)." + "".join(differs)]
    remedy = f"the model was trained on {names} (--sequence {trained[0]} takes the image for one)"
    if finding.reason:
        raise InputError(f"{image}: {finding.reason}: {remedy}")
    if finding.sequence is None:
        if len(trained) > 1:
            raise InputError(f"{image}: its sequence is unknown: {remedy}")
        kind = "a T1-weighted image" if trained[0] == "T1w" else trained[0]
        return trained[0], [f"Nothing in the file gives the sequence: it is assumed to be {kind}."]
    if finding.sequence not in trained:
        raise InputError(f"{image}: is {finding.sequence}: {remedy}")
    return finding.sequence, []


def series_findings(folder: Path) -> list[SequenceFinding]:
    """Sequence of each part of the series in a DICOM folder, in the order in which they are converted."""
    from debian_mri.dicom.stacks.series import find_series, split_series

    findings = []
    for series in find_series(folder):
        of_series = header_sequence(series.header)
        for part in split_series(series):
            strange = image_type_reason(part.frames[0].image_type) if part.frames else ""
            findings.append(SequenceFinding(reason=strange) if strange else of_series)
    return findings
