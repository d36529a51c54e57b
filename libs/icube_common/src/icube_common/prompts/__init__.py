"""Learnable prompts on any text tower of open_clip.

>>> from icube_common.prompts import PromptLearner
"""

from icube_common.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "ClassTexts": "texts",
        "PromptConfig": "config",
        "PromptLayout": "layout",
        "PromptLearner": "learner",
        "TextMap": "textmap",
        "lay_out": "layout",
    },
)
