"""Brain MRI of neurodegenerative diseases with frozen vision-language models and learnable prompts.

For research, not for clinical use.

>>> from debian_mri import MriConfig, MriModel, MriPipeline, ScanDataset, evaluate, train
>>> data = ScanDataset.from_bids("BIDS", "DATA", label="diagnosis")
>>> train(MriModel.for_dataset(data, MriConfig()), data, out="RUN", exclude_subjects=["sub-09"])
>>> evaluate(data, MriConfig(), protocol="group-kfold").metrics["auc"]
>>> MriPipeline.from_pretrained("RUN")("scan.nii.gz", age=74, sex="F").save_html("page.html")
"""

import logging

from icube_common import lazy_exports

__version__ = "0.1.0"
RESEARCH_ONLY = "For research, not for clinical use."

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "Explanation": "explanation.record",
        "Manifest": "data.manifest",
        "MriConfig": "config",
        "MriModel": "models.mri_model",
        "MriPipeline": "inference.pipeline",
        "MriPrediction": "inference.pipeline",
        "PreprocessConfig": "imaging.preprocess",
        "ProtocolOptions": "evaluation.protocols",
        "ReaderOptions": "cohorts.base",
        "Scan": "data.manifest",
        "ScanDataset": "data.dataset",
        "SliceConfig": "imaging.slices",
        "VolumeTable": "biomarkers.volumes.table",
        "compare_methods": "evaluation.methods",
        "evaluate": "evaluation.runner",
        "evaluate_explanations": "evaluation.explanation_eval",
        "evaluate_run": "evaluation.runner",
        "import_volumes": "biomarkers.volumes.importers",
        "predict": "inference.pipeline",
        "predict_files": "inference.batch",
        "predict_set": "inference.batch",
        "prepare": "data.prepare",
        "preprocess_volume": "imaging.preprocess",
        "simulate_cohort": "simulation",
        "train": "training.run",
        "verify_report": "explanation.verify",
    },
)

logging.getLogger(__name__).addHandler(logging.NullHandler())
