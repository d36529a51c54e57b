"""Losses for cosine logits against class prompts, for pairs of features and for prompts that should not stray.

>>> from icube_common.losses import LossConfig, make_loss
"""

from icube_common import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "Loss": "make",
        "LossConfig": "config",
        "class_balanced_weights": "classification",
        "cross_entropy": "classification",
        "focal": "classification",
        "focal_distance": "classification",
        "focal_ordinal": "classification",
        "gather_rows": "contrastive",
        "info_nce": "contrastive",
        "kgcoop": "contrastive",
        "make_loss": "make",
        "supervised_contrastive": "contrastive",
    },
)
