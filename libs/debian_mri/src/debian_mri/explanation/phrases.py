"""The sentences that a report is made of, one a line, and the form of its numbers.

`TEMPLATES` is all that a report can say. `debian_mri.explanation.report_text` fills it from the computation; `debian_mri.explanation.verify` reads
a report back with the same sentences and recomputes what is in their places.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from debian_mri import RESEARCH_ONLY

MAX_FOR, MAX_AGAINST, MAX_SLICES = 4, 3, 3
"""Concepts and slices that a text names, at most."""
MIN_WEIGHT = 0.005
"""A slice of less evidence is not named: it would stand there with 0 %."""

AXES: Mapping[str, str] = {"axial": "z", "coronal": "y", "sagittal": "x"}
"""Plane -> the RAS axis along which it lies."""

SPACES: Mapping[str, str] = {"mni": "MNI space", "native": "space of the scan"}
"""Where positions are measured -> its name in a text."""

TEMPLATES: dict[str, str] = {
    "notice": RESEARCH_ONLY,
    "simulated": "The image is simulated: a program has made it, and it shows nobody.",
    "untrained": "The image tower ({backbone}) is untrained: what follows shows the form of the reasons and means "
    "nothing.",
    "tier_c": "Tier C was used ({variables}): values that come of the illness or its diagnosis, so that the result is "
    "not one of the image.",
    "predicted": "Scan {id}: the most probable class is {predicted}, with {kind} probability of {probability:percent}; "
    "next is {runner_up} with {second:percent}.",
    "abstained": "The model abstains: {probability:percent} for {predicted} is below the chosen confidence of "
    "{threshold:percent}, and what follows is no finding.",
    "sequences": "Sequences used: {sequences}.",
    "not_judged": "Not judged for lack of {missing}: {count:count} of {total:count} concepts.",
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
    "slices": "Slices by attention, the first {shown:count} of {total:count}; attention says where the model looked, "
    "not what is there.",
    "slice": "Slice {rank:count}: {sequence} {place}, through {regions}, {weight:percent} of the attention.",
    "evidence": "Slices by evidence, the first {shown:count} of {total:count}: the share that each has in what the "
    "slices say for {predicted} rather than {runner_up}.",
    "evidence_slice": "Slice {rank:count}: {sequence} {place}, through {regions}, {weight:percent} of the evidence.",
    "no_evidence": "None of the {total:count} slices speaks for {predicted} rather than {runner_up}.",
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
"""Sentences that may come several times -> the place that tells them apart."""

FORMS: Mapping[str, str] = {
    "count": r"\d+",
    "percent": r"(?:(?:under|over) )?\d+ %",
    "signed": r"[+\u2212]?\d+\.\d{3}",
}
"""Form of a number -> its regular expression."""

_PLACE = re.compile(r"\{(\w+)(?::(\w+))?\}")


@dataclass(frozen=True)
class Statement:
    """A sentence of a report: which, and what stands in its places, as text."""

    template: str
    values: Mapping[str, str]

    @property
    def key(self) -> tuple[str, str]:
        """What tells it from the other sentences of a report."""
        return self.template, self.values.get(KEYS.get(self.template, ""), "")

    def text(self) -> str:
        """The sentence, filled."""
        return _PLACE.sub(lambda place: self.values[place[1]], TEMPLATES[self.template])


def read(line: str) -> Statement | None:
    """The sentence that a line of a report is, with what stands in its places; None for none."""
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
    """How a concept's score stands to those of the training controls: to their mean, and above how many of them.

    A sign that speaks for a class may do so by being less there than usual, which the words have to say.
    """
    words = "more" if score > 0 else "less" if score < 0 else "as much as"
    text = f"{words} {'' if score == 0 else 'than '}in training controls on average"
    return text if percentile is None else f"{text} (above {percent(percentile / 100)} of {n_controls})"


def place(plane: str, position_mm: float | None, space: str) -> str:
    """Where a slice lies: its plane, and its position on the RAS axis with the space it is measured in."""
    if position_mm is None:
        return f"{plane}, position unknown"
    text = f"{round(position_mm, 9):.1f}".replace("-", "\N{MINUS SIGN}")
    return f"{plane} at {AXES[plane]} = {text} mm ({SPACES[space]})"


def listed(words: tuple[str, ...] | list[str], nothing: str) -> str:
    """Words with commas between them, underscores as spaces; ``nothing`` for none."""
    return ", ".join(word.replace("_", " ") for word in words) or nothing
