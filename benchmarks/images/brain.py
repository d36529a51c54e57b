"""Simulated brains with the structures that debian_mri measures: ``docs/images/brain.png``.

Usage: python benchmarks/images/brain.py --out docs/images/brain.png (1 minute)

The atlas is made here from the simulator's own masks of hippocampus and lateral ventricles on the ICBM152 template. It
is registered to two simulated brains, as by ``debian-mri volumes --atlas``: one random anatomy, once without a disease
and once with the simulated changes of Alzheimer's disease. The volumes below the brains are measured by this
registration, the true ones by the simulator. No scan of a person, and no published atlas.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import nibabel
import numpy as np
from scipy.ndimage import gaussian_filter

from debian_mri.biomarkers.volumes.atlas import load_atlas
from debian_mri.biomarkers.volumes.regional import (
    StructureLabels,
    affine_scale,
    label_structures,
    measure_regions,
    register_to_atlas,
)
from debian_mri.imaging.nifti import nifti_image
from debian_mri.imaging.preprocess import PreprocessConfig, Volume, preprocess
from debian_mri.imaging.slices import upright
from debian_mri.imaging.template import load_template, mni_grid
from debian_mri.inference.regional_volumes import AtlasGrids
from debian_mri.simulation.cohort import simulate_brain
from debian_mri.simulation.deformation import structure_mask
from debian_mri.simulation.effects import CLASSES, Person
from debian_mri.simulation.scanner import make_sites

SIDES = ("left", "right")
STRUCTURES = {
    "hippocampus": ("hippocampus", "hippocampus", "#ffb000"),
    "lateral_ventricles": ("lateral_ventricle", "lateral ventricles", "#35c9ff"),
}
SEED, CORONAL_MM = 3, -22.0


def write_atlas(folder: Path) -> tuple[Path, Path]:
    """Label map of the simulator's masks on the template, and its table of names."""
    template = load_template()
    labels = np.zeros(template.t1.shape, dtype=np.int16)
    x = template.affine[0, 3] + template.affine[0, 0] * np.arange(labels.shape[0])[:, None, None]
    rows = ["id,name"]
    for structure, (column, _, _) in STRUCTURES.items():
        mask = structure_mask(structure, template) > 0.5
        for side in SIDES:
            number = len(rows)
            labels[mask & ((x < 0) == (side == "left"))] = number
            rows.append(f"{number},{side} {column.replace('_', ' ')}")
    path, table = folder / "labels.nii.gz", folder / "labels.csv"
    nibabel.Nifti1Image(labels, template.affine).to_filename(path)
    table.write_text("\n".join(rows) + "\n")
    return path, table


def measure(path: Path, grids: AtlasGrids) -> tuple[StructureLabels, dict[str, float]]:
    """Structures on a scan's own grid, and their volumes in mL."""
    volume = preprocess(path, PreprocessConfig(spacing=2.0))
    grid = grids.grid_of(volume)
    deformation = register_to_atlas(volume, grid)
    result = measure_regions(volume, grid, scale=affine_scale(volume), deformation=deformation)
    columns = [f"{column}_{side}" for column, _, _ in STRUCTURES.values() for side in SIDES]
    return label_structures(volume, grid, deformation, columns), dict(result.columns)


def plane(volume: Volume) -> int:
    """Index of the coronal plane through the hippocampus."""
    return round((CORONAL_MM - volume.affine[1, 3]) / volume.affine[1, 1])


def draw(axis: plt.Axes, volume: Volume, labels: StructureLabels) -> None:
    """A coronal plane at 1 mm with the outlines of the structures that were measured at 2 mm."""
    image = upright(volume.data, "coronal", plane(volume))[:, ::-1]
    height, width = image.shape
    axis.imshow(image, cmap="gray", vmin=-2.2, vmax=2.2, extent=(0, width, height, 0), interpolation="bilinear")
    index = round((CORONAL_MM - labels.affine[1, 3]) / labels.affine[1, 1])
    for number, name in enumerate(labels.names, 1):
        mask = upright((labels.labels == number).astype(np.float32), "coronal", index)[:, ::-1]
        colour = next(colour for column, _, colour in STRUCTURES.values() if name.startswith(column))
        rows, columns = mask.shape
        xs, ys = (np.arange(columns) + 0.5) * width / columns, (np.arange(rows) + 0.5) * height / rows
        axis.contour(xs, ys, gaussian_filter(mask, 0.6), levels=[0.4], colors=[colour], linewidths=1.8)
    axis.set_ylim(height - 18, 8)
    axis.set_axis_off()
    axis.text(4, height / 2, "R", color="white", fontsize=11, va="center")
    axis.text(width - 4, height / 2, "L", color="white", fontsize=11, va="center", ha="right")


def simulate(label: str, folder: Path) -> tuple[Path, Mapping[str, float]]:
    """Scan of a person of average age effects, and the true volumes in mL; the random anatomy is the same each time."""
    changes = CLASSES[label]
    person = Person(
        label=label, age=72, sex="F", education=None, mmse=None, severity=1, head=1, changes=changes, disease=changes
    )
    voxels, truth = simulate_brain(person, make_sites(1)[0], 1.0, np.random.default_rng(SEED))
    path = folder / f"{label}_T1w.nii.gz"
    nifti_image(voxels, mni_grid(1.0).affine, 4).to_filename(path)
    return path, truth


def main(out: Path) -> None:
    """Simulate, measure and draw."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        grids = AtlasGrids(load_atlas(*write_atlas(folder)))
        figure, axes = plt.subplots(1, 2, figsize=(9, 4.6), facecolor="black")
        titles = {"CN": "simulated brain", "AD": "the same with simulated Alzheimer's disease"}
        for axis, (label, words) in zip(axes, titles.items(), strict=True):
            path, truth = simulate(label, folder)
            labels, volumes = measure(path, grids)
            draw(axis, preprocess(path, PreprocessConfig(spacing=1.0)), labels)
            axis.set_title(words, color="white", fontsize=14)
            for line, (structure, (column, text, colour)) in enumerate(STRUCTURES.items()):
                measured = sum(volumes[f"{column}_{side}"] for side in SIDES)
                words = f"{text}: {measured:.1f} mL (true {truth[structure]:.1f})"
                place = {"ha": "center", "va": "top", "transform": axis.transAxes}
                axis.text(0.5, -0.02 - 0.09 * line, words, color=colour, fontsize=13, **place)
        figure.subplots_adjust(left=0.01, right=0.99, top=0.91, bottom=0.17, wspace=0.02)
        figure.savefig(out, dpi=100, facecolor="black")
    print(out, plt.imread(out).shape, out.stat().st_size, "bytes")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    main(parser.parse_args().out)
