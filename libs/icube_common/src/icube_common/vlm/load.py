"""Loading a frozen vision-language model by open_clip name, tag, file, folder or hub name."""

from __future__ import annotations

import contextlib
import importlib.metadata
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from icube_common.errors import InputError, require, unknown
from icube_common.runs import read_json
from icube_common.vlm.backbone import FrozenVLM, Origin
from icube_common.vlm.builtin import BUILT_IN, build

logger = logging.getLogger(__name__)

_HUB = "hf-hub:"
_FOLDER = "local-dir:"


def load_vlm(
    name: str,
    pretrained: str | Path | None = None,
    *,
    tokenizer: str | Path | None = None,
    precision: str = "fp32",
    device: str | torch.device = "cpu",
    seed: int = 0,
    only_text: bool = False,
) -> FrozenVLM:
    """Load a vision-language model, frozen and in eval mode.

    Args:
        name: an open_clip architecture (``"ViT-B-32"``), ``"hf-hub:organisation/name"``, a folder with
            ``open_clip_config.json`` (``"local-dir:..."`` or its path), or a built-in: ``"icube-minilm"`` (a trained
            sentence encoder with an untrained image tower), ``"icube-tiny"`` (small and untrained, for tests).
        pretrained: an open_clip tag, a weight file, or a folder that holds one; None: random weights from ``seed``,
            which every output then says. Hub names and folders bring their own weights.
        tokenizer: folder of a Hugging Face tokenizer, for towers whose own tokenizer lies on a hub.
        precision: of the weights: ``fp32``, ``bf16``, ``fp16`` (not on a CPU).
        device: where to put it.
        seed: of random weights; torch's global generator is left as it was.
        only_text: no image will be encoded, so that an untrained image tower is not worth a warning.

    Raises:
        InputError: an unknown name or tag (the nearest is named); a file that does not fit the architecture; a download
            that fails (the message says which file to place where); fp16 on a CPU.
    """
    open_clip = require("open_clip", package="icube-common", extra="vlm")
    if precision == "fp16" and torch.device(device).type == "cpu":
        raise InputError("precision=fp16: not on a CPU, which has no fast half precision; use bf16 or fp32")
    if precision not in ("fp32", "bf16", "fp16"):
        raise unknown("precision", precision, ("fp32", "bf16", "fp16"))
    if name in BUILT_IN:
        if pretrained is not None:
            raise InputError(f"pretrained={pretrained}: {name} brings its own weights; leave pretrained away")
        model, origin = build(name, seed=seed)
        model = _cast(model, precision, device)
        source, length = name, BUILT_IN[name].context_length
    else:
        source, weights = _resolve(open_clip, name, pretrained)
        with _quiet(), torch.random.fork_rng(devices=_cuda(device)):
            torch.manual_seed(seed)
            model = _create(open_clip, source, weights, precision=precision, device=device)
        trained = weights is not None or source.startswith(_HUB) or _has_weights(source)
        brought = None if weights is None and not trained else str(weights or source)
        origin = Origin(name=name, pretrained=brought, image_trained=trained, text_trained=trained, seed=seed)
        length = _context_length(open_clip, model, source)
    vlm = FrozenVLM(
        model,
        preprocess=_preprocessing(open_clip, model),
        make_tokenizer=lambda: _make_tokenizer(open_clip, name, source, tokenizer, length),
        context_length=length,
        origin=origin,
        versions=" ".join(f"{p}={importlib.metadata.version(p)}" for p in ("open_clip_torch", "torch", "torchvision")),
    )
    if vlm.untrained_note and not (only_text and origin.text_trained):
        logger.warning("%s", vlm.untrained_note)
    return vlm


def _resolve(open_clip: Any, name: str, pretrained: str | Path | None) -> tuple[str, str | None]:
    """open_clip's name of the model, and the tag or file of its weights (None: random, or the model brings its own)."""
    if name.startswith(_HUB):
        if pretrained is not None:
            raise InputError(f"pretrained={pretrained}: {name} brings its own weights; leave pretrained away")
        return name, None
    folder = Path(name.removeprefix(_FOLDER))
    if name.startswith(_FOLDER) or (folder.is_dir() and name not in open_clip.list_models()):
        if not (folder / "open_clip_config.json").is_file():
            raise InputError(f"{folder}: no open_clip_config.json there; give a folder that open_clip has written")
        if pretrained is not None:
            raise InputError(f"pretrained={pretrained}: the folder {folder} brings its own weights")
        return f"{_FOLDER}{folder}", None
    if name not in open_clip.list_models():
        raise unknown("vision-language model", name, [*BUILT_IN, *open_clip.list_models()])
    if pretrained is None:
        return name, None
    path = Path(pretrained)
    if path.is_dir():
        if (path / "open_clip_config.json").is_file():
            return f"{_FOLDER}{path}", None
        found = sorted(p for p in path.iterdir() if p.suffix in (".safetensors", ".pt", ".pth", ".bin"))
        if len(found) != 1:
            raise InputError(f"{path}: holds {len(found)} weight files, exactly one is needed; name the file itself")
        return name, str(found[0])
    if path.is_file():
        return name, str(path)
    tags = open_clip.list_pretrained_tags_by_model(name)
    if str(pretrained) not in tags:
        raise unknown(f"tag, file or folder for the weights of {name}", str(pretrained), tags)
    return name, str(pretrained)


def _create(open_clip: Any, source: str, weights: str | None, *, precision: str, device: Any) -> Any:
    try:
        return open_clip.create_model(
            source, pretrained=weights, precision=precision, device=device, pretrained_text=False
        )
    except Exception as error:  # a dozen kinds, from socket errors to mismatching keys: all are the user's to mend
        reason = " ".join(str(error).split())[:200]
        if weights is not None and Path(weights).is_file():
            raise InputError(f"{weights}: does not load as weights of {source} ({reason})") from error
        if weights is not None:
            raise InputError(
                f"{source}, tag {weights}: the weights could not be downloaded ({reason}); "
                f"fetch {_where(open_clip, source, weights)} where there is access and give the file as pretrained"
            ) from error
        if source.startswith(_HUB):
            raise InputError(
                f"{source}: could not be downloaded ({reason}); fetch open_clip_config.json, the weights and the "
                f"tokenizer files of https://huggingface.co/{source.removeprefix(_HUB)} where there is access and "
                f"give their folder as the name"
            ) from error
        raise InputError(
            f"{source}: cannot be built ({reason}); a text tower of Hugging Face needs its configuration from the hub, "
            f"or a folder whose open_clip_config.json names a local one"
        ) from error


def _where(open_clip: Any, name: str, tag: str) -> str:
    """What to fetch for a tag: its address, or repository on the hub and file."""
    entry = open_clip.get_pretrained_cfg(name, tag)
    if hub := entry.get("hf_hub"):
        repository, _, file = hub.rpartition("/")
        return f"https://huggingface.co/{repository} ({file or 'open_clip_model.safetensors'})"
    return str(entry.get("url", "its weights"))


def _has_weights(source: str) -> bool:
    """Whether a local folder holds more than a configuration."""
    if not source.startswith(_FOLDER):
        return False
    folder = Path(source.removeprefix(_FOLDER))
    return any(p.suffix in (".safetensors", ".bin", ".pt", ".pth") for p in folder.iterdir())


def _cast(model: Any, precision: str, device: Any) -> Any:
    """A built-in in the wanted precision, by open_clip's own rule (norms stay float32)."""
    if precision != "fp32":
        from open_clip.model import convert_weights_to_lp

        convert_weights_to_lp(model, dtype=torch.bfloat16 if precision == "bf16" else torch.float16)
    return model.to(device)


def _context_length(open_clip: Any, model: Any, source: str) -> int:
    """Token ids that the text tower takes: of a Hugging Face tower what it was given, not the most it could."""
    text = getattr(model, "text", model)
    length = int(text.context_length)
    if not hasattr(getattr(text, "transformer", None), "get_input_embeddings"):
        return length
    if source.startswith(_FOLDER):
        config = read_json(Path(source.removeprefix(_FOLDER)) / "open_clip_config.json")["model_cfg"]
    elif source.startswith(_HUB):
        config = open_clip.factory._get_hf_config(source.removeprefix(_HUB))["model_cfg"]
    else:
        config = open_clip.get_model_config(source)
    return min(length, int(config["text_cfg"].get("context_length", open_clip.tokenizer.DEFAULT_CONTEXT_LENGTH)))


def _preprocessing(open_clip: Any, model: Any) -> Any:
    from open_clip.transform import PreprocessCfg, image_transform_v2

    # the built-ins carry none: open_clip's own defaults, at the size of their image tower
    config = getattr(model.visual, "preprocess_cfg", None) or {"size": model.visual.image_size}
    return image_transform_v2(PreprocessCfg(**config), is_train=False)


def _make_tokenizer(open_clip: Any, name: str, source: str, folder: str | Path | None, length: int) -> Any:
    try:
        if folder is not None:
            if not Path(folder).is_dir():
                raise InputError(f"tokenizer={folder}: no such folder")
            clean = "canonicalize" if "siglip" in source.lower() else "whitespace"
            return open_clip.tokenizer.HFTokenizer(str(folder), context_length=length, clean=clean)
        if name in BUILT_IN:
            return BUILT_IN[name].make_tokenizer(length)
        with _quiet():
            return open_clip.get_tokenizer(source, context_length=length)
    except InputError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"{name}: its tokenizer could not be loaded ({reason}); place its files (tokenizer.json, "
            f"tokenizer_config.json) in a folder and give that as tokenizer"
        ) from error


def _cuda(device: str | torch.device) -> list[int]:
    return [torch.cuda.current_device()] if torch.device(device).type == "cuda" else []


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """What goes wrong here ends in one line of this library's own.

    open_clip speaks through the root logger (random weights too, which `load_vlm` says itself), the hub's client prints
    each of its attempts.
    """
    loggers = [logging.getLogger(), logging.getLogger("huggingface_hub.utils._http")]
    before = [found.disabled for found in loggers]
    for found in loggers:
        found.disabled = True
    try:
        yield
    finally:
        for found, disabled in zip(loggers, before, strict=True):
            found.disabled = disabled
