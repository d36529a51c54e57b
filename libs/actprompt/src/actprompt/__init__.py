"""Action recognition from video with frozen vision-language models and learnable prompts.

>>> from actprompt import ActConfig, ActionModel, ActionPipeline, VideoDataset, evaluate, train
>>> data = VideoDataset.from_csv("clips.csv", "DATA")
>>> train(ActionModel.for_dataset(data, ActConfig()), data, out="RUN", exclude_subjects=["s9"])
>>> evaluate(data, ActConfig(), protocol="leave-one-subject-out").metrics["top1"]
>>> ActionPipeline.from_pretrained("RUN")("video.mp4").top(5)
"""

import logging

from icube_common import lazy_exports

__version__ = "0.1.0"

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "ActConfig": "config",
        "ActionModel": "models.action_model",
        "ActionPipeline": "inference.pipeline",
        "ActionPrediction": "inference.pipeline",
        "Clip": "data.manifest",
        "EvaluationResult": "evaluation.report",
        "Manifest": "data.manifest",
        "Protocol": "data.manifest",
        "ProtocolOptions": "evaluation.protocols",
        "Sampling": "data.frame_sampling",
        "TrainingResult": "training.run",
        "VideoDataset": "data.dataset",
        "VideoError": "data.video",
        "compare_methods": "evaluation.methods",
        "evaluate": "evaluation.runner",
        "evaluate_run": "evaluation.runner",
        "evaluate_zero_shot": "evaluation.zero_shot",
        "predict": "inference.pipeline",
        "prepare": "data.prepare",
        "probe": "data.video",
        "read_clip": "data.video",
        "sample_indices": "data.frame_sampling",
        "train": "training.run",
        "video_features": "data.extract",
    },
)

logging.getLogger(__name__).addHandler(logging.NullHandler())
