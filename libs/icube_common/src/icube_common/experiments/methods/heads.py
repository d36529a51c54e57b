"""Zero-shot classification, nearest class mean and linear probe.

Shapes: N training rows, n rows to predict, W width of the features, D width of the space of the texts, C classes.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from icube_common.config import as_list
from icube_common.experiments.methods.base import FeatureProblem, FittedMethod, Method, Setting, ensemble_features
from icube_common.prompts.features import class_means

# sentences that fit an image of anything, for the ensemble beside the user's templates
GENERIC_TEMPLATES = (
    "a photo of a {}.",
    "an image of {}.",
    "a photo showing {}.",
    "an example of {}.",
    "a clear image of {}.",
    "a blurry image of {}.",
    "{}.",
)


@dataclass(frozen=True, kw_only=True)
class ZeroShot(Method):
    """Cosine similarity of the joint feature with the class texts, scaled; no training row is used.

    Args:
        texts: ``"templates"``: the problem's. ``"ensemble"``: `GENERIC_TEMPLATES` beside these, averaged (Radford et
            al., section 3.1.4). ``"descriptions"``: the problem's sentences of each class, whose cosines are averaged
            (Menon and Vondrick, "Visual Classification via Description from Large Language Models", ICLR 2023).
    """

    texts: Literal["templates", "ensemble", "descriptions"] = "templates"
    citation: ClassVar[str] = "Radford et al., ICML 2021, section 3.1.4; Menon and Vondrick, ICLR 2023"
    requires: ClassVar[frozenset[str]] = frozenset({"joint", "texts"})
    learns: ClassVar[bool] = False

    @property
    def name(self) -> str:  # type: ignore[override]
        """``zero-shot``, with ``ensemble`` or ``descriptions`` behind it."""
        return "zero-shot" if self.texts == "templates" else f"zero-shot {self.texts}"

    def reason(self, problem: FeatureProblem) -> str:
        """As `Method.reason`; descriptions of each class are needed where these are the texts."""
        sentences = problem.descriptions or {}
        missing = next((name for name in problem.class_names if not sentences.get(name)), None)
        lacking = f"no description of {missing!r}" if self.texts == "descriptions" and missing is not None else ""
        return super().reason(problem) or lacking

    def grid(self, problem: FeatureProblem) -> list[Setting]:
        """One: a selection would look at labels."""
        return [{}]

    def fit(self, problem: FeatureProblem, setting: Setting) -> FittedMethod:
        """Encode the class texts."""
        texts = problem.text_features
        assert problem.vlm is not None
        if self.texts == "descriptions":
            assert problem.descriptions is not None
            sentences = [as_list(problem.descriptions[name]) for name in problem.class_names]
            with torch.no_grad():
                texts = torch.stack([problem.vlm.encode_text(each).mean(0) for each in sentences])
        elif self.texts == "ensemble":
            templates = [problem.templates] if isinstance(problem.templates, str) else list(problem.templates)
            templates += [one for one in GENERIC_TEMPLATES if one not in templates]
            texts = ensemble_features(problem.vlm, problem.class_names, templates)
        scale = problem.scale

        def forward(features: Tensor, joint: Tensor | None) -> Tensor:
            assert joint is not None
            return scale * joint @ texts.T

        return FittedMethod(name=self.name, setting=setting, forward=forward, trained_parameters=0)


@dataclass(frozen=True, kw_only=True)
class NearestMean(Method):
    """Nearest class mean, with features transformed as in SimpleShot.

    Mensink et al., "Distance-Based Image Classification", TPAMI 2013, equation 3 with the Euclidean metric:
    ``p(c | x)`` is the softmax of ``-d(x, mean_c)^2 / 2``. Wang et al., "SimpleShot", 2019, section 3: CL2N takes the
    mean of all training rows off each feature and scales it to length 1; L2N scales alone; UN does neither.
    """

    name: str = "nearest mean"
    citation: ClassVar[str] = "Mensink et al., TPAMI 2013, equation 3; Wang et al. (SimpleShot), 2019, section 3"
    per_class: bool = True

    def grid(self, problem: FeatureProblem) -> list[Setting]:
        """Transforms of the features, CL2N first."""
        return [{"transform": name} for name in ("CL2N", "L2N", "UN")]

    def fit(self, problem: FeatureProblem, setting: Setting) -> FittedMethod:
        """Compute the class means."""
        transform = setting["transform"]
        centre = problem.features.mean(0) if transform == "CL2N" else problem.features.new_zeros(())

        def transformed(features: Float[Tensor, "n w"]) -> Float[Tensor, "n w"]:
            return features if transform == "UN" else F.normalize(features - centre, dim=-1)

        means = class_means(transformed(problem.features), problem.labels, len(problem.class_names))

        def forward(features: Tensor, joint: Tensor | None) -> Tensor:
            return -(torch.cdist(transformed(features), means, compute_mode="donot_use_mm_for_euclid_dist") ** 2) / 2

        return FittedMethod(name=self.name, setting=setting, forward=forward, trained_parameters=means.numel())


@dataclass(frozen=True, kw_only=True)
class LinearProbe(Method):
    """Multinomial logistic regression on the frozen features, fitted by L-BFGS to the optimum.

    Radford et al., ICML 2021, section 3.2 and appendix A.3: at most 1,000 iterations, an L2 penalty
    ``lambda / 2 |W|^2`` on the sum of the rows' cross-entropies, lambda swept from 1e-6 to 1e6 on a logarithmic grid.
    The grid here is the seven values that the paper's search starts from; its bisection between them is left out, for
    a budget equal to that of other methods. First is lambda = 1, for problems without inner folds.
    """

    name: str = "linear probe"
    citation: ClassVar[str] = "Radford et al., ICML 2021, section 3.2 and appendix A.3"
    per_class: bool = True

    def grid(self, problem: FeatureProblem) -> list[Setting]:
        """Penalties, seven on a logarithmic grid."""
        return [{"l2": value} for value in (1.0, 1e-6, 1e-4, 1e-2, 1e2, 1e4, 1e6)]

    def reason(self, problem: FeatureProblem) -> str:
        """As `Method.reason`; a single class has nothing to be separated from."""
        return super().reason(problem) or ("one class only" if len(problem.class_names) < 2 else "")

    def fit(self, problem: FeatureProblem, setting: Setting) -> FittedMethod:
        """Minimise the penalised cross-entropy."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression

        x, y = problem.features.double().cpu().numpy(), problem.labels.cpu().numpy()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ConvergenceWarning)
            model = LogisticRegression(C=1 / setting["l2"], max_iter=1000).fit(x, y)
        notes = tuple(
            f"linear probe, l2={setting['l2']:g}: no convergence in 1,000 iterations"
            for one in caught[:1]
            if issubclass(one.category, ConvergenceWarning)
        )
        weight = torch.from_numpy(model.coef_).to(problem.features)
        bias = torch.from_numpy(model.intercept_).to(problem.features)
        if len(problem.class_names) == 2:  # scikit-learn keeps the difference of two classes
            weight, bias = torch.cat([torch.zeros_like(weight), weight]), torch.cat([torch.zeros_like(bias), bias])

        def forward(features: Tensor, joint: Tensor | None) -> Tensor:
            return features @ weight.T + bias

        count = model.coef_.size + model.intercept_.size
        return FittedMethod(name=self.name, setting=setting, forward=forward, trained_parameters=count, warnings=notes)
