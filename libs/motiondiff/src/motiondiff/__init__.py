"""3D human motion diffusion: prepare motion capture, train a denoiser, sample daily actions, export them.

>>> from motiondiff import MotionDiffusionPipeline
>>> pipeline = MotionDiffusionPipeline.from_pretrained("RUN/model")
>>> motions = pipeline(actions=["walk"], num_frames=60, num_inference_steps=10, guidance_scale=2.5).motions
"""

import logging

from icube_common.utils import lazy_exports

__version__ = "0.1.0"

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "Motion": "skeleton.motion",
        "RigidTransform": "skeleton.motion",
        "Skeleton": "skeleton.skeleton",
        "MotionStore": "data.store",
        "MotionDenoiser": "model.denoiser",
        "MotionRepresentation": "model.representation",
        "MotionDiffusionPipeline": "pipeline",
    },
)

logging.getLogger(__name__).addHandler(logging.NullHandler())
