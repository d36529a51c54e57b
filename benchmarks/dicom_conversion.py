"""Time of `debian-mri convert` and of dcm2niix on the same folder.

    python benchmarks/dicom_conversion.py DICOM_DIR [--repeats 3]

Both write compressed NIfTI to a temporary folder: debian_mri as a function call in this process, after one import,
dcm2niix (of the PATH) as a process without sidecars. Seconds are the minimum of the repeats, with cached files.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from debian_mri.dicom import convert_folder


def fastest(job: Callable[[Path], object], repeats: int) -> float:
    """Seconds of the fastest run, each with an empty folder."""
    seconds = []
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            job(Path(folder))
            seconds.append(time.perf_counter() - start)
    return round(min(seconds), 2)


def main() -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = convert_folder(args.folder, folder)
    command = ["dcm2niix", "-b", "n", "-z", "i", "-d", "9", "-f", "%p_%s_%d_%j"]
    figures = {
        "files": sum(series["n_files"] for series in result["series"]),
        "converted": result["converted"],
        "refused": result["refused"],
        "debian_mri_s": fastest(lambda out: convert_folder(args.folder, out), args.repeats),
        # its exit status is nonzero for warnings too
        "dcm2niix_s": fastest(
            lambda out: subprocess.run([*command, "-o", str(out), str(args.folder)], capture_output=True, check=False),
            args.repeats,
        ),
    }
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
