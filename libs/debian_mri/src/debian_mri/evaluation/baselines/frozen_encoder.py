"""Baselines on the frozen image encoder: slice means under a linear classifier, and prompts alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from debian_mri.evaluation.baselines.fold_tables import Array, Rows, fold_rows
from debian_mri.evaluation.baselines.logistic import logistic
from icube_common.evaluation import Fold
from icube_common.io.runs import RunFolder
from icube_common.knowledge.names import readable_name
from icube_common.prompts import PromptConfig, PromptLearner
from icube_common.training import SampleRef, StepRandom, TrainConfig, fit
from icube_common.vlm import FrozenVLM

COMPONENTS = 64
TEMPLATE = "a brain MRI of a person with"
WORDS = {
    "CN": "normal cognition",
    "MCI": "mild cognitive impairment",
    "AD": "Alzheimer's disease",
    "DLB": "dementia with Lewy bodies",
    "PD": "Parkinson's disease",
}
"""Classes in the words of a caption; other labels stay as they are."""
COOP = PromptConfig(init="random", num_context="16", class_token="end")
"""Sixteen shared context vectors before the class name (Zhou et al., IJCV 2022)."""
COOP_SETTINGS = TrainConfig(
    max_steps=100,
    batch_size=32,
    learning_rate=2e-3,
    lr_scheduler="cosine",
    checkpointing_steps=10_000,
    checkpoints_total_limit=1,
    report_to="none",
)


def class_words(label: str) -> str:
    """A class as a caption would name it."""
    return WORDS.get(label, readable_name(label))


def slice_mean(
    fold: Fold, features: Mapping[str, npt.NDArray[np.floating]], planes: Mapping[str, Sequence[str]]
) -> Array:
    """Probabilities (M, C): features averaged over the slices of each plane, principal components, logistic regression.

    In the way of Raptor (An et al. 2025), with principal components of the training rows for its random projection.

    Args:
        fold: rows and training labels.
        features: scan id -> (S, D) of the frozen image encoder.
        planes: scan id -> the plane of each slice; all scans have the same kinds of planes.
    """
    from sklearn.decomposition import PCA

    rows = fold_rows(fold, {name: plane_means(array, planes[name]) for name, array in features.items()})
    center, spread = rows.train.mean(axis=0), rows.train.std(axis=0)
    spread = np.where(spread > 1e-12, spread, 1.0)
    train, test = (rows.train - center) / spread, (rows.test - center) / spread
    count = min(COMPONENTS, len(train) - 1, train.shape[1])
    pca = PCA(count, svd_solver="full").fit(train)
    reduced = Rows(pca.transform(train), rows.labels, rows.groups, pca.transform(test), rows.classes)
    # the components keep their sizes: scaling each to one would make noise as loud as what varies most
    return logistic(reduced, scaled=True, seed=fold.seed)


def plane_means(features: npt.NDArray[np.floating], planes: Sequence[str]) -> Array:
    """(S, D) -> (planes * D,): the mean over the slices of each plane, in the order of the planes' names."""
    names = np.asarray(planes)
    means = [np.asarray(features, dtype=np.float64)[names == plane].mean(axis=0) for plane in sorted(set(planes))]
    return np.concatenate(means)


def zero_shot(fold: Fold, features: Mapping[str, Tensor], vlm: FrozenVLM, names: Mapping[str, str]) -> Array:
    """Probabilities (M, C) of a template with the classes' names: nothing is trained.

    Args:
        fold: its test rows.
        features: scan id -> (S, D), each of length one.
        vlm: the frozen backbone.
        names: class -> name in words.
    """
    config = PromptConfig(init="template", template=TEMPLATE, learn=False)
    prompts = PromptLearner.from_config(vlm, [names[label] for label in fold.test_class_names], config)
    with torch.no_grad():
        return _probabilities(prompts, fold.test_inputs(features).values())


def coop(
    fold: Fold,
    features: Mapping[str, Tensor],
    vlm: FrozenVLM,
    names: Mapping[str, str],
    run: RunFolder,
    *,
    settings: TrainConfig = COOP_SETTINGS,
) -> Array:
    """Probabilities (M, C) of CoOp: a context of the class names is trained, nothing else; no sentence is known.

    Args:
        fold: rows and training labels.
        features: scan id -> (S, D), each of length one; a scan's logits are the mean over its slices.
        vlm: the frozen backbone.
        names: class -> name in words.
        run: folder of the training.
        settings: of the loop; its seed is the fold's.
    """
    labels = np.concatenate([fold.train_labels, fold.validation_labels])
    visible = fold.side_table(features)
    order = [fold.samples.ids[row] for row in np.concatenate([fold.train, fold.validation])]
    means = torch.stack([visible[name].float().mean(0) for name in order])
    config = dataclasses.replace(COOP, seed=fold.seed % 2**31)
    prompts = PromptLearner.from_config(vlm, [names[label] for label in fold.train_class_names], config)

    def step(wrapped: nn.Module, batch: Mapping[str, Tensor], random: StepRandom) -> dict[str, Tensor]:
        logits = vlm.logit_scale * batch["feature"] @ wrapped().T
        return {"loss": F.cross_entropy(logits, batch["label"])}

    settings = dataclasses.replace(settings, seed=fold.seed, batch_size=min(settings.batch_size, len(labels)))
    fit(prompts, step, _Features(means, torch.from_numpy(labels)), config=settings, run=run)
    with torch.no_grad():
        return _probabilities(prompts, fold.test_inputs(features).values())


class _Features:
    """Training rows as the loop draws them."""

    def __init__(self, features: Tensor, labels: Tensor) -> None:
        self._features, self._labels = features, labels

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, draw: SampleRef) -> dict[str, Tensor]:
        return {"feature": self._features[draw.index], "label": self._labels[draw.index]}


def _probabilities(prompts: PromptLearner, scans: Iterable[Tensor]) -> Array:
    means = torch.stack([scan.float().mean(0) for scan in scans]).to(prompts.vlm.device)
    probabilities: Array = (prompts.vlm.logit_scale * means @ prompts().T).double().softmax(-1).cpu().numpy()
    return probabilities
