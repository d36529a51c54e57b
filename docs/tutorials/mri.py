# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # From DICOM to a calibrated, explained prediction
#
# You have DICOM folders of two groups of people. You want a classifier with honest figures, calibrated probabilities,
# and an explanation that can be checked. This tutorial converts the series, trains on measured biomarkers, evaluates
# on people who are left out, and explains one prediction. It takes about a minute on one CPU core.
#
# The brains are simulated: a template, deformed by formulas. Nothing here is evidence about patients, and the library
# is for research, not for clinical use. With your own files, begin at *Prepare*.

# %%
import csv
import tempfile
from pathlib import Path

from debian_mri import MriConfig, MriModel, MriPipeline, ProtocolOptions, ReaderOptions, ScanDataset, evaluate, train
from icube_common.config import load_config

folder = Path(tempfile.mkdtemp(prefix="mri-tutorial-"))  # or a folder of your own

# %% [markdown]
# ## Simulated DICOM series
#
# A folder for each person, a file for each slice, and a table of diagnoses. A real scanner's files have the same
# header fields, and many more.

# %%
import nibabel
import numpy as np
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

from debian_mri import simulate_cohort
from debian_mri.simulation import CohortConfig


def write_series(volume: Path, out: Path, name: str, age: str, sex: str) -> None:
    """Axial slices of a NIfTI volume as one DICOM series; x and y run the other way in DICOM."""
    out.mkdir(parents=True)
    image = nibabel.load(volume)
    voxels, affine = np.asarray(image.dataobj), np.diag([-1, -1, 1, 1]) @ image.affine
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    study, series = generate_uid(), generate_uid()
    for index in range(voxels.shape[2]):
        meta = FileMetaDataset()
        meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = ExplicitVRLittleEndian, MRImageStorage
        meta.MediaStorageSOPInstanceUID = generate_uid()
        header = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
        header.SOPClassUID, header.SOPInstanceUID = MRImageStorage, meta.MediaStorageSOPInstanceUID
        header.StudyInstanceUID, header.SeriesInstanceUID, header.InstanceNumber = study, series, index + 1
        header.PatientID, header.PatientAge, header.PatientSex = name, f"{float(age):03.0f}Y", sex
        header.Modality, header.SeriesNumber, header.SeriesDescription = "MR", 1, "T1 MPRAGE"
        header.Rows, header.Columns = voxels.shape[1], voxels.shape[0]
        header.ImagePositionPatient = (affine @ [0, 0, index, 1])[:3].round(4).tolist()
        header.ImageOrientationPatient = [*(affine[:3, 0] / spacing[0]), *(affine[:3, 1] / spacing[1])]
        header.PixelSpacing, header.SliceThickness = [spacing[1], spacing[0]], spacing[2]
        header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
        header.BitsAllocated, header.BitsStored, header.HighBit, header.PixelRepresentation = 16, 16, 15, 1
        header.PixelData = np.ascontiguousarray(voxels[:, :, index].T.astype("<i2")).tobytes()
        header.save_as(out / f"{index:04d}.dcm", enforce_file_format=True)


simulated = simulate_cohort(folder / "simulated", CohortConfig(subjects=24, classes=["CN", "AD"], spacing=4.0))
with (simulated.folder / "participants.csv").open(newline="", encoding="utf-8") as file:
    people = list(csv.DictReader(file))
rows = ["subject,label,age,sex"]
for number, (scan, person) in enumerate(zip(simulated.scans, people, strict=True)):
    age, sex = f"{float(person['age']):.0f}", person["sex"]
    write_series(simulated.paths_of(scan)[0], folder / "dicom" / f"P{number:03d}", f"P{number:03d}", age, sex)
    rows.append(f"P{number:03d},{scan.label},{age},{sex}")
(folder / "people.csv").write_text("\n".join(rows) + "\n")
print(len(list((folder / "dicom").rglob("*.dcm"))), "DICOM files")

# %% [markdown]
# ## Prepare
#
# Series become NIfTI files. Ids of people become keyed hashes: keep the salt file secret, and use it for all data of
# the project. Every series that is not used has a line in `rejected.csv`. The simulated heads lie in MNI space; for
# your own, leave out `space` and set `preprocess.registration=affine` below.

# %%
from debian_mri.dicom import project_salt

options = ReaderOptions(participants=folder / "people.csv", salt=project_salt(folder / "project.salt"))
data = ScanDataset.prepare("dicom", folder / "dicom", folder / "data", options=options, space="mni")
print(len(data), "scans,", data.manifest.class_names)
print(data.manifest.scans[0].subject, data.manifest.scans[0].paths)

# %% [markdown]
# ## Settings
#
# Three biomarkers with published directions, measured on coronal slices, and age and sex. `calibration` fits a
# temperature on people left out of inner folds, and a confidence below which the model abstains.

# %%
config = load_config(
    MriConfig,
    overrides=[
        "visual.enabled=false",
        "concepts.biomarkers=[hippocampal_volume_loss,medial_temporal_atrophy,ventricular_enlargement]",
        "demographics.mode=linear",
        "demographics.columns=[age,sex]",
        "preprocess.spacing=4",
        "slices.mode=even",
        "slices.planes=[coronal]",
        "slices.count=16",
        "calibration.folds=3",
        "train.device=cpu",
        "train.report_to=none",
    ],
)

# %% [markdown]
# ## Evaluate on people who are left out
#
# No person is on both sides of a fold. Scaling, calibration and early stopping come from the training part. The
# interval is over people.

# %%
folds = ProtocolOptions(folds=3)
result = evaluate(
    data, config, protocol="group-kfold", options=folds, comparisons="image,table", out=folder / "evaluation"
)
for name in ("auc", "balanced_accuracy", "ece"):
    metric = result.metrics[name]
    print(f"{name:18} {metric.mean:.3f} [{metric.low:.3f}, {metric.high:.3f}]")
print({name: round(row["auc"]["mean"], 3) for name, row in result.comparisons.items()})

# %% [markdown]
# ## Train, and predict for a person who was left out

# %%
person = data.manifest.scans[-1]
train(MriModel.for_dataset(data, config), data, out=folder / "run", exclude_subjects=[person.subject])
pipeline = MriPipeline.from_pretrained(folder / "run")
prediction = pipeline(data.manifest.paths_of(person)[0], age=74, sex="F")
print(prediction.label, f"{prediction.probability:.2f}", "| abstained:", prediction.abstained)

# %% [markdown]
# The explanation is filled from the numbers of the prediction, and from nothing else:

# %%
print(prediction.text)

# %% [markdown]
# A verifier reads the text back and recomputes every number. An empty list means that nothing differs; a changed
# number is named.

# %%
from debian_mri import verify_report

percent = f"{100 * prediction.probability:.0f} %"
print(verify_report(prediction.text, prediction.explanation))
print(verify_report(prediction.text.replace(percent, "99.9 %"), prediction.explanation)[:1])

# %% [markdown]
# The slice with most evidence, and the page with all of them:

# %%
import matplotlib.pyplot as plt

shares = [part.weight for part in prediction.explanation.slices]
best = int(np.argmax(shares))
plt.imshow(prediction.images[best], cmap="gray")
plt.title(
    f"{prediction.explanation.slices[best].plane} {prediction.explanation.slices[best].position_mm:.0f} mm (simulated)"
)
plt.axis("off")
print("open", prediction.save_html(folder / "page.html"))

# %% [markdown]
# ## Next
#
# - [Data](../debian_mri/data.md): BIDS, ADNI, OASIS, lists; leakage tiers; pooling of cohorts.
# - [Volumes](../debian_mri/volumes.md): structures in mL by an atlas or by FreeSurfer.
# - [Prediction and explanation](../debian_mri/prediction.md): what the sentences and the verifier mean.
