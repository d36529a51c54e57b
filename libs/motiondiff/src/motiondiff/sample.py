"""Sampling from a trained run: what to generate, in which files, and the record of it."""

from __future__ import annotations

import csv
import logging
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from icube_common.errors import InputError, unknown
from icube_common.io.runs import atomic_folder, check_output_path, read_json
from icube_common.utils import as_list
from motiondiff.export import FORMATS, export, file_name
from motiondiff.schedulers import SCHEDULERS

if TYPE_CHECKING:
    import torch

    from motiondiff.pipeline import MotionDiffusionPipeline
    from motiondiff.skeleton.motion import Motion
    from motiondiff.skeleton.skeleton import Skeleton

logger = logging.getLogger(__name__)

STEPS = 20
SCHEDULER = "dpmsolver++"
GUIDANCE = 2.5
STYLE_STREAM = 1
"""Styles are drawn from random numbers of their own: the noise of a motion is the same with and without."""
LONGEST_STEM = 60
"""Characters of a text that a file is named by, at most."""


@dataclass(frozen=True, kw_only=True)
class SampleOptions:
    """What to generate.

    Attributes:
        actions: the actions asked for; empty with ``unconditional`` or ``per_action``.
        texts: descriptions in free words, for a model that was trained with text; with one action, of which they
            say more, or with none.
        count: motions of each action or text (or in all, without either).
        per_action: this many of *every* action the model knows: a balanced set.
        unconditional: leave the action open.
        style: style of all motions, or None.
        mix_styles: each motion with a style of its own, any of the model's; without it and `style` the style is left
            open, and motions are nearer to the mean of the styles.
        shape: a file with the body (`motiondiff.data.readers.body_shape.load_shape`), or None for the mean training
            body.
        seconds: length of every motion; None draws lengths as the training clips have them.
        steps: denoising steps; None, here and in the next two, is the run's own (`resolve`).
        scheduler: a key of `motiondiff.schedulers.SCHEDULERS`.
        guidance: classifier-free guidance scale; 1 is none.
        seed: motion number i of a call depends on (seed, i) alone, not on how many are made with it.
        batch_size: motions denoised together.
        device: torch device.
        text_weights: where the text encoder's weight file lies, if not where it did at training.
    """

    actions: Sequence[str] = ()
    texts: Sequence[str] = ()
    count: int = 1
    per_action: int | None = None
    unconditional: bool = False
    style: str | None = None
    mix_styles: bool = False
    shape: str | Path | None = None
    seconds: float | None = None
    steps: int | None = None
    scheduler: str | None = None
    guidance: float | None = None
    seed: int = 0
    batch_size: int = 32
    device: str = "cpu"
    text_weights: str | Path | None = None

    def __post_init__(self) -> None:
        for name in ("count", "steps", "batch_size", "per_action"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"--{name.replace('_', '-')} {value}: must be at least 1")
        if self.guidance is not None and not 0 <= self.guidance < 1000:
            raise InputError(f"--guidance {self.guidance}: must be 0 or more (1 is no guidance)")
        if self.mix_styles and self.style is not None:
            raise InputError(f"--style {self.style} and --mix-styles exclude each other: give one of them")
        if self.seconds is not None and not 0 < self.seconds < 1e6:
            raise InputError(f"--seconds {self.seconds}: must be positive")
        if self.seed < 0:
            raise InputError(f"--seed {self.seed}: must not be negative")
        object.__setattr__(self, "actions", as_list(self.actions))
        object.__setattr__(self, "texts", as_list(self.texts))
        ways = [bool(self.actions), self.per_action is not None, self.unconditional]
        if sum(ways) > 1:
            raise InputError("--action, --per-action and --unconditional exclude each other: give one of them")
        if self.texts and (self.per_action is not None or self.unconditional):
            raise InputError("--text goes alone or with one --action, not with --per-action or --unconditional")
        if self.texts and len(self.actions) > 1:
            raise InputError(f"--text with {len(self.actions)} actions: give one --action, which all texts say more of")
        if self.text_weights is not None and not self.texts:
            raise InputError(f"--text-weights {self.text_weights}: there is no --text to encode")


def model_folder(run: str | Path) -> Path:
    """Where the saved model of a run folder is; a saved model folder itself.

    Raises:
        InputError: no trained model is there.
    """
    path = Path(run)
    folder = next((place for place in (path / "model", path) if (place / "model_index.json").is_file()), None)
    if folder is None:
        state = "holds no trained model (no model/model_index.json)" if path.is_dir() else "does not exist"
        raise InputError(f"{path}: {state}; `motiondiff train` makes one, --resume finishes a stopped one")
    return folder


def is_distilled(run: str | Path) -> bool:
    """Whether a run was made by `motiondiff.distill`: it samples in few steps, with guidance folded in.

    Raises:
        InputError: no trained model is there.
    """
    config = model_folder(run) / "scheduler" / "scheduler_config.json"
    return config.is_file() and read_json(config).get("_class_name") == SCHEDULERS["lcm"][0]


def resolve(
    run: str | Path,
    options: SampleOptions,
    *,
    steps: int = STEPS,
    scheduler: str = SCHEDULER,
    guidance: float = GUIDANCE,
) -> SampleOptions:
    """Fill in what the options leave to the run: the given defaults, or, of a distilled run, 4 steps of LCM.

    Raises:
        InputError: no trained model is there; guidance for a distilled run, which has it folded in.
    """
    if is_distilled(run):
        steps, scheduler, guidance = 4, "lcm", 1.0
        if options.guidance not in (None, 1.0):
            raise InputError(
                f"--guidance {options.guidance:g}: {run} was distilled with its guidance folded in; leave it out"
            )
    return replace(
        options,
        steps=steps if options.steps is None else options.steps,
        scheduler=scheduler if options.scheduler is None else options.scheduler,
        guidance=guidance if options.guidance is None else options.guidance,
    )


def load_pipeline(run: str | Path, scheduler: str | None = None) -> MotionDiffusionPipeline:
    """The pipeline of a run folder, or of a saved model folder, with its own or another scheduler.

    Raises:
        InputError: no trained model is there, or an unknown scheduler.
    """
    folder = model_folder(run)
    from motiondiff.pipeline import MotionDiffusionPipeline
    from motiondiff.schedulers import make_scheduler

    try:
        pipeline = MotionDiffusionPipeline.from_pretrained(folder)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{folder}: cannot be loaded ({str(error).splitlines()[0]})") from error
    if scheduler is not None:
        pipeline.scheduler = make_scheduler(scheduler, pipeline.scheduler.config)
    return pipeline


def clip_generator(seed: int, number: int) -> torch.Generator:
    """The random generator of motion ``number`` of a call: from (seed, number) alone."""
    import numpy as np
    import torch

    state = np.random.SeedSequence([seed, number]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state) & (2**63 - 1))


def move_to(pipeline: MotionDiffusionPipeline, device: str) -> None:
    """Put a pipeline on a device, its own progress bar off.

    Raises:
        InputError: no such device.
    """
    from motiondiff.devices import put_on

    put_on(pipeline, device)
    pipeline.set_progress_bar_config(disable=True)


def sample_style(styles: Sequence[str], seed: int, number: int) -> str | None:
    """The style of motion ``number`` of a call, from (seed, number) alone; None where the model knows none."""
    import numpy as np

    if not styles:
        return None
    return styles[int(np.random.default_rng([seed, number, STYLE_STREAM]).integers(len(styles)))]


def list_wanted(options: SampleOptions, known: Sequence[str]) -> list[tuple[str | None, str | None]]:
    """The action and the text of every motion that the options ask for, in order.

    Args:
        options: what to generate.
        known: the model's actions.

    Raises:
        InputError: an unknown action; the nearest is named.
    """
    if options.per_action is not None:
        if not known:
            raise InputError("--per-action: this model was trained without actions; use --unconditional")
        return [(action, None) for action in known for _ in range(options.per_action)]
    for action in options.actions:
        if action not in known:
            raise unknown("action", action, known)
    actions: list[str | None] = list(options.actions) or [None]
    texts: list[str | None] = list(options.texts) or [None]
    return [(action, text) for action in actions for text in texts for _ in range(options.count)]


def generate(pipeline: MotionDiffusionPipeline, options: SampleOptions) -> Iterator[Motion]:
    """The motions that the options ask for, in order: action by action, or text by text.

    Steps and guidance that are not given are `STEPS` and `GUIDANCE`.

    Raises:
        InputError: unknown action or style, a length the model cannot make, a body that is not the model's, a text for
            a model without text, or one that its encoder cannot read.
    """
    from tqdm import tqdm

    steps, guidance = options.steps or STEPS, GUIDANCE if options.guidance is None else options.guidance
    wanted = list_wanted(options, list(pipeline.denoiser.config.actions))
    known = list(pipeline.denoiser.config.styles) if options.mix_styles else []
    styles = [sample_style(known, options.seed, number) or options.style for number in range(len(wanted))]
    shape: Skeleton | None = None
    if options.shape is not None:
        from motiondiff.data.readers.body_shape import load_body_shape

        shape = load_body_shape(options.shape, pipeline.representation.skeleton)
    frames = None
    if options.seconds is not None:
        frames = round(options.seconds * pipeline.representation.config.fps)
    move_to(pipeline, options.device)
    if options.text_weights is not None:
        from motiondiff.model.text import load_saved_encoder

        facts = pipeline.denoiser.config.text_encoder or {}
        encoder = load_saved_encoder(facts, pretrained=options.text_weights, device=pipeline.denoiser.device)
        pipeline.use_text_encoder(encoder)
    with tqdm(total=len(wanted), desc="sample", unit="motion") as progress:
        for first in range(0, len(wanted), options.batch_size):
            actions, texts = zip(*wanted[first : first + options.batch_size], strict=True)
            output = pipeline(
                actions=actions,
                texts=texts,
                styles=styles[first : first + options.batch_size],
                shapes=[shape] * len(actions),
                num_frames=frames,
                num_inference_steps=steps,
                guidance_scale=guidance,
                generator=[clip_generator(options.seed, first + row) for row in range(len(actions))],
                return_dict=False,
            )
            yield from output[0]
            progress.update(len(actions))


def parse_formats(text: str) -> list[str]:
    """``"bvh,npz"`` to a list of export formats.

    Raises:
        InputError: none, an unknown one, or ``blend`` where there is no Blender to write it.
    """
    formats = [word.strip().lower() for word in text.split(",") if word.strip()]
    for name in formats:
        if name not in FORMATS:
            raise unknown("format", name, FORMATS)
    if not formats:
        raise InputError(f"--formats {text!r}: names no format (known: {', '.join(FORMATS)})")
    if "blend" in formats:
        from motiondiff.export.meshes.blend import blender_python

        blender_python()  # better now than after the motions are made
    return list(dict.fromkeys(formats))


def sample(
    run: str | Path,
    out: str | Path,
    options: SampleOptions,
    *,
    formats: Sequence[str] = ("npz",),
    overwrite: bool = False,
) -> dict[str, Any]:
    """Generate motions and write them, with an index ``samples.csv``.

    Args:
        run: a run folder or a saved model folder.
        out: the folder to make.
        options: what to generate.
        formats: any of `motiondiff.export.FORMATS`; ``html`` makes a page of each motion, and of several motions also
            one of all, ``viewer.html``.
        overwrite: replace an existing ``out``.

    Returns:
        Where each motion is, and how it was made.

    Raises:
        InputError: anything that `generate` or `load_pipeline` refuses, or ``out`` exists; nothing is written then.
    """
    check_output_path(out, overwrite=overwrite)
    options = resolve(run, options)
    pipeline = load_pipeline(run, options.scheduler)
    started = time.perf_counter()
    motions = list(generate(pipeline, options))
    seconds = time.perf_counter() - started
    target = Path(out)
    samples: list[dict[str, Any]] = []
    numbers: dict[str, int] = {}
    with atomic_folder(target, overwrite=overwrite) as folder:
        for number, motion in enumerate(motions):
            text = motion.texts[0] if motion.texts else None
            stem = slug(text or motion.action or "motion")[:LONGEST_STEM].rstrip("-")
            name = f"{stem}-{numbers.setdefault(stem, 0):03d}"
            numbers[stem] += 1
            files = {}
            for kind in formats:
                export(motion, folder / file_name(name, kind), kind, clip_id=name)
                files[kind] = str(target / file_name(name, kind))
            samples.append(
                {
                    "name": name,
                    "action": motion.action,
                    "text": text,
                    "style": motion.style,
                    "frames": len(motion),
                    "number": number,
                    "files": files,
                }
            )
        pages: dict[str, str] = {}
        if "html" in formats and len(motions) > 1:
            from motiondiff.export.html.page import write_html

            names = [row["name"] for row in samples]
            write_html(motions, folder / "viewer.html", names=names, title=f"{len(motions)} generated motions")
            pages["viewer"] = str(target / "viewer.html")
        with (folder / "samples.csv").open("w", newline="") as handle:
            writer = csv.writer(handle)
            columns = ("name", "action", "text", "style", "frames", "number")
            writer.writerow((*columns, *formats))
            for row in samples:
                written = [Path(row["files"][kind]).name for kind in formats]
                writer.writerow((*(row[column] for column in columns), *written))
    return {
        "out": str(target),
        "motions": len(samples),
        "fps": float(pipeline.representation.config.fps),
        "scheduler": options.scheduler,
        "steps": options.steps,
        "guidance": options.guidance,
        "seed": options.seed,
        "simulated_training_data": bool(pipeline.representation.config.simulated),
        "denoising_seconds": round(seconds, 3),
        "samples": samples,
        **pages,
    }


def slug(text: str) -> str:
    """A file name's stem from a label: lower case, words joined by hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "motion"
