"""Time of `debian-mri convert` and of dcm2niix on the same folder, both as processes.

    python benchmarks/dicom_conversion.py                # 12 simulated series of 189 slices: 2,268 files
    python benchmarks/dicom_conversion.py DICOM_DIR      # files of your own

Simulated series are slices of the ICBM152 template with noise, 16 bits, one file an image. Both write a sidecar and
gzip at level 1 (dcm2niix: ``-z i -1``, its own zlib in its own process; the PyPI package ``dcm2niix`` has the program).
Processes take turns; the minimum of the repeats counts, in seconds of wall clock and of the processor, interpreter and
imports included. ``voxels_equal`` compares the volumes of both.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

from debian_mri.imaging.template import load_template


def simulate(folder: Path, series: int) -> None:
    """Series of the template's axial slices, each with other noise."""
    brain = load_template().t1
    brain = brain / brain.max() * 1000
    for number in range(series):
        target = folder / f"series{number:02d}"
        target.mkdir(parents=True)
        noise = np.random.default_rng(number)
        uid = generate_uid(entropy_srcs=[f"series {number}"])
        for k in range(brain.shape[2]):
            meta = FileMetaDataset()
            meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = ExplicitVRLittleEndian, MRImageStorage
            meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[uid, str(k)])
            file = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
            file.SOPClassUID, file.SOPInstanceUID = MRImageStorage, meta.MediaStorageSOPInstanceUID
            file.StudyInstanceUID, file.SeriesInstanceUID = generate_uid(entropy_srcs=["study"]), uid
            file.PatientID, file.PatientName, file.Modality, file.Manufacturer = "SIM", "Simulated", "MR", "SIEMENS"
            file.ImageType, file.SeriesDescription = ["ORIGINAL", "PRIMARY", "M", "ND"], "t1 mprage"
            file.SeriesNumber, file.InstanceNumber = number + 1, k + 1
            file.ImageOrientationPatient, file.PixelSpacing = [1, 0, 0, 0, 1, 0], [1, 1]
            file.ImagePositionPatient, file.SliceThickness = [-98, -134, -72 + k], 1
            file.RepetitionTime, file.EchoTime = 2400, 3.5
            plane = np.rint(brain[:, ::-1, k].T + noise.normal(0, 10, brain.shape[1::-1])).clip(0).astype("<u2")
            file.Rows, file.Columns = plane.shape
            file.SamplesPerPixel, file.PhotometricInterpretation = 1, "MONOCHROME2"
            file.BitsAllocated = file.BitsStored = 16
            file.HighBit, file.PixelRepresentation = 15, 0
            file.PixelData = plane.tobytes()
            file["PixelData"].VR = "OW"
            pydicom.dcmwrite(target / f"{k:04d}.dcm", file, enforce_file_format=True)


def run(command: list[str], out: Path, *, makes_folder: bool) -> tuple[float, float]:
    """Wall and processor seconds of a process that fills an empty folder, or makes it."""
    shutil.rmtree(out, ignore_errors=True)
    if not makes_folder:
        out.mkdir()
    begun = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return time.perf_counter() - begun, usage.ru_utime + usage.ru_stime


def sorted_volumes(folder: Path) -> list[Any]:
    """Voxels and affine of the volumes, in the order of their names."""
    images: list[Any] = [nibabel.load(path) for path in sorted(folder.glob("*.nii.gz"))]
    return [nibabel.as_closest_canonical(image) for image in images]


def main() -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--series", type=int, default=12)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        source = args.folder or work / "dicom"
        if args.folder is None:
            simulate(source, args.series)
        ours, theirs = work / "ours", work / "theirs"
        commands = {
            "debian_mri": ([sys.executable, "-m", "debian_mri", "convert", str(source), "--out", str(ours)], ours),
            "dcm2niix": (
                ["dcm2niix", "-b", "y", "-z", "i", "-1", "-d", "9", "-f", "%3s_%p", "-o", str(theirs), str(source)],
                theirs,
            ),
        }
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
        for _ in range(args.repeats):
            for name, (command, out) in commands.items():
                times[name].append(run(command, out, makes_folder=name == "debian_mri"))
                print(name, times[name][-1], file=sys.stderr, flush=True)
        wall, processor = ({name: min(t[i] for t in values) for name, values in times.items()} for i in (0, 1))
        pairs = list(zip(sorted_volumes(ours), sorted_volumes(theirs), strict=False))
        equal = [bool(np.array_equal(np.asarray(a.dataobj), np.asarray(b.dataobj))) for a, b in pairs]
        figures = {
            "files": sum(1 for path in source.rglob("*") if path.is_file()),
            "volumes": [len(sorted_volumes(ours)), len(sorted_volumes(theirs))],
            "voxels_equal": f"{sum(equal)} of {len(equal)}",
            "wall_s": {name: round(value, 2) for name, value in wall.items()},
            "processor_s": {name: round(value, 2) for name, value in processor.items()},
            "ratio_wall": round(wall["debian_mri"] / wall["dcm2niix"], 2),
            "ratio_processor": round(processor["debian_mri"] / processor["dcm2niix"], 2),
        }
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
