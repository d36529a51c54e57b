"""Brain MRI of neurodegenerative diseases with frozen vision-language models and learnable prompts.

For research, not for clinical use.

>>> from debian_mri import MriConfig
>>> from debian_mri.evaluation.runner import evaluate
>>> from debian_mri.inference.pipeline import predict
>>> from debian_mri.training.run import train
>>> evaluate("DATA", "EVAL", MriConfig(), protocol="group-kfold")["auc"]
>>> train("DATA", "RUN", MriConfig())
>>> predict("RUN", "scan.nii.gz", values={"age": "74", "sex": "F"}, html="page.html").predicted
"""

import logging

from icube_common.lazy import lazy_exports

__version__ = "0.1.0"
RESEARCH_ONLY = "For research, not for clinical use."

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "Explanation": "explanation",
        "Manifest": "data.manifest",
        "MriConfig": "config",
        "Prediction": "predict",
        "PreprocessConfig": "imaging.preprocess",
        "Scan": "data.manifest",
        "SliceConfig": "imaging.slices",
        "load_model": "saved",
        "predict_files": "bulk",
        "predict_set": "bulk",
        "preprocess_volume": "imaging.preprocess",
        "simulate_cohort": "simulation",
        "verify_report": "verify",
    },
)

logging.getLogger(__name__).addHandler(logging.NullHandler())
