"""Duplicate images, detected by the digest of their voxels: on both sides of a split they would leak."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from debian_mri.data.manifest import Rejection, Scan


def drop_duplicates(scans: Sequence[Scan], sources: Mapping[str, str]) -> tuple[list[Scan], list[Rejection]]:
    """Reject duplicate images.

    Of copies under one subject, session and diagnosis the first is kept; copies under different subjects, sessions or
    diagnoses are all rejected.

    Args:
        scans: with their digests.
        sources: scan id -> name in a rejection.

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
