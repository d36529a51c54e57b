"""A model that matches texts and motions, for R-precision and MM-distance.

After Guo et al., "Generating Diverse and Natural 3D Human Motions from Text", CVPR 2022, section 5: a recurrent motion
encoder and a text encoder into one space, trained with a contrastive loss on the generator's training clips. Sized for
small sets: the motion encoder is the GRU classifier's, the texts come as embeddings of the run's frozen encoder.
Shapes: B clips, N clips or texts, S numbers of a text's embedding, E of the shared space.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from icube_common.errors import InputError
from icube_common.training import StepRandom
from icube_common.training.sampler import derive_seed
from motiondiff.config import ClassifierConfig
from motiondiff.data.captions import EmbeddedCaptions
from motiondiff.data.clips import ClipSet
from motiondiff.recognition.features import stack_clips, varied_clips, whole_clips
from motiondiff.recognition.networks import GRUClassifier
from motiondiff.recognition.training import fit_network

Table = npt.NDArray[np.float64]

SPACE = 32
"""E."""
MARGIN = 10.0
"""How far apart what does not match is to be, as in the paper."""


class MatchingNetwork(nn.Module):
    """Two encoders into one space.

    Args:
        joints: J.
        text_size: S.
        dropout: of the motion encoder.
    """

    def __init__(self, joints: int, text_size: int, dropout: float) -> None:
        super().__init__()
        self.text_size = text_size
        self.motion = GRUClassifier(joints, SPACE, dropout)
        self.text = nn.Sequential(nn.Linear(text_size, 2 * SPACE), nn.SiLU(), nn.Linear(2 * SPACE, SPACE))

    def forward(
        self, motions: Float[Tensor, "N frames J 3"], texts: Float[Tensor, "N S"]
    ) -> tuple[Float[Tensor, "N E"], Float[Tensor, "N E"]]:
        """Motions and texts in the shared space."""
        return self.motion(motions), self.embed_texts(texts)

    def embed_texts(self, texts: Float[Tensor, "N S"]) -> Float[Tensor, "N E"]:
        """Texts, given as embeddings of length 1, in the shared space."""
        embedded: Tensor = self.text(texts * self.text_size**0.5)
        return embedded


def contrastive_loss(
    motions: Float[Tensor, "B E"], texts: Float[Tensor, "B E"], same: Bool[Tensor, "B B"], margin: float = MARGIN
) -> Float[Tensor, ""]:
    """Matched pairs near, others at least a margin apart (Hadsell, Chopra and LeCun, CVPR 2006, eq. 4).

    Args:
        motions: row i belongs to row i of ``texts``.
        texts: see above.
        same: True where a motion and a text mean the same though they are of different clips: such pairs don't count.
        margin: distance.

    Returns:
        Mean squared distance of the pairs, and mean squared shortfall from the margin of all others.
    """
    squared = (motions[:, None] - texts[None]).square().sum(-1)
    distance = (squared + 1e-8).sqrt()
    others = ~same
    shortfall = (margin - distance).clamp(min=0).square()
    return squared.diagonal().mean() + (shortfall * others).sum() / others.sum().clamp(min=1)


@dataclass(frozen=True, eq=False)
class Matcher:
    """A trained `MatchingNetwork`, in eval mode."""

    network: MatchingNetwork
    config: ClassifierConfig

    @torch.no_grad()
    def motions(self, clips: ClipSet) -> Table:
        """(N, E) of motions."""
        frames = whole_clips(stack_clips(clips.positions, self.config), self.config)
        return self.network.motion(frames).double().numpy()

    @torch.no_grad()
    def texts(self, embeddings: npt.NDArray[np.float32]) -> Table:
        """(N, E) of texts."""
        return self.network.embed_texts(torch.from_numpy(embeddings)).double().numpy()


def fit_matcher(
    clips: ClipSet,
    rows: Sequence[int],
    meanings: npt.NDArray[np.int64],
    captions: EmbeddedCaptions,
    config: ClassifierConfig,
    seed: int = 0,
) -> Matcher:
    """Train on clips and their captions; the same clips and seed give the same matcher.

    Args:
        clips: N training clips.
        rows: the row of each in the store, for its captions.
        meanings: (N,) number of what each clip is about; clips of one number share their captions.
        captions: of the store; drawn as in the generator's training.
        config: steps, batch size, variations of motions; the network is always the GRU.
        seed: of everything random.

    Raises:
        InputError: all clips mean the same, or one has no caption.
    """
    if len(set(meanings.tolist())) < 2:
        raise InputError("text figures: all training clips mean the same; at least two meanings are needed")
    for row in rows:
        if not len(captions.captions.clip_indices[row]):
            raise InputError(f"text figures: training clip number {row} has no caption")
    data = stack_clips(clips.positions, config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, 4))
        network = MatchingNetwork(len(clips.skeleton), captions.size, config.dropout)
    numbers = np.random.default_rng([seed, 5])
    meaning = torch.from_numpy(meanings)

    def loss_of(model: nn.Module, batch: Tensor, random: StepRandom) -> Tensor:
        drawn = [captions.sample(rows[row], numbers) for row in batch.tolist()]
        texts = torch.from_numpy(np.stack([text for text in drawn if text is not None]))
        same = meaning[batch][:, None] == meaning[batch][None]
        varied = varied_clips(data[batch], config, random.generator)
        motions, embedded = model(varied.to(random.device), texts.to(random.device))
        return contrastive_loss(motions, embedded, same.to(random.device))

    fit_network(network, loss_of, clips, config, seed, name="matching of texts and motions")
    return Matcher(network.cpu().eval(), config)


def rank_own(motions: Table, texts: Table, pools: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Place of each motion's own text among a pool by distance, 0 for the nearest; ties count against it.

    Args:
        motions: (N, E).
        texts: (K, E).
        pools: (N, P) rows of ``texts``; the first column is the motion's own.
    """
    distance = np.linalg.norm(motions[:, None] - texts[pools], axis=-1)
    return np.asarray((distance[:, 1:] <= distance[:, :1]).sum(axis=1))
