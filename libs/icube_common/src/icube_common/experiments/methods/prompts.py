"""Prompt learning on cached image features: CoOp, CoCoOp and KgCoOp. The context alone learns, no tower does.

The prompts are those of `icube_common.prompts.PromptLearner`; class features are encoded once in each step, and in a
causal tower the context that classes share once for all of them (``compact``). Logits are cosines at the frozen logit
scale. Training compares the classes that have rows; the class texts of all are encoded with the learned context at the
end, so that new classes can be predicted (base-to-new).

Shapes: N training rows, n rows to predict, b rows of a batch, D width of the space of the texts, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from icube_common.experiments.methods.adapters import WEIGHT_DECAY
from icube_common.experiments.methods.base import FeatureProblem, FittedMethod, Method, Setting
from icube_common.experiments.methods.training import MAX_STEPS, Schedule, minimise
from icube_common.losses import LossConfig, kgcoop, make_loss
from icube_common.prompts.learner import PromptLearner
from icube_common.prompts.template import PLACE

# words that contexts start as in the papers
PAPER_CONTEXT = "a photo of a"


@dataclass(frozen=True, kw_only=True)
class CoOp(Method):
    """Context optimisation: M learned vectors before the class name, shared by the classes or class-specific (CSC).

    SGD at .002 with a cosine decay, the first epoch at 1e-5; 200 epochs from eight shots on, 100 for two and four, 50
    for one (section 4.1); batches of 32, momentum .9 and weight decay 5e-4 as in the authors' code. M = 16 vectors from
    N(0, .02^2) first; M = 4, a start as words, class-specific contexts, and a tenth and ten times the rate are the
    other settings.

    Args:
        epochs: 0 for the paper's, which depend on the shots.
        batch_size: rows of a step.
        max_steps: steps, at most.
        loss: of the logits.
    """

    name: str = "CoOp"
    citation: ClassVar[str] = "Zhou et al., IJCV 2022, sections 3.2 and 4.1"
    requires: ClassVar[frozenset[str]] = frozenset({"joint", "texts"})
    epochs: int = 0
    batch_size: int = 32
    max_steps: int = MAX_STEPS
    loss: LossConfig = field(default_factory=LossConfig)

    def grid(self, problem: FeatureProblem) -> list[Setting]:
        """Length and start of the context, class-specific contexts where all classes have rows, and the rate."""
        whole: dict[str, Any] = {"context": 16}
        words: dict[str, Any] = {"context": _words(problem)[-1]}
        order = [
            (whole, 0.002),
            (words, 0.0002),
            (whole, 0.0002),
            (words, 0.002),
            (whole, 0.02),
            ({"context": 4}, 0.002),
        ]
        if not problem.new_classes:
            specific = {**whole, "class_specific": True}
            order += [(specific, 0.002), (specific, 0.0002)]
        return [{**context, "lr": lr} for context, lr in order]

    def fit(self, problem: FeatureProblem, setting: Setting) -> FittedMethod:
        """Train the context."""
        learner = self.learner(problem, setting)
        steps, notes = self._train(learner, problem, setting)
        return self._fitted(learner, problem, setting, steps, notes)

    def learner(self, problem: FeatureProblem, setting: Setting) -> PromptLearner:
        """The prompts of all classes before training."""
        assert problem.vlm is not None
        context = setting["context"]
        specific = setting.get("class_specific", False)
        options: dict[str, Any] = {"class_specific": specific, "compact": True, "seed": problem.seed}
        if isinstance(context, int):
            return PromptLearner(problem.vlm, problem.class_names, "random", num_context=context, **options)
        return PromptLearner(problem.vlm, problem.class_names, "template", template=context, **options)

    def penalty(
        self, features: Float[Tensor, "k d"], reference: Float[Tensor, "k d"], setting: Setting
    ) -> Float[Tensor, ""] | float:
        """Added to the loss: nothing.

        Args:
            features: of the trained classes, of the learned prompts.
            reference: of the hand-crafted ones.
            setting: that of the fit.
        """
        return 0.0

    def _epochs(self, problem: FeatureProblem) -> int:
        return self.epochs or (200 if problem.shots >= 8 else 100 if problem.shots >= 2 else 50)

    def _train(self, learner: PromptLearner, problem: FeatureProblem, setting: Setting) -> tuple[int, tuple[str, ...]]:
        assert problem.joint is not None
        joint, scale, classes = problem.joint, problem.scale, problem.trained_classes
        labels = torch.searchsorted(classes, problem.labels)
        loss = make_loss(self.loss, torch.bincount(labels).tolist())
        reference = problem.text_features[classes]

        def loss_of(rows: Tensor) -> Tensor:
            if learner.meta_net is not None:
                return loss(learner.logits(joint[rows], scale=scale)[:, classes], labels[rows])["loss"]
            features = learner()[classes]
            logits = scale * joint[rows] @ features.T
            return loss(logits, labels[rows])["loss"] + self.penalty(features, reference, setting)

        schedule = Schedule(
            lr=setting["lr"], epochs=self._epochs(problem), batch_size=self.batch_size, max_steps=self.max_steps
        )
        learned = [value for value in learner.parameters() if value.requires_grad]
        optimizer = torch.optim.SGD(learned, lr=schedule.lr, momentum=0.9, weight_decay=WEIGHT_DECAY)
        steps = minimise(loss_of, optimizer, schedule, len(problem), seed=problem.seed)
        return steps, schedule.note(len(problem))

    def _fitted(
        self,
        learner: PromptLearner,
        problem: FeatureProblem,
        setting: Setting,
        steps: int,
        notes: Sequence[str],
    ) -> FittedMethod:
        scale = problem.scale
        texts = learner().detach() if learner.meta_net is None else None

        def forward(features: Tensor, joint: Tensor | None) -> Tensor:
            assert joint is not None
            if texts is None:
                return learner.logits(joint, scale=scale)
            return scale * joint @ texts.T

        return FittedMethod(
            name=self.name,
            setting=setting,
            forward=forward,
            trained_parameters=sum(value.numel() for value in learner.parameters() if value.requires_grad),
            steps=steps,
            warnings=(*learner.warnings, *notes),
        )


def _words(problem: FeatureProblem) -> list[str]:
    """Words that a context may start as: the papers', and those of the problem's first template, where it has any."""
    first = problem.templates if isinstance(problem.templates, str) else problem.templates[0]
    empty = not any(character.isalnum() for character in first.replace(PLACE, ""))
    return [PAPER_CONTEXT] if empty or first == PAPER_CONTEXT else [PAPER_CONTEXT, first]


@dataclass(frozen=True, kw_only=True)
class KgCoOp(CoOp):
    """CoOp with a penalty on the distance of the class features from those of the hand-crafted texts.

    ``lambda / C sum_c |w_c - w_c^clip|^2`` with normalised features (equations 3 to 5), lambda = 8; the context starts
    as "a photo of a" and is shared; 100 epochs, batches of 128 as in the authors' code (whose penalty is the mean of
    ``1 - cosine``, half of the paper's). The hand-crafted texts are the problem's templates.
    """

    name: str = "KgCoOp"
    citation: ClassVar[str] = "Yao et al., CVPR 2023, section 3.2, equations 3 to 5"
    epochs: int = 100
    batch_size: int = 128

    def grid(self, problem: FeatureProblem) -> list[Setting]:
        """Weight of the penalty and learning rate."""
        return [
            {"context": PAPER_CONTEXT, "lambda": weight, "lr": lr} for weight in (8, 1, 2, 4) for lr in (0.002, 0.0002)
        ]

    def penalty(
        self, features: Float[Tensor, "k d"], reference: Float[Tensor, "k d"], setting: Setting
    ) -> Float[Tensor, ""]:
        """``lambda`` times the mean squared Euclidean distance; the arguments are those of `CoOp.penalty`."""
        # the squared distance of unit vectors is twice one minus their cosine
        return setting["lambda"] * 2 * kgcoop(features, reference)


@dataclass(frozen=True, kw_only=True)
class CoCoOp(CoOp):
    """Conditional context: a meta-net of the image's feature is added to each context vector, as it is.

    The meta-net is linear, ReLU, linear, of widths D, D / 16 and the token's (section 3.2); context and meta-net learn.
    The context starts as "a photo of a" (M = 4); SGD as CoOp, 10 epochs, batch 1 (section 4). The class features are
    encoded for each image, so that a step takes as many passes of the text tower as the batch has rows; logits do not
    depend on the batch.
    """

    name: str = "CoCoOp"
    citation: ClassVar[str] = "Zhou et al., CVPR 2022, sections 3.2 and 4"
    epochs: int = 10
    batch_size: int = 1

    def grid(self, problem: FeatureProblem) -> list[Setting]:
        """Start of the context and learning rate."""
        return [{"context": words, "lr": lr} for lr in (0.002, 0.0002) for words in _words(problem)]

    def learner(self, problem: FeatureProblem, setting: Setting) -> PromptLearner:
        """The prompts of all classes before training, with a meta-net of free norm."""
        assert problem.vlm is not None
        return PromptLearner(
            problem.vlm,
            problem.class_names,
            "template",
            template=setting["context"],
            conditional=True,
            meta_net="free",
            compact=True,
            seed=problem.seed,
        )
