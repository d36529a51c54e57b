"""Comparison of published methods with the configured model: the same folds, features and budget of tuning.

Features of ``images`` are those of the frozen image tower, pooled by a temporal head without weights; those of ``pose``
are trajectory vectors of the skeletons. The configured model is a row of its own and is given the same input.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from actprompt.config import ActConfig
from actprompt.data.dataset import VideoDataset
from actprompt.data.extract import video_features
from actprompt.data.manifest import Manifest
from actprompt.evaluation.protocols import ProtocolOptions, base_to_new_folds, few_shot_folds, plain_folds
from actprompt.evaluation.report import metric_names
from actprompt.evaluation.runner import EvaluationContext
from actprompt.models.temporal_heads import make_head
from actprompt.skeleton.trajectory import TrajectoryEncoder
from actprompt.training.calibration import train_calibrated
from actprompt.training.run import features_folder as find_features
from actprompt.training.trainer import check_fold, predict_test
from icube_common.errors import InputError, unknown
from icube_common.evaluation import Fold, Samples
from icube_common.evaluation.runner import settings_record
from icube_common.experiments.results.method_comparison import MethodComparison
from icube_common.experiments.runner.library_comparison import ComparisonRequest, LibraryModel, LibraryTraining
from icube_common.experiments.runner.method_cases import (
    ClassWords,
    FeatureSource,
    MethodCase,
    View,
    base_to_new_cases,
    cached_features,
    few_shot_cases,
    plain_cases,
    standardised_features,
)
from icube_common.io.runs import RunFolder
from icube_common.vlm import ImageOutput

INPUTS = ("images", "pose")
OWN = "actprompt"
_WEIGHTLESS = ("mean", "mean_std", "segment_difference")
_DRAWN = ("few-shot", "base-to-new")


def compare_methods(
    data: VideoDataset | str | Path,
    config: ActConfig | None = None,
    *,
    out: str | Path,
    methods: str | Sequence[str] = "all",
    protocol: str = "leave-one-subject-out",
    features: str = "images",
    seeds: int | None = None,
    budget: int | None = None,
    reference: str | None = None,
    options: ProtocolOptions | None = None,
    features_folder: str | Path | None = None,
    overwrite: bool = False,
) -> MethodComparison:
    """Compare methods of the field with the configured model on one kind of input.

    Writes ``table.md``, ``.tex`` and ``.csv``, ``metrics.*``, ``plot.*``, ``results.json``, ``report.html`` and
    ``runs/<method>/``. A finished training is not repeated, so that methods and seeds can be added later.

    Args:
        data: data set or prepared folder.
        config: of the own model, whose backbone, frame sampling, temporal head and template serve all methods.
        out: the folder to make or to resume.
        methods: ``"all"``, ``"none"``, or names of `icube_common.experiments.methods.all_methods`.
        protocol: as of `actprompt.evaluate`.
        features: ``"images"`` or ``"pose"``.
        seeds: of each method; by default 3, and 1 for protocols with draws.
        budget: settings that each method may compare on inner folds of the training rows.
        reference: row that the others are compared with; by default the own model.
        options: of the sampled protocols.
        features_folder: folder of frame features; by default below the data.
        overwrite: replace an existing ``out``.

    Raises:
        InputError: a bad set, setting, method or protocol, or a folder of another comparison.
    """
    config, options = config or ActConfig(), options or ProtocolOptions()
    config = only_input(config, features)
    request = ComparisonRequest.check(
        out,
        methods=methods,
        protocol=protocol,
        features=features,
        drawn=_DRAWN,
        seeds=seeds,
        budget=budget,
        reference=reference,
        overwrite=overwrite,
    )
    manifest = VideoDataset.open(data).manifest
    manifest.check_classes()
    settings = settings_record(config)
    record = request.open_record(
        data=manifest.fingerprint,
        options=vars(options),
        video=settings["video"],
        backbone=settings["vlm"],
        head=config.visual.head,
    )
    context = EvaluationContext.load(manifest, config, request.out, features=features_folder, head=None)
    samples = context.samples
    cases = _cases(manifest, samples, config, protocol, options)
    for case in cases:
        check_fold(context.inputs, case.train, config)
    images = features == "images"
    return request.run(
        record,
        samples=samples,
        cases=cases,
        features=_image_features(context, features_folder) if images else pose_features(context),
        texts=ClassWords(
            words=context.texts.names,
            vlm=context.vlm if images and context.vlm.encoder is None else None,
            templates=config.prompt.template,
            descriptions=context.texts.sentences,
        ),
        models={OWN: LibraryModel(config, _training(context))},
        title=manifest.title,
        metrics=metric_names(len(samples.class_names)),
        over_draws=protocol == "base-to-new",
        backbone=str(context.vlm.origin),
        warnings=context.inputs.warnings,
    )


def only_input(config: ActConfig, features: str) -> ActConfig:
    """The settings with images or skeletons alone.

    Raises:
        InputError: another input, or a temporal head with weights.
    """
    if features not in INPUTS:
        raise unknown("features", features, INPUTS)
    images = features == "images"
    if images and config.finetune.enabled:
        raise InputError(f"finetune.mode={config.finetune.mode}: the methods share frozen features; set it none")
    if images and (config.visual.head not in _WEIGHTLESS or config.visual.prompts):
        raise InputError(
            f"visual.head={config.visual.head}, visual.prompts={config.visual.prompts}: the methods share features "
            f"without trained weights; set visual.prompts=0 and visual.head to one of {', '.join(_WEIGHTLESS)}"
        )
    skeleton = replace(config.skeleton, enabled=not images, trajectory=not images or config.skeleton.trajectory)  # type: ignore[call-arg]
    return replace(config, visual=replace(config.visual, enabled=images), skeleton=skeleton)


def _cases(
    manifest: Manifest, samples: Samples, config: ActConfig, protocol: str, options: ProtocolOptions
) -> list[MethodCase]:
    if protocol == "few-shot":
        return few_shot_cases(list(few_shot_folds(samples, config, options)))
    if protocol == "base-to-new":
        return base_to_new_cases([(draw, pair) for draw, _, pair in base_to_new_folds(samples, config, options)])
    return plain_cases(list(plain_folds(manifest, samples, config, protocol, options)))


def _image_features(context: EvaluationContext, folder: str | Path | None) -> FeatureSource:
    """Pooled features of the clips, the mean over views, and the mean frame in the space of the texts, if any."""
    config, vlm = context.config, context.vlm
    head = make_head(config.visual.head, vlm.feature_dim).eval()
    place = find_features(context.manifest.folder, folder, config, vlm)

    def features(output: ImageOutput) -> dict[str, Tensor]:
        clips, sampling = context.manifest.clips, config.video.sampling
        return video_features(context.manifest, clips, vlm, sampling, folder=place, output=output)

    with torch.no_grad():
        pooled = {name: head(views).mean(0) for name, views in features("features").items()}
    if vlm.encoder is not None:
        return cached_features(pooled)
    joint = features("joint")
    means = {name: F.normalize(views.mean(1), dim=-1).mean(0) for name, views in joint.items()}
    return cached_features(pooled, means)


def pose_features(context: EvaluationContext) -> FeatureSource:
    """Trajectory vectors, standardised by the training rows; 0, the mean, for a clip without a skeleton."""
    inputs, frames = context.inputs, context.config.skeleton.frames

    def fit(fold: Fold) -> Any:
        assert inputs.skeletons is not None
        training = fold.training_rows(inputs.skeletons)
        encoder = TrajectoryEncoder.fit(
            [joints for joints in training.values() if len(joints)], inputs.joint_names, frames
        )

        def vectors(view: View) -> Tensor:
            assert inputs.skeletons is not None
            absent = torch.full((encoder.width,), torch.nan)
            return torch.stack(
                [
                    torch.from_numpy(encoder.vector(joints)) if len(joints) else absent
                    for joints in view(inputs.skeletons).values()
                ]
            )

        return standardised_features(fold, vectors)

    return fit


def _training(context: EvaluationContext) -> Callable[[Fold, ActConfig, RunFolder], LibraryTraining]:
    """Training of the configured model on the training side of a fold."""

    def train(fold: Fold, config: ActConfig, run: RunFolder) -> LibraryTraining:
        inputs, texts = context.inputs, context.texts
        trained = train_calibrated(inputs, fold, config, context.vlm, texts, run)
        return LibraryTraining(
            trained.model, lambda part: predict_test(trained.model, inputs, part, texts), trained.warnings
        )

    return train
