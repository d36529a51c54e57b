"""Adapters of the classifier of class texts: Tip-Adapter, Tip-Adapter-F and TaskRes.

Shapes: N training rows, n rows to predict, D width of the space of the texts, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from icube_common.experiments.methods.base import FeatureProblem, FittedMethod, Method, Setting
from icube_common.experiments.methods.training import MAX_STEPS, Schedule, minimise
from icube_common.losses import LossConfig, make_loss
from icube_common.prompts.template import fill

# weight decay of the training library that the authors of CoOp and TaskRes use (Dassl), for SGD and Adam
WEIGHT_DECAY = 5e-4


def cache_logits(
    joint: Float[Tensor, "n d"],
    keys: Float[Tensor, "k d"],
    values: Float[Tensor, "k c"],
    *,
    beta: float,
) -> Float[Tensor, "n c"]:
    """Tip-Adapter's cache: the sum of ``exp(-beta (1 - x . key))`` over the keys of each class (equations 3 and 4).

    Args:
        joint: queries, normalised.
        keys: features of the training rows.
        values: one-hot classes of the keys.
        beta: sharpness.
    """
    return torch.exp(-beta * (1 - joint @ keys.T)) @ values


@dataclass(frozen=True, kw_only=True)
class TipAdapter(Method):
    """Training-free cache of the training features beside the zero-shot logits.

    ``alpha exp(-beta (1 - x F^T)) L + scale x W^T``, with F the features of the training rows, L their one-hot classes
    and W the class texts. alpha = 1 and beta = 5.5 first; the other settings span the ranges of the authors'
    search, whose upper ends depend on the data set. The cache holds one view of each row: the mean over augmented
    views needs the image tower.
    """

    name: str = "Tip-Adapter"
    citation: ClassVar[str] = "Zhang et al., ECCV 2022, section 3.1, equations 3 to 5"
    requires: ClassVar[frozenset[str]] = frozenset({"joint", "texts"})
    per_class: bool = True

    def grid(self, problem: FeatureProblem) -> list[Setting]:
        """Weight alpha and sharpness beta of the cache."""
        return [{"alpha": alpha, "beta": beta} for beta in (5.5, 1.0) for alpha in (1.0, 10.0, 3.0, 0.3)]

    def fit(self, problem: FeatureProblem, setting: Setting) -> FittedMethod:
        """Store the training features."""
        assert problem.joint is not None
        return _cached(self.name, problem, setting, problem.joint, trained=0)


def _cached(
    name: str,
    problem: FeatureProblem,
    setting: Setting,
    keys: Float[Tensor, "k d"],
    *,
    trained: int,
    steps: int = 0,
    warnings: tuple[str, ...] = (),
) -> FittedMethod:
    values = F.one_hot(problem.labels, len(problem.class_names)).float()
    texts, scale = problem.text_features, problem.scale
    alpha, beta = setting["alpha"], setting["beta"]

    def forward(features: Tensor, joint: Tensor | None) -> Tensor:
        assert joint is not None
        return scale * joint @ texts.T + alpha * cache_logits(joint, keys, values, beta=beta)

    return FittedMethod(
        name=name, setting=setting, forward=forward, trained_parameters=trained, steps=steps, warnings=warnings
    )


@dataclass(frozen=True, kw_only=True)
class TipAdapterF(TipAdapter):
    """Tip-Adapter whose keys are trained, from the training features on.

    AdamW, 20 epochs, batches of 256, rate 1e-3 with a cosine decay (section 3.2 and 4.1), epsilon 1e-4 and weight decay
    .01 as in the authors' code. As there the keys are trained at the first alpha and beta, and the setting's are those
    of the predictions; the keys are not normalised again. Rows are trained on as they are cached, without
    augmentation.

    Args:
        epochs: of the keys' training.
        max_steps: steps, at most.
        loss: of the logits.
    """

    name: str = "Tip-Adapter-F"
    citation: ClassVar[str] = "Zhang et al., ECCV 2022, sections 3.2 and 4.1"
    epochs: int = 20
    max_steps: int = MAX_STEPS
    loss: LossConfig = field(default_factory=LossConfig)

    def fit(self, problem: FeatureProblem, setting: Setting) -> FittedMethod:
        """Train the keys."""
        assert problem.joint is not None
        joint, labels, texts = problem.joint, problem.labels, problem.text_features
        first = self.grid(problem)[0]
        keys = nn.Parameter(joint.clone())
        values = F.one_hot(labels, len(problem.class_names)).float()
        loss = make_loss(self.loss, torch.bincount(labels, minlength=len(problem.class_names)).tolist())

        def loss_of(rows: Tensor) -> Tensor:
            cached = cache_logits(joint[rows], keys, values, beta=first["beta"])
            logits = problem.scale * joint[rows] @ texts.T + first["alpha"] * cached
            return loss(logits, labels[rows])["loss"]

        schedule = Schedule(lr=1e-3, epochs=self.epochs, batch_size=256, max_steps=self.max_steps, warmup=False)
        optimizer = torch.optim.AdamW([keys], lr=schedule.lr, eps=1e-4, weight_decay=0.01)
        steps = minimise(loss_of, optimizer, schedule, len(problem), seed=problem.seed)
        notes = schedule.note(len(problem))
        return _cached(self.name, problem, setting, keys.detach(), trained=keys.numel(), steps=steps, warnings=notes)


@torch.no_grad()
def raw_text_features(problem: FeatureProblem) -> Float[Tensor, "c d"]:
    """Mean over the templates of the class texts' features, none of them normalised."""
    vlm = problem.vlm
    assert vlm is not None
    templates = [problem.templates] if isinstance(problem.templates, str) else problem.templates
    texts = [[fill(template, name) for name in problem.class_names] for template in templates]
    return torch.stack([vlm.encode_ids(vlm.tokenize(one).to(vlm.device)) for one in texts]).mean(0)


@dataclass(frozen=True, kw_only=True)
class TaskRes(Method):
    """Task residual: class texts t plus a scaled residual x that is learned, ``t + alpha x``, x zero at the start.

    Cosine logits at the frozen scale. Adam, rate 2e-3 (2e-4 on ImageNet), batches of 256, 100 epochs for up to four
    shots and 200 from eight on, warm-up and cosine as in CoOp (section 4.1); alpha = .5 first (section 3.3). As in the
    authors' code t is the text feature before its normalisation (the mean over templates), and weight decay is 5e-4.

    Args:
        epochs: 0 for the paper's, which depend on the shots.
        max_steps: steps, at most.
        loss: of the logits.
    """

    name: str = "TaskRes"
    citation: ClassVar[str] = "Yu et al., CVPR 2023, sections 3.3 and 4.1"
    requires: ClassVar[frozenset[str]] = frozenset({"joint", "texts"})
    per_class: bool = True
    epochs: int = 0
    max_steps: int = MAX_STEPS
    loss: LossConfig = field(default_factory=LossConfig)

    def grid(self, problem: FeatureProblem) -> list[Setting]:
        """Scale of the residual and learning rate."""
        return [{"alpha": alpha, "lr": lr} for lr in (2e-3, 2e-4) for alpha in (0.5, 1.0, 0.25, 0.1)]

    def fit(self, problem: FeatureProblem, setting: Setting) -> FittedMethod:
        """Train the residual."""
        assert problem.joint is not None
        joint, labels, base, scale = problem.joint, problem.labels, raw_text_features(problem), problem.scale
        residual = nn.Parameter(torch.zeros_like(base))
        loss = make_loss(self.loss, torch.bincount(labels, minlength=len(problem.class_names)).tolist())

        def classifier() -> Float[Tensor, "c d"]:
            return F.normalize(base + setting["alpha"] * residual, dim=-1)

        def loss_of(rows: Tensor) -> Tensor:
            return loss(scale * joint[rows] @ classifier().T, labels[rows])["loss"]

        epochs = self.epochs or (200 if problem.shots >= 8 else 100)
        schedule = Schedule(lr=setting["lr"], epochs=epochs, batch_size=256, max_steps=self.max_steps)
        optimizer = torch.optim.Adam([residual], lr=schedule.lr, weight_decay=WEIGHT_DECAY)
        steps = minimise(loss_of, optimizer, schedule, len(problem), seed=problem.seed)
        texts = classifier().detach()

        def forward(features: Tensor, joint: Tensor | None) -> Tensor:
            assert joint is not None
            return scale * joint @ texts.T

        return FittedMethod(
            name=self.name,
            setting=setting,
            forward=forward,
            trained_parameters=residual.numel(),
            steps=steps,
            warnings=schedule.note(len(problem)),
        )
