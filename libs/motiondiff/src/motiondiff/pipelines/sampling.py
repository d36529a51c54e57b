"""Sampling from a trained run: options, motions, and their files."""

from __future__ import annotations

import csv
import logging
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from icube_common.config import as_list, option
from icube_common.errors import InputError, unknown
from icube_common.io.pretrained import find_model
from icube_common.io.runs import atomic_folder, check_output_path, read_json
from motiondiff.config import SamplerConfig
from motiondiff.export import FORMATS, export, file_name
from motiondiff.results import Results
from motiondiff.schedulers import SCHEDULERS

if TYPE_CHECKING:
    import torch

    from motiondiff.pipelines.motion_diffusion import MotionDiffusionPipeline
    from motiondiff.skeleton.motion import Motion
    from motiondiff.skeleton.skeleton import Skeleton

logger = logging.getLogger(__name__)

Options = TypeVar("Options", bound=SamplerConfig)

STEPS = 20
MODEL_FORMAT = 3
"""Format of saved models; 1: before the names of the field; 2: before the spectral preconditioning."""
SCHEDULER = "dpmsolver++"
GUIDANCE = 2.5
"""Scale of guidance of a model without scales by action."""
STYLE_STREAM = 1
"""Styles are drawn from random numbers of their own: the noise of a motion is the same with and without."""
MAX_STEM = 60
"""Characters of a text that a file is named by, at most."""


@dataclass(frozen=True, kw_only=True)
class SampleOptions(SamplerConfig):
    """Settings of `sample`: motion number i of a call depends on (seed, i) alone, not on the number of motions."""

    actions: Sequence[str] = option((), "actions of the motions")
    texts: Sequence[str] = option((), "texts of the motions, for a model trained with text; with one action, or none")
    text_weights: str | Path | None = option(
        None, "weight file of the text encoder, if it was moved since the training"
    )
    count: int = option(1, "motions of each action or text", ge=1)
    per_action: int | None = option(None, "motions of every action of the model: a balanced set", ge=1)
    unconditional: bool = option(False, "sample without an action")
    style: str | None = option(None, "style of all motions")
    mix_styles: bool = option(False, "sample the style of each motion from the model's styles")
    shape: str | Path | None = option(None, "body: YAML of bone lengths, or a .npz or .bvh file with the skeleton")
    seconds: float | None = option(
        None, "length of every motion (default: lengths of the training clips)", gt=0, lt=1e6
    )
    pin_feet: bool = option(False, "move the root so that standing feet stay in place")
    batch_size: int = option(32, "motions denoised together", ge=1)

    @classmethod
    def from_sampler(cls, config: SamplerConfig, **values: Any) -> SampleOptions:
        """Options with the settings that ``config`` has in common with them, and the given ones."""
        names = {field.name for field in fields(cls)} & {field.name for field in fields(config)}
        return cls(**{name: getattr(config, name) for name in names} | values)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "actions", as_list(self.actions))
        object.__setattr__(self, "texts", as_list(self.texts))
        if self.mix_styles and self.style is not None:
            raise InputError(f"--style {self.style} and --mix-styles exclude each other: give one of them")
        ways = [bool(self.actions), self.per_action is not None, self.unconditional]
        if sum(ways) > 1:
            raise InputError("--action, --per-action and --unconditional exclude each other: give one of them")
        if self.texts and (self.per_action is not None or self.unconditional):
            raise InputError("--text goes alone or with one --action, not with --per-action or --unconditional")
        if self.texts and len(self.actions) > 1:
            raise InputError(f"--text with {len(self.actions)} actions: give one --action, which all texts describe")
        if self.text_weights is not None and not self.texts:
            raise InputError(f"--text-weights {self.text_weights}: there is no --text to encode")


def model_folder(run: str | Path) -> Path:
    """Folder of the saved model of a run, a saved model folder itself, or a repository of the Hugging Face hub.

    Raises:
        InputError: no trained model is there.
    """
    return find_model(run, file="model_index.json", command="motiondiff train")


def check_model_format(folder: Path) -> None:
    """Check that a saved model is of this version's format.

    Raises:
        InputError: it is of another one.
    """
    file = folder / "representation" / "config.json"
    version = read_json(file).get("format_version")
    if version != MODEL_FORMAT:
        raise InputError(
            f"{file}: saved model of format {version or 1}, this version reads {MODEL_FORMAT}: train it again with "
            "`motiondiff train --data STORE --out RUN`"
        )


def is_distilled(run: str | Path) -> bool:
    """True for a run of `motiondiff.training.distillation`: it samples in few steps, with guidance folded in.

    Raises:
        InputError: no trained model is there.
    """
    config = model_folder(run) / "scheduler" / "scheduler_config.json"
    return config.is_file() and read_json(config).get("_class_name") == SCHEDULERS["lcm"][0]


def resolve(
    run: str | Path,
    options: Options,
    *,
    steps: int = STEPS,
    scheduler: str = SCHEDULER,
    guidance: float | None = None,
) -> Options:
    """Options with steps, scheduler and guidance filled in: the given defaults, or, of a distilled run, 4 steps of LCM.

    Without a default guidance it is that of the run, by action, and stays None, else `GUIDANCE`.

    Raises:
        InputError: no trained model is there; guidance for a distilled run, which has it folded in.
    """
    folder = model_folder(run)
    if guidance is None and not read_json(folder / "representation" / "config.json").get("guidance"):
        guidance = GUIDANCE
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


def guidance_text(guidance: float | None) -> str:
    """The scale, or ``by action`` where it is the model's."""
    return "by action" if guidance is None else f"{guidance:g}"


def load_pipeline(run: str | Path, scheduler: str | None = None) -> MotionDiffusionPipeline:
    """The pipeline of a run folder, or of a saved model folder, with its own or another scheduler.

    Raises:
        InputError: no trained model is there, or an unknown scheduler.
    """
    from motiondiff.pipelines.motion_diffusion import MotionDiffusionPipeline
    from motiondiff.schedulers import make_scheduler

    pipeline = MotionDiffusionPipeline.from_pretrained(run)
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
    from icube_common.vlm.device import named_device

    pipeline.to(named_device(device))
    pipeline.set_progress_bar_config(disable=True)


def sample_style(styles: Sequence[str], seed: int, number: int) -> str | None:
    """The style of motion ``number`` of a call, from (seed, number) alone; None where the model has none."""
    import numpy as np

    if not styles:
        return None
    return styles[int(np.random.default_rng([seed, number, STYLE_STREAM]).integers(len(styles)))]


def list_requests(options: SampleOptions, model_actions: Sequence[str]) -> list[tuple[str | None, str | None]]:
    """The action and the text of every motion that the options ask for, in order.

    Args:
        options: what to generate.
        model_actions: the model's actions.

    Raises:
        InputError: an unknown action; the nearest is named.
    """
    if options.per_action is not None:
        if not model_actions:
            raise InputError("--per-action: this model was trained without actions; use --unconditional")
        return [(action, None) for action in model_actions for _ in range(options.per_action)]
    for action in options.actions:
        if action not in model_actions:
            raise unknown("action", action, model_actions)
    actions: list[str | None] = list(options.actions) or [None]
    texts: list[str | None] = list(options.texts) or [None]
    return [(action, text) for action in actions for text in texts for _ in range(options.count)]


def generate(pipeline: MotionDiffusionPipeline, options: SampleOptions) -> Iterator[Motion]:
    """The motions that the options ask for, in order: action by action, or text by text.

    Steps that are not given are `STEPS`, guidance that is not given is the model's.

    Raises:
        InputError: unknown action or style, a length the model cannot make, a body that is not the model's, a text for
            a model without text, or one that its encoder cannot read.
    """
    from icube_common.io.progress import progress_bar
    from motiondiff.evaluation.stance import pin_feet

    requests = list_requests(options, list(pipeline.denoiser.config.actions))
    styles_of_model = list(pipeline.denoiser.config.styles) if options.mix_styles else []
    styles = [sample_style(styles_of_model, options.seed, number) or options.style for number in range(len(requests))]
    shape: Skeleton | None = None
    if options.shape is not None:
        from motiondiff.data.readers.body_shape import load_body_shape

        shape = load_body_shape(options.shape, pipeline.representation.skeleton)
    frames = None
    if options.seconds is not None:
        frames = round(options.seconds * pipeline.representation.config.fps)
    move_to(pipeline, options.device)
    if options.text_weights is not None:
        from motiondiff.models.text_encoder import load_saved_encoder

        facts = pipeline.denoiser.config.text_encoder or {}
        encoder = load_saved_encoder(facts, pretrained=options.text_weights, device=pipeline.denoiser.device)
        pipeline.use_text_encoder(encoder)
    with progress_bar(total=len(requests), desc="sample", unit="motion") as progress:
        for first in range(0, len(requests), options.batch_size):
            actions, texts = zip(*requests[first : first + options.batch_size], strict=True)
            output = pipeline(
                actions=actions,
                texts=texts,
                styles=styles[first : first + options.batch_size],
                shapes=[shape] * len(actions),
                num_frames=frames,
                num_inference_steps=options.steps or STEPS,
                guidance_scale=options.guidance,
                generator=[clip_generator(options.seed, first + row) for row in range(len(actions))],
                return_dict=False,
            )
            yield from map(pin_feet, output[0]) if options.pin_feet else output[0]
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
) -> Results:
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
            stem = slug(text or motion.action or "motion")[:MAX_STEM].rstrip("-")
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
    return Results(
        {
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
    )


def slug(text: str) -> str:
    """A file name's stem from a label: lower case, words joined by hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "motion"
