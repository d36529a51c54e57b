"""Named parameters as sentences: what it says about a body that a number is high, and that it is low.

They put a number into words: in what is told of a clip (`actprompt.captions`), and in the reasons of a prediction.
"""

from __future__ import annotations

import re

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


def statements(name: str) -> tuple[str, str]:
    """The sentences of a parameter: what is so when its number is high, and when it is low.

    The names of `actprompt.numeric_features` have sentences of their own; any other name is written out: "the hand
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
