"""Summary of a prepared folder in under a second, without torch, pandas or nibabel."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from debian_mri import RESEARCH_ONLY
from debian_mri.data.leakage import STRONG_ASSOCIATION, site_association
from debian_mri.data.manifest import Manifest, Scan
from debian_mri.data.participants import Participants
from icube_common.io.csv import read_table

MIN_CLASS_SIZE = 10  # of a class: below, any figure is luck
YEARS_APART = 5.0  # mean ages of two classes


def describe(folder: str | Path) -> dict[str, Any]:
    """Counts by class, sex, age, sites, sessions and sequences, missing values by column, and warnings.

    Raises:
        InputError: as `Manifest.load`.
    """
    manifest = Manifest.load(folder)
    people = manifest.participants()
    description = manifest.description
    scans = manifest.scans
    missing = people.missing()
    sites = manifest.sites and site_association([s.label for s in scans], manifest.sites, [s.subject for s in scans])
    reasons = Counter(row["reason"] for _, row in _rejected(manifest.folder))
    answer = {
        "data": str(folder),
        **{key: description[key] for key in ("format", "title", "citation", "space", "simulated")},
        "root": str(manifest.root),
        "scans": len(scans),
        "subjects": len({scan.subject for scan in scans}),
        "classes": {name: _class(name, scans, people) for name in manifest.class_names},
        "sequences": dict(Counter(scan.sequence for scan in scans)),
        "kinds": dict(Counter(scan.kind for scan in scans)),
        "sites": dict(sorted(Counter(scan.site for scan in scans if scan.site).items())),
        "scans_of_a_subject": dict(sorted(Counter(Counter(scan.subject for scan in scans).values()).items())),
        "columns": {
            column.name: {"leakage_tier": column.leakage_tier, "unit": column.unit, "missing": missing[column.name]}
            for column in people.columns
        },
        "site_and_class": sites.to_dict() if sites else None,
        "rejected": sum(reasons.values()),
        "reasons": dict(reasons.most_common(10)),
        "edited_by_hand": manifest.fingerprint != description["manifest_sha256"],
        "notice": RESEARCH_ONLY,
    }
    return {**answer, "warnings": [*description.get("warnings", []), *_warnings(manifest, people, answer)]}


def _rejected(folder: Path) -> Sequence[tuple[int, dict[str, str]]]:
    path = folder / "rejected.csv"
    return list(read_table(path, ("source", "reason"))) if path.is_file() else []


def _values(people: Participants, name: str) -> npt.NDArray[np.float64]:
    """(scans,), NaN where missing or where there is no such variable."""
    if name not in people.names:
        return np.full(len(people.ids), np.nan)
    return people.values[:, people.names.index(name)]


def _class(name: str, scans: Sequence[Scan], people: Participants) -> dict[str, Any]:
    """Numbers of a class; sexes count people, ages are of scans."""
    rows = [row for row, scan in enumerate(scans) if scan.label == name]
    ages = _values(people, "age")[rows]
    ages = ages[~np.isnan(ages)]
    sexes: Counter[str] = Counter()
    if "sex" in people.names:
        sex = people.column("sex")
        codes = {scans[row].subject: _values(people, "sex")[row] for row in rows}
        sexes.update("missing" if np.isnan(code) else sex.values[int(code)] for code in codes.values())
    return {
        "scans": len(rows),
        "subjects": len({scans[row].subject for row in rows}),
        "sex": dict(sorted(sexes.items())),
        "age": {"mean": round(float(ages.mean()), 1), "from": float(ages.min()), "to": float(ages.max())}
        if len(ages)
        else None,
    }


def _warnings(manifest: Manifest, people: Participants, answer: Mapping[str, Any]) -> list[str]:
    lines = []
    classes = answer["classes"]
    sites = answer["site_and_class"]
    if sites and sites["confounded"]:
        lines.append(f"the site determines the class: {sites['reason']}; training on this pool is refused")
    elif sites and sites["cramers_v"] >= STRONG_ASSOCIATION:
        lines.append(f"site and class are associated (Cramer's V {sites['cramers_v']:.2f}): balance or report it")
    for name, row in classes.items():
        if row["subjects"] < MIN_CLASS_SIZE:
            lines.append(f"class {name}: {row['subjects']} people, too few for an evaluation")
    means = {name: row["age"]["mean"] for name, row in classes.items() if row["age"]}
    if means and max(means.values()) - min(means.values()) > YEARS_APART:
        shown = ", ".join(f"{name} {mean:g}" for name, mean in means.items())
        lines.append(f"mean ages differ by more than {YEARS_APART:g} years: {shown}")
    for name in ("age", "sex"):
        count = int(np.isnan(_values(people, name)).sum())
        if count:
            lines.append(f"{name} is missing in {count} of {answer['scans']} scans")
    if len(answer["kinds"]) > 1 or len(answer["sequences"]) > 1:
        lines.append("several kinds of images or sequences are mixed")
    changed = {scan.subject for scan in manifest.scans} - {
        subject for subject, labels in _labels(manifest.scans).items() if len(labels) == 1
    }
    if changed:
        lines.append(f"{len(changed)} people are in several classes at different visits")
    if answer["edited_by_hand"]:
        lines.append("manifest.csv was changed after it was prepared")
    return lines


def _labels(scans: Sequence[Scan]) -> dict[str, set[str]]:
    answer: dict[str, set[str]] = {}
    for scan in scans:
        answer.setdefault(scan.subject, set()).add(scan.label)
    return answer


def render(result: Mapping[str, Any]) -> str:
    """`describe` as text."""
    lines = [
        f"{result['title']} ({result['format']}): {result['scans']} scans of {result['subjects']} people, "
        f"{result['space']} space" + (", SIMULATED" if result["simulated"] else ""),
        "",
        f"{'class':<12}{'scans':>7}{'people':>8}  {'age (years)':<22}sex",
    ]
    for name, row in result["classes"].items():
        age = f"{row['age']['mean']:g} ({row['age']['from']:g} to {row['age']['to']:g})" if row["age"] else "unknown"
        sex = ", ".join(f"{count} {word}" for word, count in row["sex"].items()) or "unknown"
        lines.append(f"{name:<12}{row['scans']:>7}{row['subjects']:>8}  {age:<22}{sex}")
    lines += ["", f"{'column':<20}{'tier':<6}{'unit':<8}missing"]
    lines += [
        f"{name:<20}{row['leakage_tier']:<6}{row['unit']:<8}{row['missing']}" for name, row in result["columns"].items()
    ]
    lines.append("")
    lines += [f"{key}: {result[key]}" for key in ("sequences", "sites", "scans_of_a_subject") if result[key]]
    if result["rejected"]:
        lines += ["", f"{result['rejected']} not used:"]
        lines += [f"{count:>6}  {reason}" for reason, count in result["reasons"].items()]
    if result["warnings"]:
        lines += ["", "warnings:", *(f"  {line}" for line in result["warnings"])]
    return "\n".join([*lines, "", result["notice"]])
