"""Fingerprints of frozen models: weights, model configuration and preprocessing, but no library versions.

Versions of the libraries are recorded beside a fingerprint. Other versions may compute the last digits otherwise, which
gives a warning; another configuration or other weights are another model.
"""

from __future__ import annotations

import importlib.metadata
import json
import logging
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from icube_common.vlm.checkpoints.pretrained import describe_config

if TYPE_CHECKING:
    from icube_common.vlm.backbone import FrozenVLM

logger = logging.getLogger(__name__)

_LIBRARIES = ("open_clip_torch", "torch", "torchvision", "timm", "transformers")
# of a Hugging Face text tower: what its weights' shapes do not show
_HUGGING_FACE = ("model_type", "hidden_act", "num_attention_heads", "layer_norm_eps")


def library_versions() -> dict[str, str]:
    """Versions of the libraries that run and preprocess."""
    versions = {}
    for name in _LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def describe_model(config: Mapping[str, Any], model: nn.Module) -> dict[str, Any]:
    """The model configuration that decides what weights compute: activation, attention heads, pooling."""
    described = {"quick_gelu": False, **describe_config(config)}
    hugging_face = getattr(getattr(model, "text", None), "config", None)
    for key in _HUGGING_FACE if hugging_face is not None else ():
        described[f"text_cfg.hf.{key}"] = getattr(hugging_face, key, None)
    return described


def describe_text(described: Mapping[str, Any]) -> dict[str, Any]:
    """The part of `describe_model` that the text tower depends on."""
    return {key: value for key, value in described.items() if not key.startswith("vision_cfg.")}


def as_json(value: Mapping[str, Any]) -> bytes:
    """One text for equal descriptions."""
    return json.dumps(value, sort_keys=True, default=str).encode()


def describe_transform(transform: Any) -> str:
    """A text that differs where two transforms differ, the same in every process."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(transform))


def digest_tensors(digest: Any, tensors: Mapping[str, Tensor]) -> None:
    """Add names, shapes, types and values of tensors to a digest."""
    for name, value in sorted(tensors.items()):
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)


def warn_other_versions(where: object, recorded: Mapping[str, Any], vlm: FrozenVLM) -> None:
    """Warn where a record of the same backbone names other versions of the libraries.

    Args:
        where: the file or folder of the record.
        recorded: as `FrozenVLM.describe`.
        vlm: the backbone here.
    """
    then, now = recorded.get("versions") or {}, vlm.versions
    changed = [
        f"{name} {then.get(name, 'absent')}, here {now.get(name, 'absent')}"
        for name in sorted({*then, *now})
        if then.get(name) != now.get(name)
    ]
    if then and changed:
        logger.warning("%s: made with other versions (%s); features may differ slightly", where, "; ".join(changed))


def name_difference(recorded: Mapping[str, Any], vlm: FrozenVLM) -> str:
    """Reason for another fingerprint of a record, in brackets, where its description does not show it."""
    if "versions" not in recorded:
        return " (recorded by an earlier release, whose fingerprints cannot be compared: make it again)"
    if recorded.get("description") != str(vlm.origin):
        return ""
    here = vlm.describe()
    parts = [key for key in ("model", "preprocess", "precision") if recorded.get(key) != here[key]]
    return f" (other {' and '.join(parts) or 'weights'})"
