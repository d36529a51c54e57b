"""The same image under two ids, found by the digest of its voxels: on both sides of a split it would be a leak."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from debian_mri.data.manifest import Rejection, Scan


def drop_duplicates(scans: Sequence[Scan], sources: Mapping[str, str]) -> tuple[list[Scan], list[Rejection]]:
    """Keep every image once.

    Of copies under one person, session and diagnosis the first stays. Where copies belong to different people, sessions
    or diagnoses, nobody knows which of them is right, and all are rejected.

    Args:
        scans: with their digests.
        sources: scan id -> what a rejection calls it.

    Returns:
        The scans to keep, in their order, and rejections.
    """
    by_image: dict[str, list[Scan]] = defaultdict(list)
    for scan in scans:
        by_image[scan.sha256 or scan.id].append(scan)
    dropped: dict[str, str] = {}
    for group in by_image.values():
        first, *copies = group
        if len({scan.subject for scan in group}) > 1:
            reason = f"the same image is there under {len({scan.subject for scan in group})} subjects"
            dropped |= {scan.id: f"{reason}: {', '.join(scan.id for scan in group)}" for scan in group}
        elif len({(scan.session, scan.label) for scan in group}) > 1:
            reason = "the same image is there under several sessions or diagnoses of one subject"
            dropped |= {scan.id: f"{reason}: {', '.join(scan.id for scan in group)}" for scan in group}
        else:
            dropped |= {scan.id: f"the same image as {first.id}" for scan in copies}
    kept = [scan for scan in scans if scan.id not in dropped]
    return kept, [Rejection(sources[scan_id], reason) for scan_id, reason in dropped.items()]
