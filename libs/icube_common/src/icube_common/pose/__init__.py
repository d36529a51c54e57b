"""Human pose from plain video: person detector and BlazePose landmarks on LiteRT, tracking, filters, gates.

>>> from icube_common.pose import PoseTracker, find_models
>>> sequence = PoseTracker(find_models()).track(frames, times)
"""

from icube_common import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "BONES": "landmarks",
        "CONNECTIONS": "landmarks",
        "LANDMARKS": "landmarks",
        "OneEuroFilter": "filters",
        "PoseGates": "sequence",
        "PoseModels": "models",
        "PoseSequence": "sequence",
        "PoseTracker": "tracker",
        "SKELETON_JOINTS": "landmarks",
        "overlay_pose": "overlay",
        "fetch_models": "models",
        "find_models": "models",
        "read_poses": "sequence",
    },
)
