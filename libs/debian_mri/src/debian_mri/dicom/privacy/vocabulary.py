"""Vocabulary of headers: words about the acquisition, never about subject, site or time; all others are removed.

Free text of a header may hold a name, an id or a date anywhere, so a word is kept only if it is in one of these
lists.
"""

from __future__ import annotations

import re


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


DESCRIPTION_WORDS = _words(
    """
    t1 t1w t2 t2w t2star pd pdw flair dir swi swan swip adc fa trace dwi dti dki asl pcasl pasl cbf bold fmri rest
    resting state task mprage mp2rage mpr rage spgr fspgr bravo tfl tfe ffe tse fse se gre ge epi flash fisp space cube
    vista vibe thrive lava haste ssfse ir fir stir irfse inv uni den gradient echo spin spinecho
    ax axial cor coronal sag sagittal obl oblique tra transverse transversal 2d 3d 4d
    head brain cranial neuro whole hippocampus hippocampal localizer localiser scout survey plane loc
    fieldmap field map b0 b1 phase mag magnitude real imaginary reformat mosaic moco sbref ref calibration
    iso isotropic hires high res resolution accelerated repeat rep fast fat sat fs nd norm dis2d dis3d grappa sense mb
    multiband ap pa rl lr is si i s to interleaved sequential ascending descending pe angio tof mra mrv
    pre post contrast gd qsm
    """
)
IMAGE_TYPES = _words(
    """
    ORIGINAL DERIVED PRIMARY SECONDARY M P R I N ND NORM DIS2D DIS3D MOSAIC MPR MIP FM FMRI EPI NONE OTHER SE IR FFE
    GR TSE M_SE M_IR M_FFE M_TSE P_FFE R_FFE I_FFE MAGNITUDE PHASE REAL IMAGINARY MIXED DIFFUSION ADC FA TRACE TRACEW
    TENSOR T1 T2 T2_STAR PROTON_DENSITY VOLUME REFORMATTED RESAMPLED AXIAL CORONAL SAGITTAL LOCALIZER ECHO MOCO ASL
    PERFUSION SUBTRACTION UNI INV1 INV2 DEN PROPELLER MFSPLIT COMPRESSED QUANTITY
    """
)
CODES: dict[str, frozenset[str]] = {
    "Modality": frozenset({"MR", "CT", "PT", "NM"}),
    "MRAcquisitionType": frozenset({"1D", "2D", "3D"}),
    "ScanningSequence": frozenset({"SE", "IR", "GR", "EP", "RM"}),
    "SequenceVariant": frozenset({"SK", "MTC", "SS", "TRSS", "SP", "MP", "OSP", "NONE"}),
    "PatientPosition": frozenset({"HFP", "HFS", "HFDR", "HFDL", "FFDR", "FFDL", "FFP", "FFS"}),
    "InPlanePhaseEncodingDirection": frozenset({"ROW", "COL"}),
    "BodyPartExamined": frozenset({"BRAIN", "HEAD", "SKULL", "HEADNECK"}),
    "LossyImageCompression": frozenset({"00", "01"}),
    "PhotometricInterpretation": frozenset({"MONOCHROME1", "MONOCHROME2"}),
    "PixelPresentation": frozenset({"MONOCHROME"}),
    "VolumetricProperties": frozenset({"VOLUME", "SAMPLED", "DISTORTED", "MIXED"}),
    "VolumeBasedCalculationTechnique": frozenset({"NONE", "MAX_IP", "MIN_IP", "VOLUME_RENDER", "MPR"}),
    "ComplexImageComponent": frozenset({"MAGNITUDE", "PHASE", "REAL", "IMAGINARY", "MIXED"}),
    "DiffusionDirectionality": frozenset({"DIRECTIONAL", "BMATRIX", "ISOTROPIC", "NONE"}),
    "DimensionOrganizationType": frozenset({"3D", "3D_TEMPORAL", "TILED_FULL", "TILED_SPARSE"}),
    "BurnedInAnnotation": frozenset({"YES", "NO"}),
    "PresentationLUTShape": frozenset({"IDENTITY", "INVERSE"}),
    "RescaleType": frozenset({"US", "HU", "OD", "MGML", "Z_EFF"}),
    "PatientIdentityRemoved": frozenset({"YES", "NO"}),
    "ImageType": IMAGE_TYPES,
    "FrameType": IMAGE_TYPES,
    "SpecificCharacterSet": frozenset({f"ISO_IR {number}" for number in (6, 13, 100, 101, 109, 110, 126, 127, 192)}),
}
MAKERS = {
    "siemens": "Siemens",
    "ge medical": "GE",
    "ge healthcare": "GE",
    "philips": "Philips",
    "hitachi": "Hitachi",
    "toshiba": "Toshiba",
    "canon": "Canon",
    "fujifilm": "Fujifilm",
    "uih": "UIH",
    "united imaging": "UIH",
    "hyperfine": "Hyperfine",
    "bruker": "Bruker",
    "mediso": "Mediso",
}
MODELS = _words(
    """
    magnetom prisma prisma_fit prismafit skyra skyra_fit trio triotim tim verio aera avanto avanto_fit symphony
    symphonytim sonata allegra vision espree biograph biograph_mmr mmr connectom terra vida lumina sola altea amira
    free.max cima cima.x essenza harmony signa hdxt hdx hde excite genesis_signa discovery mr750 mr750w mr450 mr450w
    mr355 optima premier architect pioneer artist voyager hero explorer creator pet/mr achieva dstream ingenia
    elition ambition intera gyroscan gyroscan-nt nt panorama ingenuity tf multiva prodiva vantage titan galan orian
    elan excelart echelon oasis airis aperto altaire swoop umr umr770 umr780 umr790 umr890 upmr upmr790
    """
)


def description(text: str) -> str:
    """Known words of a series description, in order; empty if none."""
    return " ".join(word for word in re.split(r"[^a-z0-9]+", text.lower()) if word in DESCRIPTION_WORDS)


def manufacturer(text: str) -> str | None:
    """Manufacturer of the scanner by its usual name, None for any other text."""
    return next((name for start, name in MAKERS.items() if text.strip().lower().startswith(start)), None)


def model(text: str) -> str | None:
    """Model of the scanner, None for a text with unknown words."""
    name = text.strip()
    return name if name and all(word.lower() in MODELS for word in name.split()) else None


def codes(keyword: str, values: tuple[str, ...]) -> list[str]:
    """Values of a coded attribute that are in its list."""
    allowed = CODES.get(keyword, frozenset())
    return [value for value in values if value in allowed]
