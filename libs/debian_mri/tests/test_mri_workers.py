"""Conversion and regional volumes by several workers, in shards, after a kill and with a worker that dies."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from dicom_phantoms import Phantom

from debian_mri.biomarkers.volumes.atlas import Atlas, load_atlas
from debian_mri.cli import main
from debian_mri.dicom import convert, convert_folder
from debian_mri.imaging.preprocess import PreprocessConfig
from debian_mri.inference import regional_volumes
from debian_mri.inference.regional_volumes import measure_volumes
from debian_mri.simulation.cohort import CohortConfig, simulate_cohort
from icube_common.data import processes
from icube_common.data.processes import WORKER_DIED, open_executor

SPACING = 4.0


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Worker processes that inherit what a test has replaced."""
    context = multiprocessing.get_context("fork")
    monkeypatch.setattr(processes.multiprocessing, "get_context", lambda _: context)


@pytest.fixture
def dicom(tmp_path: Path) -> Path:
    for number in range(4):
        Phantom(seed=number, slices=3).write(tmp_path / "dicom" / f"{number}")
    return tmp_path / "dicom"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_conversion_by_workers_and_in_shards_gives_the_same_bytes(dicom: Path, tmp_path: Path, forked: None) -> None:
    whole = convert_folder(dicom, tmp_path / "whole")
    assert whole["converted"] == 4
    assert main(["convert", str(dicom), "--out", str(tmp_path / "workers"), "--workers", "2"]) == 0
    assert contents(tmp_path / "workers") == contents(tmp_path / "whole")
    for shard in ("0/3", "1/3"):  # the third has not run: its volume is converted by the joining run
        assert main(["convert", str(dicom), "--out", str(tmp_path / "joined"), "--shard", shard]) == 0
    assert not (tmp_path / "joined").exists()
    first = tmp_path / "joined.shards" / "0-of-3"
    assert sorted(path.name for path in first.glob("*.nii.gz")) == [
        "0001_t1_mprage_sag.nii.gz",
        "0004_t1_mprage_sag.nii.gz",
    ]
    assert main(["convert", str(dicom), "--out", str(tmp_path / "joined")]) == 0
    assert contents(tmp_path / "joined") == contents(tmp_path / "whole")
    assert not (tmp_path / "joined.shards").exists()


def test_a_join_takes_shards_of_the_same_files_only(
    dicom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    convert_folder(dicom, tmp_path / "out", shard=(0, 2))
    converted: list[int] = []
    real = convert._convert_volume

    def counting(volume: Any, **options: Any) -> Any:
        converted.append(volume.number)
        return real(volume, **options)

    monkeypatch.setattr(convert, "_convert_volume", counting)
    Phantom(seed=9, slices=3).write(dicom / "0")  # in place of the first series
    convert_folder(dicom, tmp_path / "out")
    assert converted == [1, 2, 4]


def test_a_killed_worker_costs_one_volume(
    dicom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forked: None
) -> None:
    real = convert.read_dicom_volume

    def kill(geometry: Any, **options: Any) -> Any:
        if geometry.frames[0][0].path.parent.name == "2":
            os.kill(os.getpid(), signal.SIGKILL)
        return real(geometry, **options)

    monkeypatch.setattr(convert, "read_dicom_volume", kill)
    with open_executor(2) as (pool, workers):
        result = convert_folder(dicom, tmp_path / "out", executor=pool, workers=workers)
    assert [one["status"] for one in result["series"]] == ["converted", "converted", "refused", "converted"]
    assert WORKER_DIED in (tmp_path / "out" / "rejected.csv").read_text()


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Atlas]:
    folder = tmp_path_factory.mktemp("workers") / "cohort"
    simulate_cohort(folder, CohortConfig(subjects=4, classes=["CN", "AD"], spacing=SPACING, seed=5))
    (folder / "names.csv").write_text("ROIid;ROIname\n1;lateral_ventricle\n2;hippocampus\n3;third_ventricle\n")
    return folder, load_atlas(folder / "truth" / "structures.nii.gz", folder / "names.csv")


CONFIG = PreprocessConfig(registration="none", spacing=SPACING)


def tables(out: Path) -> dict[str, bytes]:
    return {path.name.removeprefix(out.stem): path.read_bytes() for path in out.parent.glob(f"{out.stem}.*")}


def test_volumes_after_a_kill_and_in_shards(
    cohort: tuple[Path, Atlas], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, atlas = cohort
    names = {name: tmp_path / name / "table.csv" for name in ("whole", "broken", "joined")}
    data = {name: Path(shutil.copytree(folder, out.parent / "data")) for name, out in names.items()}
    measure_volumes(data["whole"], atlas, names["whole"], config=CONFIG)
    measured: list[Any] = []
    real = regional_volumes.measure_regions

    def stop_after_two(*arguments: Any, **options: Any) -> Any:
        if len(measured) == 2:
            raise KeyboardInterrupt
        measured.append(arguments)
        return real(*arguments, **options)

    def counting(*arguments: Any, **options: Any) -> Any:
        measured.append(arguments)
        return real(*arguments, **options)

    monkeypatch.setattr(regional_volumes, "measure_regions", stop_after_two)
    with pytest.raises(KeyboardInterrupt):
        measure_volumes(data["broken"], atlas, names["broken"], config=CONFIG)
    assert not names["broken"].exists()
    monkeypatch.setattr(regional_volumes, "measure_regions", counting)
    measured.clear()
    assert measure_volumes(data["broken"], atlas, names["broken"], config=CONFIG)["scans"] == 4
    assert len(measured) == 2
    assert tables(names["broken"]) == tables(names["whole"])
    measured.clear()
    for number in range(2):
        part = measure_volumes(data["joined"], atlas, names["joined"], config=CONFIG, shard=(number, 2))
        assert part["scans"] == 2 and not names["joined"].exists()
    measure_volumes(data["joined"], atlas, names["joined"], config=CONFIG)
    assert len(measured) == 4
    assert tables(names["joined"]) == tables(names["whole"])
    # another atlas is measured again
    other = load_atlas(folder / "truth" / "structures.nii.gz", _names(tmp_path))
    measure_volumes(data["joined"], other, tmp_path / "other.csv", config=CONFIG)
    assert len(measured) == 8


def _names(folder: Path) -> Path:
    path = folder / "other_names.csv"
    path.write_text("ROIid;ROIname\n1;lateral_ventricle\n2;hippocampus\n")
    return path


def test_a_killed_worker_costs_one_scan(
    cohort: tuple[Path, Atlas], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forked: None
) -> None:
    data = Path(shutil.copytree(cohort[0], tmp_path / "data"))
    real = regional_volumes._measure_scan
    bad = sorted(path.name for path in (data / "nifti").iterdir())[1]

    def kill(manifest: Any, scan: Any, *rest: Any) -> Any:
        if Path(manifest.paths_of(scan)[0]).name == bad:
            os.kill(os.getpid(), signal.SIGKILL)
        return cached(manifest, scan, *rest)

    cached = regional_volumes.cached_volume
    monkeypatch.setattr(regional_volumes, "cached_volume", kill)
    assert regional_volumes._measure_scan is real
    with open_executor(2) as (pool, workers):
        result = measure_volumes(data, cohort[1], tmp_path / "table.csv", config=CONFIG, executor=pool, workers=workers)
    assert result["scans"] == 3 and list(result["failed"].values()) == [WORKER_DIED]
    assert WORKER_DIED in (tmp_path / "table.rejected.csv").read_text()
