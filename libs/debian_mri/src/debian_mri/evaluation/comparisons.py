"""Baselines and controls on the same folds: single modalities, permuted labels, confounds, plain classifiers.

Each comparison keeps its folds in ``comparisons/<name>/`` and all its predictions in ``comparisons/<name>.csv``. One
that a set does not allow is skipped with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from debian_mri.config import MODALITIES, MriConfig, restrict_modality
from debian_mri.evaluation.baselines.daft import CNN_MM, CNN_SETTINGS, daft
from debian_mri.evaluation.baselines.daft import NOTE as DAFT_NOTE
from debian_mri.evaluation.baselines.daft import SETTINGS as DAFT_SETTINGS
from debian_mri.evaluation.baselines.fold_tables import Array, Rows, fold_rows, with_missing_indicators
from debian_mri.evaluation.baselines.frozen_encoder import COOP_SETTINGS, class_words, coop, slice_mean, zero_shot
from debian_mri.evaluation.baselines.logistic import logistic, prior
from debian_mri.evaluation.context import EvaluationContext
from debian_mri.evaluation.protocols import permute_labels, permute_training_labels
from debian_mri.evaluation.report import DIFFERENCES, metrics_of
from debian_mri.evaluation.statistics.roc_analysis import delong_test
from icube_common.config import config_to_yaml
from icube_common.errors import InputError, unknown
from icube_common.evaluation import Fold, Predictions, Samples, grouped_k_fold, make_predictions
from icube_common.evaluation.runner import FoldResult, cached_predictions, fold_name, run_folds, training_seconds
from icube_common.io.runs import RunFolder
from icube_common.training import TrainConfig, open_run
from icube_common.vlm import check_joint_space

_SEED = 2021
_SITE_FOLDS = 5


Run = Callable[[EvaluationContext, Sequence[Fold], Path], Predictions]
"""From the shared data, the folds and a folder to predictions of the folds."""


@dataclass(frozen=True)
class Comparison:
    """A baseline or control.

    Attributes:
        title: in a table.
        what: description in a sentence.
        run: computes its predictions on the same rows.
        paired: whether its rows have the same labels as the model's, so that the difference means something.
        check: a control, not a rival.
    """

    title: str
    what: str
    run: Run
    paired: bool = True
    check: bool = False


def each_fold(predict: Callable[[EvaluationContext, Fold, Path], Array]) -> Run:
    """Run a function from a fold and the folder of its training to probabilities on all folds."""
    return lambda context, folds, folder: _predict_folds(context.samples, folds, folder, partial(predict, context))


def _predict_folds(
    samples: Samples, folds: Sequence[Fold], folder: Path, predict: Callable[[Fold, Path], Array]
) -> Predictions:
    """Predictions of all folds; what is done is not repeated."""

    def one(fold: Fold) -> FoldResult:
        place = folder / fold_name(fold)
        return cached_predictions(place, lambda: (make_predictions(samples, fold, predict(fold, place)), ()))

    return run_folds(folds, one, name=folder.name)[0]


def _train_folds(
    context: EvaluationContext, folds: Sequence[Fold], folder: Path, config: MriConfig | None = None
) -> Predictions:
    """Predictions of a model that is trained for each fold."""
    return run_folds(
        folds, lambda fold: context.train(fold, folder / fold_name(fold), config=config), name=folder.name
    )[0]


def _part(part: str) -> Run:
    """The same model with the image alone, the table alone, or both."""

    def run(context: EvaluationContext, folds: Sequence[Fold], folder: Path) -> Predictions:
        config = restrict_modality(context.config, part)
        if config.demographics.mode != "none" and context.inputs.demographics is None:
            _ = context.tables.variables  # raises with the reason
        if part == "image" and not (config.visual.enabled or config.concepts.enabled):
            raise InputError("neither the image branch nor biomarkers are in use")
        # the configured model is one of the three: its folds are not trained again
        base = context.folds if context.folds is not None and config == context.config else folder
        return _train_folds(context, folds, base, config)

    return run


def _permutation(context: EvaluationContext, folds: Sequence[Fold], folder: Path) -> Predictions:
    """Labels that mean nothing, in training and in test."""
    drawn = {fold_name(fold): (samples, fold) for samples, fold in permute_labels(context.samples, folds, seed=_SEED)}

    def one(fold: Fold) -> FoldResult:
        name = fold_name(fold)
        predictions, warnings = context.train(fold, folder / name, samples=drawn[name][0])
        # each repeat has labels of its own, and an id has one label in a table
        return replace(predictions, ids=[f"{scan} (draw {fold.repeat})" for scan in predictions.ids]), warnings

    return run_folds([fold for _, fold in drawn.values()], one, name=folder.name)[0]


def _permuted_training_labels(context: EvaluationContext, folds: Sequence[Fold], folder: Path) -> Predictions:
    """Labels exchanged among the training people; tested on the true ones."""
    drawn = [permute_training_labels(context.samples, fold, seed=_SEED) for fold in folds]
    return _train_folds(context, drawn, folder)


def _table_model(columns: Mapping[str, Array], fold: Fold) -> Array:
    rows = fold_rows(fold, columns)
    train, test = with_missing_indicators(rows.train, rows.test)
    if train.shape[1] == 0:
        return prior(rows)
    return logistic(Rows(train, rows.labels, rows.groups, test, rows.classes), scaled=True, seed=fold.seed)


def _confounds(context: EvaluationContext, fold: Fold, place: Path) -> Array:
    names, columns = context.tables.confounds
    if not names:
        raise InputError("neither age, sex nor site is known")
    return _table_model(columns, fold)


def _label_from_site(context: EvaluationContext, fold: Fold, place: Path) -> Array:
    if not context.tables.sites:
        raise InputError(_NO_SITES)
    return _table_model(context.tables.sites, fold)


_NO_SITES = "the sites are not all known, or there is one only"


def _site_from_image(context: EvaluationContext, folds: Sequence[Fold], folder: Path) -> Predictions:
    """The site as the class, by folds of people of its own."""
    sites = context.samples.sites
    if sites is None or len(set(sites)) < 2:
        raise InputError(_NO_SITES)
    names = sorted(set(sites))
    samples = Samples(
        ids=context.samples.ids,
        labels=np.array([names.index(site) for site in sites]),
        class_names=names,
        groups=context.samples.groups,
    )
    drawn = list(grouped_k_fold(samples, folds=_SITE_FOLDS, seed=_SEED, validation=0.0))
    features, planes = _slice_features(context)

    return _predict_folds(samples, drawn, folder, lambda fold, place: slice_mean(fold, features, planes))


def _slice_features(context: EvaluationContext) -> tuple[Mapping[str, Any], dict[str, list[str]]]:
    """Slice features of the frozen image encoder, and the plane of each slice."""
    features = context.inputs.encoded or context.inputs.features
    assert features is not None, "comparisons load slice features"
    return features, {name: [part.plane for part in parts] for name, parts in context.inputs.slices.items()}


def _joint_features(context: EvaluationContext) -> Mapping[str, Any]:
    """Slice features in the space of the texts.

    Raises:
        InputError: an encoder without one.
    """
    assert context.vlm is not None
    check_joint_space(context.vlm)
    return context.inputs.joint or _slice_features(context)[0]


def _slice_mean(context: EvaluationContext, fold: Fold, place: Path) -> Array:
    return slice_mean(fold, *_slice_features(context))


def _voxels(context: EvaluationContext, fold: Fold, place: Path) -> Array:
    if not context.tables.volumes:
        raise InputError("the set has slices, not volumes")
    return logistic(fold_rows(fold, context.tables.voxels), seed=fold.seed)


def _fresh_run(place: Path, settings: TrainConfig) -> RunFolder:
    return open_run(place, config=settings, config_yaml=config_to_yaml(settings), overwrite=place.exists())


def _daft(context: EvaluationContext, fold: Fold, place: Path) -> Array:
    run, tables = _fresh_run(place, DAFT_SETTINGS), context.tables
    return daft(fold, tables.pictures, tables.variables, run, volumes=tables.volumes, settings=DAFT_SETTINGS)


def _cnn(context: EvaluationContext, fold: Fold, place: Path) -> Array:
    tables = context.tables
    if not tables.volumes:
        raise InputError("the set has slices, not volumes")
    nothing = {name: np.zeros(0) for name in tables.fine_voxels}
    return daft(fold, tables.fine_voxels, nothing, _fresh_run(place, CNN_SETTINGS), volumes=True, settings=CNN_SETTINGS)


def _biomarkers_and_age(context: EvaluationContext, fold: Fold, place: Path) -> Array:
    """The rival of priors and prompts: the same measurements in a plain regression."""
    table = context.inputs.biomarkers
    if table is None:
        raise InputError("the configured model has no biomarkers")
    return _table_model(context.tables.with_age(table), fold)


def _names(context: EvaluationContext) -> dict[str, str]:
    return {label: class_words(label) for label in context.samples.class_names}


def _coop(context: EvaluationContext, fold: Fold, place: Path) -> Array:
    assert context.vlm is not None
    settings = replace(COOP_SETTINGS, device=context.config.train.device)
    run = _fresh_run(place, settings)
    return coop(fold, _joint_features(context), context.vlm, _names(context), run, settings=settings)


def _zero_shot(context: EvaluationContext, fold: Fold, place: Path) -> Array:
    assert context.vlm is not None
    return zero_shot(fold, _joint_features(context), context.vlm, _names(context))


COMPARISONS: Mapping[str, Comparison] = {
    "image": Comparison("image only (same model)", "the configured model without the variables", _part("image")),
    "table": Comparison("table only (same model)", "the configured model with the variables alone", _part("table")),
    "both": Comparison("image and table (same model)", "the configured model with both", _part("both")),
    "permutation": Comparison(
        "labels permuted",
        "labels exchanged among people, for training and test alike: the AUC interval has to hold 0.5, or test labels "
        "leak (with three repeats about one interval in ten misses by chance)",
        _permutation,
        paired=False,
        check=True,
    ),
    "training-labels-permuted": Comparison(
        "training labels permuted",
        "labels exchanged among training people, tested on the true ones: what is left above 0.5 comes from published "
        "knowledge of the signs' directions, not from the labels",
        _permuted_training_labels,
        check=True,
    ),
    "confounds": Comparison(
        "confounds only", "logistic regression on age, sex and site, as far as known", each_fold(_confounds), check=True
    ),
    "label-from-site": Comparison(
        "diagnosis from the site", "logistic regression on the site alone", each_fold(_label_from_site), check=True
    ),
    "site-from-image": Comparison(
        "site from the image",
        "how predictable the site is from mean slice features",
        _site_from_image,
        paired=False,
        check=True,
    ),
    "logistic-table": Comparison(
        "logistic regression, table",
        "on the variables, strength by inner folds",
        each_fold(lambda context, fold, place: _table_model(context.tables.variables, fold)),
    ),
    "logistic-biomarkers": Comparison(
        "logistic regression, biomarkers and age",
        "on the configured model's biomarkers, of images or of volumes, and the age, strength by inner folds",
        each_fold(_biomarkers_and_age),
    ),
    "logistic-pixels": Comparison(
        "logistic regression, pixels",
        "on means of 22 x 22 blocks of each slice, strength by inner folds",
        each_fold(lambda context, fold, place: logistic(fold_rows(fold, context.tables.pixels), seed=fold.seed)),
    ),
    "logistic-pixels-plain": Comparison(
        "logistic regression, pixels, C = 1",
        "the same with scikit-learn's default strength",
        each_fold(lambda context, fold, place: logistic(fold_rows(fold, context.tables.pixels), strength=1.0)),
    ),
    "linear-voxels": Comparison(
        "logistic regression, voxels", "on voxels of about 8 mm, strength by inner folds", each_fold(_voxels)
    ),
    "slice-mean": Comparison(
        "slice means of the frozen image encoder",
        "principal components and logistic regression, in the way of Raptor",
        each_fold(_slice_mean),
    ),
    "daft": Comparison("DAFT", f"Poelsterl et al. 2021, image and table; {DAFT_NOTE}", each_fold(_daft)),
    "cnn-3d": Comparison(
        "3-D network",
        f"the residual network of DAFT without variables, volumes at {CNN_MM:g} mm; {DAFT_NOTE}",
        each_fold(_cnn),
    ),
    "coop": Comparison("CoOp", "16 learned context vectors before the class names, no sentence", each_fold(_coop)),
    "zero-shot": Comparison("zero-shot template", "class names in a sentence, nothing trained", each_fold(_zero_shot)),
}
"""Name -> comparison."""
PRIMARY = "table"
"""Primary comparison: gain of the image over the variables alone. Others are descriptive."""


def chosen(words: str) -> tuple[str, ...]:
    """Names of comparisons from ``all``, ``none`` or a list with commas.

    Raises:
        InputError: no such name.
    """
    if words == "all":
        return tuple(COMPARISONS)
    if words == "none":
        return ()
    names = tuple(dict.fromkeys(word for word in words.split(",") if word))
    for name in names:
        if name not in COMPARISONS:
            raise unknown("comparison", name, ["all", "none", *COMPARISONS])
    return names


def compare(
    context: EvaluationContext, folds: Sequence[Fold], ours: Predictions, names: Sequence[str]
) -> dict[str, Any]:
    """Run comparisons on the same folds: metrics, and the paired difference "configured model minus it" over people.

    Args:
        context: data, settings and folder of the evaluation.
        folds: those of ``ours``.
        ours: predictions of the configured model.
        names: of `COMPARISONS`.

    Returns:
        Name -> metrics, ``difference`` (metric -> interval and p), ``delong`` (of the AUC; None where undefined),
        ``comparison`` (``primary`` or ``descriptive``), ``what``, ``seconds``; or ``skipped`` with the reason.
    """
    compared: dict[str, Any] = {}
    for name in names:
        comparison = COMPARISONS[name]
        folder = context.out / "comparisons" / name
        head: dict[str, Any] = {"title": comparison.title, "what": comparison.what, "check": comparison.check}
        if comparison.paired and not comparison.check:
            head["comparison"] = "primary" if name == PRIMARY else "descriptive"
        try:
            predictions = comparison.run(context, folds, folder)
        except InputError as error:
            compared[name] = {**head, "skipped": str(error)}
            continue
        target = folder.with_suffix(".csv")
        predictions.write_csv(target)
        row = {**head, **metrics_of(predictions), "seconds": training_seconds(folder), "predictions": str(target)}
        if comparison.paired:
            row["difference"] = {
                metric: difference.to_dict() for metric, difference in ours.compare(predictions, DIFFERENCES).items()
            }
            row["delong"] = _delong(ours, predictions)
        if name == "permutation":
            row["holds_chance"] = holds_chance(row["auc"])
        if name == "site-from-image":
            row["chance"] = 1 / len(predictions.class_names)
        if (
            context.folds is not None
            and name in MODALITIES
            and restrict_modality(context.config, name) == context.config
        ):
            row["configured"] = True
        compared[name] = row
    return compared


def _delong(ours: Predictions, other: Predictions) -> dict[str, Any] | None:
    """DeLong's test of the AUCs; None where it is not defined: more than two classes, or one person of a class."""
    try:
        return delong_test(ours, other).to_dict()
    except InputError:
        return None


def holds_chance(auc: Mapping[str, Any]) -> bool | None:
    """True where the interval of an AUC contains 0.5; None without interval."""
    low, high = auc["ci95"]
    return None if low is None else bool(low <= 0.5 <= high)
