"""Tabular branch: measurements as sentences for a frozen text encoder, each value an embedding of its own.

>>> from icube_common.tabular import TabularBranch, TabularConfig, TabularData
"""

from icube_common import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "ClassPrototypeMemory": "fusion",
        "TabularContrastiveLoss": "fusion",
        "Fusion": "fusion",
        "TabularBranch": "branch",
        "TabularConfig": "config",
        "TabularData": "table",
        "TabularText": "text",
        "Scaler": "scaling",
        "ValueEmbedding": "embedding",
        "group_features": "groups",
    },
)
