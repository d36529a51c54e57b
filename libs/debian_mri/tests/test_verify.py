"""The verifier: it agrees with what is right, and finds each changed number, sentence, class name and sign."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import make_explanation

from debian_mri.cli import main
from debian_mri.explanation.contributions import Deletion, DemographicPart
from debian_mri.explanation.html_report import save_report
from debian_mri.explanation.record import Explanation
from debian_mri.explanation.report_text import explain
from debian_mri.explanation.verify import compare, named_signs, verify_report

MINUS = "\N{MINUS SIGN}"
SCORE = DemographicPart(name="MMSE", value=22.5, unit="points", leakage_tier="C", contributions=(0.0, 0.125, 0.5))
CASES = {
    "T1w": make_explanation(),
    "all sequences": make_explanation(("T1w", "T2w", "FLAIR", "SWI")),
    "all stamps": make_explanation(
        trained=False,
        calibrated=False,
        threshold=0.95,
        demographics=(SCORE,),
        deletion=Deletion(named=0.213, random=-0.04, draws=20),
        warnings=("Read 2 times on 1 May.",),
    ),
    "little": make_explanation(demographics=(), concepts=(), rest=(), slices=(), warnings=(), not_judged={}),
}


@pytest.fixture(params=sorted(CASES))
def case(request: pytest.FixtureRequest) -> Explanation:
    return CASES[request.param]


def edits(number: str) -> Iterator[str]:
    """Other numbers in the place of one, the smallest possible steps among them."""
    for index, digit in enumerate(number):
        if digit.isdigit():
            for step in (1, 5, 9):
                yield number[:index] + str((int(digit) + step) % 10) + number[index + 1 :]
    yield "1" + number
    yield number + "0"
    yield number + "1"
    if "." in number:
        yield number.split(".")[0]
        yield number.replace(".", ",")


def test_correct_report_passes(case: Explanation) -> None:
    text = explain(case)
    assert verify_report(text, case) == [] and verify_report(text, case, recompute=lambda: case) == []


def test_each_changed_number_is_found(case: Explanation) -> None:
    text = explain(case)
    places = list(re.finditer(r"\d+(?:\.\d+)?", text))
    assert len(places) > 5
    for place in places:
        for other in edits(place[0]):
            changed = text[: place.start()] + other + text[place.end() :]
            assert verify_report(changed, case), f"{place[0]} as {other}: {changed.splitlines()}"


def test_each_changed_sign_of_a_number_is_found(case: Explanation) -> None:
    text = explain(case)
    for place in re.finditer(rf"[+{MINUS}](?=\d)", text):
        for other in ({"+", MINUS, "-", ""}) - {place[0]}:
            assert verify_report(text[: place.start()] + other + text[place.end() :], case)
    for words in ("under ", "over "):
        for place in re.finditer(r"\d+ %", text):
            assert verify_report(text[: place.start()] + words + text[place.start() :], case)


def test_each_removed_doubled_or_moved_sentence_is_found(case: Explanation) -> None:
    lines = explain(case).splitlines()
    for index, line in enumerate(lines):
        assert any(
            "missing" in problem for problem in verify_report("\n".join(lines[:index] + lines[index + 1 :]), case)
        )
        doubled = verify_report("\n".join([*lines[: index + 1], line, *lines[index + 1 :]]), case)
        assert any("too often" in problem for problem in doubled)
        if index and lines[index - 1] != line:
            moved = [*lines[: index - 1], line, lines[index - 1], *lines[index + 1 :]]
            assert any("out of order" in problem for problem in verify_report("\n".join(moved), case))


def test_swapped_class_names_are_found() -> None:
    found = make_explanation()
    lines = explain(found).splitlines()
    swap = {"AD": "MCI", "MCI": "AD"}
    changed = 0
    for index, line in enumerate(lines):
        other = re.sub(r"\b(?:AD|MCI)\b", lambda match: swap[match[0]], line)
        if other != line:
            changed += 1
            assert verify_report("\n".join([*lines[:index], other, *lines[index + 1 :]]), found), other
    assert changed > 8
    assert verify_report(re.sub(r"\b(?:AD|MCI)\b", lambda match: swap[match[0]], "\n".join(lines)), found)


@pytest.mark.parametrize(
    "sentence",
    [
        "The swallow-tail sign is lost.",
        "Note: The swallow tail sign is lost.",
        "The SWALLOW\N{NON-BREAKING HYPHEN}TAIL sign is absent on both sides.",
        "The swal\N{SOFT HYPHEN}low-tail sign is lost.",
        "Nigrosome-1 cannot be seen.",
        "For AD rather than MCI: loss of the swallow-tail sign, more than in training controls on average: +0.100.",
    ],
)
def test_the_swallow_tail_is_never_named_of_t1_alone(sentence: str) -> None:
    found = make_explanation()
    problems = verify_report(explain(found) + sentence + "\n", found)
    assert any("cannot be seen without SWI" in problem for problem in problems)
    assert any("no sentence of a report" in problem or "no such sentence" in problem for problem in problems)


def test_signs_in_warnings_are_found_as_well() -> None:
    found = make_explanation(warnings=("White-matter hyperintensities are likely.",))
    assert verify_report(explain(found), found) == [
        "names 'white matter hyperintensities', which cannot be seen without FLAIR"
    ]
    # visible on T1w, and not computed
    fewer = make_explanation(concepts=make_explanation().concepts[:3], warnings=("There is parietal atrophy.",))
    assert list(named_signs(explain(fewer), fewer)) == [
        "names 'parietal atrophy', which the prediction has not computed"
    ]


def test_a_concept_that_lies_about_its_sequence_is_found() -> None:
    honest = make_explanation(("T1w", "SWI"))
    liar = tuple(dataclasses.replace(concept, requires=("T1w",)) for concept in honest.concepts)
    found = make_explanation(("T1w",), concepts=liar, not_judged={})
    assert "names 'swallow tail', which cannot be seen without SWI" in verify_report(explain(found), found)


def test_free_text_with_a_number_is_not_accounted_for() -> None:
    found = make_explanation()
    problems = verify_report(explain(found) + "The hippocampus measures 2.1 mL, 30 % too little.\n", found)
    assert len(problems) == 1 and problems[0].endswith("not accounted for: 2.1, 30")
    assert verify_report("", found)[0].startswith("a sentence is missing")


def test_the_model_is_asked_again() -> None:
    found = make_explanation()
    other = make_explanation(temperature=2.0)
    problems = verify_report(explain(found), found, recompute=lambda: other)
    assert any(problem.startswith("probabilities[2]: is 0.59") for problem in problems)
    assert "temperature: is 1.25, computed again 2" in problems
    first, *others = found.probabilities
    near = dataclasses.replace(found, probabilities=(first + 1e-6, *others))
    assert compare(found, near) == []
    assert compare(found, dataclasses.replace(found, backbone="another"))[0].startswith("backbone: is 'made-up tower'")
    assert compare(found, make_explanation(slices=()))[0].startswith("slices: is")


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 5))
def test_text_and_verifier_agree_on_whatever_is_computed(seed: int, scale: int) -> None:
    generator = np.random.default_rng(seed)
    base = make_explanation(("T1w", "FLAIR", "SWI"), temperature=float(generator.uniform(0.5, 4)))
    # coarse numbers give equal and zero contributions, whose order and sign are decided by a rule
    draw = lambda: tuple(np.round(generator.normal(size=3) * scale, int(generator.integers(0, 4))).tolist())  # noqa: E731
    weights = generator.multinomial(100, np.full(len(base.slices), 1 / len(base.slices))) / 100
    found = make_explanation(
        base.sequences,
        temperature=base.temperature or 1.0,
        bias=draw(),
        concepts=tuple(
            dataclasses.replace(part, contributions=draw(), score=float(np.round(generator.normal(), 1)))
            for part in base.concepts
        ),
        demographics=tuple(dataclasses.replace(part, contributions=draw()) for part in base.demographics),
        slices=tuple(
            dataclasses.replace(part, weight=float(weight)) for part, weight in zip(base.slices, weights, strict=True)
        ),
    )
    text = explain(found)
    assert verify_report(text, found) == []
    assert verify_report(text, Explanation.from_dict(json.loads(json.dumps(found.to_dict())))) == []


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = make_explanation()
    path = save_report(tmp_path / "reports" / "one.json", found)
    (path.parent / "other.json").write_text("{}")
    assert main(["verify", str(path)]) == 0
    assert capsys.readouterr().out == "1 report: every number agrees with the computation\n"
    assert main(["verify", str(path.parent), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"reports": 1, "problems": {}}
    value = json.loads(path.read_text())
    value["text"] = value["text"].replace("60 %", "61 %")
    path.write_text(json.dumps(value))
    assert main(["verify", str(path.parent)]) == 2
    assert "one.json: line 3: probability is '61 %', computed '60 %'" in capsys.readouterr().err
    # the record itself is changed along with the text: its parts no longer fit
    value["explanation"]["probabilities"] = [0.03, 0.36, 0.61]
    path.write_text(json.dumps(value))
    assert main(["verify", str(path)]) == 2
    assert "the logits at temperature 1.25 give" in capsys.readouterr().err
    assert main(["verify", str(path.parent / "other.json")]) == 2
    assert "is no report" in capsys.readouterr().err
    assert main(["verify", str(tmp_path / "none")]) == 2
