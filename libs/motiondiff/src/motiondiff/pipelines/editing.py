"""Editing of a motion file: conditioned parts are kept exactly, the model generates the rest.

Prefix, in-between and body part are one mask of conditioned features (`motiondiff.models.inpainting`).
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

from icube_common.config import option
from icube_common.errors import InputError, unknown
from icube_common.io.runs import atomic_folder, check_output_path, write_json
from motiondiff.config import SamplerConfig
from motiondiff.export import export, file_name
from motiondiff.results import Results

if TYPE_CHECKING:
    from motiondiff.pipelines.motion_diffusion import MotionDiffusionPipeline
    from motiondiff.pipelines.sampling import Options
    from motiondiff.skeleton.motion import Motion, RigidTransform

logger = logging.getLogger(__name__)

Mask = npt.NDArray[np.bool_]
SEAM_FRAMES = 2
"""Steps on each side of a seam that count as the seam."""


@dataclass(frozen=True, kw_only=True)
class EditOptions(SamplerConfig):
    """Settings of `edit`; result number i depends on (seed, i)."""

    keep_frames: Sequence[tuple[int, int]] = option(
        (), "ranges of the file's frames that are kept as they are, A:B,C:D, with B and D exclusive"
    )
    keep_joints: Sequence[str] = option((), "joints whose rotations are kept in all frames, separated by commas")
    cut: tuple[int, int] | None = option(None, "range A:B of the file's frames that is edited (default: all)")
    action: str | None = option(None, "action of the result (default: none)")
    style: str | None = option(None, "style of the result")
    seconds: float | None = option(
        None, "length of the result, to continue after the end of the file (default: the file's)", gt=0, lt=1e6
    )
    count: int = option(1, "number of different results", ge=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.keep_frames and not self.keep_joints:
            raise InputError(
                "nothing is kept: give --keep-frames, --keep-joints, or both (`sample` makes whole motions)"
            )


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


def conditioned_mask(source: Source, options: EditOptions) -> Mask:
    """(T, J) mask of conditioned joints; a frame of the file covers its duration at the model's frame rate.

    Raises:
        InputError: a frame outside the file, a range without a frame at the model's rate, an unknown joint, or
            everything kept.
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
        raise InputError("everything is kept: nothing is left to generate")
    return mask


def is_in_between(mask: Mask) -> bool:
    """True where all generated frames lie between wholly conditioned ones."""
    return bool(mask[0].all() and mask[-1].all())


def edit_settings(run: str | Path, options: Options, *, expectation: bool) -> Options:
    """Options with steps, scheduler and guidance of an edit filled in: 20 steps of DPM-Solver++ without guidance.

    Args:
        run: the run; a distilled one has its own steps.
        options: given settings.
        expectation: one step instead. From pure noise, a denoiser with the conditioned parts as its input predicts the
            mean of all possible motions: closer to the original, on average, than any one sample.
    """
    from motiondiff.pipelines.sampling import SCHEDULER, STEPS, resolve

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
    """The motions with everything generated outside of the masks.

    Args:
        pipeline: a trained model.
        motions: in the common frame, the model's joints and frame rate.
        masks: (T, J) conditioned joints of each; T may be more than the motion has, to continue it.
        actions: of each, or None.
        styles: of each, or None.
        steps: denoising steps.
        guidance: classifier-free guidance scale.
        generators: one torch generator for each.

    A denoiser with an input for conditioned parts gets them unless frames follow after all of them: there it would stay
    near the last conditioned pose, while replacement alone continues the action.

    Returns:
        Motions of T frames, equal to the input on the masks.
    """
    import torch

    from motiondiff.models.inpainting import InpaintingCondition, joint_features

    lengths = [len(mask) for mask in masks]
    size = pipeline.representation.feature_size
    values = torch.zeros(len(motions), max(lengths), size)
    conditioned = torch.zeros(len(motions), max(lengths), size, dtype=torch.bool)
    for row, (motion, mask) in enumerate(zip(motions, masks, strict=True)):
        # a motion may be longer than its mask: what is cut off is not asked for
        shared = min(len(motion), len(mask))
        values[row, :shared] = pipeline.representation.encode(motion).cpu()[:shared]
        conditioned[row, : len(mask)] = joint_features(torch.from_numpy(mask))
    made, *_ = pipeline(
        actions=actions,
        styles=styles,
        shapes=[motion.skeleton for motion in motions],
        num_frames=lengths,
        num_inference_steps=steps,
        guidance_scale=guidance,
        inpainting=InpaintingCondition(values, conditioned),
        use_inpainting_input=all(mask[0].any() and mask[-1].any() for mask in masks),
        generator=list(generators),
        return_dict=False,
    )
    return [
        restore_conditioned(motion, result, mask) for motion, result, mask in zip(motions, made, masks, strict=True)
    ]


def restore_conditioned(original: Motion, made: Motion, mask: Mask) -> Motion:
    """``made`` with the numbers of ``original`` where (T, J) ``mask`` holds them."""
    frames = min(len(original), len(mask))
    root, rotations = made.root.copy(), made.rotations.copy()
    root[:frames] = np.where(mask[:frames, :1], original.root[:frames], root[:frames])
    rotations[:frames] = np.where(mask[:frames, :, None, None], original.rotations[:frames], rotations[:frames])
    return replace(made, root=root, rotations=rotations)


def seams(mask: Mask) -> npt.NDArray[np.int64]:
    """Steps (from frame i to i + 1) at which the mask changes, and `SEAM_FRAMES` on each side."""
    changes = np.flatnonzero((mask[1:] != mask[:-1]).any(1))
    near = {step + shift for step in changes.tolist() for shift in range(-SEAM_FRAMES, SEAM_FRAMES + 1)}
    return np.array(sorted(step for step in near if 0 <= step < len(mask) - 1), dtype=np.int64)


def edit_motion(pipeline: MotionDiffusionPipeline, source: Source, mask: Mask, options: EditOptions) -> list[Motion]:
    """``options.count`` results, where the source was recorded; steps and guidance must be given.

    Raises:
        InputError: an unknown action or style, or a length that the model cannot make.
    """
    from motiondiff.pipelines.sampling import clip_generator
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
    return [restore_conditioned(source.motion, motion, mask) for motion in placed]


def edit(
    run: str | Path,
    file: str | Path,
    out: str | Path,
    options: EditOptions,
    *,
    formats: Sequence[str] = ("npz",),
    overwrite: bool = False,
) -> Results:
    """Keep parts of a motion file, generate the rest, and write the results with ``edit.json``.

    Args:
        run: a run folder or a saved model folder.
        file: an .npz or .bvh file.
        out: the folder to make.
        options: conditioned parts, and sampling.
        formats: any of `motiondiff.export.FORMATS`. ``original`` in the same formats is the file as the model took it.
        overwrite: replace an existing ``out``.

    Returns:
        Files of the results; of each, ``conditioning_error_m`` (largest distance of a joint of a wholly conditioned
        frame from the original) and the fastest joint at the seams beside the fastest of the original (m/s).

    Raises:
        InputError: anything above, or ``out`` exists; nothing is written then.
    """
    from motiondiff.pipelines.sampling import load_pipeline, move_to, slug
    from motiondiff.schedulers import make_scheduler
    from motiondiff.skeleton.kinematics import joint_speeds

    check_output_path(out, overwrite=overwrite)
    pipeline = load_pipeline(run)
    move_to(pipeline, options.device)
    source = load_source(file, pipeline, options.cut)
    mask = conditioned_mask(source, options)
    trained = bool(pipeline.denoiser.config.inpainting_input)
    options = edit_settings(run, options, expectation=trained and is_in_between(mask) and options.count == 1)
    assert options.scheduler is not None
    pipeline.scheduler = make_scheduler(options.scheduler, pipeline.scheduler.config)
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
                    "conditioning_error_m": float(apart.max()) if len(whole) else None,
                    "seam_speed": float(speeds[near].max()) if len(near) else None,
                }
            )
        result = Results(
            {
                "out": str(target),
                "source": str(file),
                "frames": len(mask),
                "fps": source.motion.fps,
                "file_fps": source.file_fps,
                "retargeted": source.retargeted,
                "residual_mm": round(source.motion.residual * 1000, 3),
                "conditioned_frames": len(whole),
                "conditioned_joints": list(options.keep_joints),
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
        )
        write_json(folder / "edit.json", result)
    return result
