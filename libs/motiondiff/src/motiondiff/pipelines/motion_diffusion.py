"""`MotionDiffusionPipeline`: from conditions to motions, with diffusers' schedulers.

Shapes: B motions, F the longest motion of the denoiser, T the longest of this batch, D features, J joints.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
from diffusers import DiffusionPipeline, SchedulerMixin
from diffusers.utils import BaseOutput
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor, nn

from icube_common.errors import InputError
from icube_common.io.runs import read_json
from motiondiff.models.conditioning import Conditions, label_indices
from motiondiff.models.custom_denoiser import CustomDenoiser
from motiondiff.models.denoiser import MotionDenoiser
from motiondiff.models.inpainting import FADE_SECONDS, InpaintingCondition, inpainting_input, spread_correction
from motiondiff.models.representation import MotionRepresentation
from motiondiff.models.text_encoder import TextEncoder, check_same_encoder, load_saved_encoder
from motiondiff.pipelines.guidance import GUIDED_SHARE, Guidance, make_guidance
from motiondiff.pipelines.row_chunks import predict_rows
from motiondiff.pipelines.sampling import GUIDANCE, check_model_format, model_folder
from motiondiff.schedulers import check_scheduler, set_timesteps
from motiondiff.skeleton.motion import Motion, canonicalise
from motiondiff.skeleton.skeleton import Skeleton


@dataclass
class MotionPipelineOutput(BaseOutput):
    """Output of a call.

    Attributes:
        motions: one `Motion` per requested clip, metres, y-up, in the common frame.
    """

    motions: list[Motion]


class MotionDiffusionPipeline(DiffusionPipeline):
    """Samples motions from a trained denoiser.

    Args:
        denoiser: predicts the clean motion.
        representation: features, their statistics, and the body.
        scheduler: one of `motiondiff.schedulers.SUPPORTED_CLASSES` with ``prediction_type="sample"``: DDPM, DDIM,
            DPM-Solver++, UniPC ...
    """

    denoiser: MotionDenoiser | CustomDenoiser
    representation: MotionRepresentation

    def __init__(
        self, denoiser: MotionDenoiser | CustomDenoiser, representation: MotionRepresentation, scheduler: SchedulerMixin
    ) -> None:
        super().__init__()
        self.register_modules(denoiser=denoiser, representation=representation, scheduler=scheduler)
        # no module of the pipeline: it is frozen, never saved, and loaded when the first text arrives
        self._text_encoder: TextEncoder | None = None

    @classmethod
    def from_pretrained(
        cls, folder: str | Path, *, denoiser: nn.Module | type[MotionDenoiser] | None = None, **options: Any
    ) -> MotionDiffusionPipeline:
        """Load a saved pipeline.

        Args:
            folder: ``RUN/model``, a run folder, or the name of a repository on the Hugging Face hub.
            denoiser: a trained denoiser in place of the saved one, such as ``run.model`` of
                `motiondiff.training.diffusion.train`, or the class of the saved one.
            options: of diffusers' ``from_pretrained``, where the saved denoiser is loaded.

        Raises:
            InputError: no trained model is there, it is broken or of an earlier format, or it was trained with a module
                of the user's own and none is given.
        """
        path = model_folder(folder)
        check_model_format(path)
        try:
            if denoiser is None:
                loaded: MotionDiffusionPipeline = super().from_pretrained(path, **options)
                return loaded
            model: Any = denoiser
            if isinstance(denoiser, type):
                model = denoiser.from_pretrained(path / "denoiser")
            elif not isinstance(denoiser, (MotionDenoiser, CustomDenoiser)):
                saved = read_json(path / "denoiser" / "config.json")
                settings = {name: value for name, value in saved.items() if not name.startswith("_")}
                model = CustomDenoiser(**settings, module=denoiser)
            # diffusers refuses components of classes that the saved pipeline's module does not import
            scheduler = getattr(diffusers, read_json(path / "scheduler" / "scheduler_config.json")["_class_name"])
            parts = (
                MotionRepresentation.from_pretrained(path / "representation"),
                scheduler.from_pretrained(path / "scheduler"),
            )
            return cls(model.eval(), *parts)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{path}: cannot be loaded ({str(error).splitlines()[0]})") from error

    @property
    def takes_text(self) -> bool:
        """True for a model that was trained with texts."""
        return bool(self.denoiser.config.text_size)

    def use_text_encoder(self, encoder: TextEncoder) -> None:
        """Embed texts with this encoder, the one that the model was trained with.

        Raises:
            InputError: the model takes no text, or this is another encoder.
        """
        self._check_takes_text()
        check_same_encoder(self.denoiser.config.text_encoder or {}, encoder)
        self._text_encoder = encoder

    @property
    def text_encoder(self) -> TextEncoder:
        """The frozen encoder of texts, loaded by the name that the model keeps onto the denoiser's device.

        Raises:
            InputError: the model takes no text; the encoder cannot be loaded, or is another one by now.
        """
        self._check_takes_text()
        if self._text_encoder is None:
            facts = self.denoiser.config.text_encoder or {}
            self._text_encoder = load_saved_encoder(facts, device=self.denoiser.device)
        return self._text_encoder

    def _check_takes_text(self) -> None:
        if not self.takes_text:
            raise InputError("this model takes no text: train one with text.enabled=true, or give an action")

    @torch.no_grad()
    def __call__(
        self,
        actions: Sequence[str | None] | None = None,
        styles: Sequence[str | None] | None = None,
        shapes: Sequence[Skeleton | None] | None = None,
        num_motions: int | None = None,
        num_frames: int | Sequence[int] | None = None,
        num_inference_steps: int = 20,
        guidance_scale: float | Sequence[float] | Mapping[str, float] | None = None,
        inpainting: InpaintingCondition | None = None,
        use_inpainting_input: bool = True,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        callback_on_step_end: Callable[[int, int, Tensor], None] | None = None,
        return_dict: bool = True,
        texts: Sequence[str | None] | None = None,
        init_motions: Sequence[Motion] | None = None,
        noise_strength: float = 0.5,
    ) -> MotionPipelineOutput | tuple[list[Motion]]:
        """Sample motions.

        Args:
            actions: one action per motion; None, in the list or instead of it, leaves it open.
            styles: one style per motion; None leaves it open.
            shapes: one body per motion; None takes the mean training body.
            num_motions: how many motions; by default as many as the lists above are long, else 1.
            num_frames: frames of every motion, or of each; by default drawn as training clips have it: of the action,
                or of the action whose captions are nearest to the text.
            num_inference_steps: denoising steps.
            guidance_scale: classifier-free guidance (`motiondiff.pipelines.guidance.make_guidance`), of all conditions
                or by name: ``{"action": 2.5, "style": 1.5}``, or one for each motion; 1 is none and sends half as many
                rows through the denoiser; None: `guidance_of`. In the last tenth of the steps there is none.
            inpainting: conditioned parts, in normalised features of the common frame and as many frames as the longest
                motion has. At every step the predicted clean motion is made exact there, and the correction is spread
                over the frames between (`motiondiff.models.inpainting.spread_correction`), so that the scheduler adds
                the noise of the step: the replacement of MDM (section 4) and of RePaint (Lugmayr et al., CVPR 2022,
                eq. 8), without its jumps back. A denoiser with ``inpainting_input`` has them as an input as well.
            use_inpainting_input: False leaves that input out.
            generator: one for the batch, or one for each motion; with one for each, a motion does not depend on what
                else is in the batch.
            callback_on_step_end: called as ``(step, timestep, features (B, F, D))`` after every step.
            return_dict: False gives a plain tuple.
            texts: one description per motion, alone or together with its action; None leaves it open.
            init_motions: one initial motion each, of the model's skeleton and frame rate: it is noised to the share
                ``noise_strength`` of the schedule and denoised from there (Meng et al., "SDEdit", ICLR 2022). The
                result has its length, up to ``max_frames``, and its body where ``shapes`` names none.
            noise_strength: share of the noise schedule, above 0 (the motion itself) and up to 1 (almost pure noise).

        Raises:
            InputError: (a ValueError) a scheduler that is not supported; unknown action or style, another skeleton,
                lengths or steps out of range, lists of different lengths; a text for a model without text, one that
                its encoder cannot read, or another encoder than the model's.
        """
        check_scheduler(self.scheduler)
        if init_motions is not None:
            shapes = shapes or [motion.skeleton for motion in init_motions]
            num_frames = [min(len(motion), int(self.denoiser.config.max_frames)) for motion in init_motions]
            if not 0 < noise_strength <= 1:
                raise InputError(f"noise_strength {noise_strength:g}: must be above 0 and at most 1")
        batch = self._count(num_motions, actions, styles, shapes, num_frames, generator, texts)
        limit = int(self.scheduler.config.num_train_timesteps)
        if not 1 <= num_inference_steps <= limit:
            raise InputError(f"{num_inference_steps} denoising steps: must be 1 to {limit}, as many as were trained")
        no_names: list[str | None] = [None] * batch
        actions, styles, texts = actions or no_names, styles or no_names, texts or no_names
        skeletons = [self._check_shape(shape) for shape in shapes or [None] * batch]
        device = self._execution_device
        conditions = self.conditions(actions, styles, skeletons, texts)
        lengths = self._lengths(num_frames, self._likely_actions(actions, conditions), generator)
        conditions = conditions.to(device)
        guidance_scale = self.guidance_of(actions) if guidance_scale is None else guidance_scale
        guidance, plain = make_guidance(conditions, guidance_scale), Guidance(conditions, ())

        # Noise is drawn for the longest motion that can be, whatever the lengths: what a generator gives a clip then
        # does not depend on the clips beside it, in the schedulers' own draws neither.
        longest = max(lengths)
        shape = (batch, self.denoiser.config.max_frames, self.denoiser.config.feature_size)
        dtype = self.denoiser.dtype
        generators = list(generator) if isinstance(generator, Sequence) else generator
        latents = randn_tensor(shape, generator=generators, device=device, dtype=torch.float32)
        mask = torch.arange(longest, device=device) < torch.tensor(lengths, device=device)[:, None]
        inputs: dict[str, Tensor] = {}
        fade = max(1, round(FADE_SECONDS * self.representation.config.fps))
        if inpainting is not None:
            inpainting = self._check_inpainting(inpainting, (batch, longest, self.denoiser.config.feature_size))
            if use_inpainting_input and self.denoiser.config.inpainting_input:
                conditioned = inpainting_input(inpainting.values, inpainting.mask, self.representation.config.fps)
                inputs["inpainting"] = conditioned.to(dtype)

        share = 1.0 if init_motions is None else noise_strength
        begin = set_timesteps(self.scheduler, num_inference_steps, device, share=share)
        if init_motions is None:
            latents = latents * self.scheduler.init_noise_sigma
        else:
            latents = self._noised(init_motions, latents, begin)
        extra = {"generator": generators} if "generator" in inspect.signature(self.scheduler.step).parameters else {}
        guided_share = getattr(self.denoiser, "guided_share", None) or GUIDED_SHARE
        guided_steps = math.ceil(guided_share * (len(self.scheduler.timesteps) - begin))
        with self.progress_bar(total=len(self.scheduler.timesteps) - begin) as progress:
            for step, timestep in enumerate(self.scheduler.timesteps[begin:]):
                noisy = self.scheduler.scale_model_input(latents, timestep)[:, :longest]
                guide = guidance if step < guided_steps else plain
                predicted = predict_rows(
                    self.denoiser,
                    noisy.repeat(guide.rows, 1, 1).to(dtype),
                    timestep.expand(batch * guide.rows),
                    guide.conditions,
                    mask.repeat(guide.rows, 1),
                    **{name: values.repeat(guide.rows, 1, 1) for name, values in inputs.items()},
                ).float()
                predicted = guide.combine(predicted)
                if inpainting is not None:
                    predicted = spread_correction(predicted, inpainting.values, inpainting.mask, fade=fade)
                clean = torch.zeros_like(latents)
                clean[:, :longest] = predicted * mask[..., None]
                latents = self.scheduler.step(clean, timestep, latents, **extra).prev_sample
                if callback_on_step_end is not None:
                    callback_on_step_end(step, int(timestep), latents)
                progress.update()

        motions = [
            self.representation.decode(
                latents[row, : lengths[row]], skeletons[row], action=actions[row], style=styles[row], text=texts[row]
            )
            for row in range(batch)
        ]
        self.maybe_free_model_hooks()
        return MotionPipelineOutput(motions=motions) if return_dict else (motions,)

    def guidance_of(self, actions: Sequence[str | None]) -> list[float]:
        """The model's scale of guidance for each motion: that of its action, else `GUIDANCE`."""
        scales: Mapping[str | None, float] = self.representation.config.guidance or {}
        return [scales.get(action, GUIDANCE) for action in actions]

    def _noised(self, motions: Sequence[Motion], noise: Tensor, begin: int) -> Tensor:
        """Motions with the noise of step ``begin``, from which the scheduler will go on: (B, longest, D)."""
        fps = float(self.representation.config.fps)
        clean = torch.zeros_like(noise)
        for row, motion in enumerate(motions):
            self._check_shape(motion.skeleton)
            if abs(motion.fps - fps) > 1e-3:
                raise InputError(f"{motion.source or 'motion'}: {motion.fps:g} fps, this model makes {fps:g}")
            features = self.representation.encode(canonicalise(motion, floor=0.0)[0])[: noise.shape[1]]
            clean[row, : len(features)] = features
        if hasattr(self.scheduler, "set_begin_index"):
            self.scheduler.set_begin_index(begin)
        timesteps = self.scheduler.timesteps[begin : begin + 1].expand(len(noise))
        return self.scheduler.add_noise(clean, noise, timesteps)

    def conditions(
        self,
        actions: Sequence[str | None],
        styles: Sequence[str | None],
        skeletons: Sequence[Skeleton],
        texts: Sequence[str | None] | None = None,
    ) -> Conditions:
        """Names, bodies and texts to the denoiser's condition indices and numbers.

        Raises:
            InputError: an unknown action or style, of which the nearest is named; a text as in ``__call__``.
        """
        embeddings = has_text = None
        text_by_row = {row: text for row, text in enumerate(texts or ()) if text is not None}
        if text_by_row:
            encoded = self.text_encoder.embed_request(list(text_by_row.values()))
            has_text = torch.tensor([row in text_by_row for row in range(len(skeletons))])
            embeddings = torch.zeros(len(skeletons), encoded.shape[1])
            embeddings[has_text] = encoded
        offsets = torch.tensor(np.stack([skeleton.offsets for skeleton in skeletons]))
        return Conditions(
            action=label_indices("action", actions, self.denoiser.config.actions),
            style=label_indices("style", styles, self.denoiser.config.styles),
            shape=self.representation.shape_condition(offsets.to(self.representation.offsets)).cpu(),
            has_shape=torch.ones(len(skeletons), dtype=torch.bool),
            text=embeddings,
            has_text=has_text,
        )

    def _likely_actions(self, actions: Sequence[str | None], conditions: Conditions) -> list[str | None]:
        """The action of each motion, for its length: of a text alone the one whose captions are nearest."""
        embeddings = self.denoiser.action_texts.cpu()
        if conditions.text is None or conditions.has_text is None or not embeddings.any():
            return list(actions)
        similar = (conditions.text @ embeddings.T).masked_fill(~embeddings.any(dim=1), -torch.inf).argmax(dim=1)
        names = self.denoiser.config.actions
        return [
            names[int(near)] if action is None and has_text else action
            for action, near, has_text in zip(actions, similar, conditions.has_text, strict=True)
        ]

    def _count(self, num_motions: int | None, *lists: object) -> int:
        """The batch size that all arguments agree on."""
        for values in lists:
            if isinstance(values, str):
                raise InputError(f"{values!r}: must be a list, one entry for each motion: [{values!r}]")
        sizes = {len(values) for values in lists if isinstance(values, Sequence)}
        if num_motions is not None:
            sizes.add(num_motions)
        if len(sizes) > 1:
            raise InputError(
                f"actions, styles, shapes, frames, generators and texts disagree on the number of motions: {sizes}"
            )
        count = sizes.pop() if sizes else 1
        if count < 1:
            raise InputError(f"{count} motions: at least one motion must be asked for")
        return count

    def _check_shape(self, shape: Skeleton | None) -> Skeleton:
        mean = self.representation.skeleton
        if shape is None:
            return mean
        if not shape.same_topology(mean):
            raise InputError(f"body shape: its {len(shape)} joints are not the {len(mean)} joints of this model")
        return shape

    def _check_inpainting(self, inpainting: InpaintingCondition, shape: tuple[int, int, int]) -> InpaintingCondition:
        if tuple(inpainting.values.shape) != shape or inpainting.mask.shape != inpainting.values.shape:
            raise InputError(
                f"inpainting: values {tuple(inpainting.values.shape)} and mask {tuple(inpainting.mask.shape)}, "
                f"{shape} expected (motions, frames of the longest, features)"
            )
        device = self._execution_device
        return InpaintingCondition(inpainting.values.to(device, torch.float32), inpainting.mask.to(device))

    def _lengths(
        self,
        num_frames: int | Sequence[int] | None,
        actions: Sequence[str | None],
        generator: torch.Generator | Sequence[torch.Generator] | None,
    ) -> list[int]:
        """Frames of each motion, given or drawn from the training clips' lengths."""
        limit = int(self.denoiser.config.max_frames)
        if isinstance(num_frames, int):
            lengths = [num_frames] * len(actions)
        elif num_frames is not None:
            lengths = [int(frames) for frames in num_frames]
        else:
            generators = generator if isinstance(generator, Sequence) else [generator] * len(actions)
            lengths = []
            for action, source in zip(actions, generators, strict=True):
                seed = None if source is None else int(torch.randint(2**62, (), generator=source, device=source.device))
                drawn = self.representation.sample_length(action, np.random.default_rng(seed))
                lengths.append(min(max(drawn, 2), limit))
        for frames in lengths:
            if not 2 <= frames <= limit:
                fps = self.representation.config.fps
                longest = f"up to {limit / fps:g} s"
                raise InputError(
                    f"{frames} frames ({frames / fps:.2f} s): this model makes 2 to {limit} frames ({longest})"
                )
        return lengths
