"""The viewer of a volume on the prediction page, and the sides of slices: simulated volumes with a mark on one side."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from made_up import draw_slices, make_explanation
from PIL import Image

from debian_mri.biomarkers.volumes.regional import StructureLabels
from debian_mri.explanation.contributions import SlicePart
from debian_mri.explanation.html_report import prediction_page, write_page
from debian_mri.explanation.volume_viewer import MAX_VOXELS, viewer_data
from debian_mri.imaging.preprocess import Volume
from icube_common.errors import InputError

SHAPE = (40, 48, 36)


def marked(step: tuple[float, float, float] = (4.0, 4.0, 4.0)) -> Volume:
    """Grey everywhere, with a white block at x = -60, y = 40, z = 20 mm: left, front, top."""
    affine = np.diag([*step, 1.0])
    # the centre of the grid is at 0
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(SHAPE) - 1) / 2)
    voxels = np.full(SHAPE, 100, dtype=np.float32)
    voxels[0, 0, 0] = 0
    place = np.round(np.linalg.inv(affine) @ [-60.0, 40.0, 20.0, 1.0]).astype(int)[:3]
    block = tuple(slice(index - 2, index + 3) for index in place)
    voxels[block] = 200
    return Volume(voxels, affine, voxels > 0)


def decoded(data: dict) -> np.ndarray:  # type: ignore[type-arg]
    voxels = np.frombuffer(gzip.decompress(base64.b64decode(data["voxels"])), dtype=np.uint8)
    return voxels.reshape(data["shape"])


def labelled(step: tuple[float, float, float] = (4.0, 4.0, 4.0)) -> StructureLabels:
    """The white block of `marked` as the left hippocampus, and a third ventricle in the middle."""
    volume = marked(step)
    labels = np.where(volume.data > 150, 1, 0).astype(np.uint8)
    labels[18:22, 22:36, 16:20] = 2
    names = ("hippocampus_left", "third_ventricle")
    return StructureLabels(labels=labels, affine=volume.affine, names=names, citations=("Atlas: CC BY-NC.", "Author."))


@pytest.mark.parametrize("step", [(4.0, 4.0, 4.0), (-4.0, 4.0, 4.0), (4.0, -4.0, -4.0)])
def test_voxels_lie_at_the_mm_of_the_affine(step: tuple[float, float, float]) -> None:
    data = viewer_data(marked(step), make_explanation())
    voxels = decoded(data)
    assert min(data["step"]) > 0
    bright = np.argwhere(voxels > 200).mean(0) * data["step"] + data["origin"]
    assert np.abs(bright - [-60, 40, 20]).max() <= 2.0


def test_large_volumes_are_averaged() -> None:
    shape = (200, 160, 100)
    assert np.prod(shape) > MAX_VOXELS
    voxels = np.zeros(shape, dtype=np.float32)
    voxels[100:] = 10
    affine = np.diag([1.0, 1.0, 1.0, 1.0])
    data = viewer_data(Volume(voxels, affine, voxels > 0), make_explanation())
    assert data["shape"] == [100, 80, 50] and data["step"] == [2.0, 2.0, 2.0] and data["origin"] == [0.5, 0.5, 0.5]
    assert decoded(data)[:50].max() == 0 and decoded(data)[50:].min() == 255


def test_boxes_are_those_of_measured_biomarkers() -> None:
    data = viewer_data(marked(), make_explanation())
    boxes = {box["label"]: box["mm"] for box in data["boxes"]}
    assert boxes["hippocampal volume loss"] == [[14.0, 40.0], [-37.0, -9.0], [-26.0, 0.0]]
    assert "global cortical atrophy" not in boxes
    assert viewer_data(marked(), make_explanation(space="native"))["boxes"] == []


def test_only_the_script_of_the_page_may_run(tmp_path: Path) -> None:
    explanation = make_explanation()
    page = write_page(tmp_path / "p.html", explanation, draw_slices(explanation), volume=marked()).read_text()
    (allowed,) = re.findall(r"script-src 'sha256-([^']+)'", page)
    data, script = re.findall(
        r"<script(?: type=\"application/json\" id=\"viewer-data\")?>(.*?)</script>", page, re.DOTALL
    )
    assert base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() == allowed
    assert json.loads(data)["shape"] == list(SHAPE)
    assert "://" not in page and len(page) < 8_000_000


def test_pages_without_a_volume_have_no_script() -> None:
    explanation = make_explanation()
    page = prediction_page(explanation, draw_slices(explanation))
    assert "<script" not in page and "script-src" not in page


def test_left_is_on_the_right_and_named() -> None:
    parts = (
        SlicePart(plane="coronal", position_mm=-20.0, weight=0.6),
        SlicePart(plane="sagittal", position_mm=4.0, weight=0.4),
    )
    explanation = make_explanation(slices=parts)
    # bright where the person's left is in the arrays, and at the back
    image = np.zeros((40, 40), dtype=np.float32)
    image[:, :10] = 1.0
    page = prediction_page(explanation, [image, image])
    shown = [base64.b64decode(text) for text in re.findall(r'src="data:image/jpeg;base64,([^"]+)"', page)]
    coronal, sagittal = (np.asarray(Image.open(io.BytesIO(content)).convert("L"), dtype=float) for content in shown)
    assert coronal[:, -40:].mean() > 200 > 50 > coronal[:, :40].mean()
    assert sagittal[:, :40].mean() > 200 > 50 > sagittal[:, -40:].mean()
    letters = re.findall(r'class="letter (left|right) ?(\w*)">(\w)</span>', page)
    assert letters == [
        ("left", "radiological", "R"),
        ("right", "radiological", "L"),
        ("left", "neurological", "L"),
        ("right", "neurological", "R"),
        ("left", "", "P"),
        ("right", "", "A"),
    ]


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
def test_the_viewer_runs_in_a_browser(tmp_path: Path) -> None:
    explanation = make_explanation()
    page = write_page(tmp_path / "p.html", explanation, draw_slices(explanation), volume=marked())
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=5000", "--dump-dom"]
    shown = subprocess.run([*command, page.as_uri()], capture_output=True, text=True, timeout=120, check=True).stdout
    # the coronal slice with the most attention
    assert "<figcaption>coronal, y = -22 mm</figcaption>" in shown and shown.count("<canvas") == 3


@pytest.mark.parametrize("step", [(4.0, 4.0, 4.0), (-4.0, 4.0, -4.0)])
@pytest.mark.parametrize("labels_step", [(4.0, 4.0, 4.0), (-4.0, -4.0, 4.0)])
def test_labels_lie_at_the_mm_of_their_affine(
    step: tuple[float, float, float], labels_step: tuple[float, float, float]
) -> None:
    data = viewer_data(marked(step), make_explanation(), labelled(labels_step))
    assert data["structures"] == [
        {"label": "hippocampus", "numbers": {"left": 1}},
        {"label": "third ventricle", "numbers": {"": 2}},
    ]
    labels = decoded({**data, "voxels": data["labels"]})
    middle = np.argwhere(labels == 1).mean(0) * data["step"] + data["origin"]
    assert np.abs(middle - [-60, 40, 20]).max() <= 2.0 and (labels == 1).sum() == 125


def test_labels_of_another_grid_are_sampled() -> None:
    """A volume of 2 mm with labels of 4 mm, which end before it does."""
    volume = marked()
    fine = Volume(np.kron(volume.data, np.ones((2, 2, 2))).astype(np.float32), volume.affine.copy(), volume.mask)
    fine.affine[:3, :3] /= 2
    fine.affine[:3, 3] -= 1.0
    structures = labelled()
    cut = StructureLabels(
        labels=structures.labels[:, :, :18], affine=structures.affine, names=structures.names, citations=("Author.",)
    )
    data = viewer_data(fine, make_explanation(), cut)
    labels = decoded({**data, "voxels": data["labels"]})
    assert labels.shape == tuple(2 * size for size in SHAPE) and not labels[:, :, 37:].any()
    assert (labels == 2).sum() == 4 * 14 * 2 * 8


def test_pages_with_an_atlas_have_its_licence(tmp_path: Path) -> None:
    explanation = make_explanation()
    images = draw_slices(explanation)
    page = write_page(tmp_path / "p.html", explanation, images, volume=marked(), structures=labelled()).read_text()
    text = page[: page.index("<script")]
    assert "Structures of the viewer: an atlas registered to this scan, no segmentation." in text
    assert "Atlas: CC BY-NC. Author." in text and len(page) < 8_000_000
    plain = prediction_page(explanation, images, marked())
    assert "an atlas registered" not in plain and '"labels"' not in plain
    with pytest.raises(InputError, match="without its licence and citations cannot be shown"):
        StructureLabels(labels=labelled().labels, affine=np.eye(4), names=("brain_stem",), citations=())


def test_boxes_are_left_out_where_nothing_was_measured_in_them() -> None:
    assert viewer_data(marked(), make_explanation(), boxes=False)["boxes"] == []


def in_browser(folder: Path, structures: StructureLabels | None, *options: str) -> str:
    """A page at the coronal plane of the white block, opened in Chromium."""
    part = SlicePart(plane="coronal", position_mm=40.0, weight=1.0)
    explanation = make_explanation(slices=(part,))
    page = write_page(
        folder / "p.html", explanation, draw_slices(explanation), volume=marked(), structures=structures,
        boxes=False, overwrite=True,
    )  # fmt: skip
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=5000", *options]
    return subprocess.run([*command, page.as_uri()], capture_output=True, text=True, timeout=240, check=True).stdout


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
def test_structures_are_drawn_on_their_side(tmp_path: Path) -> None:
    shown = in_browser(tmp_path, labelled(), "--dump-dom")
    assert shown.count('<input type="checkbox"') == 3  # convention, and a switch of each structure
    # all planes pass it: they start in its middle
    assert re.findall(r"<span[^>]*>([^<]*hippocampus[^<]*)</span>", shown) == 3 * ["hippocampus (left)"]
    picture = tmp_path / "page.png"
    in_browser(tmp_path, labelled(), f"--screenshot={picture}", "--window-size=1400,1300")
    pixels = np.asarray(Image.open(picture).convert("RGB"), dtype=np.int64)
    # the planes are black, side by side; the second is the coronal one
    black = np.flatnonzero((pixels.max(2) < 20).sum(0) > 100)
    planes = np.split(black, np.flatnonzero(np.diff(black) > 8) + 1)
    assert len(planes) == 3
    pixels = pixels[:, planes[1][0] : planes[1][-1]]
    red, green, blue = (pixels[:, :, at] for at in range(3))
    orange = np.argwhere((red - blue > 120) & (green > 90) & (green < 190) & (red > 220)).mean(0)
    ventricle = np.argwhere((green - red > 80) & (green - blue > 30)).mean(0)
    # the ventricle lies in the middle; the left hippocampus is right of it, and above
    assert orange[1] - ventricle[1] > 50 and ventricle[0] - orange[0] > 15
