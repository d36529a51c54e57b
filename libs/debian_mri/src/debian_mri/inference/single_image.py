"""Single images for a prediction: a NIfTI volume, a DICOM folder, or slice images of one person."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from debian_mri.cohorts.mri_sequence.description import SequenceFinding
from debian_mri.cohorts.mri_sequence.image import file_sequence
from debian_mri.data.feature_store import SingleScanImages
from debian_mri.data.manifest import PLANES, Scan
from debian_mri.imaging.masks import label_image_reason
from debian_mri.imaging.nifti import SUFFIXES, UnusableImage, read_volume, slices_digest, volume_digest
from debian_mri.inference.scan_input import ScanSource
from debian_mri.inference.sequence_check import resolve_sequence, series_findings, trained_sequences
from debian_mri.models.mri_model import MriModel
from icube_common.errors import InputError, unknown

PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")


def open_image(
    model: MriModel,
    paths: Sequence[str | Path],
    *,
    planes: Sequence[str] = (),
    fill_nan: bool = False,
    sequence: str | None = None,
) -> ScanSource:
    """A single image for a model; a DICOM folder is converted in a temporary folder.

    Args:
        model: a trained model.
        paths: one NIfTI volume, one DICOM folder, or slice images.
        planes: of the slice images, in their order.
        fill_nan: set NaN voxels of a volume outside the head to background.
        sequence: MRI sequence of the image, in place of that of its name or header.

    Raises:
        InputError: no such file, of an unknown kind, planes that do not fit, a folder without one usable volume, an
            image of another sequence than the model's, or a mask or label image.
    """
    files = [Path(path) for path in paths]
    for file in files:
        if not file.exists():
            raise InputError(f"{file}: no such file or folder")
    first, trained = files[0], trained_sequences(model.description)
    if not first.is_dir() and not is_volume(first):
        return _open_slices(model, files, planes, trained, sequence)
    if planes and not first.is_dir():
        raise InputError(f"--planes {','.join(planes)}: {first} is a volume; planes are those of slice images")
    with tempfile.TemporaryDirectory(prefix="debian-mri-") as folder:
        if first.is_dir():
            path, finding = _converted(first, Path(folder) / "nifti", trained, sequence)
            scan_id = first.name or "scan"
        else:
            path, finding, scan_id = first.resolve(), file_sequence(first), stem(first)
        name, warnings = resolve_sequence(finding, trained, image=str(first), sequence=sequence)
        raw = read_volume(str(path), fill_nan=fill_nan)
    if reason := label_image_reason(raw.data):
        raise InputError(f"{first}: {reason}, not a scan")
    scan = Scan(
        id=scan_id,
        subject="one",
        label=model.labels[0],
        sequence=name,
        paths=(str(path),),
        # the digest of prepared sets: it recognises an image of the training
        sha256=volume_digest(raw.data, raw.affine),
    )
    images = SingleScanImages(scan, model.config, format="one image", raw=raw)
    return ScanSource(images, _is_simulated(first), tuple(warnings))


def _open_slices(
    model: MriModel, files: Sequence[Path], planes: Sequence[str], trained: Sequence[str], stated: str | None
) -> ScanSource:
    first = files[0]
    for file in files:
        if file.suffix.lower() not in PICTURES:
            kinds = ", ".join((*SUFFIXES, *PICTURES))
            raise InputError(f"{file}: neither a volume nor a slice image ({kinds}), nor a DICOM folder")
    check_planes(planes, len(files), str(first))
    resolved = [file.resolve() for file in files]
    try:
        digest = slices_digest(resolved)
    except UnusableImage as error:
        raise InputError(f"{first}: {error}") from None
    findings = dict.fromkeys(
        finding_of_file for finding_of_file in map(file_sequence, files) if finding_of_file != SequenceFinding()
    )
    refused = next(
        (finding_of_file for finding_of_file in findings if finding_of_file.sequence not in trained), SequenceFinding()
    )
    finding = refused if refused.reason or refused.sequence else next(iter(findings), SequenceFinding())
    sequence, warnings = resolve_sequence(finding, trained, image=str(first), sequence=stated)
    scan = Scan(
        id=stem(first),
        subject="one",
        label=model.labels[0],
        kind="slices",
        sequence=sequence,
        paths=tuple(map(str, resolved)),
        planes=tuple(planes),
        sha256=digest,
    )
    images = SingleScanImages(scan, model.config, format=str(model.description["data"]["format"]))
    return ScanSource(images, _is_simulated(first), tuple(warnings))


def check_planes(planes: Sequence[str], images: int, first: str) -> None:
    """Check that each slice image has a plane.

    Raises:
        InputError: another number of them, or an unknown one.
    """
    if len(planes) != images:
        raise InputError(
            f"{first}: {images} slice image{'s' * (images > 1)} and {len(planes)} planes: name the plane of each, such "
            "as --planes coronal,axial"
        )
    for plane in planes:
        if plane not in PLANES:
            raise unknown("plane of --planes", plane, PLANES)


def _converted(source: Path, out: Path, trained: Sequence[str], stated: str | None) -> tuple[Path, SequenceFinding]:
    """The one volume of a DICOM folder with the model's sequence, and the finding of its header."""
    from debian_mri.dicom import convert_folder

    answer = convert_folder(source, out)
    volumes = [
        (out / Path(series["path"]).name, finding)
        for series, finding in zip(answer["series"], series_findings(source), strict=True)
        if series["path"]
    ]
    if not volumes:
        reasons = [series["reason"] for series in answer["series"] if series["reason"]]
        raise InputError(f"{source}: no series can be used ({reasons[0] if reasons else 'it holds none'})")
    fitting = [pair for pair in volumes if pair[1].sequence in trained]
    chosen = fitting or [pair for pair in volumes if pair[1] == SequenceFinding()]
    if len(volumes) == 1:
        return volumes[0]
    if len(chosen) != 1 or stated is not None:
        raise InputError(
            f"{source}: {len(volumes)} volumes, of which {len(fitting)} are {', '.join(trained)} by their description: "
            "convert it (debian-mri convert) and give the volume that is meant"
        )
    return chosen[0]


def is_volume(path: Path) -> bool:
    """True for the file name of a volume."""
    return path.name.lower().endswith(SUFFIXES)


def stem(path: Path) -> str:
    """A file's name without its endings.

    >>> [stem(Path(name)) for name in ("a.b.nii.gz", "a.hdr", "a.mgz")]
    ['a.b', 'a', 'a']
    """
    return path.name.removesuffix(".gz").rsplit(".", 1)[0] or path.name


def _is_simulated(path: Path) -> bool:
    """True for a file in a prepared set of simulated scans."""
    import json

    for folder in path.resolve().parents[:3]:
        file = folder / "dataset.json"
        if file.is_file():
            try:
                return bool(json.loads(file.read_text(encoding="utf-8")).get("simulated"))
            except (ValueError, AttributeError, OSError):
                return False
    return False
