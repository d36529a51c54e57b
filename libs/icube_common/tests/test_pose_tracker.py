"""Tracking with simulated networks: detection, following, loss of the person, filter; decoding of network outputs."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from icube_common.errors import InputError
from icube_common.pose import PoseModels, PoseTracker
from icube_common.pose.networks import LandmarkNetwork, PersonDetector, _anchors


class SimulatedInterpreter:
    """Stands at the place of LiteRT's interpreter: a person at a fixed anchor, landmarks that shift with each call."""

    person, calls, detections = True, 0, 0

    def __init__(self, path: str, num_threads: int) -> None:
        if Path(path).read_bytes() == b"broken":
            raise ValueError("could not open")
        self.detector = "detection" in path
        self.side = 224 if self.detector else 256

    def allocate_tensors(self) -> None:
        pass

    def get_input_details(self) -> list[dict[str, Any]]:
        return [{"index": 0, "shape": np.array([1, self.side, self.side, 3])}]

    def get_output_details(self) -> list[dict[str, Any]]:
        shapes = [(1, 2254, 12), (1, 2254, 1)] if self.detector else [(1, 195), (1, 1), (1, 64, 64, 39), (1, 117)]
        return [{"index": index, "shape": np.array(shape)} for index, shape in enumerate(shapes)]

    def set_tensor(self, index: int, value: np.ndarray) -> None:
        assert value.shape == (1, self.side, self.side, 3) and value.dtype == np.float32
        assert value.min() >= (-1 if self.detector else 0) and value.max() <= 1

    def invoke(self) -> None:
        if self.detector:
            SimulatedInterpreter.detections += 1
        else:
            SimulatedInterpreter.calls += 1

    def get_tensor(self, index: int) -> np.ndarray:
        if self.detector:
            boxes = np.zeros((1, 2254, 12), dtype=np.float32)
            boxes[..., 2:4] = 56.0
            boxes[..., 7] = -56.0  # the second point a quarter of the image above the first
            scores = np.full((1, 2254, 1), -9.0, dtype=np.float32)
            scores[0, 14 * 28 * 2 + 28, 0] = 3.0 if self.person else -3.0
            return (boxes, scores)[index]
        landmarks = np.full((39, 5), 128.0, dtype=np.float32)
        landmarks[:, 0] += 8 * SimulatedInterpreter.calls
        landmarks[:, 2], landmarks[:, 3] = 0.0, 2.0
        landmarks[33, :2], landmarks[34, :2] = 128.0, (128.0, 128 - 102.4)
        world = np.arange(117, dtype=np.float32)
        heatmaps = np.full((64, 64, 39), -20.0, dtype=np.float32)
        person = np.array([0.9 if self.person else 0.1], dtype=np.float32)
        return (landmarks.reshape(1, 195), person[None], heatmaps[None], world[None])[index]


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PoseModels:
    module = types.ModuleType("ai_edge_litert.interpreter")
    module.Interpreter = SimulatedInterpreter  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ai_edge_litert", types.ModuleType("ai_edge_litert"))
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", module)
    for name in ("person", "calls", "detections"):
        monkeypatch.setattr(SimulatedInterpreter, name, getattr(SimulatedInterpreter, name))
    paths = [tmp_path / "pose_detection.tflite", tmp_path / "pose_landmark_full.tflite"]
    for path in paths:
        path.write_bytes(b"network")
    return PoseModels(*paths)


FRAME = np.zeros((224, 224, 3), dtype=np.uint8)


def test_detector_gives_the_region_around_the_circle_of_a_person(models: PoseModels) -> None:
    region = PersonDetector(models.detector)(Image.fromarray(FRAME))
    assert region is not None
    x, y = _anchors()[14 * 28 * 2 + 28] * 224
    assert (region.x, region.y, region.rotation) == (pytest.approx(x), pytest.approx(y), pytest.approx(0))
    assert region.size == pytest.approx(2 * 1.25 * 56)
    SimulatedInterpreter.person = False
    assert PersonDetector(models.detector)(Image.fromarray(FRAME)) is None


def test_landmarks_are_scaled_to_the_region(models: PoseModels) -> None:
    region = PersonDetector(models.detector)(Image.fromarray(FRAME))
    assert region is not None
    landmarks = LandmarkNetwork(models.landmarks)(Image.fromarray(FRAME), region)
    assert landmarks.pixels[0].tolist() == pytest.approx([region.x + 8 * region.size / 256, region.y, 0.0])
    assert landmarks.metres[2].tolist() == [6.0, 7.0, 8.0]
    assert landmarks.visibility[0] == pytest.approx(1 / (1 + np.exp(-2.0)))
    assert landmarks.score == pytest.approx(0.9)


def test_tracker_detects_once_and_again_after_a_loss(models: PoseModels) -> None:
    tracker = PoseTracker(models, smooth=False)
    assert tracker(FRAME, 0.0) is not None
    assert tracker(FRAME, 0.05) is not None
    assert SimulatedInterpreter.detections == 1
    SimulatedInterpreter.person = False
    assert tracker(FRAME, 0.1) is None  # the landmarks of the followed region say so
    assert tracker(FRAME, 0.15) is None
    SimulatedInterpreter.person = True
    assert tracker(FRAME, 0.2) is not None
    assert SimulatedInterpreter.detections == 3


def test_filter_follows_more_slowly_than_the_network(models: PoseModels) -> None:
    raw = PoseTracker(models, smooth=False).track([FRAME] * 6, np.arange(6) / 20)
    SimulatedInterpreter.calls = 0
    smooth = PoseTracker(models).track([FRAME] * 6, np.arange(6) / 20)
    moved = raw.pixels[-1, 0, 0] - raw.pixels[0, 0, 0]
    lag = raw.pixels[-1, 0, 0] - smooth.pixels[-1, 0, 0]
    assert raw.detected.all() and 0 < lag < moved


def test_networks_of_other_content_are_refused(models: PoseModels) -> None:
    models.detector.write_bytes(b"broken")
    with pytest.raises(InputError, match=r"pose_detection\.tflite: not a network that LiteRT can read"):
        PersonDetector(models.detector)
    with pytest.raises(InputError, match="inputs and outputs of another network"):
        LandmarkNetwork(models.detector.with_name("pose_landmark_full.tflite").rename(models.detector))


def test_missing_runtime_names_the_extra(models: PoseModels, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    with pytest.raises(InputError, match=r"pip install 'icube-common\[pose\]'"):
        PersonDetector(models.detector)
