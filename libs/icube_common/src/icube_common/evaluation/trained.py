"""People that a model was trained on are not people to test it on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from icube_common.errors import InputError
from icube_common.evaluation.manifest import Samples


def refuse_trained(
    samples: Samples, rows: Iterable[int], trained_on: Mapping[str, Sequence[str]], *, kind: str = "sample"
) -> None:
    """Hold people and samples against those that a model was trained on.

    Args:
        samples: the set, whose ids and groups mean the same as those of the training.
        rows: what is to be tested.
        trained_on: ``ids`` and ``subjects`` of the training.
        kind: what a sample is called: "clip", "scan".

    Raises:
        InputError: some of them are the same; who, and how to leave them out.
    """
    rows = list(rows)
    ids = sorted({samples.ids[row] for row in rows} & set(trained_on["ids"]))
    people = sorted({str(samples.group_array[row]) for row in rows} & set(trained_on["subjects"]))
    if people or ids:
        who = f"subject {people[0]!r} ({len(people)} of the set's)" if people else f"{kind} {ids[0]!r}"
        others = sorted({str(group) for group in samples.group_array} - set(trained_on["subjects"]))
        remedy = f"--subjects {','.join(others[:8])} takes the others" if others else "nobody else is in it"
        raise InputError(f"the model was trained on {who}: test it on other people ({remedy})")
