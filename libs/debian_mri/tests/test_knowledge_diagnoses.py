"""The sentences about diagnoses: frozen, sourced, unreviewed and marked so, and none claimed without its sequence."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import pytest

from debian_mri.biomarkers.knowledge import SHIPPED, load_knowledge, restrict, usable
from icube_common.errors import InputError
from icube_common.knowledge import UNREVIEWED, ClassKnowledge, Sentence, Source

FILE = Path(sys.modules["debian_mri.biomarkers.knowledge"].__file__ or "").with_name("diagnoses.yaml")
SUBSETS = [
    subset for count in range(4) for subset in itertools.combinations(("T1w", "FLAIR", "SWI"), count)
]  # the empty one too


@pytest.fixture(scope="module")
def knowledge() -> ClassKnowledge:
    return load_knowledge()


def test_knowledge_is_frozen_and_unreviewed(knowledge: ClassKnowledge) -> None:
    assert knowledge.class_names == ("CN", "MCI", "AD", "DLB", "PD")
    assert knowledge.frozen is not None and knowledge.frozen.hash == knowledge.hash
    assert knowledge.reviewer == UNREVIEWED and UNREVIEWED in knowledge.review_warning()
    assert {path.name for path in FILE.parent.glob("*.yaml")} == set(SHIPPED.values())


def test_each_sentence_has_one_publication_and_its_sequences(knowledge: ClassKnowledge) -> None:
    for sentence in knowledge.sentences():
        source = sentence.source
        assert source.kind == "citation" and source.model and source.date and source.reference is not None
        assert source.reference[-1].isdigit() and " et al. " in source.reference and ";" in source.reference
        assert sentence.status == "accepted" and sentence.text.endswith(".")
        assert 6 <= len(sentence.text.split()) <= 25
        assert set(sentence.meta) <= {"requires", "sure"} and sentence.meta.get("sure", False) is False
    assert min(len(found) for found in knowledge.classes.values()) >= 5


@pytest.mark.parametrize("sequences", SUBSETS)
def test_a_sign_is_used_only_with_its_sequence(knowledge: ClassKnowledge, sequences: tuple[str, ...]) -> None:
    found = usable(knowledge.sentences(), sequences)
    assert len(found.available) + len(found.excluded) == len(knowledge.sentences())
    assert all(set(sentence.meta["requires"]) <= set(sequences) for sentence in found.available)
    assert all(missing and not set(missing) & set(sequences) for _, missing in found.excluded)
    words = " ".join(sentence.text.casefold() for sentence in found.available)
    assert ("swallow tail" in words) == ("SWI" in sequences)
    assert ("hyperintensities" in words) == ("FLAIR" in sequences)


def test_sentences_for_t1_alone(knowledge: ClassKnowledge) -> None:
    left, whole = restrict(knowledge, ["T1w"])
    assert left.class_names == knowledge.class_names and left.frozen is not None and left.hash != knowledge.hash
    assert [missing for _, missing in whole.excluded] == [("FLAIR",), ("SWI",), ("FLAIR",), ("SWI",), ("SWI",)]
    assert len(left.sentences()) == len(whole.available) == len(knowledge.sentences()) - 5
    with pytest.raises(InputError, match="class 'MCI': each of its sentences needs a sequence that is absent"):
        restrict(knowledge, ["SWI", "FLAIR"])


@pytest.mark.parametrize(
    ("meta", "message"),
    [
        ({}, "lacks the required sequences"),
        ({"requires": []}, "must be a list of sequences"),
        ({"requires": "T1w"}, "must be a list of sequences"),
        ({"requires": ["T1"]}, "did you mean 'T1w'"),
    ],
)
def test_sentence_needs_its_sequences(meta: dict[str, object], message: str) -> None:
    sentence = Sentence("The brain is round.", Source("person", person="A. B."), "accepted", meta=meta)
    with pytest.raises(InputError, match=message):
        usable([sentence], ["T1w"])


def test_wrong_names_are_refused(knowledge: ClassKnowledge, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="did you mean 'SWI'"):
        usable(knowledge.sentences(), ["SWIw"])
    with pytest.raises(InputError, match="must be a list"):
        usable(knowledge.sentences(), "T1w")
    with pytest.raises(InputError, match="did you mean 'diagnoses'"):
        load_knowledge("diagnosis")
    changed = tmp_path / "changed.yaml"
    changed.write_text(FILE.read_text(encoding="utf-8").replace("has lost height", "has gained height"), "utf-8")
    with pytest.raises(InputError, match="class 'AD': changed since it was frozen"):
        load_knowledge(str(changed))
    # what a sentence requires is frozen with it
    text = FILE.read_text(encoding="utf-8")
    changed.write_text(text.replace("- SWI", "- T1w"), "utf-8")
    with pytest.raises(InputError, match="changed since it was frozen"):
        load_knowledge(str(changed))


def test_importing_it_is_light() -> None:
    code = (
        "import sys, debian_mri.biomarkers.knowledge, debian_mri.biomarkers.concepts;"
        "print(sorted({'torch', 'yaml', 'numpy', 'pandas', 'jinja2'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
