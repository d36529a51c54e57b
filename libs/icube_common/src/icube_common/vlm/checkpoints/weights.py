"""Weights of a checkpoint brought under the names of an open_clip model, and loaded into it.

Training code puts words before the names (``module.`` of DDP, ``model.`` of Lightning, ``_orig_mod.`` of torch.compile)
or names the towers in another way (``image_encoder.``, ``text_encoder.``, in CoOp, ViFi-CLIP and their like; the text
tower under ``text.`` or not).
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from icube_common.errors import InputError
from icube_common.vlm.checkpoints.layouts import convert_layout
from icube_common.vlm.checkpoints.pretrained import one_line
from icube_common.vlm.checkpoints.reader import is_averaged, read_state_dict

logger = logging.getLogger(__name__)

# parts of a name that wrappers of modules put anywhere into it
_WRAPPERS = {"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
# tensors that hold no weights: constants of a tower, and prompts, which are no part of the backbone
_CONSTANTS = {"position_ids", "token_type_ids", "attn_mask", "num_batches_tracked"}
_CONSTANTS |= {"input_resolution", "context_length", "vocab_size"}
# how the towers are called elsewhere; the text tower's parts stand at the top of open_clip's CLIP and under "text" in
# its other classes, so that names are compared without "text"
_TOWERS = {"image_encoder": ["visual"], "text_encoder": [], "text": []}


def load_weights(
    model: nn.Module,
    path: Path,
    *,
    name: str,
    published: bool = False,
    fine_tuned_from: Callable[[], Path] | None = None,
) -> None:
    """Load the weights of a file into an open_clip model, all of them and no others.

    Args:
        model: of random weights.
        path: the file.
        name: the architecture, for messages.
        published: the file is that of an open_clip tag, whose positional embeddings may be resized as open_clip does.
        fine_tuned_from: gives the file of the tag that the weights were fine-tuned from. Asked for where the file holds
            everything but the token embeddings, which CoOp, ViFi-CLIP and their like neither train nor save.

    Raises:
        InputError: the file cannot be read, its tensors are missing, too many or of other shapes, or not finite.
    """
    if path.suffix in (".npz", ".npy"):
        _load_big_vision(model, path, name)
        return
    wrong = f"{path}: does not load as weights of {name}"
    try:
        content, where = read_state_dict(path)
        result = convert_layout(content, model)
        state, prefix = match_names(result, model)
    except InputError as error:
        raise InputError(f"{wrong} ({str(error).removeprefix(f'{path}: ')})") from error
    details = where + (f"; prefix {one_line(prefix, 60)!r}" if prefix else "; no prefix")
    _ignore_or_refuse_extra(result, state, model, prefix, wrong, details)
    tensors = {ours: result[theirs] for ours, theirs in state.items()}
    _adapt(model, tensors, resize=published)
    expected = model.state_dict()
    absent = [key for key in expected if key not in tensors and key.rpartition(".")[2] not in _CONSTANTS]
    hint = ""
    if len(absent) == 1 and absent[0].endswith("token_embedding.weight"):
        hint = ": CoOp, ViFi-CLIP and their like leave it out; give weights_of, or add that of the CLIP it started from"
        if fine_tuned_from is not None:
            original, _ = read_state_dict(fine_tuned_from())
            names, _ = match_names(original, model)
            tensors[absent[0]], state[absent[0]] = original[names[absent[0]]], names[absent[0]]
            logger.info("%s: holds no token embeddings; those of the weights it was fine-tuned from are used", path)
            absent = []
    if absent:
        raise InputError(f"{wrong} ({_some(absent)} missing of {len(expected)} tensors{hint}; {details})")
    for key, value in tensors.items():
        _check_tensor(value, expected[key], state.get(key, key), wrong, details)
    model.load_state_dict(tensors, strict=False)


def match_names(source: Mapping[str, Tensor], model: nn.Module) -> tuple[dict[str, str], str]:
    """Names of a model's tensors -> their names in a file, and the prefix of the latter.

    Raises:
        InputError: two sets of weights are in the file, or two names mean the same tensor.
    """
    expected = {_plain(key.split(".")): key for key in model.state_dict()}
    candidates: dict[str, list[tuple[str, str]]] = {}
    for key in source:
        parts = [part for part in key.split(".") if part not in _WRAPPERS]
        for start in range(len(parts)):
            name = expected.get(_plain(parts[start:]))
            if name is not None:
                candidates.setdefault(".".join(parts[:start]), []).append((name, key))
                break
    if not candidates:
        return {}, _common_prefix(source)
    most = max(len(pairs) for pairs in candidates.values())
    rivals = [prefix for prefix, pairs in candidates.items() if len(pairs) == most]
    if len(rivals) > 1:
        rivals = [one for one in rivals if not is_averaged(one)] or rivals
    if len(rivals) > 1:
        raise InputError(f"holds several sets of weights ({', '.join(rivals)}); save the wanted one alone")
    [prefix] = rivals
    twice = [name for name, count in Counter(name for name, _ in candidates[prefix]).items() if count > 1]
    if twice:
        names = [key for name, key in candidates[prefix] if name == twice[0]]
        raise InputError(f"{' and '.join(names)} are both {twice[0]}; keep one of them")
    return dict(candidates[prefix]), prefix


def _plain(parts: list[str]) -> str:
    """A name in one spelling for all classes and layouts."""
    return ".".join([*_TOWERS.get(parts[0], [parts[0]]), *parts[1:]])


def _common_prefix(result: Mapping[str, Tensor]) -> str:
    firsts = {key.split(".")[0] for key in result}
    return firsts.pop() if len(firsts) == 1 else ""


def _ignore_or_refuse_extra(
    result: Mapping[str, Tensor], state: Mapping[str, str], model: nn.Module, prefix: str, wrong: str, details: str
) -> None:
    """Leave out tensors beside the towers (heads, losses, prompts); refuse those that would change a tower."""
    used = set(state.values())
    towers = {*_TOWERS, "transformer", *(child for child, _ in model.named_children())}
    inside: list[str] = []
    beside: list[str] = []
    for key in result:
        parts = [part for part in key.split(".") if part not in _WRAPPERS]
        if key in used or parts[-1] in _CONSTANTS:
            continue
        before = prefix.split(".") if prefix else []
        rest = parts[len(before) :] if parts[: len(before)] == before else []
        (inside if state and rest and rest[0] in towers else beside).append(key)
    if inside:
        raise InputError(f"{wrong} ({_some(inside)} unknown to it; {details})")
    if beside and state:
        logger.warning("%d tensors beside the model's own are left out: %s", len(beside), _some(beside))


def _adapt(model: nn.Module, tensors: dict[str, Tensor], *, resize: bool) -> None:
    """Adapt as open_clip's own loading does: shape of the scale, a bias of 0, and (tags only) resized positions."""
    from open_clip.model import resize_pos_embed, resize_text_pos_embed

    expected = model.state_dict()
    for key in ("logit_scale", "logit_bias"):
        if key in tensors and tensors[key].numel() == 1:
            tensors[key] = tensors[key].reshape(expected[key].shape)
    if "logit_bias" in expected and "logit_bias" not in tensors:
        tensors["logit_bias"] = torch.zeros_like(expected["logit_bias"])
    if resize:
        resize_pos_embed(tensors, model)
        if any(key.endswith("positional_embedding") and not key.startswith("visual.") for key in tensors):
            resize_text_pos_embed(tensors, model)


def _check_tensor(value: Tensor, expected: Tensor, name: str, wrong: str, details: str) -> None:
    if value.shape != expected.shape:
        shapes = f"{name} is {tuple(value.shape)}, wanted {tuple(expected.shape)}"
        hint = ""
        if name.endswith(("positional_embedding", "pos_embed")):
            hint = ": name the architecture of that image size or context length (such as ViT-L-14-336)"
        raise InputError(f"{wrong} ({shapes}{hint}; {details})")
    if expected.is_floating_point() and not value.is_floating_point():
        raise InputError(f"{wrong} ({name} is {value.dtype}, quantised weights are not read)")
    if not torch.isfinite(value).all():
        count = int((~torch.isfinite(value)).sum())
        raise InputError(f"{wrong} ({name} holds {count} values that are NaN or infinite; the training has diverged)")


def _some(names: list[str]) -> str:
    listed = ", ".join(one_line(name, 80) for name in names[:3])
    return f"{listed} and {len(names) - 3} more" if len(names) > 3 else listed


def _load_big_vision(model: Any, path: Path, name: str) -> None:
    """Google's SigLIP files; open_clip reads them."""
    from open_clip.convert import load_big_vision_weights

    try:
        load_big_vision_weights(model, str(path))
    except Exception as error:  # names and shapes that do not fit come up as many kinds
        raise InputError(f"{path}: does not load as weights of {name} ({one_line(error)})") from error
    for key, value in model.state_dict().items():
        _check_tensor(value, value, key, f"{path}: does not load as weights of {name}", "big_vision")
