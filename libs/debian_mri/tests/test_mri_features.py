"""Features of slices: cached by content, resumed, refused where they are of another backbone or other slices."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from model_world import drawn_brain, settings, write_slices
from PIL import Image

from debian_mri.data.feature_store import HEAD, features_folder
from debian_mri.data.inputs import Inputs, load_inputs
from debian_mri.data.manifest import Manifest
from icube_common.errors import InputError
from icube_common.vlm import FrozenVLM, load_vlm

CONFIG = settings("concepts.enabled=false", "slices.planes=[coronal]")


@pytest.fixture(scope="module")
def tiny() -> FrozenVLM:
    return load_vlm("icube-tiny")


class Counting:
    """Counts the images that the tower is given."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, vlm: FrozenVLM) -> None:
        self.images, encode = 0, vlm.encode_image

        def count(pixels: torch.Tensor) -> torch.Tensor:
            self.images += len(pixels)
            return encode(pixels)

        monkeypatch.setattr(vlm, "encode_image", count)


def same(one: Inputs, other: Inputs) -> bool:
    assert one.features is not None and other.features is not None
    return all(torch.equal(one.features[name], other.features[name]) for name in one.ids)


def test_each_slice_is_encoded_once(tmp_path: Path, tiny: FrozenVLM, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = Manifest.load(write_slices(tmp_path / "data", count=4))
    counted = Counting(monkeypatch, tiny)
    # one scan in a batch: joined with others its features may round otherwise
    monkeypatch.setattr(tiny, "batch_size", 1)
    first = load_inputs(manifest, CONFIG, tiny)
    assert counted.images == 4
    again = load_inputs(manifest, CONFIG, tiny)
    assert counted.images == 4 and same(first, again)
    assert [info.plane for info in again.slices["scan00"]] == ["coronal"]
    # a job that was stopped goes on, and an image that has changed is encoded anew
    folder = features_folder(manifest.folder, None, CONFIG, tiny)
    assert folder is not None
    next(folder.glob("??/*.safetensors")).unlink()
    Image.fromarray(drawn_brain(9, np.random.default_rng(5))).save(tmp_path / "data/images/02.png")
    changed = load_inputs(manifest, CONFIG, tiny)
    assert 5 <= counted.images <= 6
    assert changed.features is not None and first.features is not None
    assert [torch.equal(changed.features[name], first.features[name]) for name in first.ids] == [
        True,
        True,
        False,
        True,
    ]


def test_features_of_another_backbone_or_other_slices_are_refused(tmp_path: Path, tiny: FrozenVLM) -> None:
    manifest = Manifest.load(write_slices(tmp_path / "data", count=4))
    folder = tmp_path / "features"
    load_inputs(manifest, CONFIG, tiny, features=folder)
    other = load_vlm("icube-tiny", seed=1)
    with pytest.raises(InputError, match=rf"{folder}: its features are of icube-tiny.*{other.fingerprint[:12]}"):
        load_inputs(manifest, CONFIG, other, features=folder)
    slices = settings("concepts.enabled=false", "slices.planes=[coronal,axial]")
    with pytest.raises(InputError, match="its features are of slices="):
        load_inputs(manifest, slices, tiny, features=folder)
    head = json.loads((folder / HEAD).read_text())
    del head["backbone"]
    (folder / HEAD).write_text(json.dumps(head))
    with pytest.raises(InputError, match="backbone or chosen is missing"):
        load_inputs(manifest, CONFIG, tiny, features=folder)
    with pytest.raises(InputError, match="no folder of features"):
        load_inputs(manifest, CONFIG, tiny, features=tmp_path / "data")


def test_features_of_other_versions_of_the_libraries_are_used(
    tmp_path: Path, tiny: FrozenVLM, caplog: pytest.LogCaptureFixture
) -> None:
    manifest = Manifest.load(write_slices(tmp_path / "data", count=4))
    folder = tmp_path / "features"
    load_inputs(manifest, CONFIG, tiny, features=folder)
    head = json.loads((folder / HEAD).read_text())
    here = head["backbone"]["versions"]["torch"]
    head["backbone"]["versions"]["torch"] = "1.13.0"
    (folder / HEAD).write_text(json.dumps(head))
    load_inputs(manifest, CONFIG, tiny, features=folder)
    assert f"{folder}: made with other versions (torch 1.13.0, here {here})" in caplog.text


def test_a_scan_that_cannot_be_read_is_named(tmp_path: Path, tiny: FrozenVLM) -> None:
    manifest = Manifest.load(write_slices(tmp_path / "data", count=4))
    (tmp_path / "data/images/01.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"scan scan01: .*01.png: cannot be read"):
        load_inputs(manifest, CONFIG, tiny)


def test_sets_of_unknown_geometry_have_no_signs(tmp_path: Path) -> None:
    manifest = Manifest.load(write_slices(tmp_path / "data", count=4))
    unknown = settings("visual.enabled=false", "concepts.slice_geometry=none")
    with pytest.raises(InputError, match="no sign can be measured"):
        load_inputs(manifest, unknown)
    found = load_inputs(manifest, settings("visual.enabled=false"))
    assert found.biomarkers is not None and len(found.biomarkers.names) == 4
    with pytest.raises(InputError, match=r"concepts.biomarkers.*ventricular_enlargement"):
        load_inputs(manifest, settings("visual.enabled=false", "concepts.biomarkers=[ventricular_enlargemen]"))
