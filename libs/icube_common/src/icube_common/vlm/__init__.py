"""Frozen vision-language backbones on open_clip.

>>> from icube_common.vlm import load_vlm
"""

from icube_common import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "Encoder": "encoders.base",
        "EncoderLike": "encoders.base",
        "FeatureCache": "features",
        "FinetuneConfig": "finetune.config",
        "FinetunedTower": "finetune.tower",
        "FrozenVLM": "backbone",
        "ImageOutput": "backbone",
        "ImageOutputs": "backbone",
        "TextTokens": "text_encoder",
        "VLMConfig": "config",
        "check_joint_space": "backbone",
        "default_device": "device",
        "encode_frames": "encode",
        "encode_items": "encode",
        "feature_fingerprint": "features",
        "feature_key": "features",
        "load_vlm": "load",
        "make_encoder": "encoders.sources",
        "select_output": "encode",
    },
)
