"""Content of a prepared folder, refusals of damaged ones, and images that cannot be used."""

from __future__ import annotations

import json
import logging
import multiprocessing
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cohort_files import SHAPE, cell, rejected, voxels, write_csv, write_volume

from debian_mri.cli import main
from debian_mri.cli.info import describe
from debian_mri.data.clinical_variables import VARIABLES, Column, canonical_name, column_of, normalise_value
from debian_mri.data.manifest import Manifest, Rejection, Scan, write_manifest
from debian_mri.data.prepare import check_format_options, parse_pairs, prepare
from icube_common.errors import InputError

RACE = Column(name="race", leakage_tier="A", kind="category", values=("a", "b", "c"))
COLUMNS = (VARIABLES["age"], VARIABLES["sex"], VARIABLES["MMSE"], RACE)
SCANS = (
    Scan(id="s1", subject="p1", label="CN", session="1", site="x", paths=("s1.nii.gz",), sha256="0" * 64),
    Scan(id="s2", subject="p1", label="AD", session="2", site="x", paths=("s2.nii.gz",)),
    Scan(id="s3", subject="p2", label="AD", kind="slices", paths=("a.png", "b.png"), planes=("axial", "coronal")),
)
ROWS = {"s1": {"age": "70.5", "sex": "F", "MMSE": "29", "race": "c"}, "s2": {"sex": "M", "race": "a"}}


@pytest.fixture(autouse=True)
def _logs_go_nowhere() -> Iterator[None]:
    """A command line logs to the standard error of its test, which is closed after it."""
    yield
    logging.getLogger("debian_mri").handlers[:] = [logging.NullHandler()]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    description = {"format": "csv", "title": "Simulated", "root": ".", "class_names": ["CN", "AD"], "simulated": True}
    write_manifest(folder, description, SCANS, ROWS, [Rejection("line 9", "broken")], columns=COLUMNS)
    return folder


def test_written_and_read_it_is_the_same(data: Path) -> None:
    manifest = Manifest.load(data)
    assert manifest.scans == SCANS and manifest.class_names == ("CN", "AD") and manifest.simulated
    assert manifest.paths_of(SCANS[2]) == (data / "a.png", data / "b.png")
    assert Manifest.load(data, root="/elsewhere").paths_of(SCANS[0]) == (Path("/elsewhere/s1.nii.gz"),)
    samples = manifest.samples()
    assert samples.groups == ("p1", "p1", "p2") and samples.labels.tolist() == [0, 1, 1]
    assert samples.sites == ("x", "x", "unknown")  # a blank one is a site of its own
    assert (
        manifest.description["counts"]["classes"] == {"CN": 1, "AD": 2}
        and manifest.description["counts"]["rejected"] == 1
    )
    assert len(manifest.fingerprint) == 64 and manifest.row("s2") is manifest.scans[1]
    with pytest.raises(InputError, match=r"unknown id 's4'"):
        manifest.row("s4")


def test_numbers_of_people(data: Path) -> None:
    people = Manifest.load(data).participants()
    nan = np.nan
    np.testing.assert_array_equal(people.values, [[70.5, 0, 29, 2], [nan, 1, nan, 0], [nan] * 4])
    assert people.missing() == {"age": 2, "sex": 1, "MMSE": 2, "race": 1}
    assert [cell(people, "s1", name) for name in people.names] == ["70.5 years", "F", "29", "c"]
    assert cell(people, "s3", "age") == ""
    table = people.select(["sex", "age"])
    assert table.names == ("sex", "age") and table.units == ("", "years") and table.ids == ("s1", "s2", "s3")
    np.testing.assert_array_equal(table.values, [[0, 70.5], [1, nan], [nan, nan]])


def test_a_category_of_three_has_no_order(data: Path) -> None:
    table = Manifest.load(data).participants().select(["race"])
    assert table.names == ("race = a", "race = b", "race = c")
    np.testing.assert_array_equal(table.values, [[0, 0, 1], [1, 0, 0], [np.nan] * 3])


def test_tier_c_needs_the_flag(data: Path) -> None:
    people = Manifest.load(data).participants()
    with pytest.raises(InputError, match=r"MMSE: is of tier C .*demographics\.allow_diagnostic=true"):
        people.select(["age", "MMSE"])
    assert people.select(["MMSE"], allow_diagnostic=True).values[0, 0] == 29
    with pytest.raises(InputError, match="did you mean 'age'"):
        people.select(["agee"])


def _edit(name: str, old: str, new: str) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        path = folder / name
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new, 1))

    return change


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "dataset.json").unlink(), "not a prepared set"),
        (lambda folder: (folder / "dataset.json").write_text("{"), "is not JSON"),
        (lambda folder: (folder / "dataset.json").write_text("[]"), "must hold an object"),
        (lambda folder: (folder / "manifest.csv").unlink(), "cannot be read"),
        (lambda folder: (folder / "participants.csv").unlink(), "cannot be read"),
        (_edit("dataset.json", '"class_names": [', '"class_names": ["CN",'), "class_names"),
        (_edit("dataset.json", '"leakage_tier": "A"', '"leakage_tier": "D"'), "tier: 'D' is none of A, B, C"),
        (_edit("dataset.json", '"space": "native"', '"space": "mars"'), "space: 'mars'"),
        (_edit("dataset.json", '"simulated": true', '"simulated": "no"'), "simulated: 'no' is not a bool"),
        (_edit("manifest.csv", "s2,p1", "s1,p1"), "line 3: id 's1' occurs twice"),
        (_edit("manifest.csv", "s2,p1", "s2,"), "line 3: subject is empty"),
        (_edit("manifest.csv", "2,AD", "2,ADD"), "line 3: label: unknown class 'ADD': did you mean 'AD'?"),
        (_edit("manifest.csv", "volume", "voxel"), "line 2: kind: 'voxel'"),
        (_edit("manifest.csv", "a.png;b.png", "a.png"), "1 paths and 2 planes"),
        (_edit("manifest.csv", "axial;coronal", "axial;oblique"), "planes: 'oblique'"),
        (_edit("manifest.csv", "s2.nii.gz", "s2.nii.gz;s3.nii.gz"), "a volume has one path"),
        (_edit("manifest.csv", "0" * 64, "abc"), "sha256: 'abc'"),
        (_edit("manifest.csv", "id,subject", "id,person"), "no column 'subject'"),
        (_edit("participants.csv", "70.5", "old"), "line 2: age: 'old' is no finite number"),
        (_edit("participants.csv", ",F,", ",W,"), "line 2: sex: unknown value 'W'"),
        (_edit("participants.csv", "s2,", "s9,"), "id 's9' is not in the manifest"),
        (_edit("participants.csv", "s2,", "s1,"), "id 's1' occurs twice"),
    ],
)
def test_damaged_folders_are_refused(data: Path, damage: Callable[[Path], object], message: str) -> None:
    damage(data)
    with pytest.raises(InputError, match=re.escape(message)):
        Manifest.load(data).participants()


@pytest.mark.parametrize("name", ["manifest.csv", "participants.csv", "dataset.json"])
def test_whatever_comes_in_it_is_read_or_refused(data: Path, name: str) -> None:
    generator = np.random.default_rng(0)
    whole = bytearray((data / name).read_bytes())
    for _ in range(150):
        changed = bytearray(whole)
        for place in generator.integers(0, len(whole), generator.integers(1, 4)):
            changed[place] = generator.integers(0, 256)
        if generator.random() < 0.2:
            del changed[generator.integers(0, len(changed)) :]
        (data / name).write_bytes(changed)
        try:
            assert Manifest.load(data).participants().values.shape[0] >= 1
        except InputError as error:
            assert name in str(error) or "dataset.json" in str(error)


def test_variables_in_other_words() -> None:
    assert [canonical_name(name) for name in ("M/F", "PTEDUCAT", " Age ", "gait")] == [
        "sex",
        "education",
        "age",
        "gait",
    ]
    assert [normalise_value("sex", text) for text in ("Female", "M", "n/a", "X", "")] == ["F", "M", "", "", ""]
    assert column_of("x", ["1", "", "2.5"]) == Column(name="x", leakage_tier="C")
    assert column_of("x", ["u", "", "v"], leakage_tier="B").values == ("u", "v")


# --- info


def test_info(data: Path) -> None:
    answer = describe(data)
    assert (answer["scans"], answer["subjects"], answer["rejected"]) == (3, 2, 1)
    assert answer["classes"]["AD"] == {"scans": 2, "subjects": 2, "sex": {"M": 1, "missing": 1}, "age": None}
    assert answer["classes"]["CN"]["age"] == {"mean": 70.5, "from": 70.5, "to": 70.5}
    assert answer["scans_of_a_subject"] == {1: 1, 2: 1} and answer["sites"] == {"x": 2}
    assert answer["columns"]["MMSE"] == {"leakage_tier": "C", "unit": "", "missing": 2}
    assert answer["reasons"] == {"broken": 1} and not answer["edited_by_hand"]
    assert "1 people are in several classes at different visits" in answer["warnings"]
    assert "age is missing in 2 of 3 scans" in answer["warnings"]


def test_info_on_the_command_line(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(data)]) == 0
    text = capsys.readouterr().out
    assert "SIMULATED" in text and "not for clinical use" in text
    assert main(["info", str(data), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["simulated"] is True


def test_info_loads_nothing_heavy(data: Path) -> None:
    code = (
        "import sys; from debian_mri.cli import main; main(['info', sys.argv[1]]);"
        "print([n for n in ('torch', 'pandas', 'nibabel', 'scipy', 'sklearn', 'pydicom') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(data)], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


# --- images


def _list(folder: Path, *files: str, people: str = "abcdefghijklmnop") -> Path:
    rows = [(file, "CN", person, "70") for file, person in zip(files, people, strict=False)]
    return write_csv(folder / "list.csv", ("path", "label", "subject", "age"), rows)


BAD: list[tuple[dict[str, Any], str]] = [
    ({"data": np.zeros(SHAPE, np.int16)}, "empty: all voxels are 0"),
    (
        {"data": np.where(voxels(1) > 800, np.nan, voxels(1)).astype(np.float32)},
        "voxels are not finite (NaN): --fill-nan",
    ),
    ({"data": np.stack([voxels(1), voxels(2)], axis=-1)}, "4-D, 10 x 12 x 9 x 2 voxels: one 3-D volume is needed"),
    ({"data": voxels(1)[:, :, :2]}, "10 x 12 x 2 voxels are no volume: 8 along each axis at least"),
    ({"code": 0}, "no orientation (qform and sform codes are 0)"),
    ({"affine": np.diag([2.0, 2.0, 50.0, 1.0])}, "voxels of 2 x 2 x 50 mm: 0.1 to 20 mm are believed"),
    ({"data": voxels(1).astype(np.complex64)}, "are no real numbers (colour or complex)"),
]


def test_images_that_cannot_be_used(tmp_path: Path) -> None:
    write_volume(tmp_path / "good.nii.gz", 99)
    for number, (edit, _) in enumerate(BAD):
        write_volume(tmp_path / f"bad{number}.nii.gz", 1, **edit)
    (tmp_path / "none.nii.gz").write_bytes(b"")
    whole = write_volume(tmp_path / "cut.nii.gz", 5).read_bytes()
    (tmp_path / "cut.nii.gz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.nii").write_text("no image at all")
    files = ("good.nii.gz", *(f"bad{n}.nii.gz" for n in range(len(BAD))), "none.nii.gz", "cut.nii.gz", "text.nii")
    manifest = prepare("csv", _list(tmp_path, *files), tmp_path / "data")
    assert [scan.id for scan in manifest.scans] == ["good"]
    reasons = list(rejected(tmp_path / "data").values())
    for (_, wanted), reason in zip(BAD, reasons, strict=False):
        assert wanted in reason
    assert reasons[len(BAD)] == "the file is empty"
    assert all(reason.startswith("damaged, or no NIfTI or MGH file (") for reason in reasons[len(BAD) + 1 :])
    with pytest.raises(
        InputError, match=r"line 3: empty: all voxels are 0 \(without --strict the others are processed\)"
    ):
        prepare("csv", tmp_path / "list.csv", tmp_path / "strict", strict=True)
    assert not (tmp_path / "strict").exists()


def test_trailing_axes_of_one_are_no_fourth_dimension(tmp_path: Path) -> None:
    write_volume(tmp_path / "a.nii.gz", data=voxels(3)[..., None])
    assert len(prepare("csv", _list(tmp_path, "a.nii.gz"), tmp_path / "data").scans) == 1


def test_one_image_under_two_people(tmp_path: Path) -> None:
    """The copy has another type, axis order and file; the voxels are those of the first."""
    write_volume(tmp_path / "a.nii.gz", 1)
    flip = np.array([[-2.0, 0, 0, 9], [0, 2, 0, -11], [0, 0, 2, -8], [0, 0, 0, 1]])
    write_volume(tmp_path / "b.nii.gz", data=voxels(1)[::-1].astype(np.float32), affine=flip)
    write_volume(tmp_path / "c.nii.gz", 2)
    manifest = prepare("csv", _list(tmp_path, "a.nii.gz", "b.nii.gz", "c.nii.gz"), tmp_path / "data")
    assert [scan.id for scan in manifest.scans] == ["c"]
    reason = "the same image occurs under 2 subjects: a, b"
    assert rejected(tmp_path / "data") == {"line 2": reason, "line 3": reason}


def test_one_image_twice_under_one_person(tmp_path: Path) -> None:
    for name in "ab":
        write_volume(tmp_path / f"{name}.nii.gz", 1)
    manifest = prepare("csv", _list(tmp_path, "a.nii.gz", "b.nii.gz", people="pp"), tmp_path / "data")
    assert [scan.id for scan in manifest.scans] == ["a"]
    assert rejected(tmp_path / "data") == {"line 3": "the same image as a"}


def test_in_processes_the_same_comes_out(tmp_path: Path) -> None:
    for seed in range(3):
        write_volume(tmp_path / f"{seed}.nii.gz", seed)
    table = _list(tmp_path, *(f"{seed}.nii.gz" for seed in range(3)))
    one = prepare("csv", table, tmp_path / "one")
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        two = prepare("csv", table, tmp_path / "two", executor=pool)
    assert one.scans == two.scans and one.fingerprint == two.fingerprint


# --- the command


def test_prepare_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in range(2):
        write_volume(tmp_path / f"{seed}.nii.gz", seed)
    table = _list(tmp_path, "0.nii.gz", "1.nii.gz")
    command = ["prepare", "--format", "csv", str(table), "--out", str(tmp_path / "data"), "--json"]
    assert main([*command, "--labels", "CN=control"]) == 0
    assert json.loads(capsys.readouterr().out)["classes"]["control"]["scans"] == 2
    assert main(command) == 2
    assert "exists already" in capsys.readouterr().err
    assert main([*command, "--overwrite", "--space", "mni"]) == 0
    assert Manifest.load(tmp_path / "data").description["space"] == "mni"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--format", "oasis-1"), "did you mean 'oasis1'?"),
        (("--format", "csv", "--adnimerge", "x"), "--adnimerge: has no effect for --format csv"),
        (("--format", "bids", "--salt-file", "x"), "--salt-file: has no effect for --format bids"),
        (("--format", "csv", "--labels", "CN"), "--labels CN: must be OLD=NEW"),
        (("--format", "csv", "--leakage-tiers", "age=D"), "--leakage-tiers age=D: must be one of A, B, C"),
        (("--format", "csv", "--leakage-tiers", "agee=A"), "did you mean 'age'?"),
        (("--format", "csv", "--classes", "PD"), "no scan can be used (1 of 1: class 'CN' is none of --classes PD)"),
        (("--format", "adni"), "no such folder"),
        (("--format", "dicom", "--sequences", "T1"), "did you mean 'T1w'?"),
        (("--format", "bids", "--sequences", ","), "--sequences: must name one at least"),
        (("--format", "oasis1"), "no such folder"),
    ],
)
def test_wrong_use_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], message: str
) -> None:
    write_volume(tmp_path / "0.nii.gz", 0)
    table = _list(tmp_path, "0.nii.gz")
    assert main(["prepare", str(table), "--out", str(tmp_path / "data"), *words, "--quiet"]) == 2
    answer = capsys.readouterr()
    assert message in answer.err and answer.out == "" and answer.err.count("\n") == 1
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("format", ["adni", "bids", "dicom", "oasis1", "oasis-slices"])
def test_an_empty_folder_is_refused(tmp_path: Path, format: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="the folder is empty; expected"):
        prepare(format, tmp_path / "empty", tmp_path / "data")


def test_pairs(tmp_path: Path) -> None:
    assert parse_pairs("EMCI=MCI, LMCI=MCI", "--labels") == {"EMCI": "MCI", "LMCI": "MCI"}
    table = write_csv(tmp_path / "map.csv", ("from", "to"), [("SMC", "CN")])
    assert parse_pairs(str(table), "--labels") == {"SMC": "CN"}
    check_format_options("adni", ["collection_csv"])
