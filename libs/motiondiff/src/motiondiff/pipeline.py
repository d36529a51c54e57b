"""`MotionDiffusionPipeline`: from conditions to motions, with diffusers' schedulers.

Shapes: B motions, F the longest motion the denoiser knows, T the longest of this batch, D features, J joints.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from diffusers import DiffusionPipeline, SchedulerMixin
from diffusers.utils import BaseOutput
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from icube_common.errors import InputError, unknown
from motiondiff.model.conditions import NULL, Conditions
from motiondiff.model.denoiser import MotionDenoiser
from motiondiff.model.held import FADE_SECONDS, HeldParts, held_input, spread_correction
from motiondiff.model.representation import MotionRepresentation
from motiondiff.model.text import TextEncoder, load_saved_encoder, refuse_other_encoder
from motiondiff.schedulers import check_scheduler
from motiondiff.skeleton.motion import Motion, canonicalise
from motiondiff.skeleton.skeleton import Skeleton


@dataclass
class MotionPipelineOutput(BaseOutput):
    """What a call gives.

    Attributes:
        motions: one `Motion` per clip asked for, metres, y-up, in the common frame.
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

    denoiser: MotionDenoiser
    representation: MotionRepresentation

    def __init__(
        self, denoiser: MotionDenoiser, representation: MotionRepresentation, scheduler: SchedulerMixin
    ) -> None:
        super().__init__()
        self.register_modules(denoiser=denoiser, representation=representation, scheduler=scheduler)
        # no module of the pipeline: it is frozen, never saved, and loaded when the first text arrives
        self._text_encoder: TextEncoder | None = None

    @property
    def takes_text(self) -> bool:
        """Whether the model was trained with texts."""
        return bool(self.denoiser.config.text_size)

    def use_text_encoder(self, encoder: TextEncoder) -> None:
        """Embed texts with this encoder, the one that the model was trained with.

        Raises:
            InputError: the model takes no text, or this is another encoder.
        """
        self._refuse_text_if_untrained()
        refuse_other_encoder(self.denoiser.config.text_encoder or {}, encoder)
        self._text_encoder = encoder

    @property
    def text_encoder(self) -> TextEncoder:
        """The frozen encoder of texts, loaded by the name that the model keeps onto the denoiser's device.

        Raises:
            InputError: the model takes no text; the encoder cannot be loaded, or is another one by now.
        """
        self._refuse_text_if_untrained()
        if self._text_encoder is None:
            self._text_encoder = load_saved_encoder(
                self.denoiser.config.text_encoder or {}, device=self.denoiser.device
            )
        return self._text_encoder

    def _refuse_text_if_untrained(self) -> None:
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
        guidance_scale: float = 2.5,
        held: HeldParts | None = None,
        show_held: bool = True,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        callback_on_step_end: Callable[[int, int, Tensor], None] | None = None,
        return_dict: bool = True,
        texts: Sequence[str | None] | None = None,
        variations_of: Sequence[Motion] | None = None,
        strength: float = 0.5,
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
            guidance_scale: classifier-free guidance, ``null + scale (given - null)`` (Ho and Salimans, 2022, eq. 6); 1
                is no guidance and sends half as many rows through the denoiser.
            held: parts that are given, in normalised features of the common frame and as many frames as the longest
                motion has. At every step the predicted clean motion is made exact there (what is missing is spread over
                the frames between, `motiondiff.model.held.spread_correction`), so the scheduler gives the held parts
                the noise level of the step: the replacement of MDM (section 4) and of RePaint (Lugmayr et al., CVPR
                2022, eq. 8), without its jumps back. A denoiser with ``held_input`` sees them as a condition, too.
            show_held: False keeps that from it.
            generator: one for the batch, or one for each motion; with one for each, a motion does not depend on what
                else is in the batch.
            callback_on_step_end: called as ``(step, timestep, features (B, F, D))`` after every step.
            return_dict: False gives a plain tuple.
            texts: one description per motion, alone or together with its action; None leaves it open.
            variations_of: one motion each to begin from, of the model's skeleton and frame rate: it is noised as at a
                share ``strength`` of the way and denoised from there (Meng et al., "SDEdit", ICLR 2022). What comes out
                has its length, up to the longest that the model makes, and its body where ``shapes`` names none.
            strength: of the variation, above 0: the motion itself, up to 1: hardly anything of it is left.

        Raises:
            InputError: (a ValueError) a scheduler that is not supported; unknown action or style, another skeleton,
                lengths or steps out of range, lists of different lengths; a text for a model without text, one that
                its encoder cannot read, or another encoder than the model's.
        """
        check_scheduler(self.scheduler)
        if variations_of is not None:
            shapes = shapes or [motion.skeleton for motion in variations_of]
            num_frames = [min(len(motion), int(self.denoiser.config.max_frames)) for motion in variations_of]
            if not 0 < strength <= 1:
                raise InputError(f"strength {strength:g}: must be above 0 and at most 1")
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
        guided = guidance_scale != 1.0
        if guided:
            conditions = Conditions.cat([conditions.without_semantics(), conditions])

        # Noise is drawn for the longest motion that can be, whatever the lengths: what a generator gives a clip then
        # does not depend on the clips beside it, in the schedulers' own draws neither.
        longest = max(lengths)
        shape = (batch, self.denoiser.config.max_frames, self.denoiser.config.feature_size)
        dtype = self.denoiser.dtype
        generators = list(generator) if isinstance(generator, Sequence) else generator
        latents = randn_tensor(shape, generator=generators, device=device, dtype=torch.float32)
        mask = torch.arange(longest, device=device) < torch.tensor(lengths, device=device)[:, None]
        rows = 2 if guided else 1
        row_mask = mask.repeat(rows, 1)
        shown: dict[str, Tensor] = {}
        if held is not None:
            held = self._check_held(held, (batch, longest, self.denoiser.config.feature_size))
            if show_held and self.denoiser.config.held_input:
                shown["held"] = (
                    held_input(held.values, held.mask, self.representation.config.fps).repeat(rows, 1, 1).to(dtype)
                )

        try:
            self.scheduler.set_timesteps(num_inference_steps, device=device)
        except ValueError as error:  # LCM's has fewer steps than were trained
            raise InputError(f"{num_inference_steps} denoising steps: {str(error).splitlines()[0]}") from error
        distinct = len(self.scheduler.timesteps.unique())
        # a scheduler of order 1 that visits a timestep twice (the rounding of DPM-Solver's) divides by zero there
        if self.scheduler.order == 1 and distinct < len(self.scheduler.timesteps):
            raise InputError(
                f"{num_inference_steps} denoising steps: {type(self.scheduler).__name__} has {distinct} that differ: "
                "take fewer, or another scheduler"
            )
        begin = 0
        if variations_of is None:
            latents = latents * self.scheduler.init_noise_sigma
        else:
            begin = len(self.scheduler.timesteps) - max(1, round(strength * len(self.scheduler.timesteps)))
            latents = self._noised(variations_of, latents, begin)
        extra = {"generator": generators} if self._scheduler_draws_noise() else {}
        with self.progress_bar(total=len(self.scheduler.timesteps) - begin) as progress:
            for step, timestep in enumerate(self.scheduler.timesteps[begin:]):
                noisy = self.scheduler.scale_model_input(latents, timestep)[:, :longest]
                predicted = self.denoiser(
                    noisy.repeat(rows, 1, 1).to(dtype), timestep.expand(batch * rows), conditions, row_mask, **shown
                ).float()
                if guided:
                    null, given = predicted.chunk(2)
                    predicted = null + guidance_scale * (given - null)
                if held is not None:
                    fade = max(1, round(FADE_SECONDS * self.representation.config.fps))
                    predicted = spread_correction(predicted, held.values, held.mask, fade=fade)
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
        given = {row: text for row, text in enumerate(texts or ()) if text is not None}
        if given:
            found = self.text_encoder.embed_request(list(given.values()))
            has_text = torch.tensor([row in given for row in range(len(skeletons))])
            embeddings = torch.zeros(len(skeletons), found.shape[1])
            embeddings[has_text] = found
        offsets = torch.tensor(np.stack([skeleton.offsets for skeleton in skeletons]))
        return Conditions(
            action=_indices("action", actions, self.denoiser.config.actions),
            style=_indices("style", styles, self.denoiser.config.styles),
            shape=self.representation.shape_condition(offsets.to(self.representation.offsets)).cpu(),
            has_shape=torch.ones(len(skeletons), dtype=torch.bool),
            text=embeddings,
            has_text=has_text,
        )

    def _likely_actions(self, actions: Sequence[str | None], conditions: Conditions) -> list[str | None]:
        """The action of each motion, for its length: of a text alone the one whose captions are nearest."""
        known = self.denoiser.action_texts.cpu()
        if conditions.text is None or conditions.has_text is None or not known.any():
            return list(actions)
        similar = (conditions.text @ known.T).masked_fill(~known.any(dim=1), -torch.inf).argmax(dim=1)
        names = self.denoiser.config.actions
        return [
            names[int(near)] if action is None and given else action
            for action, near, given in zip(actions, similar, conditions.has_text, strict=True)
        ]

    def _count(self, num_motions: int | None, *lists: object) -> int:
        """The batch size that all arguments agree on."""
        for values in lists:
            if isinstance(values, str):
                raise InputError(f"{values!r}: a list is wanted, one entry for each motion: [{values!r}]")
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

    def _check_held(self, held: HeldParts, shape: tuple[int, int, int]) -> HeldParts:
        if tuple(held.values.shape) != shape or held.mask.shape != held.values.shape:
            raise InputError(
                f"held parts: values {tuple(held.values.shape)} and mask {tuple(held.mask.shape)}, {shape} wanted "
                "(motions, frames of the longest, features)"
            )
        device = self._execution_device
        return HeldParts(held.values.to(device, torch.float32), held.mask.to(device))

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
            own = generator if isinstance(generator, Sequence) else [generator] * len(actions)
            lengths = []
            for action, source in zip(actions, own, strict=True):
                seed = None if source is None else int(torch.randint(2**62, (), generator=source, device=source.device))
                drawn = self.representation.draw_length(action, np.random.default_rng(seed))
                lengths.append(min(max(drawn, 2), limit))
        for frames in lengths:
            if not 2 <= frames <= limit:
                fps = self.representation.config.fps
                longest = f"up to {limit / fps:g} s"
                raise InputError(
                    f"{frames} frames ({frames / fps:.2f} s): this model makes 2 to {limit} frames ({longest})"
                )
        return lengths

    def _scheduler_draws_noise(self) -> bool:
        """Whether the scheduler's step takes a generator (DDPM, DDIM, ... do; UniPC does not)."""
        import inspect

        return "generator" in inspect.signature(self.scheduler.step).parameters


def _indices(kind: str, names: Sequence[str | None], vocabulary: Sequence[str]) -> Tensor:
    """(B,) vocabulary indices, `NULL` for None."""
    for name in names:
        if name is not None and name not in vocabulary:
            raise unknown(kind, name, vocabulary)
    return torch.tensor([NULL if name is None else list(vocabulary).index(name) for name in names])
