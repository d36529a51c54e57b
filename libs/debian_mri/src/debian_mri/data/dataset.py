"""Scans as rows of tensors: for training one at a time, for prediction all at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from accelerate.utils import send_to_device
from jaxtyping import Float
from torch import Tensor

from debian_mri.data.inputs import Inputs
from icube_common.training import Draw

PREDICTION_BATCH = 256


def rows_of(inputs: Inputs, device: torch.device | None = None) -> dict[str, Tensor]:
    """The tables of all scans in ``inputs``, in their order, as `debian_mri.models.mri_model.Batch` has them.

    Args:
        inputs: the tables.
        device: where the rows go; None: they stay on the CPU.
    """
    rows: dict[str, Tensor] = {}
    if inputs.features is not None:
        rows["slices"] = pad([inputs.features[name] for name in inputs.ids])
    if inputs.signs is not None:
        rows["signs"] = torch.from_numpy(inputs.signs.rows(inputs.ids)).float()
    if inputs.demographics is not None:
        rows["variables"] = torch.from_numpy(inputs.demographics.rows(inputs.ids)).float()
    return rows if device is None else send_to_device(rows, device)


def pad(features: Sequence[Float[Tensor, "_ d"]]) -> Float[Tensor, "b s d"]:
    """Slice features of scans side by side, NaN where a scan has fewer slices than another."""
    longest = max(len(rows) for rows in features)
    padded = torch.full((len(features), longest, features[0].shape[1]), torch.nan)
    for place, rows in enumerate(features):
        padded[place, : len(rows)] = rows
    return padded


def batches(rows: dict[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """Parts of the rows, in their order."""
    count = len(next(iter(rows.values())))
    for start in range(0, count, PREDICTION_BATCH):
        yield {name: table[start : start + PREDICTION_BATCH] for name, table in rows.items()}


class TrainingScans:
    """What `icube_common.training.fit` draws from.

    Args:
        rows: of `rows_of`.
        labels: (N,) class of each.
    """

    def __init__(self, rows: dict[str, Tensor], labels: Tensor) -> None:
        self._rows = {**rows, "label": labels}

    def __len__(self) -> int:
        return len(self._rows["label"])

    def __getitem__(self, draw: Draw) -> dict[str, Tensor]:
        return {name: table[draw.index] for name, table in self._rows.items()}

    def __getitems__(self, draws: Sequence[Draw]) -> dict[str, Tensor]:
        """A whole batch at once, as torch's loader asks for it; collated already."""
        places = torch.tensor([draw.index for draw in draws])
        return {name: table[places] for name, table in self._rows.items()}


def collated(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """What `TrainingScans.__getitems__` gives is a batch."""
    return batch
