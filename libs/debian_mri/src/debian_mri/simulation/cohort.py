"""Prepared folder of a simulated cohort: volumes, manifest, clinical variables, ground truth."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int16

from debian_mri.data.clinical_variables import VARIABLES
from debian_mri.data.manifest import Manifest, Scan, write_manifest
from debian_mri.imaging.nifti import nifti_image, volume_digest
from debian_mri.imaging.template import load_template, mni_grid
from debian_mri.simulation.deformation import displacement, random_field, sample_template, template_coordinates, volumes
from debian_mri.simulation.effects import Person, check_classes, sample_person
from debian_mri.simulation.scanner import Site, make_sites, simulate_scan
from debian_mri.simulation.truth import person_truth, write_truth
from icube_common.config import Config, option
from icube_common.data.processes import map_items
from icube_common.errors import InputError
from icube_common.io.progress import progress_bar
from icube_common.io.runs import atomic_folder, check_output_path, write_json

NOTE = "simulated: the ICBM152 template deformed by formulas"
_COLUMNS = ("age", "sex", "education", "nWBV", "eTIV", "MMSE")


@dataclass(frozen=True, kw_only=True)
class CohortConfig(Config):
    """Simulated cohort."""

    subjects: int = option(200, "subjects, shared evenly between the classes", ge=2, le=100_000)
    classes: list[str] = option(["CN", "AD", "DLB", "PD"], "classes among CN, MCI, AD, DLB, PD")
    seed: int = option(0, "random seed", ge=0)
    spacing: float = option(2.0, "mm between voxels", ge=1, le=8)
    sites: int = option(2, "scanners", ge=1, le=20)
    confound_sites: bool = option(False, "let each class have a scanner of its own, as no cohort should")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_classes(self.classes)
        if self.subjects < len(self.classes):
            raise InputError(f"--subjects {self.subjects}: at least one for each of {len(self.classes)} classes")


def simulate_cohort(
    out: str | Path,
    config: CohortConfig,
    *,
    workers: int = 1,
    executor: Executor | None = None,
    overwrite: bool = False,
) -> Manifest:
    """Simulate subjects and write them as a prepared folder.

    The same configuration gives the same voxels, wherever they are computed.

    Args:
        out: the folder to make.
        config: of the cohort.
        workers: brains at the same time, local processes without ``executor``.
        executor: where, with ``out`` on a disk that every worker writes to.
        overwrite: replace an existing ``out``.

    Raises:
        InputError: ``out`` exists.
    """
    out = check_output_path(out, overwrite=overwrite)
    sites = make_sites(config.sites)
    labels, site_indices = assign_classes_and_sites(config)
    with atomic_folder(out, overwrite=overwrite) as folder:
        (folder / "nifti").mkdir()
        write_truth(folder / "truth", config.classes, config.spacing)
        people = [
            (_name(config.seed, index), label, sites[site_indices[index]], config.spacing, [config.seed, index])
            for index, label in enumerate(labels)
        ]
        brains = map_items(
            partial(_simulate_one, str(folder)), people, executor=executor, workers=workers, chunksize=1, worth_a_pool=2
        )
        results = list(progress_bar(brains, desc="brains", unit="brain", total=len(labels)))
        scans = [scan for scan, _ in results]
        description = {
            "format": "simulated",
            "title": f"Simulated brains ({NOTE.partition(': ')[2]})",
            "citation": "debian_mri.simulation; template: Fonov et al., NeuroImage 2011",
            "simulated": True,
            "space": "mni",
            "root": ".",
            "class_names": list(config.classes),
            "simulation": {
                "seed": config.seed,
                "spacing_mm": config.spacing,
                "sites": [site.name for site in sites],
                "confound_sites": config.confound_sites,
            },
        }
        rows = {scan.id: row for scan, row in results}
        write_manifest(folder, description, scans, rows, columns=[VARIABLES[name] for name in _COLUMNS])
    return Manifest.load(out)


def simulate_brain(
    person: Person, site: Site, spacing: float, generator: np.random.Generator
) -> tuple[Int16[np.ndarray, "x y z"], dict[str, float]]:
    """Simulated scan of a person on `mni_grid`, and the true volumes in mL."""
    template, grid = load_template(), mni_grid(spacing)
    field = displacement(person.changes, random_field(generator))
    coordinates = template_coordinates(field, person.head, grid)
    anatomy = sample_template(template.t1, template.affine, coordinates)
    voxels = simulate_scan(anatomy, anatomy > 0.2, site, spacing, generator)
    return voxels, volumes(field, person.head)


def assign_classes_and_sites(config: CohortConfig) -> tuple[list[str], list[int]]:
    """Class and site of each subject; sites have the same share of each class unless they are confounded."""
    labels = [config.classes[index % len(config.classes)] for index in range(config.subjects)]
    generator = np.random.default_rng([config.seed, 2**31])
    site_indices = [0] * config.subjects
    for number, label in enumerate(config.classes):
        members = [index for index, other in enumerate(labels) if other == label]
        for position, index in enumerate(generator.permutation(members)):
            # the first of an odd number goes to another site in each class
            site_indices[index] = (number if config.confound_sites else number + position) % config.sites
    return labels, site_indices


def _name(seed: int, index: int) -> str:
    # other seeds have other ids: a model of one cohort may be tested on another
    return f"sim{seed}-{index + 1:04d}"


def _simulate_one(folder: str, task: tuple[str, str, Site, float, Sequence[int]]) -> tuple[Scan, dict[str, str]]:
    name, label, site, spacing, seed = task
    generator = np.random.default_rng(list(seed))
    person = sample_person(label, generator)
    voxels, measured = simulate_brain(person, site, spacing, generator)
    path = f"nifti/{name}_T1w.nii.gz"
    affine = mni_grid(spacing).affine
    image = nifti_image(voxels, affine, 4)
    image.header["descrip"] = b"simulated"
    image.to_filename(Path(folder) / path)
    write_json(Path(folder) / "truth" / f"{name}.json", person_truth(person, measured))
    # the skull holds what the template's does, scaled; tissue is what the deformation has left
    skull = volumes_of_template()["brain"] * person.head**3
    row = {
        "age": f"{person.age:.1f}",
        "sex": person.sex,
        "education": "" if person.education is None else str(person.education),
        "nWBV": f"{measured['tissue'] / skull:.4f}",
        "eTIV": f"{skull:.0f}",
        "MMSE": "" if person.mmse is None else str(person.mmse),
    }
    digest = volume_digest(voxels, affine)
    scan = Scan(id=name, subject=name, label=label, site=site.name, paths=(path,), sha256=digest)
    return scan, row


@cache
def volumes_of_template() -> dict[str, float]:
    """Volumes of the template, mL."""
    return volumes(displacement({}))


def cohort_summary(manifest: Manifest) -> dict[str, Any]:
    """Summary of a simulated cohort for the command."""
    size = sum(path.stat().st_size for path in manifest.folder.rglob("*") if path.is_file())
    counts = manifest.description["counts"]
    return {
        "data": str(manifest.folder),
        "title": manifest.description["title"],
        "subjects": counts["subjects"],
        "classes": counts["classes"],
        "sites": counts["sites"],
        "megabytes": round(size / 1e6, 1),
    }
