"""Reasons in text: numbers by hand, disclaimers, and no sign without its sequence."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable

import pytest
from made_up import BIOMARKERS, CLASSES, make_explanation

from debian_mri import RESEARCH_ONLY
from debian_mri.biomarkers.concepts import load_concepts, plain
from debian_mri.explanation.contributions import Deletion, DemographicPart
from debian_mri.explanation.report_text import (
    TEMPLATES,
    Statement,
    explain,
    named_concepts,
    percent,
    place,
    quantity,
    read,
    signed,
    standing,
    statements,
    top_slices,
)
from debian_mri.explanation.verify import verify_report

SEQUENCES = ("T1w", "T2w", "FLAIR", "PDw", "SWI")
SUBSETS = [subset for count in range(1, 6) for subset in itertools.combinations(SEQUENCES, count)]


def lines(text: str, start: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith(start)]


def test_the_text_by_hand() -> None:
    text = explain(make_explanation())
    # softmax of (-1.4, 1.475, 2.1) / 1.25 is exp of (-2.8, -0.5, 0) over 1.66734: 0.03647, 0.36377, 0.59976
    assert (
        "Scan made-up-07: the most probable class is AD, with a calibrated probability of 60 %; next is MCI with 36 %."
    ) in text
    assert lines(text, "For AD")[:2] == [
        "For AD rather than MCI: hippocampal volume loss, more than in training controls on average "
        "(above 98 % of 120): +0.625.",
        "For AD rather than MCI: medial temporal lobe atrophy, more than in training controls on average "
        "(above 91 % of 120): +0.375.",
    ]
    # what speaks for a class by being less there than usual is not told as if it were there
    assert "relative sparing of the medial temporal lobe, less than in training controls on average (above 21 %" in text
    assert lines(text, "Against AD")[0].endswith("(above 66 % of 120): \N{MINUS SIGN}0.250.")
    assert "Contrary to what its source expects, parietal atrophy counts against AD here." in text
    assert "The concepts not named here (2): +0.062 together." in text
    assert "The image beyond the concepts: \N{MINUS SIGN}0.062." in text
    # 0.375 / 2.375
    assert "Demographics make up 16 % of all that moved the decision: +0.250 together." in text
    assert lines(text, "Of this")[0] == "Of this, age (74 years): +0.250."
    assert lines(text, "Slice 1") == [
        "Slice 1: T1w coronal at y = \N{MINUS SIGN}21.0 mm (MNI space), through hippocampus, medial temporal, "
        "31 % of the attention."
    ]
    assert "Not evaluated for lack of FLAIR, SWI: 2 of 11 concepts." in text
    assert "none (draft, not checked by a specialist)" in text
    assert text.startswith(RESEARCH_ONLY + "\n") and text.endswith(RESEARCH_ONLY + "\n")


@pytest.mark.parametrize("sequences", SUBSETS)
def test_no_sign_is_named_without_its_sequence(sequences: tuple[str, ...]) -> None:
    explanation = make_explanation(sequences)
    text = explain(explanation)
    assert verify_report(text, explanation) == []
    words = plain(text)
    for concept in load_concepts().concepts:
        if not set(concept.requires) <= set(sequences):
            assert not any(plain(mention) in words for mention in concept.mentions), concept.name
    assert ("swallow" in words) == ("SWI" in sequences)


def test_each_disclaimer_has_its_cause() -> None:
    plain_text = explain(make_explanation(simulated=False))
    for name in ("simulated", "untrained", "tier_c", "abstained", "no_demographics", "deletion"):
        assert not any(statement.template == name for statement in statements(make_explanation(simulated=False))), name
    score = DemographicPart(name="MMSE", value=22.0, unit="points", leakage_tier="C", contributions=(0.0, 0.0, 0.5))
    text = explain(make_explanation(trained=False, threshold=0.9, demographics=(score,), calibrated=False))
    assert "The image encoder (made-up tower) is untrained" in text and "untrained" not in plain_text
    assert "Tier C was used (MMSE)" in text and "Of this, MMSE (22 points): +0.500." in text
    # logits -1.15, 1.4125, 2.2875: exp of (-2.75, -0.7, 0) over 1.56051
    assert "The model abstains: 64 % for AD is below the chosen confidence of 90 %" in text
    assert "with an uncalibrated probability of" in text
    assert "No demographics were used." in explain(make_explanation(demographics=()))
    text = explain(make_explanation(deletion=Deletion(named=0.2, random=0.05, draws=20)))
    assert "changes by \N{MINUS SIGN}0.200; without as many random ones by \N{MINUS SIGN}0.050 (mean of 20" in text


def test_little_is_enough() -> None:
    found = make_explanation(demographics=(), concepts=(), rest=(), slices=(), warnings=(), not_judged={}, n_controls=0)
    text = explain(found)
    # bias only: MCI .5, CN .25
    assert "the logits differ by +0.250" in text and "Without any evidence the model starts at +0.250." in text
    assert "Slice" not in text and "Review" not in text and verify_report(text, found) == []


def test_named_concepts() -> None:
    found = make_explanation(("T1w", "FLAIR", "SWI"))
    margin = {
        name: values[2][CLASSES.index("AD")] - values[2][CLASSES.index("MCI")] for name, values in BIOMARKERS.items()
    }
    named = [concept.name for concept in named_concepts(found)]
    assert named[:4] == sorted(margin, key=lambda name: -margin[name])[:4]
    assert set(named[4:]) == {name for name in margin if margin[name] < 0}
    assert top_slices(found) == [0, 1, 2]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (signed(0.0004), "0.000"),
        (signed(-0.0004), "0.000"),
        (signed(-0.1), "\N{MINUS SIGN}0.100"),
        (signed(0.1 + 0.2 - 0.3), "0.000"),
        (signed(12), "+12.000"),
        (percent(0.0), "0 %"),
        (percent(0.004), "under 1 %"),
        (percent(0.01), "1 %"),
        (percent(0.994), "over 99 %"),
        (percent(1.0), "100 %"),
        (quantity(74.0, "years"), "74 years"),
        (quantity(16.25, "years"), "16.2 years"),
        (quantity("F", ""), "F"),
        (quantity(None, "years"), "missing"),
        (place("axial", 12.04, "mni"), "axial at z = 12.0 mm (MNI space)"),
        (place("sagittal", -3.0, "native"), "sagittal at x = \N{MINUS SIGN}3.0 mm (space of the scan)"),
        (place("coronal", None, "mni"), "coronal, position unknown"),
        (standing(0.0, None, 0), "as much as in training controls on average"),
        (standing(-1.0, 0.2, 80), "less than in training controls on average (above under 1 % of 80)"),
    ],
)
def test_forms(text: str, shown: str) -> None:
    assert text == shown


def words_of(found: Iterable[Statement]) -> list[str]:
    return [statement.text() for statement in found]


def test_every_sentence_is_read_back_as_itself() -> None:
    score = DemographicPart(name="MMSE", value=22.0, leakage_tier="C", contributions=(0.0, 0.0, 0.5))
    many = make_explanation(
        trained=False, threshold=0.9, demographics=(score,), deletion=Deletion(named=0.2, random=0.05, draws=20)
    )
    weighed = make_explanation(weighting="evidence")
    silent = make_explanation(
        weighting="evidence", slices=tuple(dataclasses.replace(part, weight=0.0) for part in weighed.slices)
    )
    found = [
        *statements(many),
        *statements(make_explanation(demographics=())),
        *statements(weighed),
        *statements(silent),
    ]
    assert {statement.template for statement in found} == set(TEMPLATES)
    for statement in found:
        assert read(statement.text()) == statement
    assert read("The patient has dementia.") is None
    assert words_of(found)[0] == RESEARCH_ONLY


def test_the_same_numbers_give_the_same_text() -> None:
    found = make_explanation()
    assert explain(found) == explain(dataclasses.replace(found))
