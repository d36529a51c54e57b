"""Report text: the sentences of an explanation, filled from its numbers by fixed templates.

`TEMPLATES` holds all sentences of a report. `explain` fills them; `debian_mri.explanation.verify` reads a report back
by the same sentences and recomputes their numbers. A biomarker without its sequence is never named; an untrained image
encoder, a simulated image, cognitive scores among the inputs, unreviewed sentences and a confidence below the threshold
are always reported.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from debian_mri import RESEARCH_ONLY
from debian_mri.explanation.contributions import ConceptPart
from debian_mri.explanation.record import Explanation

MAX_FOR, MAX_AGAINST, MAX_SLICES = 4, 3, 3
"""Concepts and slices that a text names, at most."""
MIN_WEIGHT = 0.005
"""Threshold of evidence for a named slice: a smaller share would be printed as 0 %."""

AXES: Mapping[str, str] = {"axial": "z", "coronal": "y", "sagittal": "x"}
"""Plane -> the RAS axis along which it lies."""

SPACES: Mapping[str, str] = {"mni": "MNI space", "native": "space of the scan"}
"""Coordinate spaces, as named in a text."""

TEMPLATES: dict[str, str] = {
    "notice": RESEARCH_ONLY,
    "simulated": "The image is simulated: a program has made it, and it shows no person.",
    "untrained": "The image encoder ({backbone}) is untrained: the explanation shows its form only and means nothing.",
    "tier_c": "Tier C was used ({variables}): values that come of the illness or its diagnosis, so that the result is "
    "not one of the image.",
    "predicted": "Scan {id}: the most probable class is {predicted}, with {kind} probability of {probability:percent}; "
    "next is {runner_up} with {second:percent}.",
    "abstained": "The model abstains: {probability:percent} for {predicted} is below the chosen confidence of "
    "{threshold:percent}, and what follows is no finding.",
    "sequences": "Sequences used: {sequences}.",
    "not_judged": "Not evaluated for lack of {missing}: {count:count} of {total:count} concepts.",
    "margin": "Between {predicted} and {runner_up} the logits differ by {margin:signed} before calibration; "
    "this is the sum of the parts below.",
    "for": "For {predicted} rather than {runner_up}: {concept}, {standing}: {margin:signed}.",
    "against": "Against {predicted} and for {runner_up}: {concept}, {standing}: {margin:signed}.",
    "others": "The concepts not named here ({count:count}): {margin:signed} together.",
    "unexpected": "Contrary to what its source expects, {concept} counts {side} {predicted} here.",
    "rest": "{Label}: {margin:signed}.",
    "bias": "Without any evidence the model starts at {margin:signed}.",
    "demographics": "Demographics make up {share:percent} of all that moved the decision: {margin:signed} together.",
    "variable": "Of this, {variable} ({value}): {margin:signed}.",
    "no_demographics": "No demographics were used.",
    "slices": "Slices by attention, the first {shown:count} of {total:count}; attention weights are no evidence.",
    "slice": "Slice {rank:count}: {sequence} {place}, through {regions}, {weight:percent} of the attention.",
    "evidence": "Slices by evidence, the first {shown:count} of {total:count}: the share of each in the slices' "
    "contributions to {predicted} rather than {runner_up}.",
    "evidence_slice": "Slice {rank:count}: {sequence} {place}, through {regions}, {weight:percent} of the evidence.",
    "no_evidence": "None of the {total:count} slices contributes to {predicted} rather than {runner_up}.",
    "deletion": "Without the slices named above the probability of {predicted} changes by {named:signed}; without as "
    "many random ones by {random:signed} (mean of {draws:count} draws).",
    "unsure": "Of the concepts named above the source or its direction is in doubt for: {concepts}.",
    "review": "Review of the sentences behind the concepts: {reviewer}.",
    "note": "Note: {note}",
}
"""Name of a sentence -> its text, with places ``{name}`` for words and ``{name:form}`` for numbers."""

KEYS: Mapping[str, str] = {
    "for": "concept",
    "against": "concept",
    "unexpected": "concept",
    "rest": "Label",
    "variable": "variable",
    "slice": "rank",
    "evidence_slice": "rank",
    "note": "note",
}
"""Sentences that may occur several times -> the field that distinguishes them."""

FORMS: Mapping[str, str] = {
    "count": r"\d+",
    "percent": r"(?:(?:under|over) )?\d+ %",
    "signed": r"[+\u2212]?\d+\.\d{3}",
}
"""Form of a number -> its regular expression."""

_PLACE = re.compile(r"\{(\w+)(?::(\w+))?\}")


@dataclass(frozen=True)
class Statement:
    """A sentence of a report: template and values."""

    template: str
    values: Mapping[str, str]

    @property
    def key(self) -> tuple[str, str]:
        """Key among the sentences of a report."""
        return self.template, self.values.get(KEYS.get(self.template, ""), "")

    def text(self) -> str:
        """The sentence, filled."""
        return _PLACE.sub(lambda place: self.values[place[1]], TEMPLATES[self.template])


def read(line: str) -> Statement | None:
    """Parse a line of a report; None for an unknown sentence."""
    for name, pattern in _patterns().items():
        if match := pattern.fullmatch(line):
            return Statement(name, match.groupdict())
    return None


@cache
def _patterns() -> dict[str, re.Pattern[str]]:
    """Those that begin with a place come last: they would match too much."""
    patterns = {}
    for name, template in sorted(TEMPLATES.items(), key=lambda item: item[1].startswith("{")):
        text, end = "", 0
        for place in _PLACE.finditer(template):
            form = FORMS[place[2]] if place[2] else ".+?"
            text += re.escape(template[end : place.start()]) + f"(?P<{place[1]}>{form})"
            end = place.end()
        patterns[name] = re.compile(text + re.escape(template[end:]))
    return patterns


def signed(value: float) -> str:
    """A number with its sign and three decimals; what rounds to nothing has no sign."""
    text = f"{round(value, 9):+.3f}"
    return "0.000" if float(text) == 0 else text.replace("-", "\N{MINUS SIGN}")


def percent(share: float) -> str:
    """A share of 1 in whole percents, and no more certainty or doubt than there is."""
    share = round(share, 9)
    if share < 0.01:
        return "0 %" if share == 0 else "under 1 %"
    return "over 99 %" if 0.99 < share < 1 else f"{100 * share:.0f} %"


def quantity(value: float | str | None, unit: str) -> str:
    """A variable's value with its unit: at most one decimal; ``missing`` for None."""
    if value is None:
        return "missing"
    text = (
        value if isinstance(value, str) else f"{round(value, 9):.1f}".removesuffix(".0").replace("-", "\N{MINUS SIGN}")
    )
    return f"{text} {unit}".strip()


def standing(score: float, percentile: float | None, n_controls: int) -> str:
    """A concept's score relative to the training controls: their mean, and the share of them below it.

    A biomarker below the mean of the controls may contribute to a class as well.
    """
    words = "more" if score > 0 else "less" if score < 0 else "as much as"
    text = f"{words} {'' if score == 0 else 'than '}in training controls on average"
    return text if percentile is None else f"{text} (above {percent(percentile / 100)} of {n_controls})"


def place(plane: str, position_mm: float | None, space: str) -> str:
    """Location of a slice: its plane, and its position on the RAS axis with the coordinate space."""
    if position_mm is None:
        return f"{plane}, position unknown"
    text = f"{round(position_mm, 9):.1f}".replace("-", "\N{MINUS SIGN}")
    return f"{plane} at {AXES[plane]} = {text} mm ({SPACES[space]})"


def listed(words: tuple[str, ...] | list[str], nothing: str) -> str:
    """Words with commas between them, underscores as spaces; ``nothing`` for none."""
    return ", ".join(word.replace("_", " ") for word in words) or nothing


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
    result = [Statement("notice", {}), *_disclaimers(explanation), *_result(explanation)]
    named = named_concepts(explanation)
    result += [*_concepts(explanation, named), *_other_parts(explanation), *_slices(explanation)]
    if doubtful := [concept.label for concept in named if not concept.sure]:
        result.append(_say("unsure", concepts=listed(doubtful, "")))
    if explanation.concepts:
        result.append(_say("review", reviewer=explanation.reviewer or "not stated"))
    result += [_say("note", note=note) for note in explanation.warnings]
    return [*result, Statement("notice", {})]


def named_concepts(explanation: Explanation) -> list[ConceptPart]:
    """The concepts that the text names: the largest contributions for the class, then those against it."""
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
