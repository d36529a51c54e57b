"""Long motion from a timeline of actions, with transitions between them.

In two takes, as DoubleTake (Shafir et al., "Human Motion Diffusion as a Generative Prior", ICLR 2024, section 4.1) does
it, with overlap inpainting: in the first take every segment is generated with the end of the one before it as its
prefix; in the second take each transition is generated again as an in-between, conditioned on the motion on both sides.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from icube_common.config import option
from icube_common.errors import InputError, unknown
from icube_common.io.runs import atomic_folder, check_output_path, read_json, write_json
from motiondiff.config import SamplerConfig
from motiondiff.data.store import MotionStore
from motiondiff.export import export, file_name
from motiondiff.pipelines.timeline import Timeline, TimelineEntry, load_timeline
from motiondiff.results import Results

if TYPE_CHECKING:
    from motiondiff.pipelines.motion_diffusion import MotionDiffusionPipeline
    from motiondiff.skeleton.motion import Motion
    from motiondiff.skeleton.skeleton import Skeleton

logger = logging.getLogger(__name__)

TAKES = 4
"""Candidates of every segment and every transition; the first that is not too fast is chosen."""
WIDTHS = (1.0, 2.0, 3.0)
"""Widths of the second take, in lengths of the transition: wider where a narrower one is too fast."""
CONTEXT = 2.0
"""Conditioned motion on each side of a transition in the second take, in lengths of the transition."""
NAME = "motion"


@dataclass(frozen=True, kw_only=True)
class ComposeOptions(SamplerConfig):
    """Settings of `compose`."""

    shape: str | Path | None = option(None, "body: YAML of bone lengths, or a .npz or .bvh file with the skeleton")


@dataclass(frozen=True)
class Segment:
    """TimelineEntry of a timeline's entry that one call of the model generates.

    Attributes:
        part: number of the timeline's entry.
        frames: new frames.
    """

    part: int
    frames: int


def plan(timeline: Timeline, fps: float, overlap: int, limit: int) -> list[Segment]:
    """Segments of a timeline: an entry that is too long for the model is divided into several of about equal length.

    Args:
        timeline: actions and durations.
        fps: frame rate of the model.
        overlap: frames of a segment that are those of the one before.
        limit: longest motion that the model makes, frames.

    Raises:
        InputError: an entry shorter than the transition, or a transition too long for the model.
    """
    room = limit - overlap
    if room < overlap:
        raise InputError(f"transition: {overlap / fps:.2f} s, this model makes {limit / fps:g} s: at most half of that")
    segments = []
    for number, part in enumerate(timeline.parts):
        frames = round(part.seconds * fps)
        if frames < overlap:
            raise InputError(
                f"entry {number + 1} ({part.action}): {part.seconds:g} s is shorter than the transition "
                f"({overlap / fps:.2f} s)"
            )
        pieces = -(-frames // room)
        edges = np.linspace(0, frames, pieces + 1).round().astype(int)
        segments += [Segment(number, int(size)) for size in np.diff(edges)]
    return segments


class LongMotionSampler:
    """Sampler of the motion of a timeline.

    Args:
        pipeline: a trained model.
        skeleton: the body.
        steps: denoising steps.
        guidance: classifier-free guidance scale; None: the model's, by action.
        seed: the same seed gives the same motion.
        overlap: frames of a transition.
        limits: of each segment, the largest joint speed (m/s) of the transition to it; None takes the first candidate.
    """

    def __init__(
        self,
        pipeline: MotionDiffusionPipeline,
        skeleton: Skeleton,
        *,
        steps: int,
        guidance: float | None,
        seed: int,
        overlap: int,
        limits: Sequence[float | None],
    ) -> None:
        self.pipeline = pipeline
        self.skeleton = skeleton
        self.steps = steps
        self.guidance = guidance
        self.seed = seed
        self.overlap = overlap
        self.limits = limits
        self.calls = 0

    def first_take(self, segments: Sequence[Segment], parts: Sequence[TimelineEntry]) -> tuple[Motion, list[int]]:
        """The whole motion, and the first frames of all segments but the first."""
        motion: Motion | None = None
        starts: list[int] = []
        for segment, limit in zip(segments, self.limits, strict=True):
            part = parts[segment.part]
            if motion is None:
                motion = self._begin(max(segment.frames, 2), part)
                continue
            starts.append(len(motion))
            tail = motion.cut(len(motion) - min(self.overlap, len(motion)), len(motion))
            conditioned = np.zeros((len(tail) + segment.frames, len(self.skeleton)), dtype=bool)
            conditioned[: len(tail)] = True
            candidates = self._inpaint(tail, conditioned, part.action, part.style, guidance=self._guidance(part))
            near = slice(len(tail) - 1, len(tail) + self.overlap)
            motion = _join(motion, self._choose(candidates, near, limit).cut(len(tail), len(conditioned)))
        assert motion is not None
        return motion, starts

    def second_take(self, motion: Motion, start: int, part: TimelineEntry, limit: float | None) -> Motion:
        """The transition around frame ``start`` generated again; wider, in `WIDTHS`, where it is still too fast.

        Without guidance: the motion on both sides is condition enough. The earlier one is kept where it is slower.
        """
        from motiondiff.skeleton.kinematics import joint_speeds

        for width in WIDTHS:
            half = max(1, round(width * self.overlap / 2))
            reach = half + round(CONTEXT * self.overlap)
            longest = int(self.pipeline.denoiser.config.max_frames)
            first, stop = max(0, start - reach), min(len(motion), start + reach)
            if stop - first > longest:
                first, stop = max(0, start - longest // 2), min(len(motion), start + longest // 2)
            window = motion.cut(first, stop)
            conditioned = np.ones((len(window), len(self.skeleton)), dtype=bool)
            conditioned[max(1, start - first - half) : min(len(window) - 1, start - first + half)] = False
            if conditioned.all():
                break
            near = slice(max(0, start - first - half - 1), start - first + half + 1)
            candidates = self._inpaint(
                window, conditioned, part.action, part.style, guidance=min(1.0, self._guidance(part))
            )
            chosen = self._choose([*candidates, window], near, limit)
            pieces = [motion.cut(0, first)] if first else []
            pieces += [chosen] + ([motion.cut(stop, len(motion))] if stop < len(motion) else [])
            motion = _join(*pieces)
            if limit is None or float(joint_speeds(chosen)[near].max()) <= limit:
                break
        return motion

    def _begin(self, frames: int, part: TimelineEntry) -> Motion:
        made, *_ = self.pipeline(
            actions=[part.action],
            styles=[part.style],
            shapes=[self.skeleton],
            num_frames=[frames],
            num_inference_steps=self.steps,
            guidance_scale=self._guidance(part),
            generator=self._generators(1),
            return_dict=False,
        )
        return made[0]

    def _guidance(self, part: TimelineEntry) -> float:
        return self.pipeline.guidance_of([part.action])[0] if self.guidance is None else self.guidance

    def _inpaint(
        self, prior: Motion, conditioned: Any, action: str | None, style: str | None, *, guidance: float
    ) -> list[Motion]:
        """Candidates that keep the conditioned parts of ``prior``, in the world frame."""
        from motiondiff.pipelines.editing import inpaint, restore_conditioned
        from motiondiff.skeleton.motion import apply_transform, canonicalise

        canonical, placement = canonicalise(prior, floor=0.0)
        made = inpaint(
            self.pipeline,
            [canonical] * TAKES,
            [conditioned] * TAKES,
            actions=[action] * TAKES,
            styles=[style] * TAKES,
            steps=self.steps,
            guidance=guidance,
            generators=self._generators(TAKES),
        )
        return [restore_conditioned(prior, apply_transform(motion, placement), conditioned) for motion in made]

    def _choose(self, candidates: Sequence[Motion], near: slice, limit: float | None) -> Motion:
        """The first candidate that is slow enough near the transition, else the slowest."""
        from motiondiff.skeleton.kinematics import joint_speeds

        fastest = [float(joint_speeds(motion)[near].max()) for motion in candidates]
        allowed = [number for number, speed in enumerate(fastest) if limit is None or speed <= limit]
        return candidates[allowed[0] if allowed else int(np.argmin(fastest))]

    def _generators(self, count: int) -> list[Any]:
        from motiondiff.pipelines.sampling import clip_generator

        self.calls += count
        return [clip_generator(self.seed, self.calls - count + number) for number in range(count)]


def _join(*motions: Motion) -> Motion:
    """Concatenated motions, in the world frame."""
    return replace(
        motions[0],
        root=np.concatenate([motion.root for motion in motions]),
        rotations=np.concatenate([motion.rotations for motion in motions]),
        action=None,
        style=None,
    )


def real_fastest(store: MotionStore, *, actions: list[str] | None = None, quantile: float = 0.99) -> tuple[float, int]:
    """Quantile, over the frames of training clips, of the fastest joint's speed (m/s), and the number of frames.

    Args:
        store: real motion.
        actions: only clips of these; None, or none of them in the store: all clips.
        quantile: within 0 to 1.
    """
    from motiondiff.skeleton.kinematics import joint_speeds

    clips = store.select("train")
    if actions:
        codes = [store.actions.index(action) for action in actions if action in store.actions]
        of_action = clips[np.isin(store.columns["action"][clips], codes)]
        clips = of_action if len(of_action) else clips
    fastest = np.concatenate([joint_speeds(store[int(clip)]).max(1) for clip in clips])
    return float(np.quantile(fastest, quantile)), len(fastest)


def find_store(run: str | Path, data: str | Path | None) -> MotionStore | None:
    """The store that a run was trained on, or the given one; None where the run's is missing.

    Raises:
        InputError: the given store cannot be read.
    """
    if data is not None:
        return MotionStore(data)
    for record_file in (Path(run) / "environment.json", Path(run).resolve().parent / "environment.json"):
        if record_file.is_file() and "data" in (record := read_json(record_file)):
            try:
                store = MotionStore(record["data"])
            except InputError:
                return None
            return store if store.fingerprint == record.get("data_fingerprint") else None
    return None


def compose(
    run: str | Path,
    timeline: str | Path,
    out: str | Path,
    options: ComposeOptions | None = None,
    *,
    data: str | Path | None = None,
    formats: Sequence[str] = ("npz",),
    overwrite: bool = False,
) -> Results:
    """Generate the motion of a timeline and write it with ``compose.json``.

    Args:
        run: a run folder or a saved model folder.
        timeline: a YAML file (`motiondiff.pipelines.timeline.load_timeline`).
        out: the folder to make.
        options: sampling, and the body.
        data: real motion to compare the speed of transitions with; None: the training data, where they are present.
        formats: any of `motiondiff.export.FORMATS`.
        overwrite: replace an existing ``out``.

    Returns:
        Files of the motion; ``transitions``: of each, its time, the actions, ``fastest_joint`` (m/s), ``real_p99`` (the
        99th percentile of the fastest joint over frames of real clips of its two actions; None without a store), and
        ``within_real``: True where it stays below.

    Raises:
        InputError: a bad timeline, an unknown action or style, or ``out`` exists; nothing is written then.
    """
    from motiondiff.data.readers.body_shape import load_body_shape
    from motiondiff.pipelines.sampling import load_pipeline, move_to, resolve
    from motiondiff.skeleton.kinematics import joint_speeds

    check_output_path(out, overwrite=overwrite)
    options = options or ComposeOptions()
    plan_file = load_timeline(timeline)
    settings = resolve(run, options)
    assert settings.steps is not None
    pipeline = load_pipeline(run, settings.scheduler)
    move_to(pipeline, options.device)
    _check_labels(plan_file, pipeline, timeline)
    fps = float(pipeline.representation.config.fps)
    overlap = max(2, round(plan_file.transition * fps))
    try:
        segments = plan(plan_file, fps, overlap, int(pipeline.denoiser.config.max_frames))
    except InputError as error:
        raise InputError(f"{timeline}: {error}") from error
    store = find_store(run, data)
    if store is None:
        logger.warning("%s: its training data are missing: speeds are not compared with real motion (--data)", run)
    # real speeds at a transition: those of the training clips of its two actions
    fastest_by_pair: dict[frozenset[str], float] = {}
    limits: list[float | None] = []
    for before, after in zip([segments[0], *segments], segments, strict=False):
        pair = frozenset(name for name in (plan_file.parts[s.part].action for s in (before, after)) if name is not None)
        if store is not None and pair not in fastest_by_pair:
            fastest_by_pair[pair] = real_fastest(store, actions=sorted(pair))[0]
        limits.append(fastest_by_pair.get(pair))
    skeleton = load_body_shape(options.shape, pipeline.representation.skeleton) if options.shape else None
    composer = LongMotionSampler(
        pipeline,
        skeleton or pipeline.representation.skeleton,
        steps=settings.steps,
        guidance=settings.guidance,
        seed=options.seed,
        overlap=overlap,
        limits=limits,
    )
    started = time.perf_counter()
    motion, starts = composer.first_take(segments, plan_file.parts)
    for start, segment, limit in zip(starts, segments[1:], limits[1:], strict=True):
        motion = composer.second_take(motion, start, plan_file.parts[segment.part], limit)
    seconds = time.perf_counter() - started
    speeds = joint_speeds(motion)
    half = max(1, overlap // 2)
    transitions: list[dict[str, Any]] = []
    for start, before, after, limit in zip(starts, segments, segments[1:], limits[1:], strict=False):
        near = speeds[max(0, start - half - 1) : start + half + 1]
        fastest = float(near.max())
        transitions.append(
            {
                "seconds": start / fps,
                "from": plan_file.parts[before.part].action,
                "to": plan_file.parts[after.part].action,
                "fastest_joint": fastest,
                "real_p99": limit,
                "within_real": None if limit is None else fastest <= limit,
                "mean_joint": float(near.mean(1).max()),
            }
        )
    target = Path(out)
    with atomic_folder(target, overwrite=overwrite) as folder:
        for kind in formats:
            export(motion, folder / file_name(NAME, kind), kind, clip_id=NAME)
        result = Results(
            {
                "out": str(target),
                "files": {kind: str(target / file_name(NAME, kind)) for kind in formats},
                "frames": len(motion),
                "fps": fps,
                "seconds": motion.seconds,
                "parts": [
                    {"action": part.action, "seconds": part.seconds, "style": part.style} for part in plan_file.parts
                ],
                "transitions": transitions,
                "real_motion": None if store is None else str(store.path),
                "within_real": None if store is None else all(row["within_real"] for row in transitions),
                "scheduler": settings.scheduler,
                "steps": settings.steps,
                "guidance": settings.guidance,
                "seed": options.seed,
                "trained_for_editing": bool(pipeline.denoiser.config.inpainting_input),
                "denoising_seconds": round(seconds, 3),
            }
        )
        write_json(folder / "compose.json", result)
    return result


def _check_labels(timeline: Timeline, pipeline: MotionDiffusionPipeline, file: str | Path) -> None:
    for number, part in enumerate(timeline.parts, start=1):
        for kind, name in (("action", part.action), ("style", part.style)):
            labels = getattr(pipeline.denoiser.config, f"{kind}s")
            if name is not None and name not in labels:
                raise InputError(f"{file}: entry {number}: {unknown(kind, name, labels)}")
