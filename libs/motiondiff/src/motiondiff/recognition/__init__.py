"""Recognisers of actions in motions, trained on real motions: the yardstick of what a generator makes.

>>> from motiondiff.recognition import ClipSet, RecogniserConfig, fit_recogniser
>>> recogniser = fit_recogniser(ClipSet.from_store(store, split="train"), RecogniserConfig(), seed=0)
>>> probabilities = recogniser.predict(ClipSet.from_motions(motions, recogniser.class_names))
"""

from icube_common.utils import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "ClipSet": "clips",
        "Recogniser": "recogniser",
        "RecogniserConfig": "config",
        "fit_recogniser": "train",
    },
)
