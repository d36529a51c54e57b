from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from icube_common.errors import InputError
from icube_common.knowledge import UNREVIEWED, ClassKnowledge, Sentence, Source
from icube_common.knowledge.class_knowledge import Frozen

MODEL = Source("model", model="m-1", prompt="What is {name}?", date="2025-03-31")
PERSON = Source("person", person="A. B.")


def example() -> ClassKnowledge:
    return ClassKnowledge(
        "Test set",
        {
            "walk": (
                Sentence("A person walks.", MODEL, "accepted", meta={"requires": ["T1"], "sure": True}),
                Sentence("It may be anything.", MODEL, "rejected", reason="says nothing"),
                Sentence("Legs move.", MODEL),
            ),
            "no": (Sentence("Nobody is there.", PERSON, "edited", original="Nobody"),),
        },
        domain="videos",
    )


@pytest.mark.parametrize("suffix", [".yaml", ".yml", ".json"])
def test_knowledge_file_round_trip(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"k{suffix}"
    knowledge = example().freeze("2025-04-01")
    saved = knowledge.save(path)
    loaded = ClassKnowledge.load(path)
    assert loaded == knowledge and saved.path == loaded.path == path
    assert list(loaded.classes) == ["walk", "no"]  # in YAML a class called no is no boolean
    first = path.read_bytes()
    loaded.save(path, overwrite=True)
    assert path.read_bytes() == first
    with pytest.raises(InputError, match="exists already"):
        loaded.save(path)


def test_a_file_is_readable(tmp_path: Path) -> None:
    text = (example().save(tmp_path / "k.yaml").path or Path()).read_text()
    assert "- text: A person walks.\n    status: accepted\n    source: model-1\n" in text
    value = yaml.safe_load(text)
    assert list(value) == ["title", "domain", "language", "reviewer", "sources", "classes"]
    assert value["sources"]["model-1"]["prompt"] == "What is {name}?" and value["reviewer"] == UNREVIEWED


def test_sources_keep_the_names_that_a_person_gave_them(tmp_path: Path) -> None:
    path = tmp_path / "k.yaml"
    path.write_text(
        "title: t\nsources:\n  mckhann: {kind: citation, reference: McKhann et al. 2011}\nclasses:\n"
        "  AD:\n  - {text: The hippocampus is small., source: mckhann}\n"
        "  CN:\n  - {text: The brain looks normal., source: {kind: person, person: C. D.}, status: accepted}\n"
    )
    knowledge = ClassKnowledge.load(path)
    assert knowledge.classes["AD"][0].source.reference == "McKhann et al. 2011"
    sources = knowledge.to_dict()["sources"]
    assert list(sources) == ["mckhann", "person-1"] and knowledge.to_dict()["classes"]["CN"][0]["source"] == "person-1"


def test_only_accepted_and_edited_sentences_are_in_use() -> None:
    knowledge = example()
    assert knowledge.texts("walk") == ("A person walks.",)
    assert knowledge.texts("walk", include_proposed=True) == ("A person walks.", "Legs move.")
    assert knowledge.descriptions(["no", "walk"]) == {"no": ("Nobody is there.",), "walk": ("A person walks.",)}
    with pytest.raises(InputError, match="unknown class 'wlak': did you mean 'walk'"):
        knowledge.texts("wlak")
    proposed = ClassKnowledge("t", {"a": (Sentence("One two.", MODEL),), "b": (Sentence("One two.", MODEL),)})
    with pytest.raises(InputError, match="class 'a', 'b': no sentence is in use"):
        proposed.descriptions()
    assert proposed.descriptions(include_proposed=True)["b"] == ("One two.",)


def test_the_hash_is_that_of_the_documented_form() -> None:
    def sha(value: Any) -> str:
        text = json.dumps(value, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    walk = sha([["A person walks.", {"requires": ["T1"], "sure": True}]])
    assert example().hash == sha({"no": sha(["Nobody is there."]), "walk": walk})


def test_hash_covers_the_sentences_in_use() -> None:
    knowledge = example()
    walk = knowledge.classes["walk"]

    def with_walk(*sentences: Sentence) -> str:
        return knowledge.with_classes({"walk": sentences, "no": knowledge.classes["no"]}).hash

    assert with_walk(*walk, Sentence("One more.", MODEL)) == knowledge.hash
    assert with_walk(*walk, Sentence("One more.", MODEL, "rejected", reason="no")) == knowledge.hash
    assert with_walk(walk[0]) == knowledge.hash
    assert knowledge.with_classes(dict(reversed(knowledge.classes.items()))).hash == knowledge.hash
    different = {
        with_walk(*walk, Sentence("One more.", MODEL, "accepted")),
        with_walk(Sentence("One more.", MODEL, "accepted"), *walk),
        with_walk(replace(walk[0], text="A person walks"), *walk[1:]),
        with_walk(replace(walk[0], meta={"requires": ["T2"], "sure": True}), *walk[1:]),
        knowledge.with_classes({"walking": walk, "no": knowledge.classes["no"]}).hash,
    }
    assert len(different) == 5 and knowledge.hash not in different


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("A person walks.", "A person runs.", "'walk'"),
        ("Nobody is there.", "Somebody is there.", "'no'"),
        (
            "status: rejected\n    source: model-1\n    reason: says nothing",
            "status: accepted\n    source: model-1",
            "'w",
        ),
        ("  'no':\n  -", "  'nothing':\n  -", "'nothing', 'no'"),
        ("requires:\n      - T1", "requires:\n      - T2", "'walk'"),
    ],
)
def test_a_text_changed_after_freezing_is_refused(old: str, new: str, named: str, tmp_path: Path) -> None:
    path = tmp_path / "k.yaml"
    example().freeze("2025-04-01").save(path)
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))
    with pytest.raises(
        InputError, match=rf"k\.yaml: class {named}.*changed since it was frozen on 2025-04-01"
    ) as caught:
        ClassKnowledge.load(path)
    assert "\n" not in str(caught.value)


def test_a_proposed_text_may_change_after_freezing_and_a_wrong_hash_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "k.yaml"
    knowledge = example().freeze()
    knowledge.save(path)
    path.write_text(path.read_text().replace("Legs move.", "Legs move fast."))
    assert ClassKnowledge.load(path).frozen == knowledge.frozen
    path.write_text(path.read_text().replace(knowledge.hash, "f" * 64))
    with pytest.raises(InputError, match=r"frozen hash ffff.* does not fit the classes"):
        ClassKnowledge.load(path)


def test_freezing_needs_a_sentence_in_use_for_every_class() -> None:
    with pytest.raises(InputError, match="class 'a': no sentence is in use"):
        ClassKnowledge("t", {"a": (Sentence("One two.", MODEL),), **example().classes}).freeze()


def test_select_gives_these_classes_in_this_order_and_stays_frozen() -> None:
    knowledge = example().freeze("2025-04-01")
    part = knowledge.select(["no"])
    assert part.class_names == ("no",) and part.frozen is not None and part.frozen.date == "2025-04-01"
    assert knowledge.select(["no", "walk"]).hash == knowledge.hash != part.hash
    with pytest.raises(InputError, match=r"class 'wlak' \(did you mean 'walk'\?\), 'xyz': not among its 2 classes"):
        knowledge.select(["wlak", "no", "xyz"])
    with pytest.raises(InputError, match="'no': asked for twice"):
        knowledge.select(["no", "no"])


def test_provenance_and_the_line_for_reports() -> None:
    knowledge = example()
    assert knowledge.provenance() == {
        "path": None,
        "title": "Test set",
        "hash": knowledge.hash,
        "frozen": None,
        "reviewer": UNREVIEWED,
        "classes": 2,
        "by_status": {"proposed": 1, "accepted": 1, "edited": 1, "rejected": 1},
        "by_source": {"model m-1 (2025-03-31)": 3, "person A. B.": 1},
    }
    assert "none (draft, not checked by a specialist)" in knowledge.review_warning()
    assert replace(knowledge, reviewer="A. B.").review_warning() == ""


def test_decisions_on_a_sentence_keep_its_first_text() -> None:
    sentence = Sentence("One two.", MODEL)
    edited = sentence.edit("One three.").edit("One four.")
    assert (edited.text, edited.original, edited.status) == ("One four.", "One two.", "edited")
    assert edited.accept() == edited and edited.edit("One two.") == sentence.accept()
    rejected = edited.reject("wrong")
    assert (rejected.text, rejected.reason, rejected.original) == ("One two.", "wrong", None)
    assert rejected.accept() == sentence.accept()
    with pytest.raises(InputError, match="unchanged"):
        sentence.edit("One two.")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"text": ""}, "text: is empty"),
        ({"text": " a b"}, "must be one line"),
        ({"text": "a\nb"}, "must be one line"),
        ({"text": "a\u00a0b\x00"}, "must be one line"),
        ({"text": 3}, "must be text"),
        ({"status": "acepted"}, "did you mean 'accepted'"),
        ({"status": ["accepted"]}, "unknown status"),
        ({"status": "rejected"}, "'reason' belongs to status 'rejected'"),
        ({"reason": "x"}, "'reason' belongs to status 'rejected'"),
        ({"status": "edited"}, "'original' belongs to status 'edited'"),
        ({"meta": {"a": {"b": 1}}}, "meta a: must be text, a finite number"),
        ({"meta": {"a": float("nan")}}, "meta a: must be text, a finite number"),
        ({"meta": ["T1"]}, "must be a mapping"),
    ],
)
def test_a_sentence_that_is_none(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Sentence(**{"text": "One two.", "source": MODEL, **values})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "modle"}, "unknown kind of source 'modle': did you mean 'model'"),
        ({"kind": []}, "unknown kind of source"),
        ({"kind": "citation"}, "source of kind 'citation': needs 'reference'"),
        ({"kind": "model", "model": 3}, "model 3: must be text"),
    ],
)
def test_a_source_that_is_none(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Source(**values)


HEAD = "title: t\nclasses:\n  walk:\n  - "


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must hold a mapping"),
        ("[1, 2]", "must hold a mapping"),
        ("a: [", "line 2: is not YAML"),
        ("title: t\nclases: {}\n", "unknown key 'clases': did you mean 'classes'"),
        ("title: t\n", "'classes' is missing"),
        ("title: t\nclasses: {}\n", "classes: there is none"),
        ("title: t\nclasses: [walk]\n", "classes: must be a mapping"),
        ("title: 3\nclasses: {}\n", "title 3: must be text"),
        ("title: t\nclasses: {walk: }\n", "classes.walk: must be a list with at least one sentence"),
        ("title: t\nclasses: {walk: []}\n", "classes.walk: must be a list with at least one sentence"),
        ("title: t\nclasses:\n  walk: []\n  walk: []\n", "line 4: 'walk' stands there twice"),
        ("title: t\nclasses:\n  no: []\n", "line 3: 'no' is read as False: put the key in quotes"),
        (HEAD + "A person walks.", r"classes.walk\[1\]: must be a mapping"),
        (HEAD + "{txt: A b., source: x}", r"classes.walk\[1\]: unknown key 'txt': did you mean 'text'"),
        (HEAD + "{text: A b.}", "'source' is missing"),
        (HEAD + "{text: A b., source: x}", "unknown source 'x'"),
        (HEAD + "{text: A b., source: [x]}", "source: must be a mapping"),
        (HEAD + "{text: A b., source: {kind: model, modle: x}}", "unknown key 'modle'"),
        (HEAD + "{text: 3, source: {kind: model, model: x}}", "must be text"),
        (HEAD + "{text: !!python/name:os.system '', source: x}", "is not YAML"),
        (HEAD + "&a {text: *a, source: x}", "is not YAML"),
        ("title: t\nsources: {'': {kind: person, person: a}}\nclasses: {}\n", "sources: name: is empty"),
        ("title: t\nfrozen: yes\nclasses: {}\n", "frozen: must be a mapping"),
        ("title: t\nfrozen: {hash: a, dat: b}\nclasses: {}\n", "frozen: unknown key 'dat': did you mean 'date'"),
        ("title: " + "[" * 5000, "YAML|nested too deeply"),
        ("title: \x07", "is not YAML"),
    ],
)
def test_a_malformed_file_is_refused_in_one_line(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "k.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        ClassKnowledge.load(path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("k.txt", b"", "ends in .yaml, .yml, .json"),
        ("k.yaml", b"\xff\xfe\x00", "is not text in UTF-8"),
        ("k.json", b"{", "is not JSON"),
        ("k.json", b'{"title": "a", "title": "b"}', "'title' stands there twice"),
        ("k.json", b"[" * 100_000, "nested too deeply|is not JSON"),
    ],
)
def test_another_file_is_refused(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        ClassKnowledge.load(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        ClassKnowledge.load(tmp_path / "no.yaml")


def test_a_text_twice_in_a_class_is_refused() -> None:
    with pytest.raises(InputError, match=r"class 'a': 'One two\.' stands there twice"):
        ClassKnowledge("t", {"a": (Sentence("One two.", MODEL), Sentence("One two.", PERSON))})


def test_hashes_that_do_not_fit_are_refused_without_a_file_too() -> None:
    with pytest.raises(InputError, match="class 'walk', 'no': changed since it was frozen"):
        replace(example(), frozen=Frozen("0", {}, "2025-04-01"))


FILE = json.dumps(example().freeze("2025-04-01").to_dict(), indent=1)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def load_or_refuse(path: Path) -> None:
    """Whatever stands in the file: the same knowledge once more, or one line."""
    try:
        knowledge = ClassKnowledge.load(path)
    except InputError as error:
        assert "\n" not in str(error) and str(path) in str(error)
        return
    again = knowledge.save(path.with_name(f"again{path.suffix}"), overwrite=True)
    assert ClassKnowledge.load(again.path or path) == knowledge


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, len(FILE) - 1), length=st.integers(0, 12), new=st.text(max_size=6), kind=st.booleans())
def test_mutated_files_load_or_are_refused(place: int, length: int, new: str, kind: bool, tmp_path: Path) -> None:
    path = tmp_path / ("k.json" if kind else "k.yaml")
    path.write_bytes((FILE[:place] + new + FILE[place + length :]).encode("utf-8", errors="surrogatepass"))
    load_or_refuse(path)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_files_with_one_part_replaced_load_or_are_refused(data: st.DataObject, tmp_path: Path) -> None:
    value = json.loads(FILE)
    part = value
    while True:
        key = data.draw(st.sampled_from(list(part) if isinstance(part, dict) else list(range(len(part)))))
        if not isinstance(part[key], (dict, list)) or not part[key] or data.draw(st.booleans()):
            break
        part = part[key]
    part[key] = data.draw(ANYTHING)
    path = tmp_path / "k.json"
    path.write_text(json.dumps(value))
    load_or_refuse(path)


def test_a_line_break_in_a_name_stays_out_of_the_message(tmp_path: Path) -> None:
    path = tmp_path / "k.json"
    path.write_text(json.dumps({**json.loads(FILE), "classes": {"\n": [None]}}))
    load_or_refuse(path)
