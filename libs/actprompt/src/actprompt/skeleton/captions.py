"""Captions of named parameters: sentences about the body from angles, speeds and distances of a clip.

As in GaVA-CLIP, where measured gait parameters become text (Wang et al., MICCAI 2024), and in PoseScript's posecodes
(Delmas et al., ECCV 2022), whose categories of angles and distances are joined to a description of a pose. The
sentences go through the same frozen text tower as the descriptions of the classes, so that parameters can be
compared with these before any training.

Limb parameters (`actprompt.skeleton.features.limb_parameters`) have rules of their own, written with the nine classes
and actors 1 to 6 of Florence 3D Actions in view: no rule reads a label, but which postures have a sentence (a hand at
the head, both hands at the feet) and the limits were chosen for these classes. Figures on this set therefore flatter
the rules; `benchmarks/florence_caption_rules.py` gives what they reach alone. Other parameters are described where they
are far from what training clips have.

Shapes: N clips, P parameters, D width of the space of the texts.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from icube_common.vlm import FrozenVLM

Array = npt.NDArray[np.float64]

# degrees
_KNEE_SITS, _TRUNK_LEANS, _TRUNK_FOLDED, _CROUCHES = 45.0, 35.0, 80.0, 85.0
_ARM_HIGH, _ARM_RAISED, _ARM_LOW, _ARM_LEVEL, _ARM_HANGS = 115.0, 85.0, 55.0, 45.0, 35.0
_ELBOW_WIDE, _ELBOW_STRONG, _ELBOW_BENT, _BOTH_BENT, _ELBOW_LOOSE = 100.0, 95.0, 80.0, 75.0, 60.0
# metres of an average body
_AT_HEAD, _HANDS_MEET, _HANDS_NEAR = 0.38, 0.3, 0.4
# threshold of a further parameter in standard deviations of the training clips, and the maximum number of captions
_FAR, _MAX_CAPTIONS = 0.8, 6


@dataclass(frozen=True)
class Captioner:
    """Parameters -> sentences -> features; `fit` looks at training rows only.

    Attributes:
        names: P parameters.
        center: (P,) the training rows' mean.
        deviation: (P,) their deviation, infinite where a parameter is constant or never there.
    """

    names: tuple[str, ...]
    mean: Array
    std: Array
    _encoded: dict[str, Tensor] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def fit(cls, names: Sequence[str], values: npt.ArrayLike) -> Captioner:
        """The captioner of training rows (N, P), NaN where missing."""
        table = np.asarray(values, dtype=np.float64)
        there = ~np.isnan(table)
        count = np.maximum(there.sum(axis=0), 1)
        filled = np.nan_to_num(table)
        mean = filled.sum(axis=0) / count
        std = np.sqrt((((filled - mean) * there) ** 2).sum(axis=0) / count)
        return cls(tuple(names), mean, np.where(std > 1e-9, std, np.inf))

    def sentences(self, values: npt.ArrayLike) -> list[str]:
        """Captions of a clip's parameters (P,); empty where all of them are missing."""
        row = np.asarray(values, dtype=np.float64)
        present = {name: float(value) for name, value in zip(self.names, row, strict=True) if not np.isnan(value)}
        if "active arm raise, largest" in self.names:
            return [*_legs(present), *_arms(present)]
        far = (row - self.mean) / self.std
        order = [place for place in np.argsort(-np.nan_to_num(np.abs(far))) if np.abs(far[place]) >= _FAR]
        return [parameter_phrases(self.names[place])[0 if far[place] > 0 else 1] for place in order[:_MAX_CAPTIONS]]

    @torch.no_grad()
    def features(self, vlm: FrozenVLM, values: npt.ArrayLike) -> Float[Tensor, "n d"]:
        """The mean text feature of each clip's sentences (N, D), float32 on the CPU; NaN for a clip without any.

        Args:
            vlm: the frozen backbone.
            values: (N, P), NaN where missing.
        """
        captions = [self.sentences(row) for row in np.asarray(values)]
        new = sorted({text for texts in captions for text in texts} - self._encoded.keys())
        if new:
            self._encoded.update(zip(new, vlm.encode_text(new).float().cpu(), strict=True))
        absent = torch.full((vlm.embed_dim,), torch.nan)
        return torch.stack(
            [torch.stack([self._encoded[text] for text in texts]).mean(0) if texts else absent for texts in captions]
        )

    def to_dict(self) -> dict[str, Any]:
        """For JSON; an infinite deviation is None."""
        std = [None if np.isinf(value) else float(value) for value in self.std]
        return {"names": list(self.names), "mean": self.mean.tolist(), "std": std}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Captioner:
        """The inverse of `to_dict`."""
        std = [np.inf if value is None else float(value) for value in values["std"]]
        return cls(tuple(values["names"]), np.asarray(values["mean"]), np.asarray(std))


def _legs(present: Mapping[str, float]) -> list[str]:
    """The sentence about hips and knees."""
    names = ("knee bend, first", "knee bend, last", "hip bend, last", "hip bend, largest")
    if any(name not in present for name in names):
        return []
    knee_first, knee_last, hip_last, hip_largest = (present[name] for name in names)
    if knee_first <= _KNEE_SITS and knee_last <= _KNEE_SITS:
        if hip_largest > _TRUNK_LEANS:
            return ["The trunk leans forward from the hips while the legs stay straight."]
        return ["The person stands upright with straight hips and straight knees."]
    if knee_first <= _KNEE_SITS:
        if hip_last > _CROUCHES:
            return ["The knees and hips bend deeply until the person crouches low with the thighs near the chest."]
        return ["The legs are straight at first, then the knees and hips bend and the body goes down as onto a seat."]
    if knee_last <= _KNEE_SITS:
        return [
            "The knees and hips are bent at first as on a seat, then the legs stretch and the body rises until the "
            "person stands."
        ]
    return ["The knees and hips stay bent all the time."]


def _arms(present: Mapping[str, float]) -> list[str]:
    """The sentences about both arms; no sentence from a missing number, as a comparison with NaN fails."""
    raised, elbow, to_head, to_head_last, other_raised, other_elbow, apart, hips = (
        present.get(name, math.nan)
        for name in (
            "active arm raise, largest",
            "active arm elbow bend, largest",
            "active hand to head, smallest",
            "active hand to head, last",
            "other arm raise, largest",
            "other arm elbow bend, largest",
            "hands apart, smallest",
            "hip bend, largest",
        )
    )
    if math.isnan(raised) or math.isnan(elbow):
        return []
    both = elbow > _BOTH_BENT and other_elbow > _BOTH_BENT
    hangs = other_raised < _ARM_HANGS and other_elbow < _ELBOW_LOOSE and not both
    other = ["The other arm hangs down."] if hangs else []
    stays = to_head_last < _AT_HEAD
    if both and apart < _HANDS_MEET:
        return ["Both elbows are bent and the hands come together in front of the body.", *other]
    if hips > _TRUNK_FOLDED and apart < _HANDS_NEAR:
        return ["Both hands reach down to the feet close to each other.", *other]
    if raised > _ARM_HIGH and elbow < _ELBOW_WIDE:
        return ["One arm is raised high above the shoulder with the hand in the air.", *other]
    if elbow > _ELBOW_STRONG and to_head < _AT_HEAD:
        if raised > _ARM_RAISED:
            end = " and stays there" if stays else ""
            return [
                f"The elbow is bent, the upper arm is raised and the hand is brought in front of the face{end}.",
                *other,
            ]
        end = " until the end" if stays else ""
        return [f"The elbow is strongly bent, the upper arm is low and the hand is held beside the head{end}.", *other]
    if elbow > _ELBOW_BENT and raised > _ARM_LEVEL and not math.isnan(to_head):
        return ["One forearm is held level in front of the chest with the elbow bent to a right angle.", *other]
    if raised < _ARM_LOW:
        return ["Both arms hang down."]
    return ["One arm is lifted a little.", *other]


# how a value of a clip is written: of an angle's course by its moment, of a distance too
_MOMENTS = {
    "first": "at first ",
    "last": "at the end ",
    "mean": "",
    "smallest": "always ",
    "largest": "",
}
_ANGLES = {
    "active arm raise": ("one arm is raised high above the shoulder", "one arm hangs down"),
    "active arm elbow bend": ("the elbow of one arm is strongly bent", "the elbow of one arm is straight"),
    "other arm raise": ("the other arm is raised high above the shoulder", "the other arm hangs down"),
    "other arm elbow bend": ("the elbow of the other arm is strongly bent", "the elbow of the other arm is straight"),
    "hip bend": ("the hips are strongly bent", "the hips are straight and the person stands upright"),
    "knee bend": ("the knees are strongly bent", "the knees are straight and the person stands upright"),
}
_SPEEDS = {
    "active arm raise": ("one arm is lifted quickly", "one arm stays still"),
    "active arm elbow bend": ("the forearm of one arm moves quickly", "the forearm of one arm stays still"),
    "other arm raise": ("the other arm is lifted quickly", "the other arm stays still"),
    "other arm elbow bend": ("the forearm of the other arm moves quickly", "the forearm of the other arm stays still"),
    "hip bend": ("the hips bend or stretch quickly", "the hips stay still"),
    "knee bend": ("the knees bend or stretch quickly", "the knees stay still"),
}
_HANDS = {"active hand to head": "the hand", "other hand to head": "the other hand"}
_DURATION = ("the action takes long", "the action is short")


def parameter_phrases(name: str) -> tuple[str, str]:
    """The sentences of a parameter: what is so when its number is high, and when it is low.

    The names of `actprompt.skeleton.features` have sentences of their own; any other name is written out: "the hand
    range is large", "the hand range is small".

    Args:
        name: of the parameter, such as "knee bend, last".
    """
    if name == "duration":
        return _DURATION
    what, _, moment = name.partition(", ")
    if what in _SPEEDS and moment == "highest speed":
        return _SPEEDS[what]
    if what in _ANGLES and moment in _MOMENTS:
        high, low = _ANGLES[what]
        return _MOMENTS[moment] + high, _MOMENTS[moment] + low
    if what == "hands apart" or what in _HANDS:
        return _distance(what, moment)
    return _written_out(what, moment)


def _distance(what: str, moment: str) -> tuple[str, str]:
    if what == "hands apart":
        if moment == "last":
            return "at the end the hands are far apart", "at the end the hands are close together"
        return "the hands stay far apart", "the hands come close together"
    hand = _HANDS[what]
    if moment == "last":
        return f"at the end {hand} is far from the head", f"at the end {hand} is close to the head"
    return f"{hand} stays far from the head", f"{hand} comes close to the head"


def _written_out(what: str, moment: str) -> tuple[str, str]:
    """Sentences of a name that has none of its own: joints' speeds, heights, ranges and distances among them."""
    words = re.sub(r"[_\s]+", " ", what).strip()
    when = _MOMENTS.get(moment, "")
    if words.endswith(" speed"):
        joint = words.removesuffix(" speed")
        return f"{when}the {joint} moves quickly", f"{when}the {joint} stays still"
    if words.endswith(" height"):
        joint = words.removesuffix(" height")
        return f"{when}the {joint} is high above the ground", f"{when}the {joint} is low near the ground"
    if words.endswith(" range"):
        joint = words.removesuffix(" range")
        return f"the {joint} moves far", f"the {joint} stays in its place"
    if " to " in words:
        first, _, second = words.partition(" to ")
        return f"{when}the {first} is far from the {second}", f"{when}the {first} is close to the {second}"
    return f"{when}the {words} is large", f"{when}the {words} is small"
