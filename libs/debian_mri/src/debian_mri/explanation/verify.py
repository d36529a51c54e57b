"""Verification of reports: read the text back, recompute its numbers, and name every disagreement.

The verifier shares with `debian_mri.explanation.report_text` the sentences and the format of numbers, and no
arithmetic: everything is recomputed from the raw contributions. A report passes where each of its lines is a known
sentence with the recomputed values, no sentence is missing, added, doubled or out of order, and no biomarker is named
that was not computed or cannot be seen on the sequences of the scan.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from debian_mri.biomarkers.concepts import Concept, load_concepts, plain
from debian_mri.explanation.record import Explanation
from debian_mri.explanation.report_text import (
    MAX_AGAINST,
    MAX_FOR,
    MAX_SLICES,
    MIN_WEIGHT,
    Statement,
    listed,
    percent,
    place,
    quantity,
    read,
    signed,
    standing,
)
from icube_common.errors import InputError

NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
AGREE = 1e-4
"""Tolerance of a recomputed number (another machine, another order of sums)."""

Recompute = Callable[[], Explanation]


def verify_report(text: str, explanation: Explanation, recompute: Recompute | None = None) -> list[str]:
    """Problems of a report, a line each; empty for a correct one.

    Args:
        text: of `debian_mri.explanation.report_text.explain`, or a text to check.
        explanation: what the prediction has computed.
        recompute: computes the explanation again from scan and model; the result is compared with the given one.
    """
    problems = [] if recompute is None else compare(explanation, recompute())
    required = list(expected(explanation))
    by_key = {statement.key: statement for statement in required}
    parsed = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        statement = read(line)
        if statement is None:
            numbers = NUMBER.findall(line)
            extra = f"; not accounted for: {', '.join(numbers)}" if numbers else ""
            problems.append(f"line {number}: is no sentence of a report: {line!r}{extra}")
            continue
        parsed.append(statement)
        if statement.key not in by_key:
            problems.append(f"line {number}: the computation gives no such sentence: {line!r}")
            continue
        right = by_key[statement.key].values
        problems += [
            f"line {number}: {name} is {shown!r}, computed {right[name]!r}"
            for name, shown in statement.values.items()
            if shown != right[name]
        ]
    problems += _order([statement.key for statement in parsed], [statement.key for statement in required])
    return problems + list(named_signs(text, explanation))


def named_signs(text: str, explanation: Explanation) -> Iterator[str]:
    """A line for each sign that the text names and that was not computed, or that cannot be seen on the sequences.

    Required sequences are those of the library's concepts, whatever the explanation contains.
    """
    # without invisible characters, with which a word could be cut
    visible = unicodedata.normalize("NFKC", "".join(char for char in text if unicodedata.category(char) != "Cf"))
    words = f" {plain(visible)}"
    names = {concept.name for concept in explanation.concepts}
    labels = f" {plain(' | '.join(concept.label for concept in explanation.concepts))}"
    for concept in _known_signs():
        mentioned = [mention for mention in concept.mentions if f" {plain(mention)}" in words]
        if not mentioned:
            continue
        missing = [name for name in concept.requires if name not in explanation.sequences]
        if missing:
            yield f"names {mentioned[0]!r}, which cannot be seen without {', '.join(missing)}"
        elif concept.name not in names and not any(f" {plain(mention)}" in labels for mention in mentioned):
            yield f"names {mentioned[0]!r}, which the prediction has not computed"


@cache
def _known_signs() -> tuple[Concept, ...]:
    return load_concepts().concepts


def compare(stated: Explanation, computed: Explanation) -> list[str]:
    """Differences of two explanations: numbers by more than `AGREE`, other values if unequal."""

    def walk(where: str, left: Any, right: Any) -> Iterator[str]:
        if isinstance(left, Mapping) and isinstance(right, Mapping) and left.keys() == right.keys():
            for key in left:
                yield from walk(f"{where}.{key}" if where else str(key), left[key], right[key])
        elif isinstance(left, list) and isinstance(right, list) and len(left) == len(right):
            for index, pair in enumerate(zip(left, right, strict=True)):
                yield from walk(f"{where}[{index}]", *pair)
        elif _is_number(left) and _is_number(right):
            if abs(left - right) > AGREE * max(1.0, abs(right)):
                yield f"{where}: is {left:g}, computed again {right:g}"
        elif left != right:
            yield f"{where}: is {left!r:.80}, computed again {right!r:.80}"

    return list(walk("", stated.to_dict(), computed.to_dict()))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _order(actual: Sequence[tuple[str, str]], required: Sequence[tuple[str, str]]) -> Iterator[str]:
    have, need = Counter(actual), Counter(required)
    for key, count in need.items():
        if have[key] < count:
            yield f"a sentence is missing: {_named(key)}"
    for key, count in have.items():
        if need[key] and count > need[key]:
            yield f"a sentence stands there too often: {_named(key)}"
    if have == need and list(actual) != list(required):
        place = next(index for index, pair in enumerate(zip(actual, required, strict=True)) if pair[0] != pair[1])
        yield f"sentences are out of order: {_named(actual[place])} where {_named(required[place])} belongs"


def _named(key: tuple[str, str]) -> str:
    return f"{key[0]} ({key[1]})" if key[1] else key[0]


def expected(explanation: Explanation) -> Iterator[Statement]:
    """The sentences that a report has to hold, computed from the raw numbers."""
    probabilities = np.array(explanation.probabilities, dtype=np.float64)
    first = explanation.classes.index(explanation.predicted)
    second = int(np.argmax(np.where(np.arange(len(probabilities)) == first, -1.0, probabilities)))
    names = {"predicted": explanation.predicted, "runner_up": explanation.classes[second]}

    def margins(rows: Sequence[Sequence[float]]) -> np.ndarray[Any, np.dtype[np.float64]]:
        table = np.array(rows, dtype=np.float64).reshape(len(rows), len(explanation.classes))
        return np.asarray(table[:, first] - table[:, second], dtype=np.float64)

    def say(template: str, **values: object) -> Statement:
        return Statement(template, {key: str(value) for key, value in values.items()})

    biomarkers, people, rest = (
        margins([part.contributions for part in parts])
        for parts in (explanation.concepts, explanation.demographics, explanation.rest)
    )
    yield say("notice")
    if explanation.simulated:
        yield say("simulated")
    if not explanation.trained:
        yield say("untrained", backbone=explanation.backbone or "unnamed")
    if scores := [part.name for part in explanation.demographics if part.leakage_tier == "C"]:
        yield say("tier_c", variables=listed(scores, ""))
    kind = "a calibrated" if explanation.calibrated else "an uncalibrated"
    best, next_best = percent(float(probabilities[first])), percent(float(probabilities[second]))
    yield say("predicted", id=explanation.id, kind=kind, probability=best, second=next_best, **names)
    if explanation.threshold is not None and probabilities[first] < explanation.threshold:
        yield say(
            "abstained", probability=best, predicted=explanation.predicted, threshold=percent(explanation.threshold)
        )
    yield say("sequences", sequences=listed(explanation.sequences, ""))
    if count := len(explanation.not_judged):
        absent = sorted(
            {name for needed in explanation.not_judged.values() for name in needed} - set(explanation.sequences)
        )
        yield say("not_judged", missing=listed(absent, ""), count=count, total=count + len(explanation.concepts))

    yield say("margin", **names, margin=signed(float(margins([explanation.logits])[0])))
    order = np.argsort(-np.abs(biomarkers), kind="stable")
    named = [
        *[i for i in order if biomarkers[i] >= 5e-4][:MAX_FOR],
        *[i for i in order if biomarkers[i] <= -5e-4][:MAX_AGAINST],
    ]
    for index in named:
        part = explanation.concepts[index]
        side = "for" if biomarkers[index] > 0 else "against"
        stands = standing(part.score, part.percentile, explanation.n_controls)
        yield say(side, **names, concept=part.label, standing=stands, margin=signed(float(biomarkers[index])))
        if part.expected and part.score * (part.expected[first] - part.expected[second]) * biomarkers[index] < 0:
            yield say("unexpected", concept=part.label, side=side, predicted=explanation.predicted)
    if left := [index for index in range(len(biomarkers)) if index not in named]:
        yield say("others", count=len(left), margin=signed(float(biomarkers[left].sum())))
    for other, value in zip(explanation.rest, rest, strict=True):
        yield say("rest", Label=other.label[:1].upper() + other.label[1:], margin=signed(float(value)))
    yield say("bias", margin=signed(float(margins([explanation.bias])[0])))
    if len(people):
        moved = np.abs(np.concatenate([biomarkers, people, rest])).sum()
        share = percent(float(np.abs(people).sum() / moved) if moved else 0.0)
        yield say("demographics", share=share, margin=signed(float(people.sum())))
        for variable, value in zip(explanation.demographics, people, strict=True):
            shown = {"variable": variable.name.replace("_", " "), "value": quantity(variable.value, variable.unit)}
            yield say("variable", **shown, margin=signed(float(value)))
    else:
        yield say("no_demographics")
    yield from _expected_slices(explanation, names, say)
    if doubtful := [explanation.concepts[index].label for index in named if not explanation.concepts[index].sure]:
        yield say("unsure", concepts=listed(doubtful, ""))
    if explanation.concepts:
        yield say("review", reviewer=explanation.reviewer or "not stated")
    for note in explanation.warnings:
        yield say("note", note=note)
    yield say("notice")


def _expected_slices(
    explanation: Explanation, names: Mapping[str, str], say: Callable[..., Statement]
) -> Iterator[Statement]:
    weights = np.array([part.weight for part in explanation.slices], dtype=np.float64)
    first = np.argsort(-weights, kind="stable")[:MAX_SLICES]
    if not len(first):
        return
    if by_evidence := explanation.weighting == "evidence":
        first = first[weights[first] >= MIN_WEIGHT]
        if not len(first):
            yield say("no_evidence", total=len(weights), **names)
            return
        yield say("evidence", shown=len(first), total=len(weights), **names)
    else:
        yield say("slices", shown=len(first), total=len(weights))
    for rank, index in enumerate(first, start=1):
        part = explanation.slices[index]
        yield say(
            "evidence_slice" if by_evidence else "slice",
            rank=rank,
            sequence=part.sequence,
            place=place(part.plane, part.position_mm, explanation.space),
            regions=listed(part.regions, "no named region"),
            weight=percent(float(weights[index])),
        )
    if deletion := explanation.deletion:
        yield say(
            "deletion",
            predicted=explanation.predicted,
            named=signed(0.0 - deletion.named),
            random=signed(0.0 - deletion.random),
            draws=deletion.draws,
        )


def verify_files(path: str | Path) -> dict[str, Any]:
    """Check a report file, or each one in a folder and below it.

    A report file is JSON with ``text`` and ``explanation``, of
    `debian_mri.explanation.html_report.save_report`.

    Returns:
        ``reports`` (number of them) and ``problems`` (file -> its problems, only where there are any).

    Raises:
        InputError: no report is there, or a file that is named is none.
    """
    from icube_common.io.runs import read_json

    path = Path(path)
    files = sorted(path.rglob("*.json")) if path.is_dir() else [path]
    problems: dict[str, list[str]] = {}
    count = 0
    for file in files:
        value = read_json(file)
        if not isinstance(value, dict) or not {"text", "explanation"} <= value.keys():
            if path.is_dir():  # other JSON files lie beside reports
                continue
            raise InputError(f"{file}: is no report: needs the keys 'text' and 'explanation'")
        count += 1
        try:
            wrong = verify_report(str(value["text"]), Explanation.from_dict(value["explanation"]))
        except InputError as error:
            wrong = [str(error)]
        if wrong:
            problems[str(file)] = wrong
    if not count:
        raise InputError(f"{path}: holds no report (JSON with the keys 'text' and 'explanation')")
    return {"reports": count, "problems": problems}
