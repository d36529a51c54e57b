"""Action recognition from video with frozen vision-language models and learnable prompts.

What is here yet is the data side: ``actprompt prepare`` makes a manifest of a set of videos.

>>> from actprompt import Manifest, Sampling, read_clip
>>> manifest = Manifest.load("DATA")
>>> clip = manifest.clips[0]
>>> frames = read_clip(manifest.video(clip), Sampling(frames=8), n_frames=clip.n_frames).frames
"""

import logging

from icube_common.lazy import lazy_exports

__version__ = "0.1.0"

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "Clip": "manifest",
        "Features": "features",
        "Manifest": "manifest",
        "Protocol": "manifest",
        "Sampling": "sampling",
        "sample_indices": "sampling",
        "VideoError": "video",
        "probe": "video",
        "read_clip": "video",
        "video_features": "extract",
    },
)

logging.getLogger(__name__).addHandler(logging.NullHandler())
