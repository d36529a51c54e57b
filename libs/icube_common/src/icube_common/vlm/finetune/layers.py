"""Layers and blocks of image networks that fine-tuning trains, by their kinds and not by their names."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from icube_common.errors import InputError

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_LISTS = (nn.ModuleList, nn.Sequential)


def list_blocks(tower: nn.Module) -> list[str]:
    """Names of a network's blocks in their order: the innermost entries of its lists that join several layers.

    These are the residual blocks of transformers, ResNet, EfficientNet and DenseNet. A network without any has its
    layers with weights as blocks.
    """
    blocks: list[str] = []
    for name, module in tower.named_modules():
        if not isinstance(module, _LISTS):
            continue
        for child, block in module.named_children():
            layers = [part for part in block.modules() if next(part.parameters(recurse=False), None) is not None]
            if len(layers) > 1 and not isinstance(block, _LISTS):
                blocks.append(f"{name}.{child}" if name else child)
    inner = [name for name in blocks if not any(other.startswith(f"{name}.") for other in blocks)]
    if inner:
        return inner
    return [name for name, module in tower.named_modules() if name and _has_weights(module)]


def adapter_targets(tower: nn.Module, ends: Sequence[str], *, name: str) -> list[str]:
    """Names of the layers that adapters are put into.

    Args:
        tower: the image network.
        ends: ends of names; empty for the attention and linear layers in the blocks of a transformer, and for the
            convolutions (those of depth-wise kind excepted) of a network without attention.
        name: of the network, for messages.

    Raises:
        InputError: no layer bears a ends name, a layer of another kind, or no layer to adapt.
    """
    layers = dict(tower.named_modules())
    attention = [key for key, module in layers.items() if isinstance(module, nn.MultiheadAttention)]
    inside = {f"{key}.{part}" for key in attention for part, _ in layers[key].named_modules() if part}
    usable = {
        key: module
        for key, module in layers.items()
        if key not in inside and (key in attention or _plain_linear(module) or _plain_convolution(module))
    }
    if ends:
        chosen = []
        for end in ends:
            matches = [key for key in layers if key == end or key.endswith(f".{end}")]
            if not matches:
                raise InputError(f"finetune.targets={end}: {name} has no layer of this name, such as {_some(usable)}")
            if other := [key for key in matches if key not in usable]:
                kind = type(layers[other[0]]).__name__
                raise InputError(
                    f"finetune.targets={end}: {other[0]} is a {kind}; adapters go into attention, linear layers and "
                    f"convolutions, such as {_some(usable)}"
                )
            chosen += matches
        return list(dict.fromkeys(chosen))
    blocks = tuple(f"{block}." for block in list_blocks(tower))
    linear = [key for key, module in usable.items() if not isinstance(module, _CONVOLUTIONS)]
    transformer = bool(attention) or any("attn" in key or "attention" in key for key in linear)
    if transformer:
        chosen = [key for key in linear if key.startswith(blocks)]
    else:
        chosen = [key for key, module in usable.items() if isinstance(module, _CONVOLUTIONS)]
    chosen = chosen or linear
    if not chosen:
        raise InputError(f"finetune.mode=lora: {name} has no attention, linear layer or convolution to adapt")
    return chosen


def _plain_linear(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) and type(module).forward is nn.Linear.forward


def _plain_convolution(module: nn.Module) -> bool:
    # some subclasses pad in a forward pass of their own, which an adapter beside them would not
    if not isinstance(module, _CONVOLUTIONS):
        return False
    return type(module).forward in {kind.forward for kind in _CONVOLUTIONS} and module.groups == 1


def _has_weights(module: nn.Module) -> bool:
    return next(module.parameters(recurse=False), None) is not None


def _some(names: dict[str, nn.Module]) -> str:
    return ", ".join(list(names)[-3:]) or "none"
