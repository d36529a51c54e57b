"""Editing a person's own motion: parts of it are held exactly, the model makes the rest.

Prefix, in-between and body part are one thing: a mask of the features that are held (`motiondiff.model.held`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from icube_common.errors import InputError, unknown
from icube_common.io.runs import atomic_folder, check_output_path, write_json
from motiondiff.export import export, file_name

if TYPE_CHECKING:
    from motiondiff.pipeline import MotionDiffusionPipeline
    from motiondiff.sample import SampleOptions
    from motiondiff.skeleton.motion import Motion, RigidTransform

logger = logging.getLogger(__name__)

Mask = npt.NDArray[np.bool_]
SEAM_FRAMES = 2
"""Steps on each side of a seam that count as the seam."""


@dataclass(frozen=True, kw_only=True)
class EditOptions:
    """What is held, and how the rest is made.

    Attributes:
        keep_frames: ranges (first, stop) of the file's frames that are held as a whole, stop exclusive.
        keep_joints: joints held in all frames: the rotation, and of the root also its place. With ``keep_frames``: what
            either names.
        cut: frames (first, stop) of the file that are edited, or None for all; ``keep_frames`` count in the whole file.
        action: what is done, or None to leave it open.
        style: style, or None.
        seconds: length of the result where it is to go on after the file's last frame; None: the file's.
        count: different results.
        steps, scheduler, guidance: as of `motiondiff.sample.SampleOptions`; None: `edit_settings` says.
        seed: result number i depends on (seed, i).
        device: torch device.
    """

    keep_frames: Sequence[tuple[int, int]] = ()
    keep_joints: Sequence[str] = ()
    cut: tuple[int, int] | None = None
    action: str | None = None
    style: str | None = None
    seconds: float | None = None
    count: int = 1
    steps: int | None = None
    scheduler: str | None = None
    guidance: float | None = None
    seed: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        if not self.keep_frames and not self.keep_joints:
            raise InputError("nothing is held: give --keep-frames, --keep-joints, or both (`sample` makes all anew)")
        if self.seconds is not None and not 0 < self.seconds < 1e6:
            raise InputError(f"--seconds {self.seconds}: must be positive")


def parse_ranges(text: str, option: str = "--keep-frames") -> tuple[tuple[int, int], ...]:
    """``"0:20,40:60"`` to ((0, 20), (40, 60)).

    Raises:
        InputError: not of that form, or an empty range.
    """
    ranges = []
    for word in filter(None, (part.strip() for part in text.split(","))):
        first, colon, stop = word.partition(":")
        if not (colon and first.isdecimal() and stop.isdecimal()):
            raise InputError(f"{option} {word!r}: wanted FIRST:STOP in frames, such as 0:20,40:60")
        if int(first) >= int(stop):
            raise InputError(f"{option} {word!r}: holds no frame (the second number is the first frame not meant)")
        ranges.append((int(first), int(stop)))
    if not ranges:
        raise InputError(f"{option} {text!r}: names no frames")
    return tuple(ranges)


@dataclass(frozen=True, eq=False)
class Source:
    """A motion as the model can take it.

    Attributes:
        motion: the model's joints and frame rate, where it was recorded.
        canonical: the same in the common frame; ``apply_transform(canonical, placement)`` is ``motion``.
        placement: see above.
        file_frames: frames of the file.
        file_fps: its frame rate.
        retargeted: whether it was put on the model's body, its own having other joints.
        first: the file's frame that the motion begins with.
    """

    motion: Motion
    canonical: Motion
    placement: RigidTransform
    file_frames: int
    file_fps: float
    retargeted: bool
    first: int


def load_source(file: str | Path, pipeline: MotionDiffusionPipeline, cut: tuple[int, int] | None = None) -> Source:
    """A motion file at the model's frame rate, on its joints.

    A file with the model's joints keeps its own bones; any other body is put on the mean training body
    (`motiondiff.skeleton.retarget`).

    Raises:
        InputError: no such file, broken, a range outside, too long for the model, or a body that cannot be retargeted.
    """
    from motiondiff.data.readers.base import resample
    from motiondiff.data.readers.motion_file import read_motion
    from motiondiff.skeleton.motion import canonicalise
    from motiondiff.skeleton.retarget import retarget

    recorded = read_motion(file)
    total, fps = len(recorded), recorded.fps
    if cut is not None:
        if cut[1] > total:
            raise InputError(f"--cut {cut[0]}:{cut[1]}: {file} has frames 0 to {total - 1}")
        recorded = recorded.cut(*cut)
    motion = resample(recorded, float(pipeline.representation.config.fps))
    limit = int(pipeline.denoiser.config.max_frames)
    if not 2 <= len(motion) <= limit:
        raise InputError(
            f"{file}: {len(motion)} frames ({motion.seconds:.2f} s) at {motion.fps:g} fps, this model takes 2 to "
            f"{limit} (up to {limit / motion.fps:g} s); --cut FIRST:STOP takes a part"
        )
    body = pipeline.representation.skeleton
    retargeted = not motion.skeleton.same_topology(body)
    if retargeted:
        try:
            motion = retarget(motion, body)
        except InputError as error:
            raise InputError(
                f"{file}: its {len(motion.skeleton)} joints cannot be put on the model's {len(body)} ({error})"
            ) from error
        logger.warning("%s has other joints than the model: put on the model's body", file)
    canonical, placement = canonicalise(motion)
    return Source(motion, canonical, placement, total, fps, retargeted, cut[0] if cut else 0)


def held_mask(source: Source, options: EditOptions) -> Mask:
    """(T, J) which joints of which frames are held; a file's frame is held at the model's rate for as long as it lasts.

    Raises:
        InputError: a frame outside the file, a range without a frame at the model's rate, an unknown joint, or
            everything held.
    """
    motion = source.motion
    frames = len(motion)
    if options.seconds is not None:
        frames = max(frames, round(options.seconds * motion.fps))
    mask = np.zeros((frames, len(motion.skeleton)), dtype=bool)
    # the file's frame numbers of the model's frames, in the file's own rate
    numbers = source.first + np.arange(len(motion)) * source.file_fps / motion.fps
    for first, stop in options.keep_frames:
        if stop > source.file_frames:
            raise InputError(f"--keep-frames {first}:{stop}: the file has frames 0 to {source.file_frames - 1}")
        inside = (numbers >= first - 1e-6) & (numbers <= stop - 1 + 1e-6)
        if not inside.any():
            raise InputError(
                f"--keep-frames {first}:{stop}: none of these frames is left at {motion.fps:g} fps, within --cut"
            )
        mask[: len(motion)][inside] = True
    for name in options.keep_joints:
        if name not in motion.skeleton.names:
            raise unknown("joint", name, motion.skeleton.names)
        mask[: len(motion), motion.skeleton.index(name)] = True
    if mask.all():
        raise InputError("everything is held: nothing is left to make")
    return mask


def is_in_between(mask: Mask) -> bool:
    """Whether all that is to be made lies between wholly held frames."""
    return bool(mask[0].all() and mask[-1].all())


def edit_settings(run: str | Path, options: SampleOptions, *, expectation: bool) -> SampleOptions:
    """Steps, scheduler and guidance of an edit, where they are not given: 20 of DPM-Solver++ without guidance.

    Args:
        run: the run; a distilled one has its own steps.
        options: what is given.
        expectation: one step instead. From pure noise, a denoiser that is shown the held parts gives the mean of all
            that it takes for possible: closer to what was, on average, than any one draw from it.
    """
    from motiondiff.sample import SCHEDULER, STEPS, resolve

    steps, scheduler = (1, "ddim") if expectation and options.steps is None else (STEPS, SCHEDULER)
    return resolve(run, options, steps=steps, scheduler=scheduler, guidance=1.0)


def inpaint(
    pipeline: MotionDiffusionPipeline,
    motions: Sequence[Motion],
    masks: Sequence[Mask],
    *,
    actions: Sequence[str | None],
    styles: Sequence[str | None],
    steps: int,
    guidance: float,
    generators: Sequence[Any],
) -> list[Motion]:
    """The motions with everything made anew that the masks do not hold.

    Args:
        pipeline: a trained model.
        motions: in the common frame, the model's joints and frame rate.
        masks: (T, J) held joints of each; T may be more than the motion has: it then goes on.
        actions: of each, or None.
        styles: of each, or None.
        steps: denoising steps.
        guidance: classifier-free guidance scale.
        generators: one torch generator for each.

    A denoiser with an input for held parts is shown them unless motion is to go on beyond all of them: there it stays
    near the pose that it is shown, while replacement alone goes on with the action.

    Returns:
        Motions of T frames; held joints of held frames are the very numbers of the input.
    """
    import torch

    from motiondiff.model.held import HeldParts, joint_features

    lengths = [len(mask) for mask in masks]
    size = pipeline.representation.feature_size
    values = torch.zeros(len(motions), max(lengths), size)
    held = torch.zeros(len(motions), max(lengths), size, dtype=torch.bool)
    for row, (motion, mask) in enumerate(zip(motions, masks, strict=True)):
        # a motion may be longer than its mask: what is cut off is not asked for
        kept = min(len(motion), len(mask))
        values[row, :kept] = pipeline.representation.encode(motion).cpu()[:kept]
        held[row, : len(mask)] = joint_features(torch.from_numpy(mask))
    made, *_ = pipeline(
        actions=actions,
        styles=styles,
        shapes=[motion.skeleton for motion in motions],
        num_frames=lengths,
        num_inference_steps=steps,
        guidance_scale=guidance,
        held=HeldParts(values, held),
        show_held=all(mask[0].any() and mask[-1].any() for mask in masks),
        generator=list(generators),
        return_dict=False,
    )
    return [put_back(motion, result, mask) for motion, result, mask in zip(motions, made, masks, strict=True)]


def put_back(original: Motion, made: Motion, mask: Mask) -> Motion:
    """``made`` with the numbers of ``original`` where (T, J) ``mask`` holds them."""
    frames = min(len(original), len(mask))
    root, rotations = made.root.copy(), made.rotations.copy()
    root[:frames] = np.where(mask[:frames, :1], original.root[:frames], root[:frames])
    rotations[:frames] = np.where(mask[:frames, :, None, None], original.rotations[:frames], rotations[:frames])
    return replace(made, root=root, rotations=rotations)


def seams(mask: Mask) -> npt.NDArray[np.int64]:
    """Steps (from frame i to i + 1) at which what is held changes, and `SEAM_FRAMES` on each side."""
    changes = np.flatnonzero((mask[1:] != mask[:-1]).any(1))
    near = {step + shift for step in changes.tolist() for shift in range(-SEAM_FRAMES, SEAM_FRAMES + 1)}
    return np.array(sorted(step for step in near if 0 <= step < len(mask) - 1), dtype=np.int64)


def edit_motion(pipeline: MotionDiffusionPipeline, source: Source, mask: Mask, options: EditOptions) -> list[Motion]:
    """``options.count`` results, where the source was recorded; steps and guidance must be given.

    Raises:
        InputError: an unknown action or style, or a length that the model cannot make.
    """
    from motiondiff.sample import clip_generator
    from motiondiff.skeleton.motion import apply_transform

    assert options.steps is not None and options.guidance is not None
    count = options.count
    made = inpaint(
        pipeline,
        [source.canonical] * count,
        [mask] * count,
        actions=[options.action] * count,
        styles=[options.style] * count,
        steps=options.steps,
        guidance=options.guidance,
        generators=[clip_generator(options.seed, number) for number in range(count)],
    )
    placed = [apply_transform(motion, source.placement) for motion in made]
    # there and back rounds: the recorded numbers themselves
    return [put_back(source.motion, motion, mask) for motion in placed]


def edit(
    run: str | Path,
    file: str | Path,
    out: str | Path,
    options: EditOptions,
    *,
    formats: Sequence[str] = ("npz",),
    overwrite: bool = False,
) -> dict[str, Any]:
    """Hold parts of a motion file, make the rest, and write the results with ``edit.json``.

    Args:
        run: a run folder or a saved model folder.
        file: an .npz or .bvh file.
        out: the folder to make.
        options: what is held.
        formats: any of `motiondiff.export.FORMATS`. ``original`` in the same formats is the file as the model took it.
        overwrite: replace an existing ``out``.

    Returns:
        Where the results are; of each, ``held_error_m`` (largest distance of a wholly held frame from the original, by
        the joints) and the fastest joint at the seams beside the fastest of the original (m/s).

    Raises:
        InputError: anything above, or ``out`` exists; nothing is written then.
    """
    from motiondiff.sample import SampleOptions, load_pipeline, move_to, slug
    from motiondiff.schedulers import make_scheduler
    from motiondiff.speeds import joint_speeds

    check_output_path(out, overwrite=overwrite)
    given = SampleOptions(
        count=options.count,
        steps=options.steps,
        scheduler=options.scheduler,
        guidance=options.guidance,
        seed=options.seed,
        device=options.device,
    )
    pipeline = load_pipeline(run)
    move_to(pipeline, options.device)
    source = load_source(file, pipeline, options.cut)
    mask = held_mask(source, options)
    trained = bool(pipeline.denoiser.config.held_input)
    settings = edit_settings(run, given, expectation=trained and is_in_between(mask) and options.count == 1)
    assert settings.scheduler is not None
    options = replace(options, steps=settings.steps, guidance=settings.guidance, scheduler=settings.scheduler)
    pipeline.scheduler = make_scheduler(settings.scheduler, pipeline.scheduler.config)
    started = time.perf_counter()
    made = edit_motion(pipeline, source, mask, options)
    seconds = time.perf_counter() - started
    target = Path(out)
    whole = np.flatnonzero(mask.all(1))
    near = seams(mask)
    results: list[dict[str, Any]] = []
    with atomic_folder(target, overwrite=overwrite) as folder:
        stem = slug(Path(file).stem)
        named = [("original", source.motion), *((f"{stem}-{at:03d}", motion) for at, motion in enumerate(made))]
        for name, motion in named:
            for kind in formats:
                export(motion, folder / file_name(name, kind), kind, clip_id=name)
            if name == "original":
                continue
            apart = np.linalg.norm(motion.positions[whole] - source.motion.positions[whole], axis=-1)
            speeds = joint_speeds(motion).max(1)
            results.append(
                {
                    "name": name,
                    "files": {kind: str(target / file_name(name, kind)) for kind in formats},
                    "held_error_m": float(apart.max()) if len(whole) else None,
                    "seam_speed": float(speeds[near].max()) if len(near) else None,
                }
            )
        result = {
            "out": str(target),
            "source": str(file),
            "frames": len(mask),
            "fps": source.motion.fps,
            "file_fps": source.file_fps,
            "retargeted": source.retargeted,
            "residual_mm": round(source.motion.residual * 1000, 3),
            "held_frames": len(whole),
            "held_joints": list(options.keep_joints),
            "action": options.action,
            "scheduler": options.scheduler,
            "steps": options.steps,
            "guidance": options.guidance,
            "seed": options.seed,
            "trained_for_editing": trained,
            "fastest_joint_of_original": float(joint_speeds(source.motion).max()),
            "denoising_seconds": round(seconds, 3),
            "results": results,
        }
        write_json(folder / "edit.json", result)
    return result
