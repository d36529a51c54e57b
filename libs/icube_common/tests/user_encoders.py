"""A user's own encoders for the tests: untrained networks of images, clips and volumes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from icube_common.vlm import Encoder


class SmallNet(nn.Module):
    """Images (N, 3, H, W) to (N, 5)."""

    image_size = 24

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3, stride=2)
        self.norm = nn.BatchNorm2d(5)

    def forward(self, pixels: Tensor) -> Tensor:
        result: Tensor = self.norm(self.conv(pixels)).relu().mean((2, 3))
        return result


class ClipNet(nn.Module):
    """Clips (N, T, 3, H, W) to (N, 7): frame means and the difference of the last frame and the first."""

    kind, image_size = "clip", 24

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 7)

    def forward(self, pixels: Tensor) -> Tensor:
        means = pixels.mean((3, 4))
        result: Tensor = self.linear(torch.cat([means.mean(1), means[:, -1] - means[:, 0]], dim=1))
        return result


class VolumeNet(nn.Module):
    """Volumes (N, 1, S, S, S) to (N, 6)."""

    kind, volume_size = "volume", 16

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(1, 6, 4, stride=4)

    def forward(self, volumes: Tensor) -> Tensor:
        result: Tensor = self.conv(volumes).relu().mean((2, 3, 4))
        return result


class WrongWidth(SmallNet):
    """States another width than its features have."""

    width = 9


class NoFeature(SmallNet):
    """Returns maps, not one feature of an image."""

    def forward(self, pixels: Tensor) -> Tensor:
        result: Tensor = self.conv(pixels)
        return result


def make() -> nn.Module:
    return SmallNet()


def make_encoder() -> Encoder:
    return Encoder(SmallNet(), name="mine", trained_on="my data")


def make_broken() -> nn.Module:
    raise RuntimeError("no such layer")


def make_text() -> str:
    return "a network"
