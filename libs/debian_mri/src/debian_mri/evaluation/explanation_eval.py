"""Evaluation of explanations on simulated brains, where the changed structures are known.

Two questions, on correctly classified people outside the training:

a. Do the slices that a report names show the structure that the class changes most? Beside chance: as many slices drawn
   from the same set of slices; its expectation is the share of the set's slices that show the structure.
b. Does the class lose when the named slices are taken away? Beside as many random ones of the same set, paired in each
   person.

The set of slices limits (a): where each slice shows the structure, named slices cannot differ from chance. Evenly
spread slices (``slices.mode=even``) over the whole brain leave most without it. For all that a class changes, which in
AD is in half of the brain's coronal planes, the same figures are given with the largest ratio that they could reach.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from debian_mri import RESEARCH_ONLY
from debian_mri.data.dataset import ScanDataset, ScanInput, to_tensors
from debian_mri.data.feature_store import ScanImages
from debian_mri.data.leakage import check_train_test_overlap
from debian_mri.data.manifest import Manifest, Scan
from debian_mri.explanation.contributions import SlicePart
from debian_mri.explanation.explain import explain_scan, logits_without_slices
from debian_mri.explanation.report_text import MAX_SLICES, top_slices
from debian_mri.inference.scan_input import ScanSource, encode_for_model, load_scan_input
from debian_mri.models.mri_model import MriModel
from debian_mri.simulation.effects import most_affected_structure
from debian_mri.simulation.truth import shows_change, shows_structure
from icube_common.errors import InputError
from icube_common.evaluation.intervals import interval_of
from icube_common.io.progress import progress_bar
from icube_common.io.reports import Report
from icube_common.io.runs import atomic_folder, check_output_path, write_json

Array = npt.NDArray[np.float64]

TARGET_RATIO = 3.0
"""How much more often than by chance named slices have to show the structure."""
MIN_PEOPLE = 3
"""People that are needed for figures."""


@dataclass(frozen=True, eq=False)
class ExplanationScore:
    """Explanation of one person compared with the truth.

    Attributes:
        scan: the row.
        structure: that the class changes most.
        named: share of the named slices that show it.
        chance: share of all slices that show it.
        named_any: share of the named slices that show anything the class changes.
        chance_any: of all slices.
        attention: share that show the structure of as many slices with most attention; None without image branch.
        count: slices named.
        total: slices.
        logit_named: how far the margin of the class falls without the named slices, log-odds before calibration.
        logit_random: without as many random ones, mean over the draws.
        probability_named: likewise of the class's probability.
        probability_random: likewise.
    """

    scan: Scan
    structure: str
    named: float
    chance: float
    named_any: float
    chance_any: float
    attention: float | None
    count: int
    total: int
    logit_named: float
    logit_random: float
    probability_named: float
    probability_random: float


def evaluate_explanations(
    run: str | Path | MriModel,
    data: ScanDataset | str | Path,
    out: str | Path,
    *,
    draws: int = 50,
    seed: int = 0,
    volumes: str | Path | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Compare explanations with the truth of a simulated cohort.

    Args:
        run: a trained run, or its ``model``.
        data: what ``debian-mri simulate`` made; people that were trained on are left out.
        out: the folder to make: ``explanation.json``, ``explanation.tsv`` (a line a person), ``report.html``.
        draws: random choices of slices, of each person.
        seed: of them.
        volumes: table of volumes of the scans, for a model of volumes; by default that of the training.
        overwrite: replace an existing ``out``.

    Returns:
        Figures of (a) and (b), each with its interval over people, and whether they are as wanted.

    Raises:
        InputError: the set is not simulated, no person is left, or the model has no class that changes anything.
    """
    if draws < 1:
        raise InputError(f"--draws {draws}: must be at least 1")
    check_output_path(out, overwrite=overwrite)
    model = run if isinstance(run, MriModel) else MriModel.from_pretrained(run)
    if volumes is not None:
        model.use_volumes(volumes)
    manifest = ScanDataset.open(data).manifest
    if not manifest.simulated:
        raise InputError(f"{data}: is not simulated: what is truly changed in a person's brain is not known")
    scans, trained_on = _candidates(model, manifest)
    tried: list[ExplanationScore] = []
    wrong = silent = 0
    read = _read(model, manifest, scans)
    for scan, one in progress_bar(read, desc="explanations", unit="scan", leave=False, total=len(scans)):
        explanation = explain_scan(model, one)
        if explanation.predicted != scan.label:
            wrong += 1
            continue
        named = top_slices(explanation)
        if not named:
            silent += 1
            continue
        tried.append(_try(model, manifest, one, explanation.slices, named, draws, seed + len(tried)))
    if len(tried) < MIN_PEOPLE:
        raise InputError(
            f"{data}: {len(tried)} people outside the training with a correct prediction, at least {MIN_PEOPLE} are "
            "needed; simulate more, or train with --exclude-subjects"
        )
    result = {
        "notice": RESEARCH_ONLY,
        "simulated": True,
        "run": str(run),
        "people": len(tried),
        "left_out": {"trained_on": trained_on, "class_not_predicted": wrong, "no_slice_named": silent},
        "classes": sorted({trial.scan.label for trial in tried}),
        "structures": {trial.scan.label: trial.structure for trial in tried},
        "slices": {"of_a_scan": tried[0].total, "named_at_most": MAX_SLICES, "config": _slices(model)},
        "chance": "expectation over as many slices drawn without replacement from the same scan's slices: the share of "
        "them that show the structure",
        **figures(tried),
    }
    with atomic_folder(out, overwrite=overwrite) as temporary:
        write_json(temporary / "explanation.json", result)
        _table(temporary / "explanation.tsv", tried)
        _report(temporary / "report.html", result, str(manifest.description["title"]))
    return {**result, "out": str(out), "report": str(Path(out) / "report.html")}


def _read(model: MriModel, manifest: Manifest, scans: Sequence[Scan]) -> Iterator[tuple[Scan, ScanInput]]:
    """Scans as the model takes them, joined in batches of the image encoder."""
    sources = [
        ScanSource(ScanImages(manifest, scan, model.config), manifest.simulated, manifest=manifest) for scan in scans
    ]
    for encoded in encode_for_model(model, ((source, source.images) for source in sources), manifest.folder):
        if encoded.error is not None:
            raise encoded.error
        yield encoded.item.scan, load_scan_input(model, encoded.item, encoded=encoded)


def _candidates(model: MriModel, manifest: Manifest) -> tuple[list[Scan], int]:
    """Ill people of the model's classes that it was not trained on; and how many it was."""
    labels = [name for name in model.labels if name in manifest.class_names and most_affected_structure(name)]
    if not labels:
        raise InputError(
            f"the model has the classes {', '.join(model.labels)}: the set has none of them that changes anything"
        )
    for label in labels:
        shows_change(manifest.folder, label, "coronal", 0.0)  # whether there is a truth at all
    scans, trained_on = [], 0
    for row, scan in enumerate(manifest.scans):
        if scan.label not in labels:
            continue
        try:
            check_train_test_overlap(manifest, [row], model.description["trained_on"])
        except InputError:
            trained_on += 1
        else:
            scans.append(scan)
    return scans, trained_on


def _try(
    model: MriModel,
    manifest: Manifest,
    one: ScanInput,
    slices: Sequence[SlicePart],
    named: Sequence[int],
    draws: int,
    seed: int,
) -> ExplanationScore:
    label = one.scan.label
    structure = most_affected_structure(label)
    assert structure is not None
    truth = np.array([_shown(part, lambda p, mm: _shows(manifest, label, structure, p, mm)) for part in slices])
    anything = np.array([_shown(part, lambda p, mm: shows_change(manifest.folder, label, p, mm)) for part in slices])
    attention = None
    if all(part.attention is not None for part in slices):
        weights = np.array([part.attention for part in slices], dtype=np.float64)
        # of equals none comes first by its place alone: their mean counts
        attention = _top_share(weights, truth, len(named))
    batch = to_tensors(one.inputs, model.device)
    generator = np.random.default_rng(seed)
    total = len(slices)
    choices = [list(named)]
    choices += [generator.choice(total, len(named), replace=False).tolist() for _ in range(draws)]
    number = model.labels.index(label)
    logits = np.stack([logits_without_slices(model, batch, one, gone) for gone in ([], *choices)])
    margins = logits[:, number] - np.delete(logits, number, axis=1).max(1)
    probabilities = model.calibration.probabilities(logits)[:, number]
    return ExplanationScore(
        scan=one.scan,
        structure=structure,
        named=float(truth[list(named)].mean()),
        chance=float(truth.mean()),
        named_any=float(anything[list(named)].mean()),
        chance_any=float(anything.mean()),
        attention=attention,
        count=len(named),
        total=total,
        logit_named=float(margins[0] - margins[1]),
        logit_random=float(margins[0] - margins[2:].mean()),
        probability_named=float(probabilities[0] - probabilities[1]),
        probability_random=float(probabilities[0] - probabilities[2:].mean()),
    )


def _shows(manifest: Manifest, label: str, structure: str, plane: str, position_mm: float) -> bool:
    return shows_structure(manifest.folder, label, structure, plane, position_mm)


def _shown(part: SlicePart, test: Callable[[str, float], bool]) -> bool:
    if part.position_mm is None:
        raise InputError(
            "the slices have no place in MNI space: explanation-test takes volumes with preprocess.space=mni"
        )
    return test(part.plane, part.position_mm)


def _top_share(weights: Array, truth: npt.NDArray[np.bool_], count: int) -> float:
    """Share of the ``count`` greatest weights that are true, equals counted by their mean."""
    edge = np.sort(weights)[-count]
    above, at = weights > edge + 1e-12, np.abs(weights - edge) <= 1e-12
    left = count - int(above.sum())
    return float((truth[above].sum() + left * truth[at].mean()) / count)


def figures(tried: Sequence[ExplanationScore]) -> dict[str, Any]:
    """The figures of both questions with 95 % intervals, by resampling people.

    Args:
        tried: the people.
    """
    names = [trial.scan.id for trial in tried]

    def column(name: str) -> Array:
        return np.array([getattr(trial, name) for trial in tried], dtype=np.float64)

    def mean(values: Array) -> dict[str, Any]:
        return interval_of(lambda w: (w @ values) / w.sum(1), names).to_dict()

    def ratio(upper: Array, lower: Array) -> dict[str, Any]:
        # where chance is 0 nothing could be found, and nothing is told
        return interval_of(lambda w: (w @ upper) / np.maximum(w @ lower, 1e-12), names).to_dict()

    def located(name: str, chance: str) -> dict[str, Any]:
        trial, expected = column(name), column(chance)
        return {
            "named": mean(trial),
            "chance": float(expected.mean()),
            "ratio": ratio(trial, expected),
            "largest_possible_ratio": float(1 / expected.mean()) if expected.any() else None,
        }

    at_least = located("named", "chance")
    answer: dict[str, Any] = {
        "location": at_least,
        "location_of_all_that_is_changed": located("named_any", "chance_any"),
        "deletion_logit": {
            "named": mean(column("logit_named")),
            "random": mean(column("logit_random")),
            "difference": mean(column("logit_named") - column("logit_random")),
        },
        "deletion_probability": {
            "named": mean(column("probability_named")),
            "random": mean(column("probability_random")),
            "difference": mean(column("probability_named") - column("probability_random")),
        },
    }
    if all(trial.attention is not None for trial in tried):
        answer["location_by_attention"] = located("attention", "chance")
    low = answer["deletion_logit"]["difference"]["ci95"][0]
    answer["as_wanted"] = {
        f"named slices show the structure {TARGET_RATIO:g} times as often as chance": bool(
            at_least["ratio"]["mean"] >= TARGET_RATIO
        ),
        "deleting them costs more than deleting random ones": bool(low is not None and low > 0),
    }
    return answer


def _slices(model: MriModel) -> dict[str, Any]:
    config = model.config.slices
    return {"mode": config.mode, "planes": list(config.planes), "count": config.count}


def _table(path: Path, tried: Sequence[ExplanationScore]) -> None:
    columns = [name for name in ExplanationScore.__dataclass_fields__ if name != "scan"]
    with path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle, delimiter="\t", lineterminator="\n")
        writer.writerow(["id", "label", *columns])
        for trial in tried:
            writer.writerow([trial.scan.id, trial.scan.label, *(getattr(trial, name) for name in columns)])


def _text(metric: Mapping[str, Any]) -> str:
    low, high = metric["ci95"]
    ends = "" if low is None else f" [{low:.3f}, {high:.3f}]"
    return f"{metric['mean']:.3f}{ends}"


def _report(path: Path, result: Mapping[str, Any], title: str) -> None:
    report = Report("Explanation test", subtitle=title)
    report.paragraph(RESEARCH_ONLY)
    report.paragraph("The scans are simulated: they show no person, and the simulated changes are known.")
    left, slices = result["left_out"], result["slices"]
    report.facts(
        {
            "people": result["people"],
            "structure that the class changes most": ", ".join(
                f"{label}: {name.replace('_', ' ')}" for label, name in result["structures"].items()
            ),
            "slices of a scan": f"{slices['of_a_scan']} ({slices['config']['mode']}, "
            f"{', '.join(slices['config']['planes'])})",
            "left out": f"{left['trained_on']} trained on, {left['class_not_predicted']} of another predicted class, "
            f"{left['no_slice_named']} without a named slice",
        }
    )
    report.section("Do named slices show it?")
    report.paragraph(f"Chance: {result['chance']}.")
    rows = [
        [
            words,
            _text(result[key]["named"]),
            f"{result[key]['chance']:.3f}",
            _text(result[key]["ratio"]),
            "" if result[key]["largest_possible_ratio"] is None else f"{result[key]['largest_possible_ratio']:.2f}",
        ]
        for key, words in (
            ("location", "the structure changed most"),
            ("location_of_all_that_is_changed", "anything that the class changes"),
            ("location_by_attention", "the structure, by attention in place of evidence"),
        )
        if key in result
    ]
    report.table(["shown is", "share of named slices", "chance", "ratio", "largest possible"], rows)
    report.section("What is lost without them?")
    rows = [
        [words, *(_text(result[key][name]) for name in ("named", "random", "difference"))]
        for key, words in (
            ("deletion_logit", "margin of the class, log-odds before calibration"),
            ("deletion_probability", "probability of the class"),
        )
    ]
    report.table(["loss of", "named", "random", "difference, paired"], rows)
    report.section("As wanted")
    report.table(
        ["question", "answer"], [[words, "yes" if fine else "no"] for words, fine in result["as_wanted"].items()]
    )
    report.save(path)


def render(result: Mapping[str, Any]) -> str:
    """A result for a terminal."""
    where, lost = result["location"], result["deletion_logit"]
    lines = [
        f"simulated people: {result['people']} ({', '.join(result['classes'])})",
        f"named slices that show the {', '.join(sorted(set(result['structures'].values()))).replace('_', ' ')}: "
        f"{_text(where['named'])}, by chance {where['chance']:.3f}: {_text(where['ratio'])} times as often",
        f"margin lost without them: {_text(lost['named'])}, without random ones {_text(lost['random'])}; "
        f"difference {_text(lost['difference'])}",
    ]
    lines += [f"{'yes' if fine else 'NO '}  {words}" for words, fine in result["as_wanted"].items()]
    return "\n".join([*lines, f"report: {result['report']}"])
