"""Importers of volumes: each format to the letter, with the number that the file holds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from debian_mri.biomarkers.volumes import VolumeTable, import_volumes
from debian_mri.biomarkers.volumes.importers import match_names
from debian_mri.biomarkers.volumes.structures import STRUCTURES
from debian_mri.cli import main
from debian_mri.data.manifest import Scan
from icube_common.errors import InputError

# FreeSurfer 7: the layout of mri_segstats, invented numbers
ASEG = """\
# Title Segmentation Statistics 
# 
# generating_program mri_segstats
# cvs_version 7.4.1
# cmdline mri_segstats --seed 1234 --seg mri/aseg.mgz --sum stats/aseg.stats --pv mri/norm.mgz --empty --subject sub-01
# sysname  Linux
# hostname node
# machine  x86_64
# user     user
# anatomy_type volume
# 
# SUBJECTS_DIR /data
# subjectname sub-01
# Measure BrainSeg, BrainSegVol, Brain Segmentation Volume, 1118823.000000, mm^3
# Measure BrainSegNotVent, BrainSegVolNotVent, Brain Segmentation Volume Without Ventricles, 1091402.000000, mm^3
# Measure lhCortex, lhCortexVol, Left hemisphere cortical gray matter volume, 221433.512345, mm^3
# Measure rhCortex, rhCortexVol, Right hemisphere cortical gray matter volume, 223981.250000, mm^3
# Measure Cortex, CortexVol, Total cortical gray matter volume, 445414.762345, mm^3
# Measure lhCerebralWhiteMatter, lhCerebralWhiteMatterVol, Left hemisphere cerebral white matter volume, 220001.5, mm^3
# Measure rhCerebralWhiteMatter, rhCerebralWhiteMatterVol, Right hemisphere cerebral white matter volume, 221002.5, mm^3
# Measure TotalGray, TotalGrayVol, Total gray matter volume, 600123.762345, mm^3
# Measure MaskVol-to-eTIV, MaskVol-to-eTIV, Ratio of MaskVol to eTIV, 1.047911, unitless
# Measure SurfaceHoles, SurfaceHoles, Total number of defect holes in surfaces prior to fixing, 23, unitless
# Measure EstimatedTotalIntraCranialVol, eTIV, Estimated Total Intracranial Volume, 1448231.118043, mm^3
# SegVolFile mri/aseg.mgz 
# ColorTable /opt/freesurfer/ASegStatsLUT.txt 
# ExcludeSegId 0 2 3 41 42 
# TableCol  1 ColHeader Index 
# TableCol  1 FieldName Index 
# NRows 45 
# NTableCols 10 
# ColHeaders  Index SegId NVoxels Volume_mm3 StructName normMean normStdDev normMin normMax normRange  
  1   4     12841    13045.8  Left-Lateral-Ventricle            27.8031    11.1205     7.0000    84.0000    77.0000 
  2   5       411      433.6  Left-Inf-Lat-Vent                 41.1168    13.4019    14.0000    79.0000    65.0000 
  5  10      7102     7150.3  Left-Thalamus                     86.2117     9.9021    32.0000   109.0000    77.0000 
  9  14      1377     1401.9  3rd-Ventricle                     32.8002    13.0111    10.0000    79.0000    69.0000 
 11  16     20034    20113.4  Brain-Stem                        80.1100    11.4001    13.0000   110.0000    97.0000 
 12  17      3621     3702.4  Left-Hippocampus                  72.9191     8.8031    31.0000   109.0000    78.0000 
 14  24      1011     1050.5  CSF                               45.0181    14.1001    18.0000    87.0000    69.0000 
 29  53      3809     3899.2  Right-Hippocampus                 73.4450     8.3113    38.0000   108.0000    70.0000 
"""
APARC = """\
# Table of FreeSurfer cortical parcellation anatomical statistics 
# 
# CreationTime 2026/01/01-10:00:00-GMT
# generating_program mris_anatomical_stats
# subjectname sub-01
# hemi lh
# annot aparc.annot
# Measure Cortex, NumVert, Number of Vertices, 131211, unitless
# Measure Cortex, WhiteSurfArea, White Surface Total Area, 85443.1, mm^2
# Measure Cortex, MeanThickness, Mean Thickness, 2.41132, mm
# Measure EstimatedTotalIntraCranialVol, eTIV, Estimated Total Intracranial Volume, 1448231.118043, mm^3
# NTableCols 10
# ColHeaders StructName NumVert SurfArea GrayVol ThickAvg ThickStd MeanCurv GausCurv FoldInd CurvInd
bankssts                                 1466   1004   2361  2.402 0.455     0.101     0.022       12     1.4
entorhinal                                611    431   1873  3.121 0.811     0.129     0.045       10     1.1
inferiorparietal                         6612   4501  11877  2.311 0.501     0.117     0.026       70     7.2
"""
SYNTHSEG = """\
subject,total intracranial,left cerebral white matter,left cerebral cortex,left lateral ventricle,\
left inferior lateral ventricle,left cerebellum white matter,left cerebellum cortex,left thalamus,3rd ventricle,\
brain-stem,left hippocampus,csf,right hippocampus,ctx-lh-entorhinal
sub-01_T1w.nii.gz,1512345.6,210000.1,230000.2,15000.3,500.4,14000.5,52000.6,7300.7,1600.8,21000.9,3811.125,301000,\
3950.5,1900.25
sub-02_T1w.nii.gz,1400000,200000,220000,11000,300,13000,50000,7000,900,20000,4100,250000,4200,2000
"""
CAT_ROI = """\
<?xml version="1.0" encoding="utf-8"?>
<S>
  <neuromorphometrics>
    <names>
      <item>Left Third Ventricle</item>
      <item>Right Third Ventricle</item>
      <item>Left Hippocampus</item>
      <item>Right Hippocampus</item>
      <item>Left Lateral Ventricle</item>
      <item>Left Anterior Insula</item>
      <item>Left Posterior Insula</item>
    </names>
    <ids>[1;2;17;18;21;35;95]</ids>
    <data>
      <Vgm>[0.01;0.02;3.1257;3.3001;0.2;3.5;2.25]</Vgm>
      <Vwm>[0.0;0.0;0.5;0.6;0.1;0.3;NaN]</Vwm>
      <Vcsf>[0.71;0.62;0.4;0.3;14.875;0.9;0.8]</Vcsf>
    </data>
  </neuromorphometrics>
</S>
"""
CAT_REPORT = """\
<?xml version="1.0" encoding="utf-8"?>
<S>
  <subjectmeasures>
    <vol_TIV>1498.25</vol_TIV>
    <vol_abs_CGW>[331.5 602.25 564.5 0 0]</vol_abs_CGW>
  </subjectmeasures>
</S>
"""


def volumes_of(table: VolumeTable, row: int = 0) -> dict[str, float]:
    values = zip(table.names, table.values[row], strict=True)
    return {name: float(value) for name, value in values if not np.isnan(value)}


def freesurfer_folder(root: Path, subject: str = "sub-01") -> Path:
    stats = root / subject / "stats"
    stats.mkdir(parents=True)
    (stats / "aseg.stats").write_text(ASEG)
    (stats / "lh.aparc.stats").write_text(APARC)
    (stats / "rh.aparc.stats").write_text(APARC.replace("# hemi lh", "# hemi rh").replace("1873", "1755"))
    return root


def test_freesurfer_volumes_are_those_of_the_file(tmp_path: Path) -> None:
    table = import_volumes(freesurfer_folder(tmp_path)).table
    assert table.ids == ("sub-01",) and table.sources == ("FreeSurfer",)
    assert volumes_of(table) == {
        "intracranial_volume": 1448231.118043 / 1000,
        "brain": 1091402.0 / 1000,
        "grey_matter": 600123.762345 / 1000,
        "cerebral_cortex_left": 221433.512345 / 1000,
        "cerebral_cortex_right": 223981.25 / 1000,
        "cerebral_white_matter_left": 220001.5 / 1000,
        "cerebral_white_matter_right": 221002.5 / 1000,
        "lateral_ventricle_left": 13045.8 / 1000,
        "inferior_lateral_ventricle_left": 433.6 / 1000,
        "thalamus_left": 7150.3 / 1000,
        "third_ventricle": 1401.9 / 1000,
        "brain_stem": 20113.4 / 1000,
        "hippocampus_left": 3702.4 / 1000,
        "hippocampus_right": 3899.2 / 1000,
        "entorhinal_cortex_left": 1873 / 1000,
        "entorhinal_cortex_right": 1755 / 1000,
        "inferior_parietal_lobule_left": 11877 / 1000,
        "inferior_parietal_lobule_right": 11877 / 1000,
    }
    assert any("Fischl" in line for line in table.citations)


def test_older_and_other_names_of_freesurfer(tmp_path: Path) -> None:
    old = ASEG.replace("EstimatedTotalIntraCranialVol, eTIV,", "IntraCranialVol, ICV,")
    old = old.replace("Left-Thalamus ", "Left-Thalamus-Proper ").replace("CerebralWhiteMatter", "CorticalWhiteMatter")
    path = tmp_path / "aseg.stats"
    path.write_text(old)
    volumes = volumes_of(import_volumes(path).table)
    assert volumes["intracranial_volume"] == 1448231.118043 / 1000
    assert volumes["thalamus_left"] == 7150.3 / 1000
    assert volumes["cerebral_white_matter_right"] == 221002.5 / 1000


def test_fastsurfer_regions_of_the_segmentation(tmp_path: Path) -> None:
    stats = tmp_path / "sub-07" / "stats"
    stats.mkdir(parents=True)
    row = " 40 1006      1701     1750.5  ctx-lh-entorhinal                 70.1   9.1    20.0   110.0    90.0 \n"
    (stats / "aseg+DKT.stats").write_text(ASEG + row)
    table = import_volumes(tmp_path).table
    assert table.ids == ("sub-07",)
    assert volumes_of(table)["entorhinal_cortex_left"] == 1750.5 / 1000


def test_tables_of_asegstats2table(tmp_path: Path) -> None:
    aseg = tmp_path / "aseg.tsv"
    aseg.write_text(
        "Measure:volume\tLeft-Hippocampus\t3rd-Ventricle\tEstimatedTotalIntraCranialVol\tBrainSegVol-to-eTIV\n"
        "sub-01\t3702.4\t1401.9\t1448231.118\t0.77\n"
        "subjects/sub-02/\t4100.0\t900.5\t1390000.0\t0.81\n"
    )
    aparc = tmp_path / "lh.aparc.volume.tsv"
    aparc.write_text("lh.aparc.volume\tlh_entorhinal_volume\tlh_bankssts_volume\nsub-01\t1873\t2361\nsub-02\t2000\t1\n")
    table = import_volumes([aseg, aparc]).table
    assert table.ids == ("sub-01", "sub-02")
    assert table.names == ("hippocampus_left", "entorhinal_cortex_left", "third_ventricle", "intracranial_volume")
    assert table.values[1].tolist() == [4.1, 2.0, 0.9005, 1390.0]


def test_a_table_of_thickness_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "lh.tsv"
    path.write_text("lh.aparc.thickness\tlh_entorhinal_thickness\nsub-01\t3.1\n")
    with pytest.raises(InputError, match=r"lh\.tsv: no volumes of FreeSurfer"):
        import_volumes(path)


def test_synthseg_volumes_are_those_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "volumes.csv"
    path.write_text(SYNTHSEG)
    table = import_volumes(path).table
    assert table.ids == ("sub-01_T1w", "sub-02_T1w") and set(table.sources) == {"SynthSeg"}
    volumes = volumes_of(table)
    assert volumes["intracranial_volume"] == 1512345.6 / 1000
    assert volumes["hippocampus_left"] == 3811.125 / 1000
    assert volumes["inferior_lateral_ventricle_left"] == 500.4 / 1000
    assert volumes["entorhinal_cortex_left"] == 1900.25 / 1000
    assert volumes["third_ventricle"] == 1600.8 / 1000
    assert "cerebrospinal_fluid" not in volumes


def test_cat12_volumes_are_those_of_the_files(tmp_path: Path) -> None:
    for folder, name, text in (("label", "catROI_sub-01.xml", CAT_ROI), ("report", "cat_sub-01.xml", CAT_REPORT)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_text(text)
    table = import_volumes(tmp_path).table
    assert table.ids == ("sub-01",)
    assert volumes_of(table) == {
        "hippocampus_left": 3.1257,
        "hippocampus_right": 3.3001,
        "lateral_ventricle_left": 14.875,
        "third_ventricle": 0.71 + 0.62,
        "insula_left": 3.5 + 2.25,
        "intracranial_volume": 1498.25,
        "cerebrospinal_fluid": 331.5,
        "grey_matter": 602.25,
        "white_matter": 564.5,
        "brain": 602.25 + 564.5,
    }
    assert any("CC BY-NC" in line for line in table.citations)


def test_cat12_table_of_regions(tmp_path: Path) -> None:
    path = tmp_path / "ROI_catROI_neuromorphometrics_Vgm.csv"
    path.write_text("Name\tlHip\trHip\tlLatV\tlPCu\t\nsub-01\t3.1257\t3.3001\t0.2\t9.5\t\nsub-02\t3.0\t3.1\t0.3\t\t\n")
    table = import_volumes(path).table
    # a ventricle is not summed from grey matter
    assert table.names == ("hippocampus_left", "hippocampus_right", "precuneus_left")
    assert table.values[0].tolist() == [3.1257, 3.3001, 9.5] and np.isnan(table.values[1, 2])


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("aseg.stats", ASEG.replace("3702.4", "n/a"), r"aseg\.stats: line 38: 'n/a' is no volume in mm3"),
        ("aseg.stats", ASEG.replace("# ColHeaders", "# Heads"), r"line 33: no line '# ColHeaders"),
        ("aseg.stats", "# Title\n", "no volume of a structure"),
        ("v.csv", SYNTHSEG.replace(",3811.125", ",-1"), "line 2: left hippocampus: '-1' is no volume"),
        ("v.csv", SYNTHSEG.replace(",3811.125", ""), "line 2: 14 fields, 15 expected"),
        ("catROI_x.xml", CAT_ROI.replace("[0.01;", "["), "Vgm: 6 values for 7 names"),
        ("catROI_x.xml", CAT_ROI[:-9], "no XML file"),
        ("catROI_x.xml", "<S><aal3/></S>", "no regions of the atlas neuromorphometrics"),
        ("cat_x.xml", "<S><x/></S>", "neither vol_TIV nor vol_abs_CGW"),
        ("other.csv", "id,age\n1,2\n", "no volumes of FreeSurfer, FastSurfer, SynthSeg or CAT12"),
    ],
)
def test_damaged_files_are_refused_by_name(tmp_path: Path, name: str, text: str, message: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        import_volumes(path)


def test_programs_are_not_mixed(tmp_path: Path) -> None:
    freesurfer_folder(tmp_path / "fs")
    (tmp_path / "v.csv").write_text(SYNTHSEG)
    with pytest.raises(InputError, match="freesurfer and synthseg: programs must not be mixed"):
        import_volumes([tmp_path / "fs", tmp_path / "v.csv"])


def test_sources_that_disagree_are_refused(tmp_path: Path) -> None:
    for folder, text in (("a", ASEG), ("b", ASEG.replace("3702.4", "3802.4"))):
        freesurfer_folder(tmp_path / folder)
        (tmp_path / folder / "sub-01" / "stats" / "aseg.stats").write_text(text)
    with pytest.raises(InputError, match=r"sub-01: hippocampus_left is 3\.8024 mL here and 3\.7024 mL"):
        import_volumes([tmp_path / "a", tmp_path / "b"])


def scan(name: str, subject: str, session: str | None = None) -> Scan:
    return Scan(id=name, subject=subject, label="CN", session=session, paths=("x.nii.gz",))


def test_names_match_scans_by_subject_and_session() -> None:
    scans = [scan("a", "sub-01", "ses-1"), scan("b", "sub-01", "ses-2"), scan("c", "OAS1_0003")]
    names = ["sub-01_ses-2", "OAS1_0003", "sub-01", "sub-01_ses-1_T1w"]
    assert match_names(names, scans) == {"sub-01_ses-2": "b", "OAS1_0003": "c", "sub-01_ses-1_T1w": "a"}
    with pytest.raises(InputError, match="both match the scan c"):
        match_names(["OAS1_0003", "sub-OAS1_0003"], scans)


def test_command_writes_a_table_that_reads_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    freesurfer_folder(tmp_path / "fs")
    out = tmp_path / "volumes.csv"
    assert main(["import-volumes", str(tmp_path / "fs"), "--out", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["scans"] == 1
    table = VolumeTable.read(out)
    assert table.column("hippocampus")[0] == 3702.4 / 1000 + 3899.2 / 1000
    assert table.relative("third_ventricle")[0] == (1401.9 / 1000) / (1448231.118043 / 1000)
    assert json.loads(out.with_suffix(".json").read_text())["unit"] == "mL"
    assert main(["import-volumes", str(tmp_path / "fs"), "--out", str(out)]) == 2
    assert "--overwrite" in capsys.readouterr().err
    out.write_text(out.read_text().replace("3.7024", "large"))
    with pytest.raises(InputError, match=r"volumes\.csv: line 2: hippocampus_left: 'large' is no volume in mL"):
        VolumeTable.read(out)


def test_every_structure_has_a_source() -> None:
    named = [one.name for one in STRUCTURES.values() if one.aseg or one.cortical or one.rois or one.tissue == "total"]
    assert named == list(STRUCTURES)
