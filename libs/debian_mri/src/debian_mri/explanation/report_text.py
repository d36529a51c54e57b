"""Reasons in text: a fixed template, filled from what a prediction has computed and from nothing else.

Each line is one of the sentences of `debian_mri.explanation.phrases`. What a sign needs and the scan has not is never named; what
is in doubt (an untrained tower, a simulated image, cognitive scores among the inputs, sentences that no clinician has
read, a confidence below the chosen one) is said each time. `debian_mri.explanation.verify` checks the result.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from debian_mri.explanation.contributions import ConceptPart
from debian_mri.explanation.phrases import (
    MAX_AGAINST,
    MAX_FOR,
    MAX_SLICES,
    MIN_WEIGHT,
    Statement,
    listed,
    percent,
    place,
    quantity,
    signed,
    standing,
)
from debian_mri.explanation.record import Explanation

MIN_CONTRIBUTION = 0.0005
"""Contributions below it would be written as 0.000 and are not named."""


def explain(explanation: Explanation) -> str:
    """The report as text, a sentence a line.

    Args:
        explanation: of the prediction.
    """
    return "\n".join(statement.text() for statement in statements(explanation)) + "\n"


def statements(explanation: Explanation) -> list[Statement]:
    """The sentences of the report, in their order."""
    found = [Statement("notice", {}), *_disclaimers(explanation), *_result(explanation)]
    named = named_concepts(explanation)
    found += [*_concepts(explanation, named), *_other_parts(explanation), *_slices(explanation)]
    if doubtful := [concept.label for concept in named if not concept.sure]:
        found.append(_say("unsure", concepts=listed(doubtful, "")))
    if explanation.concepts:
        found.append(_say("review", reviewer=explanation.reviewer or "not stated"))
    found += [_say("note", note=note) for note in explanation.notes]
    return [*found, Statement("notice", {})]


def named_concepts(explanation: Explanation) -> list[ConceptPart]:
    """The concepts that the text names: those that speak most for the class, then those that speak most against it."""
    margins = [(explanation.difference(concept.contributions), concept) for concept in explanation.concepts]
    order = sorted(margins, key=lambda pair: -abs(pair[0]))
    helping = [concept for margin, concept in order if margin >= MIN_CONTRIBUTION]
    hurting = [concept for margin, concept in order if margin <= -MIN_CONTRIBUTION]
    return [*helping[:MAX_FOR], *hurting[:MAX_AGAINST]]


def _say(template: str, **values: Any) -> Statement:
    return Statement(template, {name: str(value) for name, value in values.items()})


def _disclaimers(explanation: Explanation) -> Iterator[Statement]:
    if explanation.simulated:
        yield _say("simulated")
    if not explanation.trained:
        yield _say("untrained", backbone=explanation.backbone or "unnamed")
    if scores := [part.name for part in explanation.demographics if part.leakage_tier == "C"]:
        yield _say("tier_c", variables=listed(scores, ""))


def _result(explanation: Explanation) -> Iterator[Statement]:
    best = explanation.probability(explanation.predicted)
    yield _say(
        "predicted",
        id=explanation.id,
        predicted=explanation.predicted,
        kind="a calibrated" if explanation.calibrated else "an uncalibrated",
        probability=percent(best),
        runner_up=explanation.runner_up,
        second=percent(explanation.probability(explanation.runner_up)),
    )
    if explanation.abstained:
        assert explanation.threshold is not None
        yield _say(
            "abstained",
            probability=percent(best),
            predicted=explanation.predicted,
            threshold=percent(explanation.threshold),
        )
    yield _say("sequences", sequences=listed(explanation.sequences, ""))
    if explanation.not_judged:
        absent = {sequence for missing in explanation.not_judged.values() for sequence in missing}
        yield _say(
            "not_judged",
            missing=listed(sorted(absent - set(explanation.sequences)), ""),
            count=len(explanation.not_judged),
            total=len(explanation.not_judged) + len(explanation.concepts),
        )


def _concepts(explanation: Explanation, named: list[ConceptPart]) -> Iterator[Statement]:
    against = {"predicted": explanation.predicted, "runner_up": explanation.runner_up}
    yield _say("margin", **against, margin=signed(explanation.difference(explanation.logits)))
    for concept in named:
        margin = explanation.difference(concept.contributions)
        side = "for" if margin > 0 else "against"
        stands = standing(concept.score, concept.percentile, explanation.n_controls)
        yield _say(side, **against, concept=concept.label, standing=stands, margin=signed(margin))
        if explanation.unexpected(concept):
            yield _say("unexpected", concept=concept.label, side=side, predicted=explanation.predicted)
    others = [concept for concept in explanation.concepts if concept not in named]
    if others:
        total = sum(explanation.difference(concept.contributions) for concept in others)
        yield _say("others", count=len(others), margin=signed(total))


def _other_parts(explanation: Explanation) -> Iterator[Statement]:
    for part in explanation.rest:
        label = part.label[0].upper() + part.label[1:]
        yield _say("rest", Label=label, margin=signed(explanation.difference(part.contributions)))
    yield _say("bias", margin=signed(explanation.difference(explanation.bias)))
    if not explanation.demographics:
        yield _say("no_demographics")
        return
    margins = [explanation.difference(part.contributions) for part in explanation.demographics]
    yield _say("demographics", share=percent(explanation.demographics_share()), margin=signed(sum(margins)))
    for variable, margin in zip(explanation.demographics, margins, strict=True):
        shown = {"variable": variable.name.replace("_", " "), "value": quantity(variable.value, variable.unit)}
        yield _say("variable", **shown, margin=signed(margin))


def _slices(explanation: Explanation) -> Iterator[Statement]:
    if not explanation.slices:
        return
    first, total = top_slices(explanation), len(explanation.slices)
    evidence = explanation.weighting == "evidence"
    against = {"predicted": explanation.predicted, "runner_up": explanation.runner_up}
    if not first:
        yield _say("no_evidence", total=total, **against)
        return
    if evidence:
        yield _say("evidence", shown=len(first), total=total, **against)
    else:
        yield _say("slices", shown=len(first), total=total)
    for rank, index in enumerate(first, start=1):
        part = explanation.slices[index]
        yield _say(
            "evidence_slice" if evidence else "slice",
            rank=rank,
            sequence=part.sequence,
            place=place(part.plane, part.position_mm, explanation.space),
            regions=listed(part.regions, "no named region"),
            weight=percent(part.weight),
        )
    if explanation.deletion is not None:
        yield _say(
            "deletion",
            predicted=explanation.predicted,
            named=signed(-explanation.deletion.named),
            random=signed(-explanation.deletion.random),
            draws=explanation.deletion.draws,
        )


def top_slices(explanation: Explanation) -> list[int]:
    """Places of the slices that the text names, the greatest weight first; of equals the first."""
    least = MIN_WEIGHT if explanation.weighting == "evidence" else 0.0
    order = sorted(range(len(explanation.slices)), key=lambda index: -explanation.slices[index].weight)
    return [index for index in order[:MAX_SLICES] if explanation.slices[index].weight >= least]
