"""Label maps: which names become which, and which files are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icube_common.errors import InputError
from motiondiff.data.labels.label_map import LabelMap


def from_text(tmp_path: Path, text: str) -> LabelMap:
    path = tmp_path / "map.yaml"
    path.write_text(text)
    return LabelMap.from_yaml(path)


def test_a_map_renames_drops_and_keeps(tmp_path: Path) -> None:
    labels = from_text(tmp_path, "labels: {byebye: wave, slash: null}\n")
    assert labels.apply("byebye") == "wave"
    assert labels.apply("walk") == "walk"
    assert labels.apply(None) is None
    with pytest.raises(InputError, match="'slash' is left out by the label map"):
        labels.apply("slash")


def test_strict_map_leaves_out_unnamed_labels(tmp_path: Path) -> None:
    labels = from_text(tmp_path, "strict: true\nlabels:\n  byebye: wave\n")
    assert labels.apply("byebye") == "wave"
    with pytest.raises(InputError, match="'walk' is not in the label map"):
        labels.apply("walk")


@given(st.dictionaries(st.text(min_size=1), st.one_of(st.none(), st.text(min_size=1))), st.text(min_size=1))
def test_a_map_that_is_not_strict_loses_no_label_without_saying_so(names: dict[str, str | None], label: str) -> None:
    labels = LabelMap(names)
    if label in names and names[label] is None:
        with pytest.raises(InputError):
            labels.apply(label)
    else:
        assert labels.apply(label) == names.get(label, label)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("labels: [walk, run]", "`labels:` with a mapping"),
        ("walk: run", "`labels:`"),
        ("", "`labels:`"),
        ("labels: {a: b}\nlabel: {c: d}", "`labels:`"),
        ("labels: {a: 3}", "'a': 3 must map a name to a name or null"),
        ("labels: {no: wave}", "False: 'wave' must map a name"),
        ("labels: {a: b}\nstrict: 'no'", "strict: 'no' must be true or false"),
        ("labels: {a: [", "not readable as YAML"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        from_text(tmp_path, text)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent\.yaml: no such file"):
        LabelMap.from_yaml(tmp_path / "absent.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not readable as YAML"):
        LabelMap.from_yaml(tmp_path / "binary.yaml")
