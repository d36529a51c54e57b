"""The image tower with a trained part: LoRA adapters or its last blocks, all else frozen.

Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models" (ICLR 2022, eq. 3): ``W x + (alpha / rank) B A x`` with
B = 0 at the start, by the library peft; the weights of attention layers by a parametrisation (`LowRankUpdate`).

Shapes: B clips or scans, S frames or slices of each, W width of a feature.
"""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Mapping
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import parametrize

from icube_common.errors import InputError, require
from icube_common.vlm.backbone import FrozenVLM
from icube_common.vlm.checkpoints.fingerprint import digest_tensors
from icube_common.vlm.checkpoints.pretrained import one_line
from icube_common.vlm.finetune.config import FinetuneConfig
from icube_common.vlm.finetune.layers import adapter_targets, list_blocks


class FinetunedTower(nn.Module):
    """Image tower of a frozen model with a trained part of its own; the frozen model stays as it is.

    The tower is copied, so that the folds of an evaluation share one frozen model. It stays in eval mode: statistics of
    batch normalisation do not change, and nothing but the dropout of adapters is random. Its state dict holds the
    trained part alone.

    Args:
        vlm: the frozen model; referred to, not owned.
        config: mode and size of the trained part.
        seed: of the adapters; torch's global generator is left as it was.

    Attributes:
        peak_learning_rate: of the trained part, which a training takes in place of its own.

    Raises:
        InputError: ``mode=none``; peft is not installed; layers or blocks that the tower does not have.
    """

    def __init__(self, vlm: FrozenVLM, config: FinetuneConfig, *, seed: int = 0) -> None:
        super().__init__()
        if not config.enabled:
            raise InputError("finetune.mode=none: the tower is frozen, there is nothing to train")
        # a tuple hides the model from the module: no step walks through it, no checkpoint holds it
        self._reference = (vlm,)
        self.peak_learning_rate = config.learning_rate
        self.visual: nn.Module = copy.deepcopy(vlm.model.get_submodule("visual"))
        name = vlm.origin.name if vlm.encoder is None else vlm.encoder.name
        if config.mode == "lora":
            _add_adapters(self.visual, config, name=name, seed=seed)
        else:
            _unfreeze_blocks(self.visual, config.blocks, name=name)
        for module in self.visual.modules():
            module._non_persistent_buffers_set.update(module._buffers)
        self.register_state_dict_post_hook(_leave_out_frozen)
        self._frozen = self.frozen_fingerprint()
        self.train(False)

    @property
    def vlm(self) -> FrozenVLM:
        """The frozen model."""
        return self._reference[0]

    def train(self, mode: bool = True) -> FinetunedTower:
        """Training mode of the adapters' dropout alone; the tower stays in eval mode."""
        super().train(False)
        self.training = mode
        for name, module in self.visual.named_modules():
            if name.rpartition(".")[0].endswith("lora_dropout"):
                module.train(mode)
        return self

    def forward(self, pixels: Float[Tensor, "b s ..."]) -> Float[Tensor, "b s w"]:
        """Features for learned heads, as the frozen tower has them; float32, differentiable in the trained part.

        Args:
            pixels: preprocessed frames or slices (B, S, 3, H, W), NaN for slices that a scan does not have; clips
                (B, T, 3, H, W) for an encoder of clips, with S = 1 in the result; volumes (B, 1, 1, X, Y, Z).
        """
        rows = len(pixels)
        device = next(self.visual.parameters()).device
        inputs = pixels if self.vlm.kind == "clip" else rearrange(pixels, "b s ... -> (b s) ...")
        inputs = inputs.to(device, torch.float32)
        present = ~inputs.flatten(1)[:, 0].isnan()
        encode = self._model().encode_image
        if bool(present.all()):
            features = encode(inputs, output="features")
        else:
            encoded = encode(inputs[present], output="features")
            features = encoded.new_full((len(inputs), encoded.shape[1]), torch.nan)
            features = features.index_copy(0, present.nonzero().squeeze(1), encoded)
        return rearrange(features, "(b s) w -> b s w", b=rows)

    def encode(self, pixels: Any, *, batch_size: int = 1) -> Float[Tensor, "b s w"]:
        """Features of many rows without gradient, some at a time; ``pixels`` takes slices as a tensor does."""
        starts = range(0, len(pixels), max(1, batch_size))
        with torch.no_grad():
            return torch.cat([self(pixels[start : start + batch_size]) for start in starts])

    def frozen_fingerprint(self) -> str:
        """SHA-256 over all parameters and buffers that no training may change."""
        digest = hashlib.sha256()
        frozen = {name: value for name, value in self.visual.named_parameters() if not value.requires_grad}
        digest_tensors(digest, frozen | dict(self.visual.named_buffers()))
        return digest.hexdigest()

    def check_frozen(self) -> None:
        """Assert that a training has changed nothing but the trained part."""
        assert self.frozen_fingerprint() == self._frozen, "the frozen part of the image tower has changed"

    def _model(self) -> FrozenVLM:
        """The frozen model with this tower in place of its own; texts are shared."""
        vlm = _shallow(self.vlm)
        vlm._modules["model"] = model = _shallow(self.vlm.model)
        model._modules["visual"] = self.visual
        return vlm


def _shallow(module: Any) -> Any:
    """A module with the parts of another, of which one may be exchanged."""
    result = object.__new__(type(module))
    result.__dict__ = {**module.__dict__, "_modules": dict(module._modules)}
    return result


def _leave_out_frozen(module: nn.Module, state: dict[str, Any], prefix: str, metadata: Mapping[str, Any]) -> None:
    for name, value in module.named_parameters():
        if not value.requires_grad:
            state.pop(prefix + name, None)


def _add_adapters(visual: nn.Module, config: FinetuneConfig, *, name: str, seed: int) -> None:
    peft = require("peft", package="icube-common", extra="finetune")
    targets = adapter_targets(visual, config.targets, name=name)
    attention = [key for key in targets if isinstance(visual.get_submodule(key), nn.MultiheadAttention)]
    if attention and config.dropout:
        raise InputError(
            f"finetune.dropout={config.dropout}: {attention[0]} of {name} is an attention layer whose weights are "
            "adapted as a whole, without dropout; set finetune.dropout=0"
        )
    layers = [key for key in targets if key not in attention]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if layers:
            lora = peft.LoraConfig(
                r=config.rank, lora_alpha=config.alpha, lora_dropout=config.dropout, target_modules=layers
            )
            try:
                peft.inject_adapter_in_model(lora, visual)
            except (ValueError, RuntimeError, TypeError) as error:
                raise InputError(f"finetune.mode=lora: {name} takes no adapters ({one_line(error)})") from error
        for key in attention:
            _adapt_attention(visual.get_submodule(key), config)


class LowRankUpdate(nn.Module):
    """Weight plus a low-rank update, ``W + (alpha / rank) B A``, as a parametrisation of torch.

    For the joint weights of attention layers, which no layer of its own multiplies with. peft merges its adapters into
    these weights and takes them out again, by which the frozen weights drift with rounding.

    Args:
        weight: (O, I), whose device and shape the update has.
        rank: of the update.
        scale: alpha / rank.
    """

    def __init__(self, weight: Float[Tensor, "o i"], *, rank: int, scale: float) -> None:
        super().__init__()
        outputs, inputs = weight.shape
        self.scale = scale
        self.lora_A = nn.Parameter(torch.empty(rank, inputs, device=weight.device))
        self.lora_B = nn.Parameter(torch.zeros(outputs, rank, device=weight.device))
        # as Hu et al. and peft start: A as a linear layer, B at zero
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))

    def forward(self, weight: Float[Tensor, "o i"]) -> Float[Tensor, "o i"]:
        """The updated weight."""
        return weight + (self.scale * (self.lora_B @ self.lora_A)).to(weight.dtype)


def _adapt_attention(attention: nn.Module, config: FinetuneConfig) -> None:
    assert isinstance(attention, nn.MultiheadAttention)
    parts: list[tuple[nn.Module, str]] = [(attention.out_proj, "weight")]
    names = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")
    parts += [(attention, name) for name in names if getattr(attention, name) is not None]
    for module, name in parts:
        weight = getattr(module, name)
        update = LowRankUpdate(weight, rank=config.rank, scale=config.alpha / config.rank)
        parametrize.register_parametrization(module, name, update)


def _unfreeze_blocks(visual: nn.Module, count: int, *, name: str) -> None:
    blocks = list_blocks(visual)
    if count > len(blocks):
        raise InputError(f"finetune.blocks={count}: {name} has {len(blocks)} blocks")
    for block in blocks[-count:]:
        visual.get_submodule(block).requires_grad_(True)
