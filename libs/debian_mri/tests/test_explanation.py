"""Record of a prediction: sums by hand, round trip, and claims that do not fit each other."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from made_up import make_explanation

from debian_mri.explanation.contributions import ConceptPart, Deletion, RestPart, SlicePart
from debian_mri.explanation.record import Explanation
from icube_common.errors import InputError


def test_sums_by_hand() -> None:
    found = make_explanation()
    # AD: 0 + .725 + .5 + .25 + .25 + .125 - .125 + .25 + .0625 + .0625
    assert found.logits[2] == pytest.approx(2.1)
    # MCI: .5 + .1 + .125 + .125 + .0625 + .25 + .125 + .0625 + .125
    assert found.logits[1] == pytest.approx(1.475)
    assert found.predicted == "AD" and found.runner_up == "MCI"
    assert found.difference(found.logits) == pytest.approx(0.625)
    # people .25 + .0625 + .0625, concepts .625 + .375 + .125 + .25 + .0625 + .25 + .125 + .125, rest .0625
    assert found.demographics_share() == pytest.approx(0.375 / 2.375)
    by_name = {concept.name: concept for concept in found.concepts}
    assert [name for name in by_name if found.unexpected(by_name[name])] == ["parietal_atrophy"]


def test_of_equal_runners_up_the_first_counts() -> None:
    found = Explanation(
        id="x", classes=("a", "b", "c"), logits=(0.0, 0.0, 0.0), bias=(0.0, 0.0, 0.0), predicted="b",
        probabilities=(1 / 3, 1 / 3, 1 / 3), temperature=2.0,
    )  # fmt: skip
    assert found.runner_up == "a" and found.demographics_share() == 0


def test_round_trip() -> None:
    found = make_explanation(("T1w", "SWI"), deletion=Deletion(named=0.2, random=0.05, draws=20))
    value = found.to_dict()
    assert value == json.loads(json.dumps(value)) and value["notice"] == "For research, not for clinical use."
    assert Explanation.from_dict(value) == found


def with_part(**changes: Any) -> dict[str, Any]:
    first, *others = make_explanation().concepts
    return {"concepts": (dataclasses.replace(first, **changes), *others)}


def one_slice(**changes: Any) -> dict[str, Any]:
    return {"slices": (SlicePart(**{"plane": "axial", "position_mm": 1.0, "weight": 1.0, **changes}),)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"logits": (0.0, 1.475, 2.2)}, "logit of CN 0: bias and contributions add up to -1.4"),
        ({"bias": (0.25, 0.5, 0.1)}, "logit of AD 2.1: bias and contributions add up to 2.2"),
        (with_part(contributions=(0.0, 0.0, 0.0)), "add up to"),
        (with_part(contributions=(0.0, 0.0)), "2 values, 3 expected"),
        (with_part(contributions=(0.0, 0.0, float("nan"))), "no finite number"),
        ({"probabilities": (0.1, 0.4, 0.5)}, "the logits at temperature 1.25 give"),
        ({"probabilities": (0.1, 0.4, 0.6)}, "sum to 1"),
        ({"probabilities": (0.1, 0.9)}, "2 values, 3 expected"),
        ({"temperature": 1.0}, "at temperature 1 give"),
        ({"temperature": 0.0}, "must be positive"),
        ({"predicted": "MCI"}, "is not the class with the highest probability"),
        ({"predicted": "XX"}, "is not the class with the highest probability"),
        ({"classes": ("AD", "AD", "CN")}, "each once"),
        ({"abstained": True}, "abstained True: does not fit 0.599757 and the threshold 0.5"),
        ({"threshold": 0.7}, "abstained False: does not fit 0.599757 and the threshold 0.7"),
        ({"threshold": 60}, "must lie between 0 and 1"),
        (with_part(requires=("SWI",)), "needs SWI, which is absent"),
        ({"sequences": ("SWI",)}, "needs T1w, which is absent"),
        ({"sequences": ()}, "there is none"),
        ({"sequences": ("T1",)}, "did you mean 'T1w'"),
        (with_part(percentile=101.0), "must be 0 to 100"),
        ({"n_controls": 0}, "of one control or more"),
        ({"not_judged": {"x": ("T1w",)}}, "T1w is there"),
        ({"not_judged": {"parietal_atrophy": ("SWI",)}}, "both computed and not computed"),
        (with_part(label="parietal atrophy"), "stands there twice"),
        (one_slice(weight=0.4), "sum to 1"),
        (one_slice(plane="oblique"), "unknown plane"),
        (one_slice(sequence="SWI"), "is not among the sequences"),
        (one_slice(regions=("lateral ventricles",)), "must be a name such as"),
        ({"space": "talairach"}, "unknown space"),
        ({"warnings": ("two\nlines",)}, "one line of text"),
        ({"id": ""}, "one line of text"),
    ],
)
def test_inconsistent_explanations_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        dataclasses.replace(make_explanation(), **changes)
    assert str(error.value).startswith("explanation of ")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, "format: must be"),
        ({"confidence": 1}, "unknown key of explanation 'confidence'"),
        ({"concepts": {}}, "concepts: must be a list"),
        ({"concepts": [{"name": "x"}]}, "concepts: 'label' is missing"),
        ({"slices": ["axial"]}, "slices: must hold mappings"),
    ],
)
def test_wrong_records_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Explanation.from_dict({**make_explanation().to_dict(), **change})


def test_parts_are_plain_records() -> None:
    assert ConceptPart(name="a", label="a", contributions=(0.0,), score=1.0).sure
    assert RestPart(label="rest", contributions=(1.0, 2.0)).contributions[1] == 2.0
