"""MRI sequences by description, timing, file name and sidecar; masks by their voxels."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from cohort_files import rejected, voxels, write_csv, write_volume
from dicom_phantoms import Phantom

from debian_mri.cohorts.mri_sequence.description import Timing, read_description, sequence_of
from debian_mri.cohorts.mri_sequence.image import file_sequence, header_sequence
from debian_mri.data.prepare import prepare
from debian_mri.imaging.masks import label_image_reason

# descriptions as ADNI, PPMI, OASIS, the HCP, UK Biobank, Siemens, GE and Philips write them
DESCRIPTIONS: dict[str | None, tuple[str, ...]] = {
    "T1w": (
        "MP-RAGE",
        "MPRAGE",
        "ADNI MPRAGEASOREP",
        "MPRAGEREPEAT",
        "MPRAGEadni2",
        "Accelerated Sagittal MPRAGE Phase A-P",
        "MPRAGE_repeat",
        "MP-RAGE REPEAT",
        "ADNI      MPRAGE #2",
        "IR-SPGR w/acceleration",
        "IR-FSPGR-Repeat",
        "SAG IR-FSPGR",
        "Accelerated Sag IR-FSPGR",
        "MPRAGE GRAPPA2",
        "MPRAGE SENSE2",
        "HS SAG MPRAGE",
        "Accelerated Sagittal MPRAGE_ND",
        "Accelerated Sagittal MPRAGE (MSV21)",
        "Accelerated Sagittal MPRAGE L>>R",
        "Accelerated Sagittal MPRAGE_MPR_Tra",
        "Sagittal 3D Accelerated MPRAGE",
        "Sagittal 3D Accelerated 0 angle MPRAGE",
        "MPRAGE SENSE2 SENSE",
        "MPRAGE_S2_DIS3D",
        "ADNI-R11-ASASO-MPRAGE(2",
        "ADNI_new   MPRAGErepeat",
        "ADNI SH    MPRAGE ASOX2",
        "MPR; GradWarp; B1 Correction; N3; Scaled_2",
        "MPR-R; GradWarp; N3; Scaled",
        "MPR; ; N3; Scaled",
        "MT1; GradWarp; N3m",
        "MPRAGE Phantom GRAPPA2",
        "PPMI_MPRAGE_GRAPPA2",
        "3D T1-weighted",
        "T1-weighted, 3D VOLUMETRIC",
        "FSPGR_3D_SAG",
        "SAG FSPGR BRAVO",
        "sT1W_3D_TFE",
        "WIP T1W_3D_TFE SENSE",
        "t1_mpr_ns_sag_p2_iso",
        "t1_mprage_sag_p2_iso_1.0",
        "T1w_MPR1",
        "T1w_MPR",
        "T1_MEMPRAGE RMS",
        "Ax 3D BRAVO",
        "AX T1 SE C+",
        "T1 Repeat",
        "tra_T1_MPRAGE",
        "T1W_3D_FFE AX",
        "t1_tse_tra",
        "t1_fl3d_sag_iso",
        "Sag CUBE T1",
        "t1_p2_1mm_fov256_sag_TI_880_5_dims",
        "MPRAGE_ASO_repeat",
        "VWIP Coronal 3D Accelerated MPRAGE",
        "SAG 3D MPRAGE RPT_ND",
        "3D SPGR",
        "MPR",
        "T1 MPR AX",
        "T1 mprage MPR Cor",
        "Spatially Normalized, Masked and N3 corrected T1 image",
        "Sag 3D T1 FSPGR",
        "t1_vibe_tra",
    ),
    "T2w": (
        "T2W_TFE",
        "Ax T2 TSE",
        "T2w_SPC1",
        "T2w_SPC",
        "t2_tse_tra_512",
        "t2_spc_sag_iso",
        "AX T2",
        "Sag CUBE T2",
        "T2W_TSE",
        "Ax T2 PROPELLER",
        "3D T2 SPACE",
        "HighResHippocampus T2",
        "sT2W_TSE",
        "T2weighted",
    ),
    "FLAIR": (
        "Axial T2 FLAIR",
        "Sagittal 3D FLAIR",
        "t2_tirm_tra_dark-fluid_fs",
        "t2_spc_da-fl_irprep FLAIR",
        "AX FLAIR",
        "FLAIR_longTR",
        "Sag CUBE FLAIR",
        "T2_FLAIR",
        "t2_flair_space",
    ),
    "T2starw": (
        "Axial T2-Star",
        "Axial T2*",
        "T2_star",
        "T2W_FFE",
        "t2_fl2d_tra_hemo",
        "Axial T2 GRE",
        "AX T2 STAR",
    ),
    "SWI": (
        "SWI_Images",
        "Ax SWAN",
        "t2_swi3d_tra_p2",
        "SWI",
    ),
    "dwi": (
        "Axial DTI",
        "ep2d_diff_3scan_trace_p2",
        "DTI_gated",
        "dMRI_dir98_AP",
        "Ax DWI b1000",
        "DTI 30 dir",
    ),
    "bold": (
        "Resting State fMRI",
        "rfMRI_REST1_LR",
        "tfMRI_WM_RL",
        "ep2d_bold_moco",
        "Axial MB rsfMRI (Eyes Open)",
        "Extended Resting State fMRI",
    ),
    "asl": (
        "3D ASL perfusion",
        "pCASL",
        "ASL PERFUSION",
    ),
    None: (
        "AXIAL T2 MPR",
        "CISS MPR",
        "T1 map",
        "T1map",
        "AX T1 FLAIR",
        "T1 FLAIR",
        "t1_tirm_tra_dark-fluid",
        "Axial PD/T2 FSE",
        "Axial PD-T2 TSE",
        "Hippocampal Mask",
        "Field Mapping",
        "B1-calibration Head",
        "3 Plane Localizer",
        "MPRAGE SENSE localizer",
        "AAHead_Scout",
        "gre_field_mapping",
        "SpinEchoFieldMap_AP",
        "Pha_Images",
        "mIP_Images(SW)",
        "T1_MAP_MOLLI",
        "T2 map",
        "TOF_3D_multi-slab",
        "T1w_MPR_vNav_setter",
        "MP2RAGE_INV1",
        "mp2rage_T1_Images",
        "smartbrain",
        "3D_SAG",
        "Sag MPR",
        "tfl_b1map",
        "brainmask",
        "aparc+aseg",
        "T1/T2",
        "CISS 3D",
        "B_TFE",
        "FIESTA",
        "2D GRE-MT",
        "B0 map",
        "FLAIR MPR",
        "phase",
        "T1 mapping SASHA",
        "Survey_SHC",
        "SBRef",
        "T1 phase",
        "SWI phase",
        "TBM Jacobian Maps MDT-SC",
        "svs_se_30",
        "",
    ),
}


@pytest.mark.parametrize(
    ("description", "sequence"), [(text, name) for name, texts in DESCRIPTIONS.items() for text in texts]
)
def test_series_descriptions(description: str, sequence: str | None) -> None:
    assert sequence_of(description) == sequence


@pytest.mark.parametrize(
    ("description", "reason"),
    [
        ("AX T1 FLAIR", "FLAIR and T1w, which contradict each other"),
        ("AXIAL T2 MPR", "T1w and T2w, which contradict each other"),
        ("T1 map", "a parametric map"),
        ("T1 phase", "a phase image"),
        ("Hippocampal Mask", "a mask or label image"),
    ],
)
def test_reasons_of_unknown_sequences(description: str, reason: str) -> None:
    assert reason in read_description(description).reason


MPRAGE = Timing(echo=2.98, repetition=2300, inversion=900, technique="GR IR")
FLAIR = Timing(echo=119, repetition=9000, inversion=2500, technique="SE IR")


@pytest.mark.parametrize(
    ("description", "timing", "sequence"),
    [
        *(("AX 3D", MPRAGE, "T1w"), ("AX 3D", FLAIR, "FLAIR"), ("", Timing(echo=3.0), None)),
        ("", Timing(echo=96, repetition=5000, technique="SE"), "T2w"),
        ("", Timing(echo=10, repetition=500, technique="SE"), "T1w"),
        ("", Timing(echo=30, repetition=2000, technique="EP GR"), None),
        *(("MPRAGE", MPRAGE, "T1w"), ("MPRAGE", FLAIR, None), ("AX FLAIR", FLAIR, "FLAIR"), ("AX FLAIR", MPRAGE, None)),
        ("T1 FLAIR", Timing(echo=9.2, repetition=2300, inversion=760, technique="SE IR"), None),
    ],
)
def test_timing(description: str, timing: Timing, sequence: str | None) -> None:
    assert sequence_of(description, timing) == sequence


@pytest.mark.parametrize(
    ("name", "sequence"),
    [
        *(
            ("sub-01_T1w.nii.gz", "T1w"),
            ("sub-01_ses-1_acq-mprage_run-1_T1w.nii", "T1w"),
            ("sub-01_FLAIR.nii.gz", "FLAIR"),
        ),
        *(("sub-PD01_acq-FLAIR_T1w.nii.gz", "T1w"), ("sub-01_T2starw.nii.gz", "T2starw"), ("scan.nii.gz", None)),
        *(("AX_T2_FLAIR.nii.gz", "FLAIR"), ("PD_017_mprage.nii", "T1w"), ("PD_017.nii.gz", None), ("T1.mgz", "T1w")),
    ],
)
def test_file_names(tmp_path: Path, name: str, sequence: str | None) -> None:
    found = file_sequence(tmp_path / name)
    assert found.sequence == sequence and not found.reason


@pytest.mark.parametrize(
    "name",
    [
        *("sub-01_part-phase_T1w.nii.gz", "sub-01_desc-brain_mask.nii.gz", "sub-01_T1w_mask.nii.gz", "aparc+aseg.mgz"),
        *("sub-01_space-MNI_dseg.nii.gz", "brainmask.mgz", "sub-01_T1map.nii.gz", "sub-01_phasediff.nii.gz"),
        *("sub-01_magnitude1.nii.gz", "mprage_phase.nii.gz", "T1_FLAIR.nii", "sub-01_inplaneT2.nii.gz", "t1_seg.nii"),
    ],
)
def test_names_of_unweighted_images(tmp_path: Path, name: str) -> None:
    found = file_sequence(tmp_path / name)
    assert found.sequence is None and found.reason


@pytest.mark.parametrize(
    ("name", "sidecar", "sequence"),
    [
        ("scan", {"SeriesDescription": "Sag MPRAGE"}, "T1w"),
        ("scan", {"SeriesDescription": "series 4", "ProtocolName": "t2_flair"}, "FLAIR"),
        ("scan", {"EchoTime": 0.00298, "InversionTime": 0.9, "ScanningSequence": "GR_IR"}, "T1w"),
        ("scan_t1", {"SeriesDescription": "AX T2"}, None),
        ("sub-01_T1w", {"SeriesDescription": "AX FLAIR"}, None),
        ("sub-01_T1w", {"EchoTime": 0.119}, None),
        ("sub-01_T1w", {"ImageType": ["ORIGINAL", "PRIMARY", "P"]}, None),
        ("sub-01_T1w", {"SeriesDescription": "AX T1 FLAIR", "EchoTime": 0.009}, "T1w"),  # BIDS first
    ],
)
def test_sidecars(tmp_path: Path, name: str, sidecar: dict[str, object], sequence: str | None) -> None:
    (tmp_path / f"{name}.json").write_text(json.dumps(sidecar))
    found = file_sequence(tmp_path / f"{name}.nii.gz")
    assert found.sequence == sequence and bool(found.reason) == (sequence is None)


def test_dicom_headers() -> None:
    def finding(**changes: object) -> str | None:
        return header_sequence(Phantom(changes=changes).header(0, 0)).sequence

    assert finding() == "T1w" and finding(SeriesDescription="", ProtocolName="AX FLAIR") == "FLAIR"
    # a protocol's name is often that of the whole examination
    assert finding(ProtocolName="T2 and FLAIR") == "T1w"
    assert finding(SeriesDescription="7", InversionTime=900) == "T1w"
    assert finding(EchoTime=110) is None


def test_masks_and_label_images_by_their_voxels() -> None:
    generator = np.random.default_rng(0)
    scan = generator.integers(0, 900, (12, 12, 12))
    parcels = np.repeat(np.repeat(generator.integers(0, 60, (3, 3, 3)), 8, 0), 8, 1)
    assert "2 different values" in label_image_reason(scan > 450)
    assert "mask or label" in label_image_reason((scan // 200).astype(np.float32))
    assert "flat pieces" in label_image_reason(np.repeat(parcels, 8, 2))
    for image in (scan, scan.astype(np.uint8), generator.normal(size=(9, 9, 9))):
        assert label_image_reason(image) == ""


def test_a_mask_in_a_list_is_no_scan(tmp_path: Path) -> None:
    write_volume(tmp_path / "a.nii.gz", 1)
    write_volume(tmp_path / "b.nii.gz", data=(voxels(2) > 400).astype(np.uint8))
    rows = [("a.nii.gz", "CN", "a"), ("b.nii.gz", "CN", "b")]
    table = write_csv(tmp_path / "list.csv", ("path", "label", "subject"), rows)
    assert [scan.id for scan in prepare("csv", table, tmp_path / "data").scans] == ["a"]
    assert rejected(tmp_path / "data") == {"line 3": "a mask or label image: 2 different values"}
