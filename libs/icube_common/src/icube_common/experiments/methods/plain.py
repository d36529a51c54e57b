"""Plain classifiers without texts: nearest neighbours and extremely randomised trees.

Shapes: N training rows, n rows to predict, W width of the features, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from icube_common.experiments.methods.base import FeatureProblem, FittedMethod, Method, Setting
from icube_common.prompts.ridge_init import mean_and_std

# smallest probability of a class, so that its logarithm is finite
_FLOOR = 1e-6
_TREES = 1000


@dataclass(frozen=True, kw_only=True)
class NearestNeighbours(Method):
    """Share of each class among the k nearest training rows, by the Euclidean distance of standardised features.

    Cover and Hart, "Nearest Neighbor Pattern Classification", IEEE Transactions on Information Theory 1967.
    """

    name: str = "nearest neighbours"
    citation: ClassVar[str] = "Cover and Hart, IEEE Trans. Inf. Theory 1967"
    per_class: bool = True

    def grid(self, problem: FeatureProblem) -> list[Setting]:
        """Numbers of neighbours, with and without a standard deviation of one for each feature."""
        counts = [k for k in (1, 3, 5, 9) if k <= max(1, len(problem))]
        return [{"k": k, "standardised": scaled} for scaled in (False, True) for k in counts]

    def fit(self, problem: FeatureProblem, setting: Setting) -> FittedMethod:
        """Store the training rows."""
        mean, std = problem.features.new_zeros(()).double(), problem.features.new_ones(()).double()
        if setting["standardised"]:
            mean, std = mean_and_std(problem.features)
        rows, classes = (problem.features.double() - mean) / std, len(problem.class_names)
        count = min(int(setting["k"]), len(rows))

        def forward(features: Float[Tensor, "n w"], joint: Tensor | None) -> Float[Tensor, "n c"]:
            distances = torch.cdist((features.double() - mean) / std, rows)
            nearest = problem.labels[distances.topk(count, largest=False).indices]
            votes = torch.nn.functional.one_hot(nearest, classes).float().mean(1)
            return votes.clamp(min=_FLOOR).log()

        return FittedMethod(name=self.name, setting=setting, forward=forward, trained_parameters=rows.numel())


@dataclass(frozen=True, kw_only=True)
class RandomisedTrees(Method):
    """1,000 extremely randomised trees.

    Geurts, Ernst and Wehenkel, "Extremely randomized trees", Machine Learning 2006; of their parameters K (features
    tried at a split) and n_min (rows of a node that is split) the defaults of the paper come first.
    """

    name: str = "randomised trees"
    citation: ClassVar[str] = "Geurts et al., Machine Learning 2006"
    per_class: bool = True

    def grid(self, problem: FeatureProblem) -> list[Setting]:
        """Features tried at a split, and rows of a leaf."""
        return [{"max_features": share, "min_samples_leaf": rows} for share in ("sqrt", "log2", 0.1) for rows in (1, 3)]

    def fit(self, problem: FeatureProblem, setting: Setting) -> FittedMethod:
        """Grow the trees."""
        from sklearn.ensemble import ExtraTreesClassifier

        x, y = problem.features.double().cpu().numpy(), problem.labels.cpu().numpy()
        model = ExtraTreesClassifier(_TREES, random_state=problem.seed, **setting).fit(x, y)
        columns, classes = torch.from_numpy(model.classes_), len(problem.class_names)

        def forward(features: Float[Tensor, "n w"], joint: Tensor | None) -> Float[Tensor, "n c"]:
            shares = torch.full((len(features), classes), 0.0, dtype=torch.float64)
            shares[:, columns] = torch.from_numpy(model.predict_proba(features.double().cpu().numpy()))
            return shares.clamp(min=_FLOOR).log().float().to(features.device)

        nodes = sum(tree.tree_.node_count for tree in model.estimators_)
        return FittedMethod(name=self.name, setting=setting, forward=forward, trained_parameters=nodes)
