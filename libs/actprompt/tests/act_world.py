"""Simulated actions for the tests: skeletons by formulas, features drawn around a direction of each class, videos of
coloured shapes. Nothing of it is a recording."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from actprompt.config import ActConfig, ActLossConfig, RidgeInitConfig, SkeletonConfig, VideoConfig, VisualConfig
from actprompt.data.dataset import Inputs
from actprompt.data.manifest import Clip, Protocol, write_manifest
from actprompt.skeleton.features import limb_parameters, parameter_table, write_parameters
from actprompt.skeleton.io import write_skeleton
from actprompt.skeleton.joint_angles import LIMB_JOINTS
from icube_common.evaluation import Samples
from icube_common.prompts import ClassTexts, PromptConfig
from icube_common.training import TrainConfig
from icube_common.vlm import VLMConfig

LABELS = ("bow", "clap", "sit down", "wave")
SENTENCES: Mapping[str, Sequence[str]] = {
    "bow": ("a person bends forward", "the hips are strongly bent and the knees are straight"),
    "clap": ("two hands meet again and again",),
    "sit down": ("a person takes a seat", "the knees are strongly bent"),
    "wave": ("one arm is raised high above the shoulder",),
}
COLOURS = {"bow": (220, 40, 40), "clap": (40, 220, 40), "sit down": (40, 60, 220), "wave": (220, 220, 40)}
FRAMES = 3
Array = np.ndarray


def directions(label: str, generator: np.random.Generator, *, frames: int = 9, noise: float = 0.03) -> Array:
    """Limb directions (T, 8, 3) of an action, float32: standing, with what the action moves."""
    share = np.linspace(0, 1, frames)
    joints = np.tile(np.array([[1.0, 0, 0], [0, 1.0, 0]] * 4), (frames, 1, 1))
    down, swing = np.minimum(1, 2 * share), np.sin(4 * np.pi * share + generator.uniform(0, 1))
    zero = np.zeros(frames)
    if label == "wave":
        joints[:, 0] = np.stack([-np.cos(0.8 * down), np.sin(0.8 * down), zero], 1)
        joints[:, 1] = np.stack([swing, np.sqrt(1.01 - swing**2), zero], 1)
    elif label == "clap":
        for part in (1, 3):
            joints[:, part] = np.stack([zero, 0.4 + 0.3 * swing, -np.ones(frames)], 1)
    else:
        joints[:, [4, 6]] = np.stack([1.02 - down, zero, -down], 1)[:, None]
        if label == "sit down":
            joints[:, [5, 7]] = np.stack([down, 1.02 - down, zero], 1)[:, None]
    joints = joints + generator.normal(0, noise, (1, 8, 3)) + generator.normal(0, noise / 3, joints.shape)
    return (joints / np.linalg.norm(joints, axis=2, keepdims=True)).astype(np.float32)


def settings(**sections: Any) -> ActConfig:
    """A configuration for tests; a section's keys as a mapping: ``skeleton={"enabled": True}``."""
    kinds = {
        "prompt": (PromptConfig, {"init": "descriptions"}),
        "video": (VideoConfig, {"frames": FRAMES}),
        "visual": (VisualConfig, {}),
        "skeleton": (SkeletonConfig, {"frames": 8, "num_time_warps": 1}),
        "ridge_init": (RidgeInitConfig, {}),
        "loss": (ActLossConfig, {}),
        "train": (
            TrainConfig,
            {"max_steps": 3, "batch_size": 8, "learning_rate": 1e-2, "report_to": "none", "device": "cpu"},
        ),
    }
    made = {name: kind(**{**basis, **sections.pop(name, {})}) for name, (kind, basis) in kinds.items()}
    return ActConfig(vlm=VLMConfig(name="icube-tiny"), **made, **sections)


@dataclass(frozen=True)
class World:
    """Clips of a few people, as `actprompt.training.trainer.train_fold` takes them."""

    samples: Samples
    inputs: Inputs
    texts: ClassTexts

    def seen_by(self, config: ActConfig) -> Inputs:
        """The tables that a configuration uses."""
        inputs, skeleton = self.inputs, config.skeleton.enabled
        pictures = config.visual.enabled
        return replace(
            inputs,
            frames=inputs.frames if pictures and not config.visual.prompts else None,
            pixels=inputs.pixels if pictures and config.visual.prompts else None,
            skeletons=inputs.skeletons if skeleton and config.skeleton.trajectory else None,
            parameters=inputs.parameters if skeleton else None,
        )


def world(
    dim: int = 64,
    *,
    subjects: int = 4,
    takes: int = 2,
    labels: Sequence[str] = LABELS,
    features: Mapping[str, Tensor] | None = None,
    spread: float = 0.4,
    views: int = 1,
    pixels: int = 0,
    seed: int = 0,
) -> World:
    """Every subject does every action ``takes`` times.

    Args:
        dim: width of the frames' features.
        subjects: how many.
        takes: clips of each subject and class.
        labels: the classes.
        features: label -> what its frames' features lie around; by default a random direction.
        spread: length of what is a subject's own in them.
        views: of each video.
        pixels: width of preprocessed frames, 0 for none.
        seed: of everything.
    """
    generator, drawn = torch.Generator().manual_seed(seed), np.random.default_rng(seed)

    def direction(*shape: int) -> Tensor:
        return F.normalize(torch.randn(*shape, generator=generator), dim=-1)

    around = features or {label: direction(dim) for label in labels}
    people = {f"p{number}": direction(dim) for number in range(1, subjects + 1)}
    ids, groups, numbers, frames, pictures, skeletons, rows = [], [], [], {}, {}, {}, []
    for person, own in people.items():
        for number, label in enumerate(labels):
            for take in range(takes):
                name = f"{person}-{label}-{take}.avi"
                ids.append(name)
                groups.append(person)
                numbers.append(number)
                noise = 0.3 * direction(views, FRAMES, dim)
                frames[name] = F.normalize(around[label] + spread * own + noise, dim=-1)
                if pixels:
                    shade = torch.tensor(COLOURS[label]) / 255
                    pictures[name] = shade[:, None, None] + 0.1 * torch.randn(
                        views, FRAMES, 3, pixels, pixels, generator=generator
                    )
                skeletons[name] = directions(label, drawn)
                rows.append(limb_parameters(skeletons[name], 2.0 + drawn.uniform()))
    samples = Samples(ids=ids, labels=np.array(numbers), class_names=list(labels), groups=groups)
    inputs = Inputs(
        tuple(ids),
        frames,
        pictures or None,
        skeletons,
        LIMB_JOINTS,
        parameter_table(ids, rows),
    )
    texts = ClassTexts(
        {label: label for label in labels}, {label: SENTENCES[label] for label in labels}, {"file": "of a test"}
    )
    return World(samples, inputs, texts)


def write_knowledge(path: Path, labels: Sequence[str] = LABELS) -> Path:
    """Class descriptions as a file."""
    lines = [
        "title: simulated actions",
        "language: en",
        "reviewer: none (draft, not checked by a specialist)",
        "sources: {words: {kind: person, person: a test}}",
        "classes:",
    ]
    for label in labels:
        lines.append(f"  {label}:")
        lines += [f"    - {{text: {text}, status: accepted, source: words}}" for text in SENTENCES[label]]
    path.write_text("\n".join(lines) + "\n")
    return path


def write_set(
    folder: Path,
    *,
    people: Sequence[str] = ("p1", "p2", "p3"),
    labels: Sequence[str] = LABELS,
    takes: int = 2,
    skeletons: bool = True,
    format: str = "simulated",
    seed: int = 0,
) -> Path:
    """A prepared set of videos of moving shapes, one colour a class; returns its folder."""
    folder.mkdir(parents=True)
    generator = np.random.default_rng(seed)
    clips, rows = [], []
    for at, person in enumerate(people):
        for label in labels:
            for take in range(takes):
                name = f"{person}-{label.replace(' ', '_')}-{take}.avi"
                _write_video(folder / "videos" / name, label, generator)
                part = "test" if at == 0 else "train"
                clips.append(
                    Clip(
                        id=name,
                        path=f"videos/{name}",
                        label=label,
                        subject=person,
                        camera=str(take + 1),
                        splits={"cross_subject": part, "cross_view": "test" if take == 0 else "train"},
                        n_frames=6,
                        fps=10.0,
                        duration=0.6,
                    )
                )
                joints = directions(label, generator, frames=6)
                rows.append(limb_parameters(joints, 0.6))
                if skeletons:
                    write_skeleton(folder, name, joints, np.linspace(0, 0.5, 6).astype(np.float32))
    description: dict[str, Any] = {
        "format": format,
        "title": "simulated shapes",
        "simulated": True,
        "root": str(folder),
        "class_names": list(labels),
        "protocols": [
            vars(Protocol(name="leave-one-actor-out", kind="leave-one-group-out", column="subject")),
            vars(Protocol(name="cross-subject", kind="split", column="cross_subject")),
            vars(Protocol(name="cross-view", kind="split", column="cross_view", metric="mean_class_accuracy")),
        ],
    }
    if skeletons:
        table = parameter_table([clip.id for clip in clips], rows)
        description["parameters"] = write_parameters(folder, table)
        description["skeleton"] = {"joints": list(LIMB_JOINTS), "unit": "unit directions", "clips": len(clips)}
    write_manifest(folder, clips, description)
    return folder


def _write_video(path: Path, label: str, generator: np.random.Generator) -> None:
    path.parent.mkdir(exist_ok=True)
    corner, level = generator.integers(2, 12, 2), int(generator.integers(20, 60))
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 48, 48, "yuv420p"
        for index in range(6):
            picture = np.full((48, 48, 3), level, dtype=np.uint8)
            x, y = corner[0] + 3 * index, corner[1]
            picture[y : y + 24, x : x + 20] = COLOURS[label]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
