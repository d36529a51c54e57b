"""Simulated people for the tests of the model: tables drawn from formulas, and slices of a drawn brain; invented."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from debian_mri.config import MriConfig
from debian_mri.data.clinical_variables import VARIABLES
from debian_mri.data.inputs import Inputs
from debian_mri.data.manifest import Scan, write_manifest
from debian_mri.imaging.slices import SliceInfo
from debian_mri.models.class_texts import MriTexts
from icube_common.config import load_config
from icube_common.evaluation import Samples
from icube_common.tabular import TabularData

LABELS = ("CN", "AD")
BIOMARKERS = ("medial_temporal_atrophy", "sylvian_widening", "third_ventricle_enlargement")
VARIABLE_NAMES = ("age", "sex")
FAST = (
    "vlm.name=icube-tiny",
    "visual.encoder=vlm",
    "train.max_steps=4",
    "train.batch_size=8",
    "train.device=cpu",
    "calibration.folds=2",
    "demographics.columns=[age,sex]",
    "prompt.max_descriptions=2",
)
SIGNS_ONLY = ("visual.enabled=false",)


def settings(*overrides: str) -> MriConfig:
    """A configuration for tests: the small random backbone and few steps."""
    return load_config(MriConfig, overrides=[*FAST, *overrides])


def texts(config: MriConfig) -> MriTexts:
    return MriTexts.make(LABELS, config)


def people(count: int = 24, *, slices: int = 3, dim: int = 64, seed: int = 0) -> tuple[Samples, Inputs]:
    """Half of them ill: signs half a deviation higher, features shifted along a direction, a little older."""
    drawn, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    labels = np.arange(count) % 2
    ids = tuple(f"s{number:02d}" for number in range(count))
    direction = F.normalize(torch.randn(dim, generator=generator), dim=0)
    features = {
        name: F.normalize(0.3 * label * direction + 0.1 * torch.randn(slices, dim, generator=generator), dim=-1)
        for name, label in zip(ids, labels.tolist(), strict=True)
    }
    biomarkers = drawn.normal(-1, 0.3, (count, len(BIOMARKERS))) + 0.2 * labels[:, None]
    ages = drawn.normal(72, 6, count) + 3 * labels
    sexes = drawn.integers(0, 2, count).astype(float)
    inputs = Inputs(
        ids,
        features,
        dict.fromkeys(ids, tuple(SliceInfo("coronal", float(place), ()) for place in range(slices))),
        TabularData(ids=ids, names=BIOMARKERS, values=biomarkers, units=("log share of fluid",) * len(BIOMARKERS)),
        TabularData(ids=ids, names=VARIABLE_NAMES, values=np.stack([ages, sexes], 1), units=("years", "")),
        tuple(VARIABLES[name] for name in VARIABLE_NAMES),
    )
    samples = Samples(ids=list(ids), labels=labels, class_names=list(LABELS), groups=[f"p{name}" for name in ids])
    return samples, inputs


def changed(inputs: Inputs, scan_id: str, *, by: float = 5.0) -> Inputs:
    """The same tables with one scan's values changed."""
    assert inputs.features is not None and inputs.biomarkers is not None and inputs.demographics is not None
    row = inputs.ids.index(scan_id)
    biomarkers, variables = inputs.biomarkers.values.copy(), inputs.demographics.values.copy()
    biomarkers[row] += by
    variables[row] += by
    return replace(
        inputs,
        features={**inputs.features, scan_id: inputs.features[scan_id].flip(1)},
        biomarkers=replace(inputs.biomarkers, values=biomarkers),
        demographics=replace(inputs.demographics, values=variables),
    )


def drawn_brain(width: float, generator: np.random.Generator) -> np.ndarray[Any, Any]:
    """A coronal slice (176, 176) of 8-bit grey: white matter, a grey rim, gaps of ``width`` mm where signs are read."""
    z, x = np.mgrid[101:-75:-1, -88:88].astype(float)
    image = np.zeros((176, 176))
    outer = (x / 66) ** 2 + ((z - 8) / 62) ** 2
    image[outer < 1] = 150
    image[outer < 0.7] = 235
    image[(np.abs(x) < width) & (np.abs(z) < 12)] = 20
    image[(np.abs(np.abs(x) - 44) < 14) & (np.abs(z - 6) < width)] = 20
    image[(np.abs(np.abs(x) - 26) < 8) & (np.abs(z + 22) < width)] = 20
    return np.clip(image + generator.normal(0, 4, image.shape), 0, 255).astype(np.uint8)


def write_slices(folder: Path, *, count: int = 16, with_missing: bool = False) -> Path:
    """A prepared set of simulated slices: in the ill, fluid is wider. Returns its folder."""
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    scans, rows = [], {}
    for number in range(count):
        label = LABELS[number % 2]
        path = folder / "images" / f"{number:02d}.png"
        path.parent.mkdir(exist_ok=True)
        width = 2 + 1.5 * (number % 2) + generator.uniform(0, 1.5)
        Image.fromarray(drawn_brain(width, generator)).save(path)
        name = f"scan{number:02d}"
        scans.append(
            Scan(
                id=name,
                subject=f"p{number:02d}",
                label=label,
                kind="slices",
                paths=(f"images/{path.name}",),
                planes=("coronal",),
            )
        )
        age = "" if with_missing and number == 3 else str(65 + number)
        rows[name] = {"age": age, "sex": "FM"[number // 2 % 2], "MMSE": str(29 - 3 * (number % 2))}
    description = {
        "format": "oasis-slices",
        "title": "Simulated slices",
        "root": ".",
        "class_names": list(LABELS),
        "simulated": True,
    }
    columns = [VARIABLES[name] for name in ("age", "sex", "MMSE")]
    write_manifest(folder, description, scans, rows, columns=columns)
    return folder
