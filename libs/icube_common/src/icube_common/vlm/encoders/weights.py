"""Weight files of encoders: torch.save (tensors only), safetensors and TorchScript, loaded in full or refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from icube_common.errors import InputError
from icube_common.vlm.checkpoints.reader import read_state_dict
from icube_common.vlm.checkpoints.weights import match_names

# counters of batch normalisation, which no forward pass in eval mode reads
_COUNTERS = ("num_batches_tracked",)


def load_encoder_weights(module: nn.Module, file: str | Path, *, name: str, head: Sequence[str] = ()) -> None:
    """Load the weights of a file into a network, all of them and no others.

    Args:
        module: of random weights, without its classifier.
        file: the weights; prefixes such as ``module.`` and ``model.`` are removed.
        name: of the encoder, for messages.
        head: names of the classifier's tensors or modules, whose tensors in the file are left out.

    Raises:
        InputError: an unreadable file; the first tensor that is missing, unknown, of another shape or not finite.
    """
    path = Path(file)
    if not path.is_file():
        raise InputError(f"vlm.encoder_weights={file}: no such file")
    content, _ = read_state_dict(path)
    wrong = f"{path}: does not fit encoder {name}"
    try:
        names, prefix = match_names(content, module)
    except InputError as error:
        raise InputError(f"{wrong} ({error})") from error
    expected = module.state_dict()
    for key, value in expected.items():
        if key.rpartition(".")[2] in _COUNTERS:
            continue
        if key not in names:
            raise InputError(f"{wrong}: {key} {tuple(value.shape)} is missing in the file")
        tensor = content[names[key]]
        if tensor.shape != value.shape:
            raise InputError(f"{wrong}: {key} is {tuple(tensor.shape)} in the file, {tuple(value.shape)} in the model")
        if value.is_floating_point() and not (tensor.is_floating_point() and bool(torch.isfinite(tensor).all())):
            raise InputError(f"{wrong}: {key} is {tensor.dtype} with values that are no finite numbers")
    used = set(names.values())
    for key in content:
        plain = key.removeprefix(f"{prefix}.") if prefix else key
        ignored = plain.rpartition(".")[2] in _COUNTERS or any(
            plain == part or plain.startswith(f"{part}.") for part in head
        )
        if key not in used and not ignored:
            raise InputError(f"{wrong}: {key} {tuple(content[key].shape)} is unknown to the model")
    module.load_state_dict({key: content[source] for key, source in names.items()}, strict=False)
