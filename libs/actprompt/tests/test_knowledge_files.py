"""The class knowledge that the library ships: whole, frozen, true to the class lists, and found by its name."""

from __future__ import annotations

import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest

from actprompt.cli import QUESTIONS
from actprompt.data.readers import FORMATS, etri, hmdb51, smarthome, ucf101
from actprompt.knowledge import SHIPPED, load_knowledge
from icube_common.data.class_lists import NTU_RGBD
from icube_common.errors import InputError
from icube_common.knowledge.class_knowledge import UNREVIEWED, ClassKnowledge

PACKAGE = files("actprompt.knowledge")
CLASSES = {
    "ntu-rgbd": NTU_RGBD,
    "smarthome": tuple(smarthome.CLASSES),
    "etri": etri.CLASSES,
}
SIZES = {"florence3d": 9, "ntu-rgbd": 120, "smarthome": 31, "etri": 55, "ucf101": 101, "hmdb51": 51}
CLIP_TOKENS = 75  # 77 less start and end


@pytest.fixture(params=sorted(SIZES))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def knowledge(name: str) -> ClassKnowledge:
    return load_knowledge(name)


def test_every_shipped_file_belongs_to_a_format_and_is_in_the_package() -> None:
    assert set(SHIPPED) <= set(FORMATS) and set(SIZES) <= set(SHIPPED)
    listed = {Path(str(entry)).name for entry in PACKAGE.iterdir()}
    assert {SHIPPED[name] for name in SIZES} <= listed
    assert {entry for entry in listed if entry.endswith(".yaml")} <= set(SHIPPED.values())


def test_knowledge_is_frozen_and_unreviewed(name: str, knowledge: ClassKnowledge) -> None:
    # loading has held the sentences against the frozen hashes
    assert knowledge.frozen is not None and knowledge.frozen.hash == knowledge.hash
    assert knowledge.reviewer == UNREVIEWED and not knowledge.signed and UNREVIEWED in knowledge.review_warning()
    text = (PACKAGE / SHIPPED[name]).read_text(encoding="utf-8")
    assert f"reviewer: {UNREVIEWED}" in text
    assert knowledge.title and knowledge.domain and knowledge.language == "en"


def test_it_has_the_classes_of_its_set(name: str, knowledge: ClassKnowledge) -> None:
    assert len(knowledge.classes) == SIZES[name]
    if name in CLASSES:
        assert knowledge.class_names == CLASSES[name]


def test_it_has_the_classes_of_the_published_lists(label_files: Path) -> None:
    for name, reader in (("ucf101", ucf101), ("hmdb51", hmdb51)):
        lists = reader.read_splits([label_files / "bike" / name])
        assert load_knowledge(name).class_names == tuple(sorted(set(lists.labels.values())))


def test_each_class_has_four_sentences_of_its_own(knowledge: ClassKnowledge) -> None:
    assert min(len(texts) for texts in knowledge.descriptions().values()) >= 4
    texts = [sentence.text.casefold() for sentence in knowledge.sentences()]
    assert len(set(texts)) == len(texts)
    for text in texts:
        assert 12 <= len(text.split()) <= 30 and text.endswith("."), text


def test_each_sentence_has_a_source(knowledge: ClassKnowledge) -> None:
    for sentence in knowledge.sentences():
        source = sentence.source
        assert sentence.status == "accepted" and source.kind == "model" and source.model and source.date
        assert source.prompt in QUESTIONS


def test_a_clip_text_tower_reads_each_sentence_whole(knowledge: ClassKnowledge) -> None:
    from open_clip.tokenizer import SimpleTokenizer

    tokenizer = SimpleTokenizer()
    assert max(len(tokenizer.encode(sentence.text)) for sentence in knowledge.sentences()) <= CLIP_TOKENS


def test_by_name_by_format_and_by_path(tmp_path: Path) -> None:
    by_name = load_knowledge("etri")
    assert by_name.title == "ETRI-Activity3D" and by_name.path is not None and by_name.path.name == "etri.yaml"
    assert load_knowledge("", format="etri") == by_name == load_knowledge(format="etri")
    assert load_knowledge("etri", format="ucf101") == by_name  # the name goes first
    for ending in (".yaml", ".yml", ".json"):
        path = tmp_path / f"mine{ending}"
        by_name.select(["clapping", "smoking"]).save(path)
        mine = load_knowledge(str(path), format="etri")
        assert mine.class_names == ("clapping", "smoking") and mine.path == path


@pytest.mark.parametrize(
    ("name", "format", "message"),
    [
        ("ucf11", "", r"unknown class knowledge 'ucf11': did you mean 'ucf101'\? .*knowledge generate"),
        ("ntu_rgbd", "", "did you mean 'ntu-rgbd'"),
        ("", "kinetics", "class knowledge: none comes with the library for the format 'kinetics': give a file .*etri"),
        ("", "", "none comes with the library for data without a format"),
        ("missing.yaml", "etri", "missing.yaml: cannot be read"),
    ],
)
def test_missing_knowledge_is_refused_with_a_remedy(name: str, format: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        load_knowledge(name, format=format)
    assert "\n" not in str(error.value)


def test_a_changed_sentence_is_refused(tmp_path: Path) -> None:
    text = (PACKAGE / "hmdb51.yaml").read_text(encoding="utf-8")
    path = tmp_path / "changed.yaml"
    path.write_text(text.replace("brushes the hair", "combs the hair", 1), encoding="utf-8")
    with pytest.raises(InputError, match="class 'brush_hair': changed since it was frozen"):
        load_knowledge(str(path))


def test_importing_it_is_light() -> None:
    code = "import sys, actprompt.knowledge; print(sorted({'torch', 'yaml', 'numpy', 'pandas'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
