"""The GRU recogniser: B clips, T frames, J joints, C classes, D = 30 features."""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from motiondiff.recognition.features import CHANNELS, with_speed

FEATURES = 30


class GRURecogniser(nn.Module):
    """Two recurrent layers, the last state through a tanh layer of 30 units, and a classifier.

    The classifier of Guo et al., "Action2Motion", ACM MM 2020, with which ACTOR and MDM are judged; its features are
    the 30 units. Two things differ: the first hidden state is zero (the published one is drawn at random, so that no
    two evaluations agree), and inputs are normalised and carry speeds.

    Args:
        joints: J.
        classes: C.
        dropout: before the classifier.
        hidden: width of the recurrent layers.
    """

    def __init__(self, joints: int, classes: int, dropout: float, hidden: int = 128) -> None:
        super().__init__()
        self.normalise = nn.BatchNorm1d(joints * CHANNELS)
        self.recurrent = nn.GRU(joints * CHANNELS, hidden, num_layers=2, batch_first=True)
        self.shrink = nn.Linear(hidden, FEATURES)
        self.drop = nn.Dropout(dropout)
        self.classify = nn.Linear(FEATURES, classes)

    def features(self, clips: Float[Tensor, "B T J 3"]) -> Float[Tensor, "B D"]:
        """What distances between sets of motions are measured in."""
        flat = rearrange(with_speed(clips), "b t j c -> b (j c) t")
        states, _ = self.recurrent(rearrange(self.normalise(flat), "b d t -> b t d"))
        return torch.tanh(self.shrink(states[:, -1]))

    def forward(self, clips: Float[Tensor, "B T J 3"]) -> Float[Tensor, "B C"]:
        """Logits of the classes."""
        logits: Tensor = self.classify(self.drop(self.features(clips)))
        return logits
