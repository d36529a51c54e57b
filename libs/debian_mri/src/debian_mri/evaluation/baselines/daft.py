"""DAFT: a small residual network whose feature maps are scaled and shifted by the people's variables.

Poelsterl, Wolf and Wachinger, "Combining 3D Image and Tabular Data via the Dynamic Affine Feature Map Transform",
MICCAI 2021; written from the paper. An auxiliary network reads the globally averaged feature maps of the last residual
block's input beside the variables, and gives each map c a scale and a shift: ``F'_c = alpha_c F_c + beta_c``.

It is trained from scratch, sized for a hundred people on a processor: volumes in 3-D at 4 mm; of slices each passes the
same 2-D network, and their pooled features are averaged. N scans, S slices, P variables, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from einops import reduce, repeat
from jaxtyping import Float
from torch import Tensor, nn

from debian_mri.evaluation.baselines.fold_tables import Array, as_samples, fold_rows, with_missing_indicators
from icube_common.errors import InputError
from icube_common.evaluation import Fold
from icube_common.evaluation.samples import inner_split
from icube_common.io.runs import RunFolder
from icube_common.training import SampleRef, StepRandom, TrainConfig, fit

SLICE_SIDE = 64
"""Pixels along a side that slices are averaged to."""
VOLUME_MM = 4.0
"""Side of a voxel that volumes are averaged to."""
NOTE = "trained from scratch on the training rows, stopped on an inner validation split"
_BOTTLENECK = 7
_VALIDATION = 0.2
_SHIFT = 0.03  # of the side: how far a training picture is moved
SETTINGS = TrainConfig(
    max_steps=150,
    batch_size=32,
    learning_rate=3e-3,
    weight_decay=1e-2,
    warmup_steps=10,
    eval_steps=5,
    early_stopping_patience=8,
    checkpointing_steps=10_000,
    checkpoints_total_limit=1,
    report_to="none",
    device="cpu",
)
CNN_MM = 2.0
"""Side of a voxel of the network without variables."""
CNN_SETTINGS = replace(SETTINGS, batch_size=8)


def _parts(dimensions: int) -> tuple[type[nn.Module], type[nn.Module], type[nn.Module]]:
    if dimensions == 3:
        return nn.Conv3d, nn.BatchNorm3d, nn.MaxPool3d
    return nn.Conv2d, nn.BatchNorm2d, nn.MaxPool2d


class Residual(nn.Module):
    """Two convolutions beside a shortcut.

    Args:
        dimensions: 2 or 3.
        before: feature maps that come in.
        after: feature maps that go out.
        stride: of the first convolution and the shortcut.
    """

    def __init__(self, dimensions: int, before: int, after: int, stride: int) -> None:
        super().__init__()
        conv, norm, _ = _parts(dimensions)
        self.body = nn.Sequential(
            conv(before, after, 3, stride=stride, padding=1, bias=False),
            norm(after),
            nn.ReLU(),
            conv(after, after, 3, padding=1, bias=False),
            norm(after),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or before != after:
            self.shortcut = nn.Sequential(conv(before, after, 1, stride=stride, bias=False), norm(after))

    def forward(self, maps: Tensor) -> Tensor:
        """(B, before, ...) -> (B, after, ...)."""
        return F.relu(self.body(maps) + self.shortcut(maps))


class AffineTransform(nn.Module):
    """Scales and shifts feature maps by their means and the variables.

    Args:
        channels: C feature maps.
        variables: P.
    """

    def __init__(self, channels: int, variables: int) -> None:
        super().__init__()
        self.auxiliary = nn.Sequential(
            nn.Linear(channels + variables, _BOTTLENECK, bias=False),
            nn.ReLU(),
            nn.Linear(_BOTTLENECK, 2 * channels, bias=False),
        )

    def forward(self, maps: Float[Tensor, "b c *space"], table: Float[Tensor, "b p"]) -> Float[Tensor, "b c *space"]:
        """``alpha_c F_c + beta_c``."""
        pooled = maps.flatten(2).mean(2)
        scale, shift = self.auxiliary(torch.cat([pooled, table], dim=1)).chunk(2, dim=1)
        shape = (*scale.shape, *[1] * (maps.dim() - 2))
        return scale.reshape(shape) * maps + shift.reshape(shape)


class Daft(nn.Module):
    """The network.

    Args:
        dimensions: 3 for volumes, 2 for slices.
        variables: P.
        classes: C.
        width: feature maps of the first convolution; doubled by each later block.
    """

    def __init__(self, dimensions: int, variables: int, classes: int, *, width: int = 8) -> None:
        super().__init__()
        conv, norm, pool = _parts(dimensions)
        self.dimensions = dimensions
        self.stem = nn.Sequential(
            conv(1, width, 3, padding=1, bias=False), norm(width), nn.ReLU(), pool(2),
            Residual(dimensions, width, width, 1),
            Residual(dimensions, width, 2 * width, 2),
            Residual(dimensions, 2 * width, 4 * width, 2),
        )  # fmt: skip
        self.transform = AffineTransform(4 * width, variables)
        self.last = Residual(dimensions, 4 * width, 8 * width, 2)
        self.classify = nn.Linear(8 * width, classes)

    def forward(self, image: Float[Tensor, "b s *space"], table: Float[Tensor, "b p"]) -> Float[Tensor, "b c"]:
        """Logits.

        Args:
            image: S slices of each scan, or one volume (S = 1).
            table: the variables.
        """
        slices = image.shape[1]
        maps = self.stem(image.flatten(0, 1).unsqueeze(1))
        maps = self.last(self.transform(maps, repeat(table, "b p -> (b s) p", s=slices)))
        pooled = maps.flatten(2).mean(2)
        return self.classify(reduce(pooled, "(b s) c -> b c", "mean", s=slices))


@dataclass(frozen=True, eq=False)
class _Scans:
    """Training rows, each image shifted a little in every draw."""

    images: Float[Tensor, "n s *space"]
    table: Float[Tensor, "n p"]
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, draw: SampleRef) -> dict[str, Tensor]:
        image = self.images[draw.index]
        generator = np.random.default_rng(draw.seed)
        axes = list(range(1, image.dim()))
        most = [max(1, round(_SHIFT * image.shape[axis])) for axis in axes]
        moved = torch.roll(image, [int(generator.integers(-far, far + 1)) for far in most], axes)
        return {"image": moved, "table": self.table[draw.index], "label": self.labels[draw.index]}


def daft(
    fold: Fold,
    scans: Mapping[str, npt.NDArray[np.float32]],
    variables: Mapping[str, npt.NDArray[np.float64]],
    run: RunFolder,
    *,
    volumes: bool = False,
    settings: TrainConfig = SETTINGS,
) -> Array:
    """Probabilities (M, C) of a fold's test rows.

    Args:
        fold: rows and training labels; its own validation rows stop the training, a fifth of the training people where
            it has none.
        scans: scan id -> slices (S, H, W), or a volume (X, Y, Z).
        variables: scan id -> (P,), NaN where missing.
        run: folder of the training.
        volumes: True for volumes, False for slices.
        settings: of the loop; its seed is the fold's.

    Raises:
        InputError: images of different shapes, a class without training row.
    """
    if len(shapes := sorted({picture.shape for picture in scans.values()})) > 1:
        raise InputError(f"DAFT: images of shapes {shapes[0]} and {shapes[1]}: needs as many slices of every scan")
    rows, table = fold_rows(fold, scans), fold_rows(fold, variables)
    train, test = with_missing_indicators(table.train, table.test)
    validation = np.arange(len(fold.train), len(rows.labels))
    learnt = np.arange(len(fold.train))
    if not len(validation):
        samples = as_samples(rows.labels, rows.groups, rows.classes)
        learnt, validation, _ = inner_split(samples, learnt, _VALIDATION, fold.seed)
    images, queries = (_standard(part, volumes) for part in (rows.train, rows.test))
    columns = torch.from_numpy(train).float()
    labels = torch.from_numpy(rows.labels)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(fold.seed)
        model = Daft(3 if volumes else 2, train.shape[1], rows.classes)

    def step(wrapped: nn.Module, batch: Mapping[str, Tensor], random: StepRandom) -> dict[str, Tensor]:
        return {"loss": F.cross_entropy(wrapped(batch["image"], batch["table"]), batch["label"])}

    def validate(module: nn.Module) -> dict[str, float]:
        return {"loss": float(F.cross_entropy(module(images[validation], columns[validation]), labels[validation]))}

    settings = replace(settings, seed=fold.seed, batch_size=min(settings.batch_size, len(learnt)))
    if not len(validation):
        settings = replace(settings, eval_steps=0, early_stopping_patience=0)
    training = _Scans(images[learnt], columns[learnt], labels[learnt])
    fit(model, step, training, config=settings, run=run, validate=validate if len(validation) else None)
    with torch.no_grad():
        logits = model(queries, torch.from_numpy(test).float())
    probabilities: Array = logits.double().softmax(-1).numpy()
    return probabilities


def _standard(images: Array, volumes: bool) -> Float[Tensor, "n s *space"]:
    """Each slice, or each volume, with mean 0 and deviation 1; a volume is the only "slice" of its scan."""
    if volumes:
        images = images[:, None]
    axes = tuple(range(2, images.ndim))
    spread = np.maximum(images.std(axis=axes, keepdims=True), 1e-6)
    return torch.from_numpy((images - images.mean(axis=axes, keepdims=True)) / spread).float()
