"""Prediction of one scan with an explanation: probabilities, contributions, slices, text, and an HTML page of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from debian_mri import RESEARCH_ONLY
from debian_mri.biomarkers.volumes.atlas import Atlas
from debian_mri.biomarkers.volumes.regional import StructureLabels
from debian_mri.data.dataset import ScanDataset, ScanInput
from debian_mri.explanation.explain import explain_scan
from debian_mri.explanation.html_report import save_report, write_page, write_tsv
from debian_mri.explanation.norms import NormCurve, norm_curves
from debian_mri.explanation.record import Explanation
from debian_mri.explanation.report_text import explain
from debian_mri.imaging.preprocess import Volume
from debian_mri.inference.regional_volumes import AtlasGrids, register_structures
from debian_mri.inference.scan_input import ScanSource, check_values, load_scan_input, scan_of_set
from debian_mri.inference.single_image import open_image
from debian_mri.models.mri_model import MriModel
from debian_mri.models.slice_pooling import Pooling
from icube_common.errors import InputError
from icube_common.io.pretrained import PretrainedPipeline
from icube_common.io.runs import check_output_path
from icube_common.vlm import EncoderLike


@dataclass(frozen=True, eq=False)
class MriPrediction:
    """Predicted class of a scan.

    Attributes:
        explanation: all numbers of the prediction.
        images: the slices (H, W), 0 to 1.
        volume: the preprocessed volume; None for slice images.
        norms: curves of the biomarkers over age.
        structures: of an atlas that was registered to the scan.
        boxes: whether biomarkers were measured in boxes of the volume.
    """

    explanation: Explanation
    images: tuple[Any, ...]
    volume: Volume | None = None
    norms: tuple[NormCurve, ...] = ()
    structures: StructureLabels | None = None
    boxes: bool = True

    @classmethod
    def of(
        cls,
        model: MriModel,
        scan_input: ScanInput,
        volume: Volume | None,
        structures: StructureLabels | None = None,
    ) -> MriPrediction:
        """Prediction of a scan with its explanation."""
        norms = norm_curves(model, scan_input.inputs, scan_input.scan.id)
        explanation = explain_scan(model, scan_input)
        return cls(explanation, scan_input.images, volume, norms, structures, not model.config.concepts.volumes)

    @property
    def text(self) -> str:
        """The explanation in sentences."""
        return explain(self.explanation)

    @property
    def label(self) -> str:
        """The most probable class."""
        return self.explanation.predicted

    @property
    def probability(self) -> float:
        """The probability of `label`."""
        return self.explanation.probability(self.label)

    @property
    def probabilities(self) -> dict[str, float]:
        """Class -> probability."""
        return dict(zip(self.explanation.classes, self.explanation.probabilities, strict=True))

    @property
    def abstained(self) -> bool:
        """True where the confidence is below the model's threshold."""
        return self.explanation.abstained

    def to_dict(self) -> dict[str, Any]:
        """The prediction for JSON."""
        return {
            "notice": RESEARCH_ONLY,
            "id": self.explanation.id,
            "simulated": self.explanation.simulated,
            "predicted": self.label,
            "probabilities": self.probabilities,
            "calibrated": self.explanation.calibrated,
            "abstained": self.abstained,
            "text": self.text,
            "explanation": self.explanation.to_dict(),
        }

    def save_html(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write a page with slices, bars and sentences.

        Raises:
            InputError: the file exists and ``overwrite`` is False, or it cannot be written.
        """
        return write_page(
            path,
            self.explanation,
            self.images,
            volume=self.volume,
            norms=self.norms,
            structures=self.structures,
            boxes=self.boxes,
            overwrite=overwrite,
        )

    def save_tsv(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write all numbers as a table; raises as `save_html`."""
        return write_tsv(path, self.explanation, overwrite=overwrite)

    def save_report(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write text and numbers as JSON, for ``debian-mri verify``; raises as `save_html`."""
        return save_report(path, self.explanation, overwrite=overwrite)


class MriPipeline(PretrainedPipeline):
    """Prediction of scans by a trained model: ``MriPipeline.from_pretrained("RUN")("scan.nii.gz", age=74).label``.

    Args:
        model: a trained model.
    """

    model_class = MriModel

    def __call__(
        self,
        image: str | Path | Sequence[str | Path] | None = None,
        *,
        age: float | None = None,
        sex: str | None = None,
        education: float | None = None,
        values: Mapping[str, Any] | None = None,
        data: ScanDataset | str | Path | None = None,
        scan_id: str | None = None,
        planes: Sequence[str] = (),
        sequence: str | None = None,
        fill_nan: bool = False,
        atlas: Atlas | None = None,
        atlas_volumes: bool = True,
    ) -> MriPrediction:
        """Predict the class of a scan.

        Args:
            image: a NIfTI volume, preprocessed as the model's configuration defines, a DICOM folder, or slice images of
                one person with their ``planes``; None where ``data`` and ``scan_id`` name a scan.
            age: of the person, in years.
            sex: "F" or "M".
            education: in years.
            values: these and further clinical variables by name, such as ``{"APOE4": 1}``; they replace those of the
                set. Missing ones are handled as ``demographics.missing`` of the model defines.
            data: a prepared set.
            scan_id: a scan of it.
            planes: ``axial``, ``coronal`` or ``sagittal`` of each slice image.
            sequence: MRI sequence of the image (``T1w``), in place of that of its name or header.
            fill_nan: set NaN voxels of a volume outside the head to background.
            atlas: registered to the volume: the page shows the structures of the model's biomarkers.
            atlas_volumes: let a model of volumes take the volumes that are measured by the atlas, not those of a table.

        Raises:
            InputError: an image, value, scan or atlas that cannot be used.
        """
        named = {"age": age, "sex": sex, "education": education}
        variables = {**{name: value for name, value in named.items() if value is not None}, **(values or {})}
        checked = check_values(self.model, {name: str(value) for name, value in variables.items()})
        check_source(image, data=data, scan_id=scan_id)
        if data is not None:
            manifest = ScanDataset.open(data).manifest
            source = scan_of_set(self.model, manifest, manifest.row(str(scan_id)), sequence)
        else:
            assert image is not None
            paths = [image] if isinstance(image, (str, Path)) else list(image)
            source = open_image(self.model, paths, planes=planes, fill_nan=fill_nan, sequence=sequence)
        grids = None if atlas is None else AtlasGrids(atlas)
        return self.predict(source, values=checked, grids=grids, measure=atlas_volumes)

    def predict(
        self,
        source: ScanSource,
        *,
        values: Mapping[str, str] | None = None,
        grids: AtlasGrids | None = None,
        measure: bool = True,
    ) -> MriPrediction:
        """Predict the class of an opened scan.

        Args:
            source: the scan.
            values: variables as text, in place of those of the set.
            grids: an atlas to register to the scan.
            measure: take the atlas's volumes for a model of volumes, in place of a table's.

        Raises:
            InputError: as `debian_mri.inference.scan_input.load_scan_input`, or as
                `debian_mri.inference.regional_volumes.register_structures`.
        """
        structures = None if grids is None else register_structures(self.model, source, grids, measure=measure)
        scan_input = load_scan_input(self.model, source, values=values)
        return MriPrediction.of(self.model, scan_input, source.volume, structures)


def predict(
    run: str | Path | MriModel,
    image: str | Path | Sequence[str | Path] | None = None,
    *,
    pooling: Pooling | None = None,
    encoder: EncoderLike | None = None,
    volumes: str | Path | None = None,
    html: str | Path | None = None,
    tsv: str | Path | None = None,
    report: str | Path | None = None,
    overwrite: bool = False,
    **options: Any,
) -> MriPrediction:
    """Predict the class of one scan with a trained model.

    Args:
        run: a trained model, or what `MriPipeline.from_pretrained` takes.
        image: as for `MriPipeline`.
        pooling: the custom slice pooling that a run was trained with.
        encoder: the image encoder that a run was trained with, where that was a class or an instance.
        volumes: table of volumes that holds the scan, for a model of volumes; by default that of the training.
        html: a page to write.
        tsv: a table of all numbers to write.
        report: text and numbers to write as JSON.
        overwrite: replace existing files.
        options: of `MriPipeline`, such as ``age`` and ``sex``.

    Raises:
        InputError: no such run, an output that exists, or as `MriPipeline`. Nothing is written then.
    """
    for path in (html, tsv, report):
        if path is not None:
            if Path(path).is_dir():
                raise InputError(f"{path}: is a folder; give the file to write, such as {Path(path) / 'page.html'}")
            check_output_path(path, overwrite=overwrite)
    check_source(image, data=options.get("data"), scan_id=options.get("scan_id"))
    model = run if isinstance(run, MriModel) else MriModel.from_pretrained(run, pooling=pooling, encoder=encoder)
    if volumes is not None:
        model.use_volumes(volumes)
    prediction = MriPipeline(model)(image, atlas_volumes=volumes is None, **options)
    for path, save in ((html, prediction.save_html), (tsv, prediction.save_tsv), (report, prediction.save_report)):
        if path is not None:
            save(path, overwrite=overwrite)
    return prediction


def check_source(image: Any, *, data: Any = None, scan_id: str | None = None) -> None:
    """Check the arguments of a prediction before anything is read.

    Raises:
        InputError: no image, two sources, or a set without the id of a scan.
    """
    if (image is None) == (data is None):
        raise InputError("one image, or --data DATA with --id ID, is needed")
    if data is not None and scan_id is None:
        raise InputError(f"--data {data}: which scan? --id ID, or --out PRED for all of them")
