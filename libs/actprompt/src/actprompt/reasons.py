"""Why a model names an action: which descriptions, shares, numbers and frames speak for it and which against.

All of it is read off the model itself. With c the class features and s the sum that is normalised to the clip's
feature, what is explained is the margin s . (c_predicted - c_runner_up). Each summand's part of it is its product with
the same difference, and so is each number's, as the maps are linear: the parts add up. Over the length of s the margin
is a difference of cosines. What a frame matters is measured by leaving it out.

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

from actprompt.captions import Captioner
from actprompt.clips import Tables
from actprompt.model import ActionModel, Batch
from actprompt.statements import statements

FOR, AGAINST = "for", "against"
MOST = {FOR: 5, AGAINST: 3}
"""Numbers that are listed, at most."""
USUAL = 0.25
"""Deviations from the training clips' mean below which a number is called neither high nor low."""


@dataclass(frozen=True, eq=False)
class View:
    """A view of the clip as the model sees it.

    Attributes:
        batch: its one row; frames as the tower has encoded them.
        shares: what each source adds to the feature, (D,) each.
        length: of their sum.
        sample: (D,) the clip's feature.
        texts: (N, D) of the descriptions.
        classes: (C, D) what the cosines are taken with.
    """

    batch: Batch
    shares: dict[str, Float[Tensor, " d"]]
    length: float
    sample: Float[Tensor, " d"]
    texts: Float[Tensor, "n d"]
    classes: Float[Tensor, "c d"]


@torch.no_grad()
def look(model: ActionModel, tables: Tables) -> list[View]:
    """The views of a single clip.

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
        views.append(see(model, batch))
    return views


@torch.no_grad()
def see(model: ActionModel, batch: Batch) -> View:
    """One row as the model sees it.

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
    return View(batch, shares, float(total.norm()), sample, texts, classes)


@dataclass(frozen=True, eq=False)
class Case:
    """An action against another one, over the views of a clip.

    Attributes:
        model: in eval mode.
        views: of `look`.
        predicted: place of the action among the classes.
        other: place of the one it is held against; None where there is no other.
    """

    model: ActionModel
    views: list[View]
    predicted: int
    other: int | None

    def difference(self, view: View) -> Float[Tensor, " d"]:
        """What the action's class feature has that the other's has not."""
        mine = view.classes[self.predicted]
        return mine if self.other is None else mine - view.classes[self.other]

    def margin(self) -> float:
        """How much nearer the clip is to the action than to the other, before its feature is normalised."""
        return _mean([view.length * float(view.sample @ self.difference(view)) for view in self.views])

    def cosines(self) -> float:
        """The margin of the normalised feature: a difference of cosines."""
        return _mean([float(view.sample @ self.difference(view)) for view in self.views])

    def sentences(self) -> list[dict[str, Any]]:
        """The descriptions of the action and of the other one, the nearest first.

        Returns:
            ``action``, ``text``, ``cosine`` with the clip, ``above_mean``: that minus the mean over all classes'
            descriptions, and ``speaks``: "for" where it describes the action, "against" where the other one.
        """
        cosines = torch.stack([view.texts @ view.sample for view in self.views]).mean(0)
        above = cosines - cosines.mean()
        prompts = self.model.prompts
        found = [
            {
                "action": self.model.labels[owner],
                "text": prompts.texts[row],
                "cosine": float(cosines[row]),
                "above_mean": float(above[row]),
                "speaks": FOR if owner == self.predicted else AGAINST,
            }
            for row, owner in enumerate(prompts.owner.tolist())
            if owner in (self.predicted, self.other)
        ]
        return sorted(found, key=lambda row: -float(row["above_mean"]))

    def shares(self) -> list[dict[str, Any]]:
        """What each source adds to the margin; these parts add up to it."""
        names = list(self.views[0].shares)
        found = {
            name: _mean([float(view.shares[name] @ self.difference(view)) for view in self.views]) for name in names
        }
        if self.model.branch is not None and self.model.config.numeric.fusion_mode == "fusion":
            found["numbers"] = self.margin() - sum(found.values())
        return [{"source": name, "margin": value} for name, value in found.items()]

    @torch.no_grad()
    def parameters(self) -> Float[Tensor, " p"] | None:
        """What each named parameter adds to the margin; None where they don't enter as such."""
        told = self.model.parameters_map
        if told is None:
            return None
        weight = told.start + told.gain * told.learned
        parts = []
        for view in self.views:
            z = told.standard(view.batch["parameters"])[0]
            parts.append(z * (weight @ self.difference(view)))
        return torch.stack(parts).mean(0)

    def numbers(self, units: tuple[str, ...]) -> list[dict[str, Any]]:
        """The named parameters that added most to the margin, and those that took most from it.

        Args:
            units: of each parameter.

        Returns:
            ``name``, ``value``, ``unit``, ``deviations`` from the training clips' mean, ``statement`` (what is so of a
            clip whose number is that high or low; None where it is neither), ``margin`` and what it ``speaks``.
        """
        parts, told = self.parameters(), self.model.parameters_map
        if parts is None or told is None:
            return []
        values = self.views[0].batch["parameters"][0]
        far = ((values - told.center) / told.deviation).nan_to_num()
        order = torch.argsort(parts, descending=True).tolist()
        chosen = [place for place in order if parts[place] > 0][: MOST[FOR]]
        chosen += [place for place in order if parts[place] < 0][-MOST[AGAINST] :]
        found = []
        for place in chosen:
            name, deviations = self.model.parameter_names[place], float(far[place])
            high, low = statements(name)
            found.append(
                {
                    "name": name,
                    "value": float(values[place]),
                    "unit": units[place],
                    "deviations": deviations,
                    "statement": None if abs(deviations) < USUAL else high if deviations > 0 else low,
                    "margin": float(parts[place]),
                    "speaks": FOR if parts[place] > 0 else AGAINST,
                }
            )
        return found

    @torch.no_grad()
    def told(self, captioner: Captioner | None) -> list[dict[str, Any]]:
        """The sentences that the model is told about the numbers.

        Args:
            captioner: that wrote them; None where none are told.

        Returns:
            ``text``, ``cosine_difference``: its cosine to the action minus that to the other, and ``margin``: what it
            adds to the share of the sentences, which are centred at what all training clips are told.
        """
        stated = self.model.stated
        if captioner is None or stated is None:
            return []
        texts = captioner.sentences(self.views[0].batch["parameters"][0].double().cpu().numpy())
        if not texts:
            return []
        features = self.model.vlm.encode_text(texts).float()
        apart = features - stated.center
        length = float(apart.mean(0).norm().clamp(min=1e-12))
        factor = float(self.model.trust) * stated.weight / (length * len(texts))
        difference = torch.stack([self.difference(view) for view in self.views]).mean(0)
        return [
            {"text": text, "cosine_difference": float(feature @ difference), "margin": float(factor * own @ difference)}
            for text, feature, own in zip(texts, features, apart, strict=True)
        ]

    @torch.no_grad()
    def frames(self, indices: npt.NDArray[np.int64]) -> list[dict[str, Any]]:
        """How much each frame matters: the margin minus the margin when the head is not given it.

        Args:
            indices: (V, T) which frame of the video each is; a frame that is there several times is left out at once.

        Returns:
            ``index`` and ``mattered``, None where the picture doesn't enter or nothing of it is left without the frame.
        """
        found = []
        for index in np.unique(indices).tolist():
            kept = [torch.from_numpy(row != index) for row in indices]
            enters = self.model.visual is not None and all(bool(keep.any()) for keep in kept)
            less = [self._lost(view, keep) for view, keep in zip(self.views, kept, strict=True)] if enters else []
            found.append({"index": index, "mattered": _mean(less) if less else None})
        return found

    def _lost(self, view: View, keep: Tensor) -> float:
        """How much smaller a view's margin is with some of its frames only."""
        if bool(keep.all()):
            return 0.0
        left = see(self.model, {**view.batch, "frames": view.batch["frames"][:, keep]})
        whole, less = (found.length * float(found.sample @ self.difference(found)) for found in (view, left))
        return whole - less


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
