"""Explanation of a predicted action: contributions of descriptions, summands, parameters and frames to its margin.

With c the class features and s the sum that is normalised to the clip's feature, the margin is s . (c_predicted -
c_runner_up). The contribution of a summand is its product with the same difference, and so is that of a parameter, as
the projections are linear: contributions sum to the margin. Divided by the norm of s the margin is a difference of
cosines. The importance of a frame is measured by leaving it out.

Shapes: V views, T frames, D width of the space of the texts, C classes, N descriptions, P parameters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from actprompt.data.dataset import Batch, ClipTensors
from actprompt.models.action_model import ActionModel
from actprompt.skeleton.captions import parameter_phrases

FOR, AGAINST = "for", "against"
MAX_PARAMETERS = {FOR: 5, AGAINST: 3}
"""Largest number of listed parameters."""
USUAL_DEVIATION = 0.25
"""Standard deviations from the training clips' mean below which a parameter is neither high nor low."""


@dataclass(frozen=True, eq=False)
class EncodedView:
    """Features of one view of a clip.

    Attributes:
        batch: of one row, its frames encoded.
        shares: summands of the feature by source, (D,) each.
        length: norm of their sum.
        sample: (D,) the clip's feature.
        texts: (N, D) of the descriptions.
        classes: (C, D) class features of the cosines.
    """

    batch: Batch
    shares: dict[str, Float[Tensor, " d"]]
    length: float
    sample: Float[Tensor, " d"]
    texts: Float[Tensor, "n d"]
    classes: Float[Tensor, "c d"]


@torch.no_grad()
def encode_views(model: ActionModel, tables: ClipTensors) -> list[EncodedView]:
    """Encode the views of a single clip.

    Args:
        model: in eval mode.
        tables: of one clip.
    """
    views = []
    for number in range(tables.views(0)):
        batch = {key: value[None].to(model.device) for key, value in tables.row(0, view=number).items()}
        if model.visual is not None:
            batch["frames"] = model.visual.encoded(batch)
            batch.pop("pixels", None)
        views.append(encode_view(model, batch))
    return views


@torch.no_grad()
def encode_view(model: ActionModel, batch: Batch) -> EncodedView:
    """Encode one view.

    Args:
        model: in eval mode.
        batch: of one row, its frames encoded.
    """
    shares = {name: share[0] for name, share in model.shares(batch)}
    total = torch.stack(list(shares.values())).sum(0)
    sample = model(batch).sample[0]
    prompts = model.prompts
    texts = prompts(sample if prompts.meta_net is not None else None, per_description=True)
    if model.branch is not None:
        classes = model.branch(F.normalize(total[None], dim=-1), prompts(), batch["parameters"]).classes
    else:
        classes = prompts.class_features(texts)
    return EncodedView(batch, shares, float(total.norm()), sample, texts, classes)


@dataclass(frozen=True, eq=False)
class Explanation:
    """Contributions to the margin of one action over another, averaged over the views of a clip.

    Attributes:
        model: in eval mode.
        views: of `encode_views`.
        predicted: class number of the action.
        other: class number of the other action; None without one.
    """

    model: ActionModel
    views: list[EncodedView]
    predicted: int
    other: int | None

    def difference(self, view: EncodedView) -> Float[Tensor, " d"]:
        """Class feature of the action minus that of the other."""
        mine = view.classes[self.predicted]
        return mine if self.other is None else mine - view.classes[self.other]

    def margin(self) -> float:
        """Margin of the action over the other, before the clip's feature is normalised."""
        return _mean([view.length * float(view.sample @ self.difference(view)) for view in self.views])

    def cosines(self) -> float:
        """Margin of the normalised feature, a difference of cosines."""
        return _mean([float(view.sample @ self.difference(view)) for view in self.views])

    def sentences(self) -> list[dict[str, Any]]:
        """The descriptions of the action and of the other one, the nearest first.

        Returns:
            ``action``, ``text``, ``cosine`` with the clip, ``above_mean``: that minus the mean over all classes'
            descriptions, and ``direction``: "for" where it describes the action, "against" where the other one.
        """
        cosines = torch.stack([view.texts @ view.sample for view in self.views]).mean(0)
        above = cosines - cosines.mean()
        prompts = self.model.prompts
        sentences = [
            {
                "action": self.model.labels[owner],
                "text": prompts.texts[row],
                "cosine": float(cosines[row]),
                "above_mean": float(above[row]),
                "direction": FOR if owner == self.predicted else AGAINST,
            }
            for row, owner in enumerate(prompts.owner.tolist())
            if owner in (self.predicted, self.other)
        ]
        return sorted(sentences, key=lambda row: -float(row["above_mean"]))

    def shares(self) -> list[dict[str, Any]]:
        """Contribution of each source to the margin; they sum to it."""
        names = list(self.views[0].shares)
        margins = {
            name: _mean([float(view.shares[name] @ self.difference(view)) for view in self.views]) for name in names
        }
        if self.model.branch is not None and self.model.config.skeleton.fusion_mode == "fusion":
            margins["numbers"] = self.margin() - sum(margins.values())
        return [{"source": name, "margin": value} for name, value in margins.items()]

    @torch.no_grad()
    def parameters(self) -> Float[Tensor, " p"] | None:
        """Contribution of each named parameter to the margin; None where they do not enter as such."""
        projection = self.model.parameters_map
        if projection is None:
            return None
        weight = projection.start + projection.gain * projection.learned
        parts = []
        for view in self.views:
            z = projection.standardise(view.batch["parameters"])[0]
            parts.append(z * (weight @ self.difference(view)))
        return torch.stack(parts).mean(0)

    def numbers(self, units: tuple[str, ...]) -> list[dict[str, Any]]:
        """The named parameters with the largest positive and negative contributions to the margin.

        Args:
            units: of each parameter.

        Returns:
            ``name``, ``value``, ``unit``, ``deviations`` from the training clips' mean, ``statement`` (phrase
            for a value that is high or low; None where it is neither), ``margin`` and ``direction``.
        """
        parts, projection = self.parameters(), self.model.parameters_map
        if parts is None or projection is None:
            return []
        values = self.views[0].batch["parameters"][0]
        far = ((values - projection.mean) / projection.std).nan_to_num()
        order = torch.argsort(parts, descending=True).tolist()
        chosen = [row for row in order if parts[row] > 0][: MAX_PARAMETERS[FOR]]
        chosen += [row for row in order if parts[row] < 0][-MAX_PARAMETERS[AGAINST] :]
        rows = []
        for row in chosen:
            name, deviations = self.model.parameter_names[row], float(far[row])
            high, low = parameter_phrases(name)
            rows.append(
                {
                    "name": name,
                    "value": float(values[row]),
                    "unit": units[row],
                    "deviations": deviations,
                    "statement": None if abs(deviations) < USUAL_DEVIATION else high if deviations > 0 else low,
                    "margin": float(parts[row]),
                    "direction": FOR if parts[row] > 0 else AGAINST,
                }
            )
        return rows

    @torch.no_grad()
    def captions(self) -> list[dict[str, Any]]:
        """Contributions of the parameters' captions; empty where these do not enter.

        Returns:
            ``text``, ``cosine_difference``: its cosine to the action minus that to the other, and ``margin``: its
            contribution through the captions' term, which is centred at the training clips' mean.
        """
        model, stated = self.model, self.model.stated
        if model.captioner is None or stated is None:
            return []
        texts = model.captioner.sentences(self.views[0].batch["parameters"][0].double().cpu().numpy())
        if not texts:
            return []
        features = model.vlm.encode_text(texts).float()
        centred = features - stated.mean
        length = float(centred.mean(0).norm().clamp(min=1e-12))
        factor = float(model.trust) * stated.weight / (length * len(texts))
        difference = torch.stack([self.difference(view) for view in self.views]).mean(0)
        return [
            {
                "text": text,
                "cosine_difference": float(feature @ difference),
                "margin": float(factor * centred_feature @ difference),
            }
            for text, feature, centred_feature in zip(texts, features, centred, strict=True)
        ]

    @torch.no_grad()
    def frames(self, indices: npt.NDArray[np.int64]) -> list[dict[str, Any]]:
        """Importance of each frame: the margin minus the margin without the frame.

        Args:
            indices: (V, T) frame numbers in the video; all occurrences of a frame are left out at once.

        Returns:
            ``index`` and ``importance``, None where frames do not enter, none is left without it, or an encoder of
            clips gives no feature of a frame.
        """
        rows = []
        for index in np.unique(indices).tolist():
            masks = [torch.from_numpy(row != index) for row in indices]
            enters = self._by_frame and all(bool(keep.any()) for keep in masks)
            less = [self._lost(view, keep) for view, keep in zip(self.views, masks, strict=True)] if enters else []
            rows.append({"index": index, "importance": _mean(less) if less else None})
        return rows

    @property
    def _by_frame(self) -> bool:
        """True where the model has features of single frames."""
        return self.model.visual is not None and self.model.vlm.kind != "clip"

    def _lost(self, view: EncodedView, keep: Tensor) -> float:
        """Loss of margin of a view with some of its frames only."""
        if bool(keep.all()):
            return 0.0
        left = encode_view(self.model, {**view.batch, "frames": view.batch["frames"][:, keep]})
        whole, less = (encoded.length * float(encoded.sample @ self.difference(encoded)) for encoded in (view, left))
        return whole - less


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
