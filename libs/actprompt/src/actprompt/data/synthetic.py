"""Simulated videos: stick figures that move by formulas, for the demo and for trying things out.

They stand in for recordings where none is at hand. They are not recordings of people, and everything made from them is
marked as simulated.

World: x to the person's left, y up, z where the person looks, metres. The torso's frame is that of
`actprompt.skeleton.joint_angles`: first axis down the torso, second outwards to the limb's own side, third backwards.
Shapes: T frames, 8 directions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from actprompt.data.manifest import Clip, Manifest, write_manifest
from actprompt.data.video import probe
from actprompt.skeleton.features import limb_parameters, parameter_table, write_parameters
from actprompt.skeleton.io import write_skeleton
from actprompt.skeleton.joint_angles import (
    FOREARM,
    HALF_SHOULDERS,
    HEAD,
    LIMB_JOINTS,
    UPPER_ARM,
    inverse_torso_directions,
    mirror,
)
from icube_common.errors import InputError
from icube_common.io.runs import atomic_folder, check_output_path

Array = npt.NDArray[np.float64]
NOTE = "simulated videos: stick figures drawn by formulas, not recordings of people"

FPS, SIZE = 12, 112
THIGH, SHANK, TORSO, HALF_HIPS = 0.42, 0.42, 0.50, 0.12
_YAW = np.radians(35.0)  # the camera looks from half the side, so that bending forward can be seen


@dataclass(frozen=True, kw_only=True)
class Person:
    """A simulated figure.

    Attributes:
        name: the subject in the manifest.
        clothes: colour of the limbs and the torso.
        background: colour of the wall.
        stature: 1 for a person of about 1.7 m.
        speed: 1 for an action of about 2 s.
        left_handed: exchange of both arms.
    """

    name: str
    clothes: tuple[int, int, int]
    background: tuple[int, int, int]
    stature: float
    speed: float
    left_handed: bool = False


PEOPLE = (
    Person(name="figure-1", clothes=(40, 70, 160), background=(225, 225, 215), stature=1.0, speed=1.0),
    Person(name="figure-2", clothes=(170, 40, 50), background=(200, 215, 225), stature=0.86, speed=1.25),
    Person(name="figure-3", clothes=(30, 120, 70), background=(235, 220, 205), stature=1.1, speed=0.8),
    Person(
        name="figure-4", clothes=(90, 60, 110), background=(210, 210, 210), stature=0.94, speed=1.1, left_handed=True
    ),
)


class Pose(NamedTuple):
    """A figure over a clip.

    Attributes:
        lean: (T,) rad, how far the torso leans forward.
        limbs: (T, 8, 3) directions in the torso's frame, in the order of `LIMB_JOINTS`.
    """

    lean: Array
    limbs: Array


class Moves(NamedTuple):
    """Variables of an action's formula: share of the clip (T,), and the clip's own samples, about 1 and about 0."""

    share: Array
    reach: float
    phase: float


def _there(share: Array, until: float = 0.5) -> Array:
    """0 at first, 1 from ``until`` on, smoothly."""
    s = np.clip(share / until, 0, 1)
    return s * s * (3 - 2 * s)


def _and_back(share: Array) -> Array:
    """0, 1 in the middle, 0."""
    return np.sin(np.pi * np.clip(share, 0, 1)) ** 2


def _vectors(down: npt.ArrayLike, out: npt.ArrayLike, back: npt.ArrayLike, frames: int) -> Array:
    """Unit vectors (T, 3) from numbers or sequences (T,)."""
    stacked = np.stack([np.broadcast_to(np.asarray(value, dtype=float), frames) for value in (down, out, back)], 1)
    unit: Array = stacked / np.linalg.norm(stacked, axis=1, keepdims=True)
    return unit


def _standing(frames: int) -> Pose:
    limbs = np.empty((frames, 8, 3))
    for arm in (0, 2):
        limbs[:, arm], limbs[:, arm + 1] = _vectors(1, 0.15, 0, frames), _vectors(1, 0.1, -0.1, frames)
    limbs[:, 4:] = _vectors(1, 0.06, 0, frames)[:, None]
    return Pose(np.zeros(frames), limbs)


def _wave(moves: Moves) -> Pose:
    pose, frames = _standing(len(moves.share)), len(moves.share)
    up = _there(moves.share, 0.25)
    raised = up * (2.1 + 0.25 * moves.reach)
    swing = up**2 * 0.5 * moves.reach * np.sin(2 * np.pi * (3 * moves.share + moves.phase))
    pose.limbs[:, 0] = _vectors(np.cos(raised), np.sin(raised) + 0.1, 0, frames)
    pose.limbs[:, 1] = _vectors(1 - 2 * up, 0.1 + 0.35 * up + swing, -0.1, frames)
    return pose


def _bow(moves: Moves) -> Pose:
    lean = _and_back(moves.share) * np.radians(70) * moves.reach
    # arms and legs stay as they hang: against the torso they go forward
    turned = _vectors(np.cos(lean), 0.06, -np.sin(lean), len(lean))
    return Pose(lean, np.repeat(turned[:, None], 8, axis=1))


def _sit_down(moves: Moves) -> Pose:
    pose, frames = _standing(len(moves.share)), len(moves.share)
    down = _there(moves.share, 0.7)
    lean = np.radians(40) * _and_back(moves.share / 0.8) * (moves.share < 0.8) + np.radians(5) * down
    thigh = down * np.radians(75) * min(1.0, moves.reach) + lean
    pose.limbs[:, [4, 6]] = _vectors(np.cos(thigh), 0.06, -np.sin(thigh), frames)[:, None]
    pose.limbs[:, [5, 7]] = _vectors(np.cos(lean), 0.06, -np.sin(lean), frames)[:, None]
    return Pose(lean, pose.limbs)


def _clap(moves: Moves) -> Pose:
    pose, frames = _standing(len(moves.share)), len(moves.share)
    up = _there(moves.share, 0.2)
    apart = 0.35 * moves.reach * (1 + np.cos(2 * np.pi * (4 * moves.share + moves.phase)))
    for arm in (0, 2):
        pose.limbs[:, arm] = _vectors(1 - 0.1 * up, 0.15, -0.3 * up, frames)
        pose.limbs[:, arm + 1] = _vectors(1 - 1.05 * up, 0.1 + up * (apart - 0.85), -0.1 - 0.7 * up, frames)
    return pose


def _raise_both_arms(moves: Moves) -> Pose:
    pose, frames = _standing(len(moves.share)), len(moves.share)
    raised = _there(moves.share, 0.6) * (2.75 + 0.2 * (moves.reach - 1))
    for arm in (0, 2):
        pose.limbs[:, arm] = _vectors(np.cos(raised), np.sin(raised) + 0.12, 0, frames)
        pose.limbs[:, arm + 1] = _vectors(np.cos(raised), np.sin(raised) + 0.08, -0.1, frames)
    return pose


ACTIONS: dict[str, Callable[[Moves], Pose]] = {
    "wave": _wave,
    "bow": _bow,
    "sit down": _sit_down,
    "clap": _clap,
    "raise both arms": _raise_both_arms,
}


def simulate(action: str, person: Person, *, seed: int) -> Pose:
    """A clip's movement; each seed does the action a little differently.

    Args:
        action: a key of `ACTIONS`.
        person: who does it.
        seed: of pace, reach, rhythm and a tremor.
    """
    generator = np.random.default_rng(seed)
    frames = max(8, round(2.0 / person.speed * FPS * generator.uniform(0.85, 1.15)))
    moves = Moves(np.linspace(0, 1, frames), float(generator.normal(1, 0.08)), float(generator.uniform(0, 0.3)))
    lean, limbs = ACTIONS[action](moves)
    limbs = limbs + generator.normal(0, 0.03, (1, 8, 3)) + generator.normal(0, 0.01, limbs.shape)
    limbs /= np.linalg.norm(limbs, axis=2, keepdims=True)
    return Pose(lean, mirror(limbs) if person.left_handed else limbs)


def limb_directions(pose: Pose) -> npt.NDArray[np.float32]:
    """Limb directions (T, 8, 3) of `actprompt.skeleton.joint_angles`."""
    return inverse_torso_directions(pose.limbs).astype(np.float32)


def draw(pose: Pose, person: Person, *, place: float = 0.0) -> npt.NDArray[np.uint8]:
    """The figure as images (T, H, W, 3).

    Args:
        pose: its movement.
        person: colours and stature.
        place: metres to the right of the middle.
    """
    return np.stack([_picture(points, person, place) for points in joint_positions(pose)])


def joint_positions(pose: Pose) -> list[dict[str, Array]]:
    """For each frame the joints' positions in the world, metres of a person of stature 1."""
    frames = []
    for lean, limbs in zip(pose.lean, pose.limbs, strict=True):
        down = np.array([0.0, -np.cos(lean), -np.sin(lean)])
        back = np.array([0.0, np.sin(lean), -np.cos(lean)])

        def world(direction: Array, side: int, down: Array = down, back: Array = back) -> Array:
            turned: Array = direction[0] * down + direction[1] * np.array([float(side), 0, 0]) + direction[2] * back
            return turned

        points: dict[str, Array] = {}
        leg = world(limbs[4], 1) * THIGH + world(limbs[5], 1) * SHANK
        points["pelvis"] = np.array([0.0, -leg[1], 0.0])
        points["neck"] = points["pelvis"] - TORSO * down
        points["head"] = points["neck"] - HEAD * 0.8 * down
        for side, first in ((1, 0), (-1, 2)):
            shoulder = points["neck"] + np.array([side * HALF_SHOULDERS, 0, 0])
            hip = points["pelvis"] + np.array([side * HALF_HIPS, 0, 0])
            elbow, knee = (
                shoulder + UPPER_ARM * world(limbs[first], side),
                hip + THIGH * world(limbs[first + 4], side),
            )
            points |= {f"shoulder {side}": shoulder, f"elbow {side}": elbow, f"hip {side}": hip, f"knee {side}": knee}
            points[f"hand {side}"] = elbow + FOREARM * world(limbs[first + 1], side)
            points[f"foot {side}"] = knee + SHANK * world(limbs[first + 5], side)
        frames.append(points)
    return frames


BONES = [("pelvis", "neck")] + [
    pair
    for side in (1, -1)
    for pair in (
        ("neck", f"shoulder {side}"),
        (f"shoulder {side}", f"elbow {side}"),
        (f"elbow {side}", f"hand {side}"),
        ("pelvis", f"hip {side}"),
        (f"hip {side}", f"knee {side}"),
        (f"knee {side}", f"foot {side}"),
    )
]


def to_pixels(point: Array, person: Person, place: float = 0.0, *, size: float = SIZE) -> tuple[float, float]:
    """Column and row of a point of `joint_positions` in an image of ``size`` pixels."""
    scale, floor = size / 2.4, size * 0.93
    x = np.cos(_YAW) * point[0] + np.sin(_YAW) * point[2]
    return (size / 2 + scale * (person.stature * x + place), floor - scale * person.stature * point[1])


def _picture(points: dict[str, Array], person: Person, place: float) -> npt.NDArray[np.uint8]:
    zoom = 4  # drawn larger and made smaller, which softens the edges
    scale, floor = zoom * SIZE / 2.4, zoom * SIZE * 0.93
    image = Image.new("RGB", (zoom * SIZE, zoom * SIZE), person.background)
    pen = ImageDraw.Draw(image)
    pen.rectangle((0, floor, zoom * SIZE, zoom * SIZE), fill=(120, 110, 100))

    def pixel(point: Array) -> tuple[float, float]:
        return to_pixels(point, person, place, size=zoom * SIZE)

    width = round(0.09 * scale * person.stature)
    for first, second in BONES:
        ends = [pixel(points[first]), pixel(points[second])]
        pen.line(ends, fill=person.clothes, width=width)
        for x, y in ends:
            pen.ellipse((x - width / 2, y - width / 2, x + width / 2, y + width / 2), fill=person.clothes)
    for name, size in (("head", 0.13), ("hand 1", 0.055), ("hand -1", 0.055)):
        (x, y), radius = pixel(points[name]), size * scale * person.stature
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=(225, 175, 140))
    return np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BOX))


def write_simulated(out: str | Path, *, takes: int = 3, seed: int = 0, overwrite: bool = False) -> Manifest:
    """Make a prepared set of simulated videos: each of `PEOPLE` does each of `ACTIONS` ``takes`` times.

    Args:
        out: the folder to make: what `actprompt.data.manifest` describes, and ``videos/``.
        takes: clips of each person and action.
        seed: of all clips.
        overwrite: replace an existing ``out``.

    Raises:
        InputError: ``out`` exists, or no take.
    """
    out = check_output_path(out, overwrite=overwrite)
    if takes < 1:
        raise InputError(f"takes {takes}: must be at least 1")
    clips, rows = [], []
    with atomic_folder(out, overwrite=overwrite) as folder:
        for at, person in enumerate(PEOPLE):
            for number, action in enumerate(ACTIONS):
                for take in range(takes):
                    name = f"{person.name}-{action.replace(' ', '-')}-{take + 1}.mp4"
                    clip_seed = int(np.random.SeedSequence([seed, at, number, take]).generate_state(1)[0])
                    pose = simulate(action, person, seed=clip_seed)
                    place = float(np.random.default_rng(clip_seed).normal(0, 0.08))
                    _write_video(folder / "videos" / name, draw(pose, person, place=place))
                    clip = Clip(id=name, path=f"videos/{name}", label=action, subject=person.name)
                    clip = replace(clip, **probe(folder / clip.path).measured())
                    joints = limb_directions(pose)
                    write_skeleton(folder, name, joints, (np.arange(len(joints)) / FPS).astype(np.float32))
                    clips.append(clip)
                    rows.append(limb_parameters(joints, clip.duration))
        table = parameter_table([clip.id for clip in clips], rows)
        description: dict[str, Any] = {
            "format": "simulated",
            "title": "Simulated actions (stick figures drawn by formulas)",
            "citation": "actprompt.data.synthetic",
            "simulated": True,
            "root": str(out.resolve()),
            "class_names": list(ACTIONS),
            "protocols": [],
            "parameters": write_parameters(folder, table),
            "skeleton": {"joints": list(LIMB_JOINTS), "unit": "unit directions", "clips": len(clips)},
        }
        write_manifest(folder, clips, description)
    return Manifest.load(out)


def _write_video(path: Path, frames: npt.NDArray[np.uint8]) -> None:
    path.parent.mkdir(exist_ok=True)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("mpeg4", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = SIZE, SIZE, "yuv420p"
        stream.bit_rate = 1_000_000
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
