from __future__ import annotations

import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from icube_common.errors import InputError
from icube_common.knowledge import import_descriptions, match_classes, read_class_names
from icube_common.knowledge.importers import descriptor_sentence
from icube_common.knowledge.names import name_key, readable_name

ROOT = Path(__file__).resolve().parents[3]


def write(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value))
    return path


@pytest.mark.parametrize(
    ("name", "readable"),
    [
        ("ApplyEyeMakeup", "apply eye makeup"),
        ("brush_hair", "brush hair"),
        ("YoYo", "yo yo"),
        ("AD", "AD"),
        ("TVScreen", "TV screen"),
        ("skiing (not slalom)", "skiing (not slalom)"),
        ("3DMovie", "3D movie"),
    ],
)
def test_a_class_name_as_words(name: str, readable: str) -> None:
    assert readable_name(name) == readable


def test_spellings_of_a_class_match() -> None:
    assert match_classes(["brush hair", "HandStandPushups"], ["Handstand Pushups", "x", "brush_hair"]) == {
        "brush hair": "brush_hair",
        "HandStandPushups": "Handstand Pushups",
    }
    assert name_key("sit-up") == name_key("SitUp") != name_key("sits up")
    with pytest.raises(InputError, match="class 'sit_up': is the same as 'situp'"):
        match_classes(["situp", "sit_up"], [])


@pytest.mark.parametrize(
    ("file", "text", "names"),
    [
        ("a.txt", "walk\n\nrun  fast\n", ("walk", "run fast")),
        ("a.txt", "1 ApplyEyeMakeup\n2 Archery\n", ("ApplyEyeMakeup", "Archery")),
        ("a.txt", "1: bend/bow\n3: crouch\n", ("bend/bow", "crouch")),
        ("a.txt", "c000 Holding some clothes\nc001 Sitting\n", ("Holding some clothes", "Sitting")),
        ("a.txt", "3 wheeler\nbike\n", ("3 wheeler", "bike")),
        ("a.csv", "id,name\n0,abseiling\n1,air drumming\n", ("abseiling", "air drumming")),
        ("a.json", '["a b", "c"]', ("a b", "c")),
        ("a.json", '{"0": "a", "1": "b"}', ("a", "b")),
    ],
)
def test_class_names_of_a_file(file: str, text: str, names: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / file).write_text(text)
    assert read_class_names(tmp_path / file) == names


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("a.txt", "\n", "holds no class name"),
        ("a.txt", "walk\nwalk\n", "class 'walk' stands there twice"),
        ("a.csv", "id,nom\n0,x\n", "needs a column 'name'"),
        ("a.csv", "id,name\n0,\n", "class name: is empty"),
        ("a.json", "{", "is not JSON"),
        ("a.json", "[1]", "must hold a list of class names"),
    ],
)
def test_a_file_without_class_names_is_refused(file: str, text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / file).write_text(text)
    with pytest.raises(InputError, match=message):
        read_class_names(tmp_path / file)


def test_sentences_of_a_mapping(tmp_path: Path) -> None:
    value = {
        "ApplyEyeMakeup": ["\nA brush  is used.", "1.", "", "a brush is used.", "Eyes."],
        "Archery": ["A bow bends."],
    }
    path = write(tmp_path / "ucf_prompts.json", value)
    imported = import_descriptions(
        path, model="m-1", prompt="What?", reference="Who 2020", date="2020-01-02", domain="videos"
    )
    assert imported.form == "cupl" and imported.dropped == {"too short": 2, "empty": 1, "duplicate": 1}
    knowledge = imported.knowledge
    assert knowledge.texts("ApplyEyeMakeup", include_proposed=True) == ("A brush is used.",)
    assert (knowledge.title, knowledge.domain, knowledge.texts("Archery")) == ("ucf prompts", "videos", ())
    assert knowledge.classes["Archery"][0].source.to_dict() == {
        "kind": "model",
        "model": "m-1",
        "prompt": "What?",
        "date": "2020-01-02",
        "reference": "Who 2020",
    }


def test_absent_provenance_is_not_stated(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", {"walk": "A person walks."})
    source = import_descriptions(path, date="2020-01-02").knowledge.classes["walk"][0].source
    assert source.model == "not stated" and source.reference == "imported from a.json (cupl form)"


@pytest.mark.parametrize(
    ("descriptor", "sentence"),
    [
        ("long fur", "old dog, which has long fur"),
        ("a large body.", "old dog, which is a large body"),
        ("an animal", "old dog, which is an animal"),
        ("antlers", "old dog, which has antlers"),
        ("often has spots", "old dog, which often has spots"),
        ("used for hunting", "old dog, which is used for hunting"),
    ],
)
def test_a_descriptor_as_a_sentence(descriptor: str, sentence: str) -> None:
    assert descriptor_sentence("old_dog", descriptor) == sentence


def test_descriptors_and_sentences_are_distinguished(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", {"beagle": ["short-haired dog", "floppy ears", ""], "boxer": ["a stubby tail"]})
    imported = import_descriptions(path)
    assert imported.form == "dclip" and imported.dropped == {"empty": 1}
    assert imported.knowledge.texts("boxer", include_proposed=True) == ("boxer, which is a stubby tail",)
    assert import_descriptions(path, form="cupl").knowledge.texts("boxer", include_proposed=True) == ("a stubby tail",)


@pytest.mark.parametrize("as_list", [False, True])
def test_rephrased_labels(as_list: bool, tmp_path: Path) -> None:
    texts = ["Shake hands: Two people clasp hands", "Walk: A person walks, e.g.: slowly", "Shake hands: Hands meet"]
    path = write(tmp_path / "a.json", texts if as_list else {str(n): text for n, text in enumerate(texts)})
    imported = import_descriptions(path, class_names=["walk", "shake_hands"])
    assert imported.form == "tcclip" and imported.knowledge.class_names == ("walk", "shake_hands")
    assert imported.knowledge.texts("shake_hands", include_proposed=True) == ("Two people clasp hands", "Hands meet")
    assert imported.knowledge.texts("walk", include_proposed=True) == ("A person walks, e.g.: slowly",)


def test_unknown_and_missing_classes_are_listed_all(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", {"Walk": ["A b."], "runn": ["A b."], "swim": ["A b."]})
    wanted = ["walk", "run", "jump"]
    with pytest.raises(InputError) as caught:
        import_descriptions(path, class_names=wanted)
    message = str(caught.value)
    assert "unknown class 'runn' (did you mean 'run'?), 'swim'" in message and "missing class 'run', 'jump'" in message
    assert "--allow-unknown" in message and "--allow-missing" in message and "\n" not in message
    with pytest.raises(InputError, match="missing class 'run', 'jump'"):
        import_descriptions(path, class_names=wanted, allow_unknown=True)
    imported = import_descriptions(path, class_names=wanted, allow_unknown=True, allow_missing=True)
    assert imported.knowledge.class_names == ("walk",)
    assert (imported.unknown, imported.missing) == (("runn", "swim"), ("run", "jump"))


@pytest.mark.parametrize(
    ("value", "form", "message"),
    [
        ({}, None, "is none of the forms cupl"),
        ("text", None, "is none of the forms"),
        ({"walk": 3}, None, "class 'walk': must have a list of sentences"),
        ({"walk": ["A b.", 3]}, None, "class 'walk': 3 is no sentence"),
        ({"walk": ["A b."], "run": ["1."]}, None, "class 'run': has no usable sentence"),
        ({"": ["A b."]}, None, "a class has no name"),
        ({"walk": ["A b."], "Walk": ["A b."]}, None, "class 'Walk': is the same as 'walk'"),
        ({"0": "no colon"}, None, 'entry 0: must be "Class: sentence"'),
        ([3], None, 'entry 0: must be "Class: sentence"'),
        (3, "tcclip", 'entry 0: must be "Class: sentence"'),
        (["Walk: a b"], "cupl", "must hold a mapping of class to sentences"),
        ({"walk": ["A b."]}, "gpt5vis", "unknown form 'gpt5vis': did you mean 'gpt4vis'"),
    ],
)
def test_another_file_is_refused(value: Any, form: str | None, message: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", value)
    with pytest.raises(InputError, match=message) as caught:
        import_descriptions(path, form=form)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "is not JSON"),
        (b"\xff", "not text in UTF-8"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a": 1, "a": 2}', "twice"),
    ],
)
def test_no_json_is_refused(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(InputError, match=message):
        import_descriptions(tmp_path / "a.json")
    with pytest.raises(InputError, match="cannot be read"):
        import_descriptions(tmp_path / "b.json")


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    archive = Path(os.environ.get("ICUBE_DATA", ROOT.parent / "shared" / "data")) / "video" / "labels.tar.xz"
    if not archive.is_file():
        pytest.skip(f"{archive} is not there")
    folder = tmp_path_factory.mktemp("labels")
    with tarfile.open(archive) as opened:
        wanted = [member for member in opened if member.isfile() and member.name.endswith((".json", ".csv", ".txt"))]
        for member in wanted:
            source = opened.extractfile(member)
            if source is not None and member.name.startswith(("gpt4vis/", "xclip_labels/", "mmaction2_label_maps/")):
                (folder / member.name.replace("/", "_")).write_bytes(source.read())
    return folder


# counted in the files themselves, with jq: classes, sentences
PUBLISHED = {
    "gpt4vis_GPT4_generated_prompts_hmdb_20_prompts_0_51_api.json": ("xclip_labels_hmdb_51_labels.csv", 51),
    "gpt4vis_GPT4_generated_prompts_ucf_20_prompts.json": ("xclip_labels_ucf_101_labels.csv", 101),
    "gpt4vis_GPT4_generated_prompts_k400_20_prompts_0_400_api.json": ("xclip_labels_kinetics_400_labels.csv", 400),
}


@pytest.mark.real_data
@pytest.mark.parametrize("file", PUBLISHED)
def test_published_files_are_imported_whole(file: str, labels: Path, tmp_path: Path) -> None:
    names, count = PUBLISHED[file]
    imported = import_descriptions(labels / file, class_names=read_class_names(labels / names), model="GPT-4")
    assert imported.form == "cupl" and imported.dropped == {} == dict.fromkeys(imported.unknown + imported.missing)
    published = json.loads((labels / file).read_text())
    knowledge = imported.knowledge
    assert len(knowledge.class_names) == count and len(knowledge.sentences()) == 20 * count
    assert {name: list(knowledge.texts(name, include_proposed=True)) for name in knowledge.classes} == published
    assert type(knowledge).load(knowledge.save(tmp_path / "k.yaml").path or "") == knowledge


@pytest.mark.real_data
def test_other_spellings_of_the_published_classes_match(labels: Path) -> None:
    names = read_class_names(labels / "mmaction2_label_maps_hmdb51_label_map.txt")  # brush_hair
    published = labels / "gpt4vis_GPT4_generated_prompts_hmdb_20_prompts_0_51_api.json"  # brush hair
    assert import_descriptions(published, class_names=names).knowledge.class_names == names
