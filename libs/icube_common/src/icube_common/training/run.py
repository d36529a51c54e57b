"""The run of a training: backbone, data of a resumed run, saved model, report page and result."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from icube_common.errors import InputError
from icube_common.evaluation.folds import Fold
from icube_common.io.reports import Report
from icube_common.io.runs import RunFolder, read_json
from icube_common.training.config import TrainConfig
from icube_common.vlm.config import VLMConfig

if TYPE_CHECKING:
    from icube_common.training.loop import FitResult
    from icube_common.vlm.backbone import FrozenVLM
    from icube_common.vlm.encoders.base import EncoderLike


def load_backbone(
    vlm: VLMConfig, train: TrainConfig, *, predict: bool = False, encoder: EncoderLike | None = None
) -> FrozenVLM:
    """Load a frozen backbone on the device of a training.

    Args:
        vlm: which backbone.
        train: gives device and mixed precision.
        predict: for a trained model, which may be used on another machine than it was trained on: ``device=cuda``
            counts as ``auto``.
        encoder: an encoder in place of the image tower: a class or an instance; by default that of ``vlm``.

    Raises:
        InputError: there is no such device, or as `icube_common.vlm.VLMConfig.load`.
    """
    from icube_common.vlm.device import default_device

    choice = "auto" if predict and train.device == "cuda" else train.device
    return vlm.load(default_device(choice), mixed_precision=train.mixed_precision, encoder=encoder)


def custom_encoder(vlm: FrozenVLM, config: VLMConfig) -> str | None:
    """Name of an encoder that was given as a class or an instance; None for that of a configuration, or for none."""
    return vlm.encoder.name if vlm.encoder is not None and config.encoder is None else None


def load_saved_backbone(
    folder: str | Path,
    config: VLMConfig,
    train: TrainConfig,
    *,
    recorded: str | None,
    encoder: EncoderLike | None = None,
    vlm: FrozenVLM | None = None,
) -> FrozenVLM:
    """The backbone of a saved model, for predictions.

    Args:
        folder: of the model, for messages.
        config: which backbone.
        train: as for `load_backbone`.
        recorded: `custom_encoder` of its training.
        encoder: the encoder that it was trained with, where that was a class or an instance.
        vlm: the backbone, where it is loaded already.

    Raises:
        InputError: an encoder is missing, or one was given to a model without, or as `load_backbone`.
    """
    if vlm is not None:
        return vlm
    if recorded and encoder is None:
        raise InputError(f"{folder}: was trained with the encoder {recorded}; load it with encoder={recorded}")
    if encoder is not None and not recorded:
        raise InputError(f"{folder}: was trained with vlm.encoder={config.encoder}, not with an encoder of its own")
    return load_backbone(config, train, predict=True, encoder=encoder)


def check_same_data(out: str | Path, *, fingerprint: str, selection: Mapping[str, Any]) -> None:
    """Check that a resumed run has the data and the selection of its start.

    Args:
        out: the run folder; one that does not exist is left to `open_run`.
        fingerprint: of the data, recorded as ``data_fingerprint`` in ``environment.json``.
        selection: option -> value of the chosen samples, recorded as ``selection``: ``{"exclude_subjects": ["a"]}``.

    Raises:
        InputError: other data, or another selection.
    """
    run = RunFolder(out)
    if not run.environment.is_file():
        return
    environment = read_json(run.environment)
    recorded = environment.get("data_fingerprint")
    if recorded != fingerprint:
        raise InputError(
            f"{run.path}: was trained on other data (fingerprint {str(recorded)[:12]}, here {fingerprint[:12]}); "
            "resume with the same set, or start a new run"
        )
    before = environment.get("selection", selection)
    if before != selection:
        words = [
            f"--{key.replace('_', '-')} {','.join(value) if isinstance(value, list) else value}"
            for key, value in before.items()
            if value
        ]
        raise InputError(f"{run.path}: was started with {' '.join(words) or 'all samples'}; resume with the same")


def trained_on(fold: Fold) -> dict[str, list[str]]:
    """Subjects and ids of a fold's training and validation rows, for `check_train_test_overlap`."""
    rows = np.concatenate([fold.train, fold.validation])
    return {
        "subjects": sorted({fold.samples.groups[row] for row in rows}),
        "ids": sorted(fold.samples.ids[row] for row in rows),
    }


def training_report(
    run: RunFolder,
    result: FitResult,
    *,
    subtitle: str,
    warnings: Sequence[str] = (),
    facts: Mapping[str, Any] | None = None,
) -> Report:
    """Report page of a training: warnings, facts and loss curves; a library adds its own sections and saves it.

    Args:
        run: the run folder, for its logged losses.
        result: of `fit`.
        subtitle: data set and backbone.
        warnings: paragraphs at the top.
        facts: further rows of the first table.
    """
    report = Report("Training", subtitle=subtitle)
    for warning in warnings:
        report.paragraph(warning)
    report.facts(
        {
            **(facts or {}),
            "steps": result.steps,
            "seconds": round(result.seconds, 1),
            "stopped because": result.stopped_because,
        }
    )
    report.section("Losses")
    records = run.read_metrics()
    names = [name for name in ("loss", "validation_loss") if any(name in record for record in records)]
    report.metrics(records, names, alt="Losses over the steps of the training")
    return report


@dataclass(frozen=True, eq=False, kw_only=True)
class TrainingResult:
    """Result of a library's ``train``.

    Attributes:
        run: the run folder.
        model: the trained model, in eval mode.
        fit: steps, seconds and reason of the stop.
        facts: the library's own numbers: samples, subjects, backbone.
        warnings: untrained backbones, unreviewed texts and the like.
    """

    run: RunFolder
    model: Any
    fit: FitResult
    facts: Mapping[str, Any] = field(default_factory=dict)
    warnings: Sequence[str] = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values, as ``--json`` prints them."""
        return {
            "run": str(self.run.path),
            "model": str(self.run.model),
            "report": str(self.run.report),
            **self.facts,
            **self.fit.summary(self.run),
            "warnings": list(self.warnings),
        }


def finish_run(
    result: TrainingResult, *, save: Callable[[Path], object], report: Callable[[], Report]
) -> TrainingResult:
    """Save the model and its report page in the main process of a training.

    Args:
        result: returned unchanged.
        save: writes the model into the folder that it is given.
        report: makes the page.
    """
    if result.fit.is_main:
        save(result.run.model)
        report().save(result.run.report)
    return result
