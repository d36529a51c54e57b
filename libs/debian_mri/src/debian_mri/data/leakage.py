"""Checks for leakage: duplicate images, confounded sites, subjects shared by parts, training scans in a test."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from debian_mri.data.manifest import Manifest, Rejection, Scan
from icube_common.errors import InputError

if TYPE_CHECKING:
    from icube_common.evaluation import Samples

# a report warns above this association (Cohen's large effect for one degree of freedom)
STRONG_ASSOCIATION = 0.5
# balanced accuracy of the class by the site from which on a set is refused; 0.5 is chance
MAX_SITE_ACCURACY = 0.9
MAX_CLASSES = 8  # up to which every division of the classes into two groups is tried
# subjects with one name in all sets: OASIS's, and keyed hashes
_SAME_EVERYWHERE = re.compile(r"OAS\d_\d{4}|OAS3\d{4}|sub-[0-9a-f]{16}")


@dataclass(frozen=True)
class SiteAssociation:
    """Association of site and class, with each subject counted once per site and class.

    Attributes:
        sites: number of sites.
        people: number of people counted.
        cramers_v: Cramer's V with Bergsma's correction for small tables (J Korean Stat Soc 42, 2013), 0 to 1.
        mutual_information: of site and class, divided by the mean of their entropies, 0 to 1.
        balanced_accuracy: leave-one-out accuracy of two groups of classes predicted by the site alone, for the best
            division of the classes.
        reason: reason to refuse training on these sites, see `check_site_confounding`; empty if accepted.
    """

    sites: int
    people: int
    cramers_v: float
    mutual_information: float
    balanced_accuracy: float
    reason: str

    @property
    def confounded(self) -> bool:
        """True if the site determines the class."""
        return bool(self.reason)

    def to_dict(self) -> dict[str, Any]:
        """Values for a report."""
        return {**asdict(self), "confounded": self.confounded}


def site_association(
    labels: Sequence[str], sites: Sequence[str | None], subjects: Sequence[str]
) -> SiteAssociation | None:
    """Association of site and class; None for fewer than two sites or classes."""
    people = {(subject, site, label) for label, site, subject in zip(labels, sites, subjects, strict=True) if site}
    classes, site_names = sorted({label for _, _, label in people}), sorted({str(site) for _, site, _ in people})
    if len(classes) < 2 or len(site_names) < 2:
        return None
    table = np.zeros((len(site_names), len(classes)))
    for _, site, label in people:
        table[site_names.index(str(site)), classes.index(label)] += 1
    pooled = _pool_single(table)
    accuracy = _site_accuracy(pooled)
    return SiteAssociation(
        sites=len(site_names),
        people=len(people),
        cramers_v=_cramers_v(table),
        mutual_information=_mutual_information(table),
        balanced_accuracy=accuracy,
        reason=_reason(pooled, accuracy),
    )


def _pool_single(table: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Table with the sites of a single subject pooled, since each of them has one class by chance."""
    single = table.sum(axis=1) == 1
    return np.vstack([table[~single], table[single].sum(axis=0, keepdims=True)])


def _reason(pooled: npt.NDArray[np.float64], accuracy: float) -> str:
    if _is_confounded(pooled):
        return "there are classes that share no site with the others"
    if accuracy >= MAX_SITE_ACCURACY:
        return f"the site alone separates classes with a balanced accuracy of {accuracy:.2f}"
    return ""


def _is_confounded(table: npt.NDArray[np.float64]) -> bool:
    """True if the classes fall into groups that share no site."""
    groups: list[set[int]] = []
    for site in table[table.sum(axis=1) > 1]:
        here = set(np.flatnonzero(site).tolist())
        joined = [group for group in groups if group & here]
        groups = [group for group in groups if not group & here] + [here.union(*joined)]
    return len(groups) > 1


def _site_accuracy(table: npt.NDArray[np.float64]) -> float:
    """Leave-one-out balanced accuracy of the majority group of each site."""
    classes = range(table.shape[1])
    sizes = range(1, len(classes) // 2 + 1) if len(classes) <= MAX_CLASSES else (1,)
    divisions = (np.isin(classes, group) for size in sizes for group in combinations(classes, size))
    return max(
        (_recall(table[:, inside], table[:, ~inside]) + _recall(table[:, ~inside], table[:, inside])) / 2
        for inside in divisions
    )


def _recall(first: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> float:
    """Share of the subjects of a group whose site has, without them, more of their group than of the other."""
    mine, theirs = first.sum(axis=1), other.sum(axis=1)
    mine_share = (mine - 1) / max(1.0, float(mine.sum()) - 1)
    right = np.sign(mine_share - theirs / theirs.sum()) / 2 + 0.5
    return float((mine * right).sum() / mine.sum())


def _cramers_v(table: npt.NDArray[np.float64]) -> float:
    n = float(table.sum())
    if n < 2:
        return 0.0
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / n
    phi2 = float(((table - expected) ** 2 / expected).sum()) / n
    rows, columns = table.shape
    corrected = max(0.0, phi2 - (rows - 1) * (columns - 1) / (n - 1))
    least = min(rows - (rows - 1) ** 2 / (n - 1), columns - (columns - 1) ** 2 / (n - 1)) - 1
    return min(1.0, math.sqrt(corrected / least)) if least > 0 else 0.0


def _mutual_information(table: npt.NDArray[np.float64]) -> float:
    p = table / table.sum()
    rows, columns = p.sum(axis=1), p.sum(axis=0)
    both = p > 0
    information = float((p[both] * np.log(p[both] / np.outer(rows, columns)[both])).sum())
    entropies = [-float((q[q > 0] * np.log(q[q > 0])).sum()) for q in (rows, columns)]
    return min(1.0, max(0.0, information / (sum(entropies) / 2)))


def check_site_confounding(samples: Samples) -> None:
    """Check that the site does not determine the class, since a model would learn the scanner.

    The criterion, with the sites of one person each taken as one site: the classes fall into groups that have no site
    in common, such as AD and CN from one cohort and DLB from another, or the site alone separates two groups of
    classes with a balanced accuracy of 0.9 or more. A model of DLB may then be one of the scanner, and no test on these
    sites could show it. Weaker associations are reported (`site_association`).

    Raises:
        InputError: confounded sites, with their classes.
    """
    if samples.sites is None:
        return
    labels = [samples.class_names[label] for label in samples.labels]
    association = site_association(labels, samples.sites, [str(group) for group in samples.group_array])
    if association is None or not association.reason:
        return
    classes: dict[str, set[str]] = defaultdict(set)
    for site, label in zip(samples.sites, labels, strict=True):
        classes[site].add(label)
    shown = ", ".join(f"{site}: {'/'.join(sorted(classes[site]))}" for site in sorted(classes)[:6])
    raise InputError(
        f"the site determines the class ({shown}): {association.reason}; disease and scanner are confounded: "
        "add people of other classes from the same sites, or take one site alone"
    )


def training_scans(manifest: Manifest, rows: Iterable[int]) -> dict[str, Any]:
    """Training scans of a model, saved with it for `check_train_test_overlap`."""
    scans = [manifest.scans[row] for row in rows]
    return {
        "format": manifest.description["format"],
        "title": manifest.description["title"],
        "ids": sorted(scan.id for scan in scans),
        "subjects": sorted({scan.subject for scan in scans}),
        "images": sorted({scan.sha256 for scan in scans} - {""}),
    }


def check_train_test_overlap(manifest: Manifest, rows: Iterable[int], trained: Mapping[str, Any]) -> None:
    """Check that test scans are not training scans of a model.

    Images are compared in any case, by the digest of their voxels; people where their names mean the same: in the same
    set, and those of OASIS and keyed hashes everywhere (OASIS's slices and volumes show the same people).

    Raises:
        InputError: test scans among the training scans, and the way to exclude them.
    """
    from icube_common.evaluation import check_train_test_overlap as check_samples

    rows = list(rows)
    same_set = all(manifest.description[key] == trained[key] for key in ("format", "title"))
    shared_names = [name for name in trained["subjects"] if same_set or _SAME_EVERYWHERE.fullmatch(name)]
    check_samples(
        manifest.samples(), rows, {"ids": trained["ids"] if same_set else [], "subjects": shared_names}, kind="scan"
    )
    scans: list[Scan] = [manifest.scans[row] for row in rows]
    if same := [scan.id for scan in scans if scan.sha256 and scan.sha256 in set(trained["images"])]:
        raise InputError(
            f"the model was trained on the image of scan {same[0]!r} ({len(same)} of {len(scans)}), under another id: "
            "test it on other people"
        )


def drop_duplicates(scans: Sequence[Scan], sources: Mapping[str, str]) -> tuple[list[Scan], list[Rejection]]:
    """Reject duplicate images.

    Of copies under one subject, session and diagnosis the first is kept; copies under different subjects, sessions or
    diagnoses are all rejected.

    Returns:
        Unique scans, in their order, and rejections.
    """
    by_image: dict[str, list[Scan]] = defaultdict(list)
    for scan in scans:
        by_image[scan.sha256 or scan.id].append(scan)
    reasons: dict[str, str] = {}
    for group in by_image.values():
        first, *copies = group
        if len({scan.subject for scan in group}) > 1:
            reason = f"the same image occurs under {len({scan.subject for scan in group})} subjects"
            reasons |= {scan.id: f"{reason}: {', '.join(scan.id for scan in group)}" for scan in group}
        elif len({(scan.session, scan.label) for scan in group}) > 1:
            reason = "the same image occurs under several sessions or diagnoses of one subject"
            reasons |= {scan.id: f"{reason}: {', '.join(scan.id for scan in group)}" for scan in group}
        else:
            reasons |= {scan.id: f"the same image as {first.id}" for scan in copies}
    unique = [scan for scan in scans if scan.id not in reasons]
    return unique, [Rejection(sources[scan_id], reason) for scan_id, reason in reasons.items()]
