"""Encoders by name: of timm, torchvision, transformers, MONAI and open_clip, or of a user's function."""

from __future__ import annotations

import copy
import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from icube_common.errors import InputError
from icube_common.vlm.checkpoints.pretrained import one_line
from icube_common.vlm.encoders.base import Encoder, EncoderLike
from icube_common.vlm.encoders.libraries import LIBRARIES
from icube_common.vlm.encoders.weights import load_encoder_weights


def make_encoder(
    source: EncoderLike, *, weights: str | Path | None = None, size: int | None = None, seed: int = 0
) -> Encoder:
    """An encoder by name, of a class, or of an instance.

    Args:
        source: ``"timm:resnet18"``, ``"torchvision:resnet18"`` (video networks too), ``"transformers:FOLDER"`` or
            ``"transformers:owner/name"``, ``"monai:DenseNet121"`` (volumes), ``"open_clip:ViT-B-32"``;
            ``"my_module:make"`` or ``"path/file.py:make"``, a callable without arguments that returns a network or an
            `Encoder`; a class, called without arguments; an instance, which is copied.
        weights: a weight file; also a tag of open_clip or timm, or an entry of torchvision's table of weights.
        size: voxels of a side of the volumes of ``monai:`` networks; None for 96.
        seed: of random weights; torch's global generator is left as it was.

    Raises:
        InputError: an unknown library or name, weights that do not fit, or as `Encoder`.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if not isinstance(source, str):
            made = source() if isinstance(source, type) else copy.deepcopy(source)
            return _as_encoder(made, type(made).__name__, weights, seed)
        library, _, name = source.partition(":")
        if library in LIBRARIES and name:
            return LIBRARIES[library](name, weights, size, seed)
        function = _import(source)
        try:
            made = function()
        except InputError:
            raise
        except Exception as error:  # whatever a user's function raises
            raise InputError(f"vlm.encoder={source}: {type(error).__name__} in it ({one_line(error)})") from error
    return _as_encoder(made, source, weights, seed)


def _as_encoder(made: Any, name: str, weights: str | Path | None, seed: int) -> Encoder:
    if not isinstance(made, nn.Module):
        raise InputError(f"vlm.encoder={name}: gives a {type(made).__name__}, need a torch.nn.Module or an Encoder")
    if weights is not None:
        load_encoder_weights(made.module if isinstance(made, Encoder) else made, weights, name=name)
    if isinstance(made, Encoder):
        made.__dict__.pop("fingerprint", None)  # of the weights before
    else:
        return Encoder(made, trained_on=None if weights is None else str(weights), seed=seed)
    if weights is not None:
        made.trained_on = str(weights)
    return made


def _import(source: str) -> Callable[[], Any]:
    """The callable of ``module:function`` or ``file.py:function``; the working folder is searched too."""
    place, _, name = source.rpartition(":")
    if not place or not name:
        raise InputError(
            f"vlm.encoder={source}: must be LIBRARY:NAME with one of {', '.join(LIBRARIES)}, or MODULE:FUNCTION"
        )
    try:
        module = _import_file(Path(place)) if place.endswith(".py") else _import_module(place)
    except InputError:
        raise
    except Exception as error:  # of the user's module
        listed = ", ".join(LIBRARIES)
        raise InputError(
            f"vlm.encoder={source}: {place} cannot be imported ({one_line(error)}); libraries are {listed}"
        ) from error
    function = getattr(module, name, None)
    if not callable(function):
        raise InputError(f"vlm.encoder={source}: {place} has no function or class {name}")
    made: Callable[[], Any] = function
    return made


def _import_module(name: str) -> Any:
    folder = str(Path.cwd())
    added = folder not in sys.path
    if added:
        sys.path.insert(0, folder)
    try:
        return importlib.import_module(name)
    finally:
        if added:
            sys.path.remove(folder)


def _import_file(file: Path) -> Any:
    if not file.is_file():
        raise InputError(f"vlm.encoder={file}: no such file")
    name = f"encoder_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # its classes find their module, and so their source text, by this name
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
