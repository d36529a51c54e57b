"""Networks of action classifiers: GRU and ST-GCN.

B clips, T frames, J joints, K partitions of the graph, C classes, D features (30 of the GRU, 64 of ST-GCN).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from motiondiff.recognition.features import CHANNELS, with_speed

FEATURES = 30
BLOCKS = ((32, 1), (32, 1), (64, 2), (64, 1))
"""Channels and stride in time of each block: the paper's scheme, smaller, for sets of hundreds of clips."""
KERNEL = 9


class GRUClassifier(nn.Module):
    """Two recurrent layers, the last state through a tanh layer of 30 units, and a classifier.

    The classifier of Guo et al., "Action2Motion", ACM MM 2020, with which ACTOR and MDM are evaluated; its features are
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
        """Features before the classifier, in which distances between sets of motions are measured."""
        flat = rearrange(with_speed(clips), "b t j c -> b (j c) t")
        states, _ = self.recurrent(rearrange(self.normalise(flat), "b d t -> b t d"))
        return torch.tanh(self.shrink(states[:, -1]))

    def forward(self, clips: Float[Tensor, "B T J 3"]) -> Float[Tensor, "B C"]:
        """Logits of the classes."""
        logits: Tensor = self.classify(self.drop(self.features(clips)))
        return logits


def hops_to_root(parents: Sequence[int]) -> npt.NDArray[np.int64]:
    """(J,) how many bones lie between each joint and the root."""
    hops: list[int] = []
    for parent in parents:
        hops.append(0 if parent < 0 else hops[parent] + 1)
    return np.array(hops)


def spatial_partition(parents: Sequence[int]) -> npt.NDArray[np.float32]:
    """(3, J, J) adjacency of the spatial-configuration partition, ``[k, i, j]``: how joint j adds to joint i.

    Yan, Xiong, Lin, "Spatial temporal graph convolutional networks for skeleton-based action recognition", AAAI 2018,
    section 3.3 and eq. 8 to 10: a joint's neighbours are itself and those at its own distance from the centre (0),
    those nearer to it (1, centripetal) and those further away (2, centrifugal), each divided by the number of
    neighbours of the joint that gives. The centre is the root.
    """
    joints = len(parents)
    near = np.eye(joints)
    for joint, parent in enumerate(parents):
        if parent >= 0:
            near[joint, parent] = near[parent, joint] = 1
    normal = near / near.sum(axis=0, keepdims=True)
    hops = hops_to_root(parents)
    gives, takes = hops[None, :], hops[:, None]
    return np.stack([normal * (gives == takes), normal * (gives < takes), normal * (gives > takes)]).astype(np.float32)


class GraphBlock(nn.Module):
    """Graph convolution over joints, then a convolution over time, with a residual path (Yan et al., section 3)."""

    def __init__(self, inputs: int, outputs: int, stride: int, adjacency: Tensor) -> None:
        super().__init__()
        self.partitions = len(adjacency)
        self.importance = nn.Parameter(torch.ones_like(adjacency))
        self.mix = nn.Conv2d(inputs, outputs * self.partitions, 1)
        self.over_time = nn.Sequential(
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, (KERNEL, 1), (stride, 1), (KERNEL // 2, 0)),
            nn.BatchNorm2d(outputs),
        )
        same = inputs == outputs and stride == 1
        self.residual: nn.Module = (
            nn.Identity()
            if same
            else nn.Sequential(nn.Conv2d(inputs, outputs, 1, (stride, 1)), nn.BatchNorm2d(outputs))
        )

    def forward(self, x: Float[Tensor, "B in T J"], adjacency: Float[Tensor, "K J J"]) -> Float[Tensor, "B out t J"]:
        """One block; ``t`` is T divided by the stride."""
        mixed = rearrange(self.mix(x), "b (k c) t j -> b k c t j", k=self.partitions)
        gathered = torch.einsum("bkctj,kij->bcti", mixed, adjacency * self.importance)
        return torch.relu(self.over_time(gathered) + self.residual(x))


class STGCNClassifier(nn.Module):
    """Blocks of `GraphBlock` on the skeleton's own graph, mean over frames and joints, and a classifier.

    Args:
        parents: parent of each joint, -1 for the root.
        classes: C.
        dropout: before the classifier.
    """

    adjacency: Tensor

    def __init__(self, parents: Sequence[int], classes: int, dropout: float) -> None:
        super().__init__()
        self.register_buffer("adjacency", torch.from_numpy(spatial_partition(parents)), persistent=False)
        self.normalise = nn.BatchNorm1d(len(parents) * CHANNELS)
        widths = [CHANNELS, *(channels for channels, _ in BLOCKS)]
        self.blocks = nn.ModuleList(
            GraphBlock(inputs, outputs, stride, self.adjacency)
            for inputs, (outputs, stride) in zip(widths, BLOCKS, strict=False)
        )
        self.drop = nn.Dropout(dropout)
        self.classify = nn.Linear(widths[-1], classes)

    def features(self, clips: Float[Tensor, "B T J 3"]) -> Float[Tensor, "B D"]:
        """Features before the classifier, in which distances between sets of motions are measured."""
        moving = with_speed(clips)
        x = self.normalise(rearrange(moving, "b t j c -> b (j c) t"))
        x = rearrange(x, "b (j c) t -> b c t j", c=CHANNELS)
        for block in self.blocks:
            x = block(x, self.adjacency)
        pooled: Tensor = x.mean(dim=(2, 3))
        return pooled

    def forward(self, clips: Float[Tensor, "B T J 3"]) -> Float[Tensor, "B C"]:
        """Logits of the classes."""
        logits: Tensor = self.classify(self.drop(self.features(clips)))
        return logits
