"""Action recognition from video with frozen vision-language models and learnable prompts.

>>> from actprompt import ActConfig, predict_video
>>> from actprompt.evaluate import evaluate
>>> from actprompt.train import train
>>> evaluate("DATA", "EVAL", ActConfig(), protocol="leave-one-subject-out")["top1"]
>>> train("DATA", "RUN", ActConfig())
>>> predict_video("RUN", "video.mp4")["predicted"]
"""

import logging

from icube_common.utils import lazy_exports

__version__ = "0.1.0"

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "ActConfig": "config",
        "ActionModel": "model",
        "Clip": "manifest",
        "Features": "features",
        "Manifest": "manifest",
        "Protocol": "manifest",
        "Sampling": "sampling",
        "evaluate_run": "evaluate",
        "load_model": "saved",
        "predict_video": "predict",
        "sample_indices": "sampling",
        "VideoError": "video",
        "probe": "video",
        "read_clip": "video",
        "video_features": "extract",
    },
)

logging.getLogger(__name__).addHandler(logging.NullHandler())
