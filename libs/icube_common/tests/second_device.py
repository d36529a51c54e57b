"""A device beside the CPU that needs no hardware and fails where a GPU would: for tests of where tensors lie.

Its tensors hold their values in a CPU tensor. Operations between them and CPU tensors raise, as does ``numpy()``:
only what works across devices on a GPU works here, copies, single numbers and indices. So a whole command can run on it
and be compared with the CPU. It has to be there before the first backward pass of a process.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

NAME = "elsewhere"
_ACROSS = {"aten::_to_copy", "aten::copy_", "aten::_local_scalar_dense"}
_INDEXING = {"aten::index", "aten::index_put", "aten::_index_put_impl_", "aten::index_put_"}
_BY_FIRST = {"aten::copy_", *_INDEXING}


@functools.cache
def _register() -> torch.device | None:
    register = getattr(backend_registration, "_setup_privateuseone_for_python_backend", None)
    if register is None:
        return None

    class Module(backend_registration._DummyBackendModule):
        def get_amp_supported_dtype(self) -> list[torch.dtype]:
            return [torch.bfloat16, torch.float16]

    register(NAME, backend_module=Module())
    return torch.device(NAME, 0)


class _Away(Tensor):
    """A tensor of the second device."""

    inside: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, inside: Tensor) -> _Away:
        made: _Away = torch.Tensor._make_wrapper_subclass(
            cls,
            inside.size(),
            strides=inside.stride(),
            storage_offset=inside.storage_offset(),
            dtype=inside.dtype,
            device=torch.device(NAME, 0),
        )
        made.inside = inside
        return made

    def tolist(self) -> Any:
        return self.inside.tolist()

    def __repr__(self, **_: Any) -> str:
        return f"{NAME}({self.inside})"

    @classmethod
    def __torch_dispatch__(cls, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(op, args, kwargs or {})


def _run(op: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    name = op._schema.name
    tensors = [value for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)]
    away = [value for value in tensors if isinstance(value, _Away)]
    if away and name not in _ACROSS | _INDEXING:
        for value in tensors:
            if not isinstance(value, _Away) and value.dim():
                raise RuntimeError(f"{name}: tensors on {value.device} and {NAME}")
    if away and name in _INDEXING and not isinstance(args[0], _Away):
        raise RuntimeError(f"{name}: indices on {NAME} into a tensor on {args[0].device}")
    target = kwargs.get("device")
    if target is not None:
        lands = torch.device(target).type == NAME
        kwargs = {**kwargs, "device": torch.device("cpu")} if lands else kwargs
    else:
        lands = isinstance(args[0], _Away) if name in _BY_FIRST else bool(away)
    known = {id(value.inside): value for value in away}
    plain_args, plain = tree_map(lambda value: value.inside if isinstance(value, _Away) else value, (args, kwargs))
    found = op(*plain_args, **plain)
    if name == "aten::_to_copy" and away and not lands:
        found = found.clone()

    def back(value: Any) -> Any:
        if not isinstance(value, Tensor) or not lands:
            return value
        return known[id(value)] if id(value) in known else _Away(value)

    return tree_map(back, found)


class _Mode(TorchDispatchMode):
    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(op, args, kwargs or {})


@contextlib.contextmanager
def second_device() -> Iterator[torch.device]:
    """Accelerate's device of this process is the second one, for as long as the block lasts."""
    from accelerate.state import AcceleratorState

    device = _register()
    assert device is not None
    os.environ["ACCELERATE_TORCH_DEVICE"] = str(device)
    AcceleratorState._reset_state(reset_partial_state=True)
    # a parameter changes its kind of tensor when it moves, and stays the object that others refer to
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        with _Mode():
            yield device
    finally:
        torch.__future__.set_swap_module_params_on_conversion(False)
        del os.environ["ACCELERATE_TORCH_DEVICE"]
        AcceleratorState._reset_state(reset_partial_state=True)


def run_on_both(commands: Callable[[Path], list[Any]], out: Path) -> dict[str, Any]:
    """Run commands on the CPU and on the second device; call it first in a process.

    Args:
        commands: runs in a folder, and returns the figures to compare.
        out: a folder to make two in.

    Returns:
        ``cpu`` and ``second``: the figures; ``towers``: devices of image and text towers whenever they ran on the
        second device; ``skipped`` where this torch cannot.
    """
    from icube_common.vlm import FrozenVLM

    if _register() is None:
        return {"skipped": "this torch has no backends in Python"}
    cpu, towers = commands(out / "cpu"), set()
    image, ids = FrozenVLM.encode_image, FrozenVLM.encode_ids

    def encode_image(self: FrozenVLM, pixels: Tensor) -> Tensor:
        found = image(self, pixels)
        towers.add(f"image {pixels.device.type} {found.device.type}")
        return found

    def encode_ids(self: FrozenVLM, *arguments: Any, **options: Any) -> Tensor:
        found = ids(self, *arguments, **options)
        towers.add(f"text {found.device.type}")
        return found

    with second_device():
        FrozenVLM.encode_image, FrozenVLM.encode_ids = encode_image, encode_ids  # type: ignore[method-assign]
        second = commands(out / "second")
    return {"cpu": cpu, "second": second, "towers": sorted(towers)}
