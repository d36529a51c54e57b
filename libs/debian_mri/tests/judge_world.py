"""A tiny simulated cohort of slice images, for the tests of evaluation: invented, with well separated classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from debian_mri.data.clinical_variables import VARIABLES
from debian_mri.data.manifest import Manifest, Scan, write_manifest
from icube_common.evaluation import Samples

SIDE = 48
PLANES = ("axial", "coronal")
SETTINGS = (
    "vlm.name=icube-tiny",
    "visual.encoder=vlm",
    "concepts.enabled=false",
    "prompt.init=template",
    "calibration.folds=2",
    "visual.tune=false",
    "train.max_steps=2",
    "train.device=cpu",
)


def picture(hole: float, generator: np.random.Generator) -> np.ndarray:
    """A bright disc with a dark hole of ``hole`` pixels' radius, and noise; uint8."""
    rows, columns = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    radius = np.hypot(rows, columns)
    image = np.where(radius < 20, 170.0, 5.0)
    image[radius < hole] = 40.0
    return np.clip(image + generator.normal(0, 8, image.shape), 0, 255).astype(np.uint8)


def write_cohort(
    folder: Path,
    *,
    people: int = 16,
    sessions: int = 1,
    labels: Sequence[str] = ("CN", "AD"),
    sites: str = "",
    prefix: str = "p",
    seed: int = 0,
    columns: Sequence[str] = ("age", "sex"),
) -> Manifest:
    """A prepared folder of a simulated cohort: the second class has a larger hole, and is older by a little.

    Args:
        folder: to make.
        people: as many of each class, in turn.
        sessions: scans of each person.
        labels: the classes.
        sites: "even": two, of which each has both classes; "named": each class has a site of its own; else none.
        prefix: of the people's names.
        seed: of the images.
        columns: the variables.
    """
    generator = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True)
    scans, rows = [], {}
    for number in range(people):
        place = number % len(labels)
        site = {"even": f"S{number // 2 % 2}", "named": f"S{place}"}
        for session in range(sessions):
            name = f"{prefix}{number:02d}-{session}"
            paths = []
            for plane in PLANES:
                path = f"images/{name}_{plane}.png"
                Image.fromarray(picture(4 + 5 * place + generator.uniform(0, 2), generator)).save(folder / path)
                paths.append(path)
            scans.append(
                Scan(
                    id=name, subject=f"{prefix}{number:02d}", session=str(session), label=labels[place],
                    site=site.get(sites), kind="slices", paths=tuple(paths), planes=PLANES,
                    sha256=f"{seed:04x}{number:02x}{session:02x}".rjust(64, "0"),
                )
            )  # fmt: skip
            age = str(70 + 3 * place + int(generator.integers(8)))
            values = {"age": age, "sex": "FM"[number // 2 % 2], "MMSE": str(29 - 6 * place)}
            rows[name] = {column: values[column] for column in columns}
    description = {
        "format": "csv", "title": "Simulated discs", "root": ".", "class_names": list(labels), "simulated": True,
        "space": "native",
    }  # fmt: skip
    write_manifest(folder, description, scans, rows, columns=[VARIABLES[column] for column in columns])
    return Manifest.load(folder)


def people(count: int = 20, *, sessions: int = 2, sites: bool = False) -> Samples:
    """A table of people with several scans each, two classes in turn."""
    nearest_slices = [f"s{number:02d}" for number in range(count) for _ in range(sessions)]
    return Samples(
        ids=[f"{owner}-{row % sessions}" for row, owner in enumerate(nearest_slices)],
        labels=np.array([int(owner[1:]) % 2 for owner in nearest_slices]),
        class_names=["CN", "AD"],
        groups=nearest_slices,
        sites=[f"site{int(owner[1:]) // 2 % 2}" for owner in nearest_slices] if sites else None,
    )
