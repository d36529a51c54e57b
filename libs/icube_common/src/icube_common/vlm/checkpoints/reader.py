"""Checkpoint files: reading their tensors without running what else is in them, and finding the state dict.

Files of `torch.save` (zip and legacy), TorchScript archives and safetensors, recognised by their content.
"""

from __future__ import annotations

import logging
import pickle
import re
import types
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from icube_common.errors import InputError
from icube_common.vlm.checkpoints.pretrained import check_no_shards, one_line

logger = logging.getLogger(__name__)

# words in the names of averaged weights, and first letters of words in the names of what holds no weights
_AVERAGED = {"ema", "teacher", "average", "averaged", "momentum", "swa", "shadow"}
_NO_WEIGHTS = ("optim", "sched", "lr", "scaler", "rng", "callback", "loop", "hyper", "config", "args", "amp")
# classes and functions that make tensors and plain containers
_MADE = {
    ("collections", "OrderedDict"),
    ("torch", "Size"),
    ("torch", "device"),
    ("torch._utils", "_rebuild_tensor"),
    ("torch._utils", "_rebuild_tensor_v2"),
    ("torch._utils", "_rebuild_parameter"),
}
# what a TorchScript archive of OpenAI's keeps among its tensors
_TORCHSCRIPT_NUMBERS = ("input_resolution", "context_length", "vocab_size")


def read_state_dict(path: Path) -> tuple[dict[str, Tensor], str]:
    """The tensors of a checkpoint's model, by the names of the file, and where in the file they were.

    Of several state dicts the averaged ones (EMA) are left aside, with an info line. Nothing in the file is run:
    a file that holds other Python objects too (such as a configuration) is read without making them.

    Raises:
        InputError: no such file; it is none of these kinds, damaged, in parts, or holds no or several sets of weights.
    """
    content = _read(path)
    if not isinstance(content, Mapping):
        raise InputError(
            f"{path}: holds a {type(content).__name__}, no state dict; save model.state_dict() and give that file"
        )
    keys = ", ".join(one_line(key, 40) for key in list(content)[:8]) + (", ..." if len(content) > 8 else "")
    state, where = _find(content, path, "")
    if not state:
        raise InputError(f"{path}: holds no weights (top-level keys: {keys or 'none'}); save model.state_dict()")
    return state, f"top-level keys: {keys}" + (f"; weights under {one_line(where, 60)!r}" if where else "")


def _read(path: Path) -> Any:
    if path.name.endswith(".index.json"):
        check_no_shards(path)
    try:
        with path.open("rb") as file:
            head = file.read(64)
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                names = archive.namelist()
            if any(name.endswith("/constants.pkl") for name in names):
                return _read_torchscript(path)
            return _read_torch(path)
        if head[:1] == b"\x80":
            return _read_torch(path)
        if head[8:9] == b"{":
            from safetensors.torch import load_file

            return load_file(path)
    except InputError:
        raise
    except Exception as error:  # damaged files bring up errors of many kinds in the readers
        raise InputError(f"{path}: cannot be read, or is damaged ({one_line(error)}); fetch it again") from error
    kind = "no file of safetensors, torch.save or TorchScript"
    if head.startswith(b"version https://git"):
        kind = "a pointer of Git LFS, fetch the file itself (git lfs pull)"
    elif head.lstrip()[:1] == b"<":
        kind = "a web page, fetch the file itself"
    raise InputError(f"{path}: is {kind}")


def _read_torchscript(path: Path) -> dict[str, Tensor]:
    with warnings.catch_warnings():
        # deprecated for new models; archives of old ones stay
        warnings.simplefilter("ignore")
        state = torch.jit.load(str(path), map_location="cpu").state_dict()
    return {name: value for name, value in state.items() if name not in _TORCHSCRIPT_NUMBERS}


def _read_torch(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        # objects of other classes are in it
        pass
    left_out: set[str] = set()

    class Unpickler(_TensorUnpickler):
        names = left_out

    def load(file: Any, **options: Any) -> Any:
        return Unpickler(file, **options).load()

    module = types.SimpleNamespace(Unpickler=Unpickler, load=load, __name__="tensors")
    content = torch.load(path, map_location="cpu", weights_only=False, pickle_module=module)
    logger.info("%s: objects of %s beside the tensors are not made", path, ", ".join(sorted(left_out)[:10]))
    return content


class _LeftOut(dict):  # type: ignore[type-arg]
    """A placeholder for an object of a class that is not made; items of mappings are kept."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__()

    def __setstate__(self, state: object) -> None:
        pass

    def __call__(self, *args: object, **kwargs: object) -> _LeftOut:
        return self

    def append(self, item: object) -> None:
        pass

    add = append
    extend = append

    __hash__ = object.__hash__  # type: ignore[assignment]


class _TensorUnpickler(pickle.Unpickler):
    """Makes tensors and plain containers; every other class becomes `_LeftOut`, so that no code of a file is run."""

    names: set[str]

    def find_class(self, module: str, name: str) -> Any:
        """The class of a name, where it is one that holds tensors."""
        if (module, name) in _MADE:
            return super().find_class(module, name)
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        if module in ("torch", "torch.storage") and name.endswith("Storage"):
            return super().find_class(module, name)
        self.names.add(one_line(f"{module}.{name}", 60))
        return _LeftOut


def is_averaged(name: str) -> bool:
    """True for a key or prefix of averaged weights (EMA, a teacher)."""
    return bool(_AVERAGED.intersection(_words(name)))


def _words(name: str) -> list[str]:
    return re.split(r"[^a-z]+", name.lower())


def _find(content: Mapping[Any, Any], path: Path, where: str, depth: int = 0) -> tuple[dict[str, Tensor], str]:
    """The largest state dict in nested mappings, and the keys that lead to it."""
    tensors = {key: value for key, value in content.items() if isinstance(key, str) and isinstance(value, Tensor)}
    inner: dict[str, tuple[dict[str, Tensor], str]] = {}
    for key, value in content.items():
        named = isinstance(key, str) and not any(word.startswith(_NO_WEIGHTS) for word in _words(key))
        if named and isinstance(value, Mapping) and depth < 3:
            state, place = _find(value, path, f"{where}.{key}" if where else key, depth + 1)
            if state:
                inner[key] = (state, place)
    if {"visual", "image_encoder", "vision_model"} & inner.keys():
        # one state dict for each tower
        joined = {f"{key}.{name}": value for key, (state, _) in inner.items() for name, value in state.items()}
        return {**tensors, **joined}, where
    most = max((len(state) for state, _ in inner.values()), default=0)
    if len(tensors) >= most:
        return tensors, where
    large = {key: result for key, result in inner.items() if len(result[0]) >= most / 2}
    plain = {key: result for key, result in large.items() if not is_averaged(key)}
    if len(plain or large) > 1:
        raise InputError(
            f"{path}: holds several sets of weights ({', '.join(plain or large)}); save the wanted one alone"
        )
    [(key, result)] = (plain or large).items()
    if plain and len(large) > 1:
        others = ", ".join(large.keys() - plain.keys())
        logger.info("%s: the weights under %s are used, the averaged ones under %s are not", path, key, others)
    return result
