"""The configurations that come with the library load, and begin with the command that uses them."""

from __future__ import annotations

from pathlib import Path

import pytest

from debian_mri.config import MriConfig
from icube_common.config import load_config

CONFIGS = [
    file
    for file in sorted((Path(__file__).resolve().parents[1] / "configs").glob("*.yaml"))
    if not file.name.startswith("ablation")
]


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_a_shipped_configuration_loads(file: Path) -> None:
    first = file.read_text().splitlines()[0]
    assert first.startswith("# debian-mri train ") and f"--config libs/debian_mri/configs/{file.name}" in first
    assert isinstance(load_config(MriConfig, file=file), MriConfig)


def test_there_is_one_for_slices_and_one_for_volumes() -> None:
    assert [file.stem for file in CONFIGS] == ["mni_volumes", "oasis_slices"]
