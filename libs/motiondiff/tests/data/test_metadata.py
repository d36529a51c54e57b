"""Labels of people's own recordings: folders, tables in the dialects people write, and label maps that name none."""

from __future__ import annotations

import csv
import logging
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icube_common.errors import InputError
from motiondiff.cli import main
from motiondiff.data.labels.label_map import LabelMap
from motiondiff.data.labels.metadata import read_rows
from motiondiff.data.merge import prepare_merged
from motiondiff.data.prepare import PrepareOptions, prepare
from motiondiff.data.store import MotionStore
from motiondiff.data.synthetic import simulate_motion
from motiondiff.export.bvh import write_bvh
from motiondiff.export.npz import write_npz

FILES = ("dance/01.bvh", "dance/p2/02.bvh", "sit down/01.bvh", "sit down/03 bis.bvh")


@pytest.fixture(scope="module")
def recordings(tmp_path_factory) -> Path:
    """BVH files without labels, some with the same name in two folders."""
    base = tmp_path_factory.mktemp("own") / "rec"
    for number, name in enumerate(FILES):
        (base / name).parent.mkdir(parents=True, exist_ok=True)
        write_bvh(simulate_motion("walk", number, fps=20), base / name)
    return base


def made(source: Path, out: Path, format: str = "bvh", **options) -> tuple[MotionStore, dict[str, str]]:
    store = prepare(format, source, out / "store", PrepareOptions(fps=None, **options), overwrite=True)
    with (store.path / "rejected.csv").open(newline="") as handle:
        return store, dict(list(csv.reader(handle))[1:])


def labels(store: MotionStore) -> dict[str, tuple[str | None, ...]]:
    motions = {clip_id: store[at] for at, clip_id in enumerate(store.clip_ids)}
    return {clip_id: (m.action, m.subject, m.style, *m.texts) for clip_id, m in motions.items()}


def actions(store: MotionStore) -> dict[str, str | None]:
    return {clip_id: given[0] for clip_id, given in labels(store).items()}


@pytest.mark.parametrize(
    ("action_from", "second"),
    [("folder", "dance"), ("parent", "p2")],
)
def test_action_from_folders(recordings, tmp_path, action_from, second):
    store, rejected = made(recordings, tmp_path, action_from=action_from)
    assert actions(store) == {
        "dance/01.bvh": "dance",
        "02": second,
        "sit down/01.bvh": "sit down",
        "03 bis": "sit down",
    }
    assert rejected == {}


def test_a_file_in_no_folder_has_no_action_and_is_rejected(recordings, tmp_path):
    for name in ("loose.bvh", "dance/a.bvh"):
        (tmp_path / "rec" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "rec" / name).write_bytes((recordings / FILES[0]).read_bytes())
    store, rejected = made(tmp_path / "rec", tmp_path, action_from="folder")
    assert actions(store) == {"a": "dance"}
    assert "is in no folder" in rejected["loose"]


def test_one_folder_above_all_the_folders_is_pointed_out(recordings, tmp_path, caplog):
    made(recordings.parent, tmp_path, action_from="folder")
    assert "all files lie below rec" in caplog.text and "--action-from parent" in caplog.text


def test_folders_replace_metadata_but_not_cuts(tmp_path):
    (tmp_path / "in" / "jump").mkdir(parents=True)
    write_npz(simulate_motion("walk", 0, fps=20), tmp_path / "in" / "jump" / "a.npz")
    assert actions(made(tmp_path / "in", tmp_path, "npz", action_from="folder")[0]) == {"a": "jump"}
    (tmp_path / "joints_s01_e01.txt").write_text("")
    (tmp_path / "actionLabel.txt").write_text("s01_e01\nwalk: 0 1\n")
    with pytest.raises(InputError, match="the clips of utkinect are no files; for bvh, "):
        made(tmp_path, tmp_path, "utkinect", action_from="folder")
    with pytest.raises(InputError, match="unknown --action-from 'folders'"):
        made(tmp_path / "in", tmp_path, "npz", action_from="folders")


TABLES = {
    "comma": "file,action,subject,style,text\ndance/01.bvh,twirl,anna,slow,she turns\n",
    "semicolon": "file;action;subject;style;text\ndance/01.bvh;twirl;anna;slow;she turns\n",
    "tab": "file\taction\tsubject\tstyle\ttext\ndance/01.bvh\ttwirl\tanna\tslow\tshe turns\n",
    "byte order mark, CRLF": "\ufefffile,action,subject,style,text\r\ndance/01.bvh,twirl,anna,slow,she turns\r\n",
    "quotes": '"file","action","subject","style","text"\n"dance/01.bvh","twirl","anna","slow","she turns"\n',
    "sep=": "sep=;\nfile;action;subject;style;text\ndance/01.bvh;twirl;anna;slow;she turns\n",
    "other order and names": "Subject ID,Caption,Label,Tag,File Name\nanna,she turns,twirl,slow,dance/01.bvh\n",
    "pandas' index": ",file,action,subject,style,text\n0,dance/01.bvh,twirl,anna,slow,she turns\n",
    "blank rows, empty cell": "\nfile,action,subject,style,text,\n\n,,,\ndance/01.bvh,twirl,anna,slow,she turns,\n",
    "Windows path": "file,action,subject,style,text\nDance\\01.BVH,twirl,anna,slow,she turns\n",
    "absolute path": "file,action,subject,style,text\nD:\\x\\dance\\01.bvh,twirl,anna,slow,she turns\n",
    "begins above the source": "file,action,subject,style,text\ndata/rec/dance/01.bvh,twirl,anna,slow,she turns\n",
    "no suffix": "file,action,subject,style,text\n./dance/01,twirl,anna,slow,she turns\n",
    "spaces": "file , action, subject, style, text\n dance/01.bvh , twirl , anna , slow , she turns \n",
}


@pytest.mark.parametrize("name", TABLES)
def test_dialects_of_tables(recordings, tmp_path, name):
    table = tmp_path / "meta.csv"
    table.write_bytes(TABLES[name].encode())
    store, rejected = made(recordings, tmp_path, metadata=table)
    assert labels(store) == {"dance/01.bvh": ("twirl", "anna", "slow", "she turns")}
    assert len(rejected) == 3
    assert "no row of --metadata" in rejected["02"] and "meta.csv names it" in rejected["02"]


def test_a_utf16_table_as_spreadsheets_write_it(recordings, tmp_path):
    (tmp_path / "meta.txt").write_bytes("file\taction\n02\tmarcher \u00e0 pied\n".encode("utf-16"))
    assert actions(made(recordings, tmp_path, metadata=tmp_path / "meta.txt")[0]) == {"02": "marcher \u00e0 pied"}


def test_texts_missing_cells_and_columns_that_are_not_read(recordings, tmp_path, caplog):
    table = tmp_path / "meta.csv"
    table.write_text(
        "file,action,subject,text1,text 2,age,site\n"
        'dance/01.bvh,NA,s1,"she turns, slowly",a spin|a whirl,31,x\n'
        "02,walk,,n/a,,,\n"
        "03 bis,,nan,he sits,,,\n"
        "03 bis,sit,,he takes a seat,,,\n"
    )
    store, rejected = made(recordings, tmp_path, metadata=table)
    assert labels(store) == {
        "dance/01.bvh": (None, "s1", None, "she turns, slowly", "a spin", "a whirl"),
        "02": ("walk", None, None),
        "03 bis": ("sit", None, None, "he sits", "he takes a seat"),
    }
    assert list(rejected) == ["sit down/01.bvh"]
    assert "columns that are not read: age, site" in caplog.text


def test_rows_that_match_no_recording_are_reported(recordings, tmp_path, caplog):
    table = tmp_path / "meta.csv"
    table.write_text("file,action\n02,walk\n07,run\nrun/9.bvh,run\n")
    with caplog.at_level(logging.WARNING):
        made(recordings, tmp_path, metadata=table)
    assert "2 rows match no recording: line 3 07, line 4 run/9.bvh" in caplog.text


def test_a_table_over_folders_and_over_files(recordings, tmp_path):
    table = tmp_path / "meta.csv"
    table.write_text("file,action,subject\n02,twirl,anna\n03 bis,,ben\n")
    store, _ = made(recordings, tmp_path, action_from="folder", metadata=table)
    assert labels(store) == {"02": ("twirl", "anna", None), "03 bis": ("sit down", "ben", None)}
    (tmp_path / "npz").mkdir()
    write_npz(simulate_motion("wave", 0, fps=20, subject=3), tmp_path / "npz" / "a.npz")
    own = labels(made(tmp_path / "npz", tmp_path, "npz")[0])["a"]
    table.write_text("file,style\na,calm\n")
    assert labels(made(tmp_path / "npz", tmp_path, "npz", metadata=table)[0])["a"][:3] == ("wave", own[1], "calm")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no row below"),
        ("file,action\n", "no row below"),
        ("clips,action\na,b\n", "line 1: no column 'file' in the head line 'clips', 'action'"),
        ("file,age\n02,3\n", "line 1: no column action, subject, style or text"),
        ("file,action,action\n02,a,b\n", "a column is there twice"),
        ("file,action\n02,a,b\n", "line 2: 3 fields, 2 expected"),
        ("file,action\n02\n", "line 2: 1 fields, 2 expected"),
        ("file,action\n02,walk\n,walk\n", "line 3: names no file"),
        ("file,action\n01,walk\n", "line 2: '01' is the name of 2 recordings: give the path"),
        ("file,action\n02,walk\n02,run\n", r"more than one action: 'walk' \(line 2\) and 'run' \(line 3\)"),
        ('file,action\n02,"walk\n', "line 2"),
    ],
)
def test_tables_that_are_refused(recordings, tmp_path, text, words):
    (tmp_path / "meta.csv").write_text(text)
    with pytest.raises(InputError, match=words) as caught:
        made(recordings, tmp_path, metadata=tmp_path / "meta.csv")
    assert "meta.csv" in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "store").exists()


def test_unreadable_tables(tmp_path):
    with pytest.raises(InputError, match=r"absent\.csv: no such file; expected a table"):
        read_rows(tmp_path / "absent.csv")
    (tmp_path / "latin.csv").write_bytes("file,action\n02,march\u00e9\n".encode("latin-1"))
    with pytest.raises(InputError, match=r"latin\.csv: line 2: not UTF-8 text .*: save it as UTF-8"):
        read_rows(tmp_path / "latin.csv")


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(TABLES)), st.integers(0, 70), st.text(max_size=3), st.integers(0, 3))
def test_a_damaged_table_is_read_or_refused(tmp_path_factory, name, at, inserted, cut):
    text = TABLES[name]
    path = tmp_path_factory.mktemp("damaged") / "meta.csv"
    path.write_bytes((text[:at] + inserted + text[at + cut :]).encode("utf-8", "surrogatepass"))
    try:
        rows = read_rows(path)
    except InputError as error:
        assert "meta.csv" in str(error) and "\n" not in str(error)
    else:
        assert rows and all(row.file for row in rows)


def test_clips_cut_from_a_recording_are_named_by_their_id(tmp_path, moving_kinect_text):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "joints_s01_e01.txt").write_text(moving_kinect_text)
    (tmp_path / "in" / "actionLabel.txt").write_text("s01_e01\nwalk: 0 30\npush: 30 60\n")
    (tmp_path / "meta.csv").write_text("file,action,text\njoints_s01_e01_push,shove,he shoves\n")
    store, rejected = made(tmp_path / "in", tmp_path, "utkinect", metadata=tmp_path / "meta.csv")
    assert labels(store) == {"joints_s01_e01_push": ("shove", "s01", None, "he shoves")}
    assert list(rejected) == ["joints_s01_e01_walk"]


@pytest.fixture
def moving_kinect_text() -> str:
    import numpy as np

    from motiondiff.skeleton.kinect import KINECT_V1

    body = np.zeros((20, 3))
    for joint, parent in enumerate(KINECT_V1.parents[1:], start=1):
        side = 0.15 * ("Left" in KINECT_V1.names[joint]) - 0.15 * ("Right" in KINECT_V1.names[joint])
        down = -0.3 if any(word in KINECT_V1.names[joint] for word in ("Knee", "Ankle", "Elbow", "Wrist")) else 0.2
        body[joint] = body[parent] + (side, down, 0.01 * joint)
    body += (0, 0, 2.5)
    rows = [(frame, body + np.array([0.01 * frame, 0, 0])) for frame in range(0, 62, 2)]
    return "".join(f"{frame} " + " ".join(f"{value:.5f}" for value in p.ravel()) + "\n" for frame, p in rows)


def test_a_label_map_that_names_no_label_is_refused(recordings, tmp_path):
    for strict in (True, False):
        with pytest.raises(
            InputError, match=r"--labels own\.yaml: has none of the 2 labels found: 'dance', 'sit down'"
        ):
            made(recordings, tmp_path, action_from="folder", labels=LabelMap({"jog": "run"}, strict, "own.yaml"))
        assert not (tmp_path / "store").exists()
    with pytest.raises(InputError, match="no clip has a label to map; --action-from or --metadata"):
        made(recordings, tmp_path, labels=LabelMap({"jog": "run"}))
    store, _ = made(recordings, tmp_path, action_from="folder", labels=LabelMap({"sit down": None, "jog": "run"}))
    assert set(actions(store).values()) == {"dance"}


def test_the_shipped_map_takes_own_labels_beside_those_of_the_set():
    assert "wave" not in LabelMap.load("residential", "utkinect").names
    own = LabelMap.load("residential", "utkinect", user_labels=True)
    assert own.apply("wave") == "wave" and own.apply("wave hands") == "wave"


def test_a_mix_takes_folders_and_tables_of_its_sources(recordings, tmp_path, caplog):
    (tmp_path / "own.csv").write_text("file,action,subject\n02,twirl,anna\nsit down/01.bvh,,ben\n99,a,b\n")
    (tmp_path / "mix.yaml").write_text(
        f"skeleton: {recordings / FILES[0]}\nsources:\n"
        f"  own: {{format: bvh, path: {recordings}, action_from: folder, metadata: own.csv}}\n"
    )
    store = prepare_merged(tmp_path / "mix.yaml", tmp_path / "store", PrepareOptions(fps=20))
    assert labels(store) == {
        "own/02": ("twirl", "own/anna", None),
        "own/sit down/01.bvh": ("sit down", "own/ben", None),
    }
    assert "1 rows match no recording: line 4 99" in caplog.text
    text = (tmp_path / "mix.yaml").read_text()
    (tmp_path / "map.yaml").write_text("labels: {jog: run}\n")
    (tmp_path / "mix.yaml").write_text(f"labels: map.yaml\n{text}")
    with pytest.raises(InputError, match=r"map\.yaml: has none of the 2 labels found"):
        prepare_merged(tmp_path / "mix.yaml", tmp_path / "other", PrepareOptions(fps=20))
    (tmp_path / "mix.yaml").write_text(text.replace("folder", "[1]"))
    with pytest.raises(InputError, match="action_from: folder or parent expected"):
        prepare_merged(tmp_path / "mix.yaml", tmp_path / "other", PrepareOptions(fps=20))


def test_the_command(recordings, tmp_path, capsys):
    words = ["prepare", "--format", "bvh", str(recordings), "--action-from", "folder", "--out", str(tmp_path / "store")]
    assert main(words) == 0
    assert set(actions(MotionStore(tmp_path / "store")).values()) == {"dance", "sit down"}
    capsys.readouterr()
    assert main([*words, "--overwrite", "--metadata", str(tmp_path / "none.csv")]) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1 and "none.csv: no such file" in error[0]
    assert main(["prepare", "--merge", "m.yaml", "--out", "x", "--action-from", "folder"]) == 2
