"""The two networks of BlazePose on LiteRT: person detector, and landmarks of a cropped person.

Source: Bazarevsky et al. 2020 (arXiv:2006.10204); anchors and decoding as of the single-shot detector (Liu et al. 2016)
with the constants of MediaPipe's published graph `pose_detection`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from icube_common.errors import InputError
from icube_common.pose.region import Region

if TYPE_CHECKING:
    from PIL.Image import Image

Array = npt.NDArray[np.float64]

MIN_DETECTION_SCORE = 0.5
MAX_OVERLAP = 0.3
"""Boxes of larger intersection over union are the same person."""
REGION_SCALE = 1.25
"""Side of the region beside the detector's circle about the person."""
MIN_HEATMAP_SCORE = 0.5
_DETECTOR_SIDE, _LANDMARK_SIDE = 224, 256
_ANCHOR_GRIDS = ((28, 2), (14, 2), (7, 6))
"""(cells along a side, anchors a cell) of the detector's feature maps, strides 8, 16 and 32 (three maps in one)."""
_OUTPUTS = 39
"""Landmarks of the network: 33 of the body, the two of the next frame's region, four unused."""
_HEATMAP_RADIUS = 3


class Landmarks(NamedTuple):
    """Landmarks of one person in one frame.

    Attributes:
        pixels: (33, 3) x to the right, y down, z away from the camera relative to the hips, in pixels.
        metres: (33, 3) the same axes, in metres from the middle of the hips (the network's estimate of scale).
        visibility: (33,) probability that the landmark is inside the image and not occluded.
        circle: (2, 3) middle of the hips and a point on the circle about the whole body, in pixels.
        score: probability that the region shows a person.
    """

    pixels: Array
    metres: Array
    visibility: Array
    circle: Array
    score: float


class _Network:
    """One network file, one thread."""

    def __init__(self, path: Path, *, side: int, outputs: tuple[tuple[int, ...], ...]) -> None:
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError as error:
            raise InputError("pose needs ai-edge-litert: pip install 'icube-common[pose]'") from error

        try:
            self._interpreter = Interpreter(str(path), num_threads=1)
            self._interpreter.allocate_tensors()
        except (OSError, ValueError, RuntimeError) as error:
            raise InputError(f"{path}: not a network that LiteRT can read ({error})") from error
        inputs, results = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        shapes = {tuple(int(size) for size in result["shape"]): result["index"] for result in results}
        if tuple(inputs[0]["shape"]) != (1, side, side, 3) or not set(outputs) <= set(shapes):
            raise InputError(f"{path}: inputs and outputs of another network than {path.stem}")
        self._input: int = inputs[0]["index"]
        self._outputs = [shapes[shape] for shape in outputs]

    def __call__(self, pixels: npt.NDArray[np.float32]) -> list[npt.NDArray[np.float32]]:
        """Outputs for an image (side, side, 3)."""
        self._interpreter.set_tensor(self._input, pixels[None])
        self._interpreter.invoke()
        return [self._interpreter.get_tensor(index)[0] for index in self._outputs]

    def __reduce__(self) -> Any:
        raise TypeError("a network cannot be pickled: load it in each process")


class PersonDetector:
    """Most visible person of an image, as the region to crop."""

    def __init__(self, path: Path) -> None:
        anchors = _anchors()
        count = len(anchors)
        self._anchors = anchors
        self._network = _Network(path, side=_DETECTOR_SIDE, outputs=((1, count, 12), (1, count, 1)))

    def __call__(self, image: Image) -> Region | None:
        """Detect a person in an RGB image; None without one of score `MIN_DETECTION_SCORE`."""
        square = Region.whole(*image.size)
        raw, logits = self._network(
            square.crop(image, _DETECTOR_SIDE).astype(np.float32) / np.float32(127.5) - np.float32(1)
        )
        scores = 1 / (1 + np.exp(-np.clip(logits[:, 0].astype(np.float64), -100, 100)))
        likely = np.flatnonzero(scores >= MIN_DETECTION_SCORE)
        if not len(likely):
            return None
        boxes = self._decode(raw[likely].astype(np.float64), likely)
        best = merge_overlapping(boxes, scores[likely])
        centre, outer = square.to_image(best[4:].reshape(-1, 2)[:2])
        return Region.around(centre, outer, scale=REGION_SCALE)

    def _decode(self, raw: Array, anchors: npt.NDArray[np.intp]) -> Array:
        """Boxes (N, 12): x and y of both corners, then of four points, 0 to 1 along the crop's side."""
        scaled = raw / _DETECTOR_SIDE
        centre = self._anchors[anchors]
        middle, half = scaled[:, :2] + centre, scaled[:, 2:4] / 2
        points = scaled[:, 4:].reshape(len(raw), -1, 2) + centre[:, None]
        return np.concatenate([middle - half, middle + half, points.reshape(len(raw), -1)], axis=1)


class LandmarkNetwork:
    """Landmarks of the person in a region."""

    def __init__(self, path: Path) -> None:
        outputs = ((1, 5 * _OUTPUTS), (1, 1), (1, 64, 64, _OUTPUTS), (1, 3 * _OUTPUTS))
        self._network = _Network(path, side=_LANDMARK_SIDE, outputs=outputs)

    def __call__(self, image: Image, region: Region) -> Landmarks:
        """Landmarks of the person in ``region`` of an RGB image."""
        crop = region.crop(image, _LANDMARK_SIDE).astype(np.float32) / np.float32(255)
        raw, score, heatmaps, world = self._network(crop)
        values = raw.reshape(_OUTPUTS, 5).astype(np.float64)
        points = values[:, :3] / _LANDMARK_SIDE
        points[:, :2] = refine_by_heatmaps(points[:, :2], heatmaps)
        pixels = region.to_image(points)
        return Landmarks(
            pixels=pixels[:33],
            metres=region.rotate(world.reshape(_OUTPUTS, 3)[:33]),
            visibility=1 / (1 + np.exp(-values[:33, 3])),
            circle=pixels[33:35],
            score=float(score[0]),
        )


def merge_overlapping(boxes: Array, scores: Array) -> Array:
    """The box of the highest score, averaged by score with all that overlap it (weighted non-maximum suppression).

    Args:
        boxes: (N, 4 + K), the first four are x and y of two opposite corners.
        scores: (N,).
    """
    best = int(scores.argmax())
    size = np.prod(boxes[:, 2:4] - boxes[:, :2], axis=1)
    corners = np.minimum(boxes[:, 2:4], boxes[best, 2:4]) - np.maximum(boxes[:, :2], boxes[best, :2])
    shared = np.prod(np.maximum(corners, 0), axis=1)
    same = shared / np.maximum(size + size[best] - shared, 1e-12) > MAX_OVERLAP
    same[best] = True
    return np.asarray(np.average(boxes[same], axis=0, weights=scores[same]))


def refine_by_heatmaps(points: Array, heatmaps: npt.NDArray[np.float32]) -> Array:
    """Move each point to the mean of its heat map in a window of 7 cells, where the map is confident.

    Args:
        points: (K, 2) x and y, 0 to 1.
        heatmaps: (H, W, K) logits.
    """
    height, width, count = heatmaps.shape
    offsets = np.arange(-_HEATMAP_RADIUS, _HEATMAP_RADIUS + 1)
    columns, rows = ((points[:, axis] * size).astype(int) for axis, size in ((0, width), (1, height)))
    inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    window_columns = columns[:, None, None] + offsets
    window_rows = rows[:, None, None] + offsets[:, None]
    valid = (window_columns >= 0) & (window_columns < width) & (window_rows >= 0) & (window_rows < height)
    logits = heatmaps[
        np.clip(window_rows, 0, height - 1), np.clip(window_columns, 0, width - 1), np.arange(count)[:, None, None]
    ]
    weights = np.where(valid, 1 / (1 + np.exp(-logits.astype(np.float64))), 0.0)
    confident = inside & (weights.max(axis=(1, 2)) >= MIN_HEATMAP_SCORE)
    total = np.maximum(weights.sum(axis=(1, 2)), 1e-12)
    mean = [
        (weights * window).sum(axis=(1, 2)) / total / size
        for window, size in ((window_columns, width), (window_rows, height))
    ]
    return np.where(confident[:, None], np.stack(mean, axis=1), points)


def _anchors() -> Array:
    """Centres of the detector's anchors (N, 2), 0 to 1; all have unit size."""
    grids = []
    for cells, number in _ANCHOR_GRIDS:
        y, x = np.divmod(np.arange(cells * cells), cells)
        centres = (np.stack([x, y], axis=1) + 0.5) / cells
        grids.append(np.repeat(centres, number, axis=0))
    return np.concatenate(grids)
