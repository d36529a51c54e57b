"""Action classifiers of motions, trained on real motions: the evaluators of generated ones.

>>> from motiondiff.config import ClassifierConfig
>>> from motiondiff.data.clips import ClipSet
>>> from motiondiff.recognition import fit_classifier
>>> classifier = fit_classifier(ClipSet.from_store(store, split="train"), ClassifierConfig(), seed=0)
>>> probabilities = classifier.predict(ClipSet.from_motions(motions, classifier.class_names))
"""

from icube_common import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "ActionClassifier": "classifier",
        "fit_classifier": "training",
    },
)
