"""3D human motion diffusion: prepare motion capture, train a denoiser, sample daily actions, export them.

>>> from motiondiff import MotionDataset, MotionDenoiser, MotionDiffusionPipeline, TrainConfig, export, train
>>> data = MotionDataset.prepare("bvh", "DIR", "STORE")
>>> run = train(MotionDenoiser.for_dataset(data, num_layers=8), data, TrainConfig(max_steps=5000), out="RUN")
>>> pipeline = MotionDiffusionPipeline.from_pretrained("RUN/model")
>>> export(pipeline(actions=["walk"], num_frames=60).motions[0], "walk.bvh")
"""

import logging

from icube_common import lazy_exports

# at once: the folder of this name would otherwise stand in place of the function
from motiondiff.export import export as export

__version__ = "0.1.0"

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "ActionClassifier": "recognition.classifier",
        "ClipSet": "data.clips",
        "ComposeOptions": "pipelines.long_motion",
        "EditOptions": "pipelines.editing",
        "EvaluateOptions": "config",
        "Motion": "skeleton.motion",
        "MotionDataset": "data.dataset",
        "MotionDenoiser": "models.denoiser",
        "MotionDiffConfig": "config",
        "MotionDiffusionPipeline": "pipelines.motion_diffusion",
        "MotionRepresentation": "models.representation",
        "MotionStore": "data.store",
        "RigidTransform": "skeleton.motion",
        "SampleOptions": "pipelines.sampling",
        "Skeleton": "skeleton.skeleton",
        "TrainConfig": "config",
        "compose": "pipelines.long_motion",
        "distill": "training.distillation",
        "edit": "pipelines.editing",
        "evaluate": "evaluation.runner",
        "prepare": "data.prepare",
        "sample": "pipelines.sampling",
        "train": "training.diffusion",
    },
)

logging.getLogger(__name__).addHandler(logging.NullHandler())
