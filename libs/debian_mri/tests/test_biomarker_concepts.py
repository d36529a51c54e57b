"""The image concepts: what the shipped file holds, and how wrong files are refused."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from debian_mri.biomarkers.concepts import REGIONS, ConceptSet, load_concepts, plain
from icube_common.errors import InputError
from icube_common.knowledge import UNREVIEWED

CLASSES = ("CN", "MCI", "AD", "DLB", "PD")


@pytest.fixture(scope="module")
def bank() -> ConceptSet:
    return load_concepts()


def test_the_shipped_concepts(bank: ConceptSet) -> None:
    assert len(bank.concepts) == 13 and bank.reviewer == UNREVIEWED and not bank.signed
    assert set(bank["swallow_tail_loss"].requires) == {"SWI"}
    assert set(bank["white_matter_hyperintensities"].requires) == {"FLAIR"}
    assert {region for concept in bank.concepts for region in concept.regions} == set(REGIONS)
    for concept in bank.concepts:
        assert tuple(concept.expected) == CLASSES and concept.source[-1].isdigit()
        assert any(plain(mention) in plain(concept.label) for mention in concept.mentions)
        assert 6 <= len(concept.sentence.split()) <= 25 and concept.sentence != concept.opposite


def test_directions_by_hand(bank: ConceptSet) -> None:
    names = ("hippocampal_volume_loss", "medial_temporal_sparing", "swallow_tail_loss", "volume_normal_for_age")
    rows = dict(zip(bank.names, bank.directions(CLASSES), strict=True))
    assert [rows[name] for name in names] == [
        (-1, 1, 1, 0, 0),
        (0, 0, -1, 1, 0),
        (-1, 0, 0, 1, 1),
        (1, 0, -1, 0, 0),
    ]
    assert bank["parietal_atrophy"].direction("another class") == 0


def test_concepts_visible_on_t1_alone(bank: ConceptSet) -> None:
    kept, missing = bank.usable(["T1w"])
    assert missing == {"white_matter_hyperintensities": ("FLAIR",), "swallow_tail_loss": ("SWI",)}
    assert len(kept) == 11 and not any("swallow" in concept.sentence for concept in kept)
    assert len(bank.usable(["SWI"])[0]) == 1 and bank.usable([])[0] == ()
    with pytest.raises(InputError, match="did you mean 'T1w'"):
        bank.usable(["T1"])
    with pytest.raises(InputError, match="did you mean 'parietal_atrophy'"):
        bank["parietal_atropy"]


def first(key: str, value: object) -> Callable[[dict[str, Any]], None]:
    return lambda file: file["concepts"][0].update({key: value})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (first("regions", ["hippocampi"]), "hippocampal_volume_loss.*unknown region.*did you mean 'hippocampus'"),
        (first("regions", []), "regions .*at least one long"),
        (first("requires", ["T1"]), "unknown sequence 'T1': did you mean 'T1w'"),
        (first("requires", "T1w"), "requires 'T1w': must be a list"),
        (first("requires", ["T1w", "T1w"]), "without repetition"),
        (first("sure", "yes"), "sure 'yes': must be true or false"),
        (first("mentions", ["something else"]), "none of them stands in the label"),
        (first("expected", {"AD": 2}), "expected AD 2: must be 1, 0 or -1"),
        (first("expected", {"AD": True}), "expected AD True"),
        (first("expected", {}), "must map class names"),
        (first("opposite", "The hippocampus is small on both sides on this brain MRI."), "is the sentence itself"),
        (first("sentence", "two\nlines"), "one line"),
        (first("name", "hippocampal volume"), "letters, digits and underscores"),
        (first("name", "parietal_atrophy"), "the name 'parietal_atrophy' stands there twice"),
        (first("weight", 1), "unknown key 'weight'"),
        (lambda file: file["concepts"][0].pop("source"), r"concepts\[1\]: 'source' is missing"),
        (lambda file: file.pop("reviewer"), "'reviewer' is missing"),
        (lambda file: file.update(concepts=[]), "there is none"),
        (lambda file: file.update(concepts={}), "must be a list"),
        (lambda file: file.update(concepts=["hippocampus"]), r"concepts\[1\]: must be a mapping"),
    ],
)
def test_a_wrong_file_is_refused_in_one_line(
    change: Callable[[dict[str, Any]], None], message: str, bank: ConceptSet, tmp_path: Path
) -> None:
    assert bank.path is not None
    value = copy.deepcopy(yaml.safe_load(bank.path.read_text(encoding="utf-8")))
    change(value)
    path = tmp_path / "concepts.yaml"
    path.write_text(yaml.safe_dump(value), encoding="utf-8")
    with pytest.raises(InputError, match=message) as error:
        load_concepts(path)
    assert "\n" not in str(error.value) and str(error.value).startswith(str(path))


def test_hash_follows_the_content(bank: ConceptSet, tmp_path: Path) -> None:
    assert bank.path is not None
    text = bank.path.read_text(encoding="utf-8")
    path = tmp_path / "concepts.yaml"
    path.write_text(text.replace("DLB: 1, PD: 1", "DLB: 1, PD: 0"), encoding="utf-8")
    assert load_concepts(path).hash != bank.hash
    path.write_text(text.replace(UNREVIEWED, "C. D., neurologist"), encoding="utf-8")
    signed = load_concepts(path)
    assert signed.hash == bank.hash and signed.signed
