"""Tracking of one person through a video: detect once, then follow from frame to frame.

As in Bazarevsky et al. 2020 (arXiv:2006.10204), section 2: the landmarks of a frame give the region of the next one,
and the detector runs again where the person is lost. Constants of the filters as in MediaPipe's graph
`pose_landmark_filtering`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from icube_common.pose.filters import OneEuroFilter
from icube_common.pose.networks import REGION_SCALE, LandmarkNetwork, Landmarks, PersonDetector
from icube_common.pose.region import Region
from icube_common.pose.sequence import PoseSequence

if TYPE_CHECKING:
    from icube_common.pose.models import PoseModels

MIN_PERSON_SCORE = 0.5
"""Below it the person is lost."""
VISIBILITY_WEIGHT = 0.1
"""Weight of a frame's visibility in the running mean."""


class PoseTracker:
    """Landmarks of the most visible person of a video, frame after frame.

    Args:
        models: files of the two networks.
        smooth: filter landmarks by the one-euro filter. False gives each frame's own estimate.
    """

    def __init__(self, models: PoseModels, *, smooth: bool = True) -> None:
        self._detect = PersonDetector(models.detector)
        self._landmarks = LandmarkNetwork(models.landmarks)
        self._smooth = smooth
        self.reset()

    def reset(self) -> None:
        """Forget the person: the next frame begins another video."""
        self._region: Region | None = None
        self._forget()

    def _forget(self) -> None:
        self._pixels = OneEuroFilter(0.05, 80.0)
        self._metres = OneEuroFilter(0.1, 40.0)
        self._circle = OneEuroFilter(0.01, 10.0)
        self._visibility: npt.NDArray[np.float64] | None = None

    def __call__(self, frame: npt.NDArray[np.uint8], time: float) -> Landmarks | None:
        """Landmarks in the next frame; None without a visible person.

        Args:
            frame: (H, W, 3) RGB.
            time: in s, later than that of the frame before.
        """
        from PIL import Image

        image = Image.fromarray(np.ascontiguousarray(frame))
        region = self._region or self._detect(image)
        self._region = None
        if region is None or (result := self._landmarks(image, region)).score < MIN_PERSON_SCORE:
            self._forget()
            return None
        if self._smooth:
            result = self._filter(result, time)
        self._region = Region.around(*result.circle[:, :2], scale=REGION_SCALE)
        return result

    def _filter(self, landmarks: Landmarks, time: float) -> Landmarks:
        scale = 1 / max(Region.around(*landmarks.circle[:, :2]).size, 1e-6)
        if self._visibility is None:
            self._visibility = landmarks.visibility
        self._visibility = self._visibility + VISIBILITY_WEIGHT * (landmarks.visibility - self._visibility)
        return landmarks._replace(
            pixels=self._pixels(landmarks.pixels, time, scale=scale),
            metres=self._metres(landmarks.metres, time),
            circle=self._circle(landmarks.circle, time, scale=scale),
            visibility=self._visibility,
        )

    def track(self, frames: Iterable[npt.NDArray[np.uint8]], times: Iterable[float]) -> PoseSequence:
        """Landmarks of a whole video: frames (H, W, 3) RGB with their times in s."""
        self.reset()
        moments, results = [], []
        for frame, time in zip(frames, times, strict=True):
            moments.append(float(time))
            results.append(self(frame, float(time)))
        return PoseSequence.from_landmarks(results, moments)
