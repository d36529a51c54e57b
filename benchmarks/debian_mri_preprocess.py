"""Time of preprocessing a 1 mm volume with debian_mri and with a plain torchio pipeline.

    OMP_NUM_THREADS=1 python benchmarks/debian_mri_preprocess.py
    OMP_NUM_THREADS=1 python benchmarks/debian_mri_preprocess.py --volume SCAN.nii.gz    # in MNI space

Default volume: simulated from the ICBM152 template, 1 mm, 16 bits, compressed. Both pipelines read the file and give
the same grid at the same spacing: canonical axes, resampling, crop and padding, z-scores inside a mask. The plain
pipeline is torchio's own (ToCanonical, Resample to the grid, ZNormalization above the mean) without a cache;
debian_mri also checks the file, computes a brain mask and stores the result. Pipelines alternate; best and median of
the rounds are printed, by the wall clock and by the processor's. The last line is the largest difference between the
stored volume and a newly computed one.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import torch
import torchio as tio

from debian_mri.data.manifest import Manifest, Scan, write_manifest
from debian_mri.imaging.preprocess import PreprocessConfig, preprocess
from debian_mri.imaging.template import mni_grid
from debian_mri.imaging.volume_cache import cached_volume, load_volume
from debian_mri.simulation.cohort import simulate_brain
from debian_mri.simulation.effects import sample_person
from debian_mri.simulation.scanner import make_sites


def simulated(path: Path) -> Path:
    """Simulated brain at 1 mm."""
    generator = np.random.default_rng(0)
    voxels, _ = simulate_brain(sample_person("CN", generator), make_sites(1)[0], 1.0, generator)
    image = nibabel.Nifti1Image(voxels, mni_grid(1.0).affine)
    image.set_sform(image.affine, 4)
    nibabel.save(image, path)
    return path


def plain(path: Path, spacing: float) -> np.ndarray:  # type: ignore[type-arg]
    """Plain torchio pipeline with the same steps."""
    grid = mni_grid(spacing)
    steps = tio.Compose(
        [
            tio.ToCanonical(),
            tio.Resample((grid.shape, grid.affine), antialias=True),
            tio.ZNormalization(masking_method=tio.ZNormalization.mean),
        ]
    )
    return steps(tio.Subject(image=tio.ScalarImage(path)))["image"].numpy()[0]


def seconds(job: Callable[[], object]) -> tuple[float, float]:
    """Wall and processor seconds of one call."""
    wall, processor = time.perf_counter(), time.process_time()
    job()
    return time.perf_counter() - wall, time.process_time() - processor


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--volume", help="NIfTI, in MNI space; by default a simulated one")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    print(f"torchio {tio.__version__}, torch {torch.__version__}, {torch.get_num_threads()} threads")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        source = Path(args.volume).resolve() if args.volume else simulated(folder / "brain.nii.gz")
        scan = Scan(id="one", subject="one", label="CN", paths=(str(source),), sha256="0" * 64)
        description = {"format": "benchmark", "title": "One volume", "root": ".", "class_names": ["CN"]}
        write_manifest(folder, description, [scan], {})
        manifest = Manifest.load(folder)
        print(f"{source.name}: {source.stat().st_size / 1e6:.1f} MB, {nibabel.load(source).shape}")
        for spacing in (1.0, 2.0):
            config = PreprocessConfig(spacing=spacing)
            # the template and the margin of the brain are cached in a process
            preprocess(source, config)

            def cold(config: PreprocessConfig = config) -> None:
                shutil.rmtree(folder / "volumes", ignore_errors=True)
                cached_volume(manifest, scan, config)

            pipelines: dict[str, Callable[[], object]] = {
                "torchio alone": lambda spacing=spacing: plain(source, spacing),  # type: ignore[misc]
                "debian_mri, not stored": lambda config=config: preprocess(source, config),  # type: ignore[misc]
                "debian_mri, stored": cold,
                "debian_mri, from the cache": lambda config=config: load_volume(  # type: ignore[misc]
                    cached_volume(manifest, scan, config)
                ),
            }
            times: dict[str, list[tuple[float, float]]] = {name: [] for name in pipelines}
            for _ in range(args.rounds):
                for name, job in pipelines.items():
                    times[name].append(seconds(job))
            print(f"\nat {spacing:g} mm, {args.rounds} rounds")
            for clock, number in (("wall", 0), ("processor", 1)):
                print(f"  {clock:<26}{'best, s':>10}{'median, s':>12}{'of torchio alone':>20}")
                base = min(pair[number] for pair in times["torchio alone"])
                for name, pairs in times.items():
                    durations = [pair[number] for pair in pairs]
                    best = min(durations)
                    print(f"  {name:<26}{best:10.3f}{statistics.median(durations):12.3f}{best / base:20.2f}")
            stored, new = load_volume(cached_volume(manifest, scan, config)), preprocess(source, config)
            print(f"  stored and new volume differ by at most {abs(stored.data - new.data).max():.1e}")


if __name__ == "__main__":
    main()
