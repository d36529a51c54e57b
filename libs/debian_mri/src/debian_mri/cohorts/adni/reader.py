"""ADNI, or another collection downloaded from LONI: the tree, the collection's CSV, and ADNIMERGE if given.

The label of a scan is the group of its visit. Of a scan's original and processed images the original is taken by
default. Nothing written holds a subject, an image id or a date: subjects become keyed hashes, sites as well,
sessions are visit codes, and images are written again without free text.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from debian_mri.biomarkers.knowledge import check_sequences
from debian_mri.cohorts.adni.adnimerge import BASELINE, FAMILIES, NEAREST_DAYS, Visits, diagnosis
from debian_mri.cohorts.adni.loni import TableRow, TreeImage, contradictions, read_collection, read_tree, visit_code
from debian_mri.cohorts.base import Candidate, ReaderOptions, ReaderResult, implausibility
from debian_mri.cohorts.mri_sequence.description import read_description
from debian_mri.data.clinical_variables import normalise_value
from debian_mri.data.manifest import Rejection, Scan
from debian_mri.dicom.privacy.pseudonyms import hash_subject
from icube_common.data.reader import require_file, require_folder
from icube_common.errors import InputError, unknown

EXPECTED = "<subject>/<series description>/<date>/<I...|S...>/"
TYPES = {"original": "original", "processed": "processed", "pre-processed": "processed"}
LABEL_COLUMNS = ("Group", "DX")
MODALITIES = ("mri", "mr")


@dataclass(frozen=True)
class _Image:
    row: TableRow
    sequence: str
    type: str
    label: str
    session: str


def find(source: Path, options: ReaderOptions) -> ReaderResult:
    """One scan an image that is in the table and in the tree.

    Raises:
        InputError: an unknown sequence, no such folder, no image folder in it, no table or one without LONI's columns,
            or DX is to be the label without ADNIMERGE.
    """
    check_sequences(options.sequences, "--sequences")
    root = require_folder(source, EXPECTED)
    table = require_file(options.collection_csv, "--collection-csv", "the CSV that LONI gives with a collection")
    label_column = options.label_column or "Group"
    if label_column not in LABEL_COLUMNS:
        raise InputError(f"--label-column: {unknown('label', label_column, LABEL_COLUMNS)}")
    if label_column == "DX" and options.adnimerge is None:
        raise InputError("--label-column DX: is a column of ADNIMERGE: name its file with --adnimerge")
    visits = Visits.read(options.adnimerge) if options.adnimerge is not None else None
    rows, rejected = read_collection(table)
    tree = read_tree(root)
    images, refused = _images(rows, visits, label_column, options)
    rejected += refused
    images, refused = _one_type(images, options.image_type)
    rejected += refused
    candidates, refused = _candidates(images, tree, visits, root, options.salt)
    rejected += refused
    listed = {row.image for row in rows}
    rejected += [
        Rejection(tree_image.name, tree_image.problem or "is not in the collection's CSV")
        for key, tree_image in tree.items()
        if key not in listed
    ]
    warnings, description = _warnings(candidates, images, visits, label_column)
    return ReaderResult(
        title="ADNI" if visits is not None else "LONI collection",
        citation="Alzheimer's Disease Neuroimaging Initiative (adni.loni.usc.edu)" if visits is not None else "",
        root=root,
        candidates=candidates,
        rejected=rejected,
        warnings=warnings,
        description=description,
    )


def _images(
    rows: Sequence[TableRow], visits: Visits | None, label_column: str, options: ReaderOptions
) -> tuple[list[_Image], list[Rejection]]:
    """Rows that can be a scan, in the order of people and dates, and why the others are none."""
    against = contradictions(rows)
    numbered = _visit_numbers(rows)
    selected: list[_Image] = []
    rejected: list[Rejection] = []
    for row in sorted(rows, key=lambda row: (row.subject, str(row.acquired or ""), row.line)):
        finding = read_description(row.cells["Description"])
        sequence = finding.sequence
        kind = TYPES.get(row.cells["Type"].lower(), "")
        session = visit_code(row.cells["Visit"]) or numbered[row.image]
        label = row.cells["Group"]
        if label_column == "DX" and visits is not None:
            label = diagnosis(visits.row(row.subject, session, row.acquired))
        reason, by_rule = "", False
        if row.cells["Modality"].lower() not in MODALITIES:
            reason, by_rule = f"modality {row.cells['Modality']!r} is not MRI", True
        elif sequence is None:
            reason, by_rule = finding.reason or "the description names no sequence that is known", True
        elif sequence not in options.sequences:
            reason, by_rule = f"{sequence} was not requested (--sequences {','.join(options.sequences)})", True
        elif not kind:
            reason = f"type {row.cells['Type']!r} is neither Original nor Processed"
        elif row.image in against:
            reason = against[row.image]
        elif not session:
            reason = "has neither a visit nor a date"
        elif not label:
            reason = "has no group" if label_column == "Group" else "has no diagnosis of its visit in ADNIMERGE"
        elif visits is not None and visits.contradicts_sex(row.subject, normalise_value("sex", row.cells["Sex"])):
            reason = "the CSV and ADNIMERGE give this person different sexes"
        if reason or sequence is None:
            rejected.append(Rejection(row.name, reason, by_rule=by_rule))
        else:
            selected.append(_Image(row, sequence, kind, label, session))
    return selected, rejected


def _visit_numbers(rows: Sequence[TableRow]) -> dict[str, str]:
    """Image id -> ``visit1``, ``visit2``, ... in the order of the person's dates; empty for rows without a date."""
    dates: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        if row.acquired is not None:
            dates[row.subject].add(str(row.acquired))
    return {
        row.image: f"visit{sorted(dates[row.subject]).index(str(row.acquired)) + 1}" if row.acquired else ""
        for row in rows
    }


def _one_type(images: Sequence[_Image], image_type: str) -> tuple[list[_Image], list[Rejection]]:
    """Original or processed images only: both of one scan would be the same brain twice."""
    if image_type == "all":
        return list(images), []
    selected = [image for image in images if image.type == image_type]
    available = {(image.row.subject, image.session, image.sequence) for image in selected}
    rejected = []
    for image in images:
        if image.type != image_type:
            have = (image.row.subject, image.session, image.sequence) in available
            end = f"the {image_type} is taken" if have else f"no {image_type} one of its visit is there"
            reason = f"{image.type} image: {end} (--image-type {image.type} or all takes it)"
            rejected.append(Rejection(image.row.name, reason, by_rule=have))
    return selected, rejected


def _candidates(
    images: Sequence[_Image], tree: dict[str, TreeImage], visits: Visits | None, root: Path, salt: bytes
) -> tuple[list[Candidate], list[Rejection]]:
    """Images that are in the tree as well, with their files and the person's variables."""
    made: list[Candidate] = []
    rejected: list[Rejection] = []
    for image in images:
        tree_image = tree.get(image.row.image)
        row = {
            name: normalise_value(name, image.row.cells[column]) for name, column in (("age", "Age"), ("sex", "Sex"))
        }
        if visits is not None:
            visit = visits.row(image.row.subject, image.session, image.row.acquired)
            row = visits.complete(image.row.subject, visit, row)
        volumes = [name for name in tree_image.files if name.endswith((".nii", ".nii.gz"))] if tree_image else []
        if tree_image is None:
            reason = "is in the CSV and not in the tree"
        elif tree_image.problem:
            reason = tree_image.problem
        elif tree_image.subject != image.row.subject:
            reason = "the tree has it under another subject than the CSV"
        elif len(volumes) > 1:
            reason = f"its folder holds {len(volumes)} NIfTI files: ambiguous"
        else:
            reason = implausibility(row)
        if reason or tree_image is None:
            rejected.append(Rejection(image.row.name, reason))
            continue
        folder = tree_image.folder.relative_to(root)
        key = hash_subject(image.row.subject, salt)
        site = image.row.subject.split("_S_")[0] if "_S_" in image.row.subject else ""
        scan = Scan(
            id=f"{key}_ses-{image.session}_{image.sequence}",
            subject=key,
            session=image.session,
            label=image.label,
            site="site-" + hash_subject(f"site {site}", salt)[4:12] if site else None,
            sequence=image.sequence,
            paths=((folder / volumes[0]).as_posix() if volumes else folder.as_posix(),),
        )
        handling = "copy" if volumes else "dicom"
        files = () if volumes else tree_image.files
        made.append(Candidate(scan=scan, row=row, source=image.row.name, handling=handling, files=files))
    return _number_runs(made), rejected


def _number_runs(candidates: Sequence[Candidate]) -> list[Candidate]:
    """``_run-1``, ``_run-2`` in the ids of scans that one visit has several of."""
    times = Counter(one.scan.id for one in candidates)
    so_far: Counter[str] = Counter()
    numbered = []
    for one in candidates:
        scan_id = one.scan.id
        if times[scan_id] > 1:
            so_far[scan_id] += 1
            start, _, sequence = scan_id.rpartition("_")
            one = replace(one, scan=replace(one.scan, id=f"{start}_run-{so_far[scan_id]}_{sequence}"))
        numbered.append(one)
    return numbered


def _warnings(
    candidates: Sequence[Candidate], images: Sequence[_Image], visits: Visits | None, label_column: str
) -> tuple[list[str], dict[str, object]]:
    warnings = [
        f"labels: {label_column} of the scan's visit",
        "subjects and sites are keyed hashes; sessions are visit codes; dates are used for order only",
    ]
    by_subject: dict[str, dict[str, str]] = defaultdict(dict)
    for one in candidates:
        by_subject[one.scan.subject][one.scan.session or ""] = one.scan.label
    changes = [
        {"subject": subject, "labels": labels}
        for subject, labels in by_subject.items()
        if len(set(labels.values())) > 1
    ]
    if changes:
        warnings.append(
            f"{len(changes)} subjects change their group over visits (see conversions): each scan keeps its own"
        )
    repeated = Counter((one.scan.subject, one.scan.session, one.scan.sequence) for one in candidates)
    if several := sum(count > 1 for count in repeated.values()):
        warnings.append(f"{several} visits have several scans of one sequence (run-1, run-2, ...)")
    if visits is not None:
        of_visit = [(image, visits.row(image.row.subject, image.session, image.row.acquired)) for image in images]
        unmatched = sum(not visit for _, visit in of_visit)
        dated = sum(visits.by_date(image.row.subject, image.session, image.row.acquired) for image in images)
        if dated:
            warnings.append(
                f"{dated} scans take the row of ADNIMERGE whose date is nearest to theirs, {NEAREST_DAYS} days at "
                "most: no row of their visit code is of that time"
            )
        if unmatched:
            warnings.append(
                f"{unmatched} scans have no row of their visit in ADNIMERGE: its scores and volumes are missing"
            )
        if any(image.session == "sc" for image in images):
            warnings.append(f"scans of the screening (sc) take the row {BASELINE} of ADNIMERGE")
        other = sum(
            FAMILIES.get(image.row.cells["Group"], "") != FAMILIES.get(diagnosis(visit), "")
            for image, visit in of_visit
            if diagnosis(visit)
        )
        if other and label_column == "Group":
            warnings.append(
                f"{other} scans: Group is not ADNIMERGE's diagnosis of the visit (it is often that of enrolment); "
                "--label-column DX takes the visit's"
            )
    return warnings, {"conversions": changes}
