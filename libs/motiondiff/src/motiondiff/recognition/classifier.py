"""`ActionClassifier`: a trained network with the names of its classes and joints; saved without pickle."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from icube_common.config import config_to_dict
from icube_common.errors import InputError
from icube_common.io.runs import atomic_folder, read_json, write_json
from motiondiff.config import ClassifierConfig
from motiondiff.data.clips import ClipSet
from motiondiff.recognition.features import stack_clips, whole_clips
from motiondiff.recognition.networks import GRUClassifier, STGCNClassifier
from motiondiff.skeleton.skeleton import Skeleton

ROWS = 256
"""Clips in the network at once."""


def make_network(config: ClassifierConfig, skeleton: Skeleton, classes: int, seed: int) -> nn.Module:
    """An untrained network; its weights come from the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if config.model == "gru":
            return GRUClassifier(len(skeleton), classes, config.dropout)
        return STGCNClassifier(skeleton.parents, classes, config.dropout)


@dataclass(frozen=True, eq=False, kw_only=True)
class ActionClassifier:
    """A trained classifier.

    Attributes:
        network: in eval mode.
        config: its settings.
        class_names: (C,).
        skeleton: the joints of its clips.
        fps: frames per second of its training clips.
    """

    network: nn.Module
    config: ClassifierConfig
    class_names: tuple[str, ...]
    skeleton: Skeleton
    fps: float

    def predict(self, clips: ClipSet) -> npt.NDArray[np.float64]:
        """(N, C) probabilities of the classes of ``class_names``; those of ``clips`` are not looked at.

        Raises:
            InputError: other joints or another frame rate.
        """
        probabilities: npt.NDArray[np.float64] = (
            torch.from_numpy(self._run(clips, self.network.__call__)).double().softmax(dim=1).numpy()
        )
        return probabilities

    def features(self, clips: ClipSet) -> npt.NDArray[np.float64]:
        """(N, D) the activations before the classifier.

        Raises:
            InputError: other joints or another frame rate.
        """
        extract: Callable[[Tensor], Tensor] = self.network.features  # type: ignore[assignment]
        return self._run(clips, extract).astype(np.float64)

    @torch.no_grad()
    def _run(self, clips: ClipSet, function: Callable[[Tensor], Tensor]) -> npt.NDArray[np.float32]:
        if not self.skeleton.same_topology(clips.skeleton):
            raise InputError(
                f"classifier: the clips' {len(clips.skeleton)} joints are not its {len(self.skeleton)} joints"
            )
        if abs(self.fps - clips.fps) > 1e-3:
            raise InputError(f"classifier: {clips.fps:g} fps, it was trained on {self.fps:g}")
        parts = []
        for first in range(0, len(clips), ROWS):
            stacked = stack_clips(clips.positions[first : first + ROWS], self.config)
            parts.append(function(whole_clips(stacked, self.config)).numpy())
        return np.concatenate(parts)

    def save(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write ``classifier.json`` and ``model.safetensors`` into a folder.

        Raises:
            InputError: the folder exists and ``overwrite`` is False.
        """
        from safetensors.torch import save_file

        with atomic_folder(path, overwrite=overwrite) as folder:
            save_file({name: value.contiguous() for name, value in self.network.state_dict().items()},
                      folder / "model.safetensors", metadata={"format": "pt"})  # fmt: skip
            write_json(
                folder / "classifier.json",
                {
                    "config": config_to_dict(self.config),
                    "classes": list(self.class_names),
                    "joints": list(self.skeleton.names),
                    "parents": list(self.skeleton.parents),
                    "offsets": self.skeleton.offsets.tolist(),
                    "fps": self.fps,
                },
            )
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> ActionClassifier:
        """Read what `save` wrote.

        Raises:
            InputError: missing or broken.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        folder = Path(path)
        facts = read_json(folder / "classifier.json")
        try:
            config = ClassifierConfig(**facts["config"])
            skeleton = Skeleton(tuple(facts["joints"]), tuple(facts["parents"]), np.array(facts["offsets"]))
            network = make_network(config, skeleton, len(facts["classes"]), 0)
            network.load_state_dict(load_file(folder / "model.safetensors"))
            names, fps = tuple(map(str, facts["classes"])), float(facts["fps"])
        except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise InputError(f"{folder}: is no saved classifier, or broken ({str(error).splitlines()[0]})") from error
        return cls(network=network.eval(), config=config, class_names=names, skeleton=skeleton, fps=fps)
