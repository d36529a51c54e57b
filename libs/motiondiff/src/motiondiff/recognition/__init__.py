"""Action classifiers of motions, trained on real motions: the evaluators of generated ones.

>>> from motiondiff.config import ClassifierConfig
>>> from motiondiff.recognition import ClipSet, fit_classifier
>>> classifier = fit_classifier(ClipSet.from_store(store, split="train"), ClassifierConfig(), seed=0)
>>> probabilities = classifier.predict(ClipSet.from_motions(motions, classifier.class_names))
"""

from icube_common import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "ClipSet": "clips",
        "ActionClassifier": "classifier",
        "fit_classifier": "training",
    },
)
