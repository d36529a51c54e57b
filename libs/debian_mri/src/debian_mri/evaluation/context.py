"""Evaluation context: data, settings, tables and training folders that the folds share."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from debian_mri.config import MriConfig, restrict_modality
from debian_mri.data.feature_store import ScanImages
from debian_mri.data.inputs import Inputs, demographic_table, load_inputs
from debian_mri.data.manifest import Manifest
from debian_mri.evaluation.baselines.daft import CNN_MM, SLICE_SIDE, VOLUME_MM
from debian_mri.imaging.slices import BLOCKS, VOXEL_MM, coarse, stacked
from debian_mri.imaging.volume_cache import cached_volume, load_volume
from debian_mri.models.class_texts import MriTexts
from debian_mri.models.slice_pooling import Pooling
from debian_mri.training.trainer import predict_test, train_fold
from icube_common.config import config_to_yaml
from icube_common.errors import InputError
from icube_common.evaluation import Fold, Samples, make_predictions
from icube_common.evaluation.runner import FoldResult, cached_predictions
from icube_common.io.progress import progress_bar
from icube_common.tabular import TabularData
from icube_common.training import load_backbone, open_run
from icube_common.vlm import EncoderLike, FrozenVLM

Array = npt.NDArray[np.float64]


class BaselineTables:
    """Input tables of the baselines, each computed on first access.

    Args:
        manifest: the set.
        config: preprocessing, slices, variables.
    """

    def __init__(self, manifest: Manifest, config: MriConfig) -> None:
        self.manifest, self.config = manifest, config

    @cached_property
    def volumes(self) -> bool:
        """True where all scans are volumes."""
        return all(scan.kind == "volume" for scan in self.manifest.scans)

    @cached_property
    def _slices(self) -> dict[str, tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]]:
        arrays = {}
        for scan in progress_bar(self.manifest.scans, desc="slices", unit="scan", leave=False):
            images = [picture.image for picture in ScanImages(self.manifest, scan, self.config).slices]
            arrays[scan.id] = (stacked(images, blocks=BLOCKS), stacked(images, blocks=SLICE_SIDE))
        return arrays

    @cached_property
    def pixels(self) -> dict[str, npt.NDArray[np.float32]]:
        """Scan id -> means of 22 x 22 blocks of each slice, in one row.

        Raises:
            InputError: the scans have different numbers of slices.
        """
        rows = {name: small.reshape(-1) for name, (small, _) in self._slices.items()}
        if len(lengths := sorted({len(row) for row in rows.values()})) > 1:
            raise InputError(f"pixels: scans of {lengths[0] // BLOCKS**2} and {lengths[-1] // BLOCKS**2} slices")
        return rows

    @cached_property
    def pictures(self) -> dict[str, npt.NDArray[np.float32]]:
        """Scan id -> image for DAFT: slices (S, 64, 64), or a volume at 4 mm."""
        if self.volumes:
            return self._coarse(VOLUME_MM)
        return {name: large for name, (_, large) in self._slices.items()}

    @cached_property
    def voxels(self) -> dict[str, npt.NDArray[np.float32]]:
        """Scan id -> voxels of about 8 mm, in one row; of volumes."""
        return {name: volume.reshape(-1) for name, volume in self._coarse(VOXEL_MM).items()}

    @cached_property
    def fine_voxels(self) -> dict[str, npt.NDArray[np.float32]]:
        """Scan id -> volume at 2 mm; of volumes."""
        return self._coarse(CNN_MM)

    def with_age(self, table: TabularData) -> dict[str, Array]:
        """Scan id -> a table's columns and the age, where the set has it."""
        people, rows = self.manifest.participants(), by_id(table)
        if "age" not in people.names:
            return rows
        ages = dict(zip(people.ids, people.values[:, people.names.index("age")], strict=True))
        return {name: np.append(row, ages[name]) for name, row in rows.items()}

    def _coarse(self, mm: float) -> dict[str, npt.NDArray[np.float32]]:
        arrays = {}
        for scan in progress_bar(self.manifest.scans, desc="volumes", unit="scan", leave=False):
            volume = load_volume(cached_volume(self.manifest, scan, self.config.preprocess))
            arrays[scan.id] = coarse(volume.data, self.config.preprocess.spacing, mm)
        return arrays

    @cached_property
    def variables(self) -> dict[str, Array]:
        """Scan id -> the configured variables.

        Raises:
            InputError: there are none.
        """
        return by_id(demographic_table(self.manifest.participants(), self.config)[0])

    @cached_property
    def sites(self) -> dict[str, Array]:
        """Scan id -> an indicator for each site; empty where sites are not all known, or there is one."""
        sites = [scan.site for scan in self.manifest.scans]
        names = sorted({site for site in sites if site})
        if not all(sites) or len(names) < 2:
            return {}
        table = (np.asarray(sites, dtype=str)[:, None] == np.asarray(names, dtype=str)).astype(np.float64)
        return {scan.id: row for scan, row in zip(self.manifest.scans, table, strict=True)}

    @cached_property
    def confounds(self) -> tuple[tuple[str, ...], dict[str, Array]]:
        """Names, and scan id -> age, sex and site, as far as the set has them."""
        people = self.manifest.participants()
        there = [name for name in ("age", "sex") if name in people.names and not _all_missing(people, name)]
        columns = people.select(there).values if there else np.zeros((len(self.manifest.scans), 0))
        rows = dict(zip((scan.id for scan in self.manifest.scans), columns, strict=True))
        if self.sites:
            rows = {name: np.concatenate([row, self.sites[name]]) for name, row in rows.items()}
        return (*there, *(["site"] if self.sites else [])), rows


def _all_missing(people: Any, name: str) -> bool:
    return people.missing()[name] == len(people.ids)


def by_id(table: TabularData) -> dict[str, Array]:
    """Rows of a table by id."""
    return dict(zip(table.ids, table.values, strict=True))


@dataclass(frozen=True, eq=False)
class EvaluationContext:
    """Data, settings and backbone of an evaluation.

    Attributes:
        manifest: the set.
        samples: its scans, with labels: the one place that has those of test rows.
        config: all settings.
        vlm: the frozen backbone; None where nothing uses it.
        texts: of the classes.
        inputs: tables of all scans, for the configured model and for what it is compared with.
        tables: for plain baselines.
        out: the evaluation's folder.
        pooling: a custom slice pooling of the configured model.
        folds: where trainings of the configured model on the protocol's folds are kept; None where there are none.
    """

    manifest: Manifest
    samples: Samples
    config: MriConfig
    vlm: FrozenVLM | None
    texts: MriTexts
    inputs: Inputs
    tables: BaselineTables
    out: Path
    pooling: Pooling | None = None
    folds: Path | None = None

    @classmethod
    def load(
        cls,
        manifest: Manifest,
        config: MriConfig,
        out: Path,
        *,
        samples: Samples | None = None,
        wider: bool = False,
        pooling: Pooling | None = None,
        folds: Path | None = None,
        features: str | Path | None = None,
        encoder: EncoderLike | None = None,
        vlm: FrozenVLM | None = None,
    ) -> EvaluationContext:
        """Load everything that folds need.

        Args:
            manifest: the set.
            config: all settings.
            out: the evaluation's folder.
            samples: some of the set's scans, with some of its classes; by default all.
            wider: load what comparisons use beside the configured model: slice features and variables.
            pooling: a custom slice pooling of the configured model.
            folds: where the configured model's own folds are kept.
            features: folder of slice features; None: below the set.
            encoder: an encoder in place of the image tower.
            vlm: the frozen backbone, where it is loaded already.
        """
        samples = samples or manifest.samples()
        sequences = sorted({scan.sequence for scan in manifest.scans})
        texts = MriTexts.make(samples.class_names, config, sequences)
        loaded = config
        if wider:
            loaded = replace(loaded, visual=replace(loaded.visual, enabled=True))
            if config.demographics.mode == "none":
                both = restrict_modality(loaded, "both")
                try:
                    demographic_table(manifest.participants(), both)
                    loaded = both
                except InputError:
                    pass  # comparisons with the table are left out, with this reason
        if vlm is None and loaded.needs_encoder:
            vlm = load_backbone(loaded.vlm, loaded.train, encoder=encoder)
        inputs = load_inputs(manifest, loaded, vlm, features=features, encode=wider)
        if vlm is not None and not config.needs_encoder:
            # the backbone is that of comparisons alone, which the title says
            note = vlm.weights_warning
            inputs = replace(inputs, warnings=tuple(text for text in inputs.warnings if not note or note not in text))
        return cls(manifest, samples, config, vlm, texts, inputs, BaselineTables(manifest, config), out, pooling, folds)

    def train(
        self, fold: Fold, folder: Path, *, config: MriConfig | None = None, samples: Samples | None = None
    ) -> FoldResult:
        """Train a model on a fold and predict its test rows; what is done is not repeated.

        Args:
            fold: rows and training labels.
            folder: where the training is kept.
            config: other settings than the bench's.
            samples: with other labels than the bench's.
        """
        config = config or self.config

        def train_and_predict() -> FoldResult:
            # an interrupted training of a fold is begun again: it takes seconds
            run = open_run(folder, config=config.train, config_yaml=config_to_yaml(config), overwrite=folder.exists())
            pooling = self.pooling if config.visual.enabled else None
            trained = train_fold(self.inputs, fold, config, self.vlm, self.texts, run, pooling=pooling)
            predictions = make_predictions(samples or self.samples, fold, predict_test(trained, self.inputs, fold))
            return predictions, trained.warnings

        return cached_predictions(folder, train_and_predict)
