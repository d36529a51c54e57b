"""Learnable prompts on any text tower of open_clip.

>>> from icube_common.prompts import PromptLearner
"""

from icube_common import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "ClassTexts": "texts",
        "CaptionTerm": "ridge_init",
        "Projection": "ridge_init",
        "PromptConfig": "config",
        "PromptLayout": "layout",
        "PromptLearner": "learner",
        "LinearProjection": "ridge_init",
        "lay_out": "layout",
    },
)
