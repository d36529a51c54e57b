"""`ActorGenerator`: a trained VAE with its representation, saved and sampled from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from icube_common.errors import InputError, unknown
from motiondiff.models.actor import ActorVae
from motiondiff.models.representation import MotionRepresentation
from motiondiff.pipelines.sampling import check_model_format
from motiondiff.skeleton.motion import Motion

FOLDER = "actor"
"""Name of the VAE's folder in a saved model: a diffusion pipeline has none."""


class ActorGenerator:
    """Motions decoded from latents of the prior.

    Args:
        vae: trained.
        representation: features, their statistics, and the body.
    """

    def __init__(self, vae: ActorVae, representation: MotionRepresentation) -> None:
        self.vae = vae.eval()
        self.representation = representation

    @property
    def actions(self) -> list[str]:
        """Vocabulary of actions."""
        return list(self.vae.config.actions)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write safetensors and JSON into a folder."""
        self.vae.save_pretrained(Path(folder) / FOLDER)
        self.representation.save_pretrained(Path(folder) / "representation")

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> ActorGenerator:
        """Read what `save_pretrained` wrote.

        Raises:
            InputError: nothing of it is there, or it is broken.
        """
        path = Path(folder)
        if not (path / FOLDER / "config.json").is_file():
            raise InputError(f"{path}: holds no ACTOR model; `motiondiff train-actor` makes one")
        check_model_format(path)
        try:
            return cls(
                ActorVae.from_pretrained(path / FOLDER),
                MotionRepresentation.from_pretrained(path / "representation"),
            )
        except (OSError, ValueError, KeyError) as error:
            raise InputError(f"{path}: cannot be loaded ({str(error).splitlines()[0]})") from error

    @torch.no_grad()
    def __call__(
        self,
        actions: Sequence[str],
        generator: Sequence[torch.Generator],
        num_frames: int | Sequence[int] | None = None,
    ) -> list[Motion]:
        """One motion for each action, on the mean training body.

        Args:
            actions: what is done.
            generator: one for each motion, which then does not depend on what else is in the batch.
            num_frames: frames of every motion, or of each; by default drawn as training clips have it.

        Raises:
            InputError: an unknown action, or a length out of range.
        """
        for name in actions:
            if name not in self.actions:
                raise unknown("action", name, self.actions)
        limit = int(self.vae.config.max_frames)
        if num_frames is None:
            lengths = [
                min(max(self.representation.sample_length(action, _numpy(source)), 2), limit)
                for action, source in zip(actions, generator, strict=True)
            ]
        else:
            lengths = [num_frames] * len(actions) if isinstance(num_frames, int) else list(num_frames)
        for frames in lengths:
            if not 2 <= frames <= limit:
                raise InputError(f"{frames} frames: this model makes 2 to {limit}")
        latent = torch.stack([torch.randn(self.vae.config.width, generator=source) for source in generator])
        codes = torch.tensor([self.actions.index(action) for action in actions])
        mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
        device = self.vae.device
        features = self.vae.decode(latent.to(device), codes.to(device), mask.to(device)).cpu()
        skeleton = self.representation.skeleton
        return [
            self.representation.decode(features[row, :frames], skeleton, action=actions[row])
            for row, frames in enumerate(lengths)
        ]


def _numpy(source: torch.Generator) -> np.random.Generator:
    return np.random.default_rng(int(torch.randint(2**62, (), generator=source)))
