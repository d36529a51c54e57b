"""Brain masks of heads: deepbet, thresholds, and the foreground near the template's brain, against references.

    pip install 'libs/debian_mri[brain]'
    OMP_NUM_THREADS=1 python benchmarks/debian_mri_masks.py HEAD.nii.gz ... --references HEAD.nii.gz=MASK.nii.gz ...

For each head in MNI space, on the grid of 2 mm: Dice with its reference (``template`` is the mask of the ICBM152
template; without a reference, deepbet's mask), mL more than 3 mm outside deepbet's mask, mL of deepbet's mask that are
missing, and seconds. ``foreground`` is the mask of version 2 of the preprocessing: the foreground within 4 mm of the
template's brain.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import affine_transform, distance_transform_edt

from debian_mri.imaging.brain_extraction import extract_brain, load_networks
from debian_mri.imaging.masks import MARGIN_MM, read_mask, signal_mask, template_distance, threshold_brain_mask
from debian_mri.imaging.nifti import read_volume
from debian_mri.imaging.registration import register_affine
from debian_mri.imaging.template import FIELD_OF_VIEW, mni_grid, template_on_grid

SPACING = 2.0
FAR_MM = 3.0
Array = np.ndarray[Any, Any]


def on_grid(data: Array, affine: Array, to_mni: Array) -> Array:
    """Linear interpolation on the grid in MNI space."""
    grid = mni_grid(SPACING)
    matrix = np.linalg.inv(to_mni @ affine) @ grid.affine
    values: Array = affine_transform(
        data.astype(np.float32), matrix[:3, :3], matrix[:3, 3], output_shape=grid.shape, order=1
    )
    return values


def dice(one: Array, other: Array) -> float:
    """Overlap of two masks."""
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("heads", nargs="+", type=Path)
    parser.add_argument("--references", nargs="*", default=[], metavar="HEAD=MASK")
    parser.add_argument("--registration", choices=("none", "affine"), default="none")
    args = parser.parse_args(arguments)
    references = dict(pair.split("=", 1) for pair in args.references)
    load_networks()
    distance = template_distance(SPACING, FIELD_OF_VIEW)
    litres = SPACING**3 / 1000
    methods: dict[str, Callable[[Array], Array]] = {
        "otsu": lambda data: threshold_brain_mask(data, SPACING, FIELD_OF_VIEW),
        "foreground": lambda data: signal_mask(data) & (distance <= MARGIN_MM),
    }
    print("| head | mask | mL | Dice | mL outside | mL missing | s |\n|---|---|---|---|---|---|---|")
    outside: dict[str, list[float]] = {name: [] for name in methods}
    for path in args.heads:
        volume = read_volume(path)
        to_mni = register_affine(volume) if args.registration == "affine" else np.eye(4)
        data = on_grid(volume.data, volume.affine, to_mni)
        begun = time.perf_counter()
        own = extract_brain(volume)
        seconds = time.perf_counter() - begun
        deepbet = on_grid(own, volume.affine, to_mni) > 0.5
        named = references.get(str(path))
        reference = deepbet
        if named == "template":
            reference = template_on_grid(SPACING).brain
        elif named is not None:
            mask, affine = read_mask(Path(named))
            reference = on_grid(mask, affine, to_mni) > 0.5
        far = distance_transform_edt(~deepbet) * SPACING > FAR_MM
        size = deepbet.sum() * litres
        name = path.name.partition(".")[0]
        print(f"| {name} | deepbet | {size:.0f} | {dice(deepbet, reference):.3f} | | | {seconds:.1f} |", flush=True)
        for method, make in methods.items():
            begun = time.perf_counter()
            mask = make(data)
            seconds = time.perf_counter() - begun
            beyond, missing = (mask & far).sum() * litres, (deepbet & ~mask).sum() * litres
            outside[method].append(beyond)
            print(
                f"| {name} | {method} | {mask.sum() * litres:.0f} | {dice(mask, reference):.3f} | {beyond:.0f} | "
                f"{missing:.0f} | {seconds:.1f} |",
                flush=True,
            )
    for method, values in outside.items():
        print(f"{method}: {np.mean(values):.0f} mL outside on average, {np.max(values):.0f} at most")


if __name__ == "__main__":
    main()
