"""Loading a frozen vision-language model by open_clip name, tag, file, folder or hub name."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from icube_common.errors import InputError, require, unknown
from icube_common.vlm.backbone import PRECISIONS, FrozenVLM, ModelSource
from icube_common.vlm.checkpoints.fingerprint import describe_model, describe_text, library_versions
from icube_common.vlm.checkpoints.pretrained import (
    CONFIG,
    PretrainedConfig,
    download_weights,
    one_line,
    preprocess_config,
    resolve_pretrained,
)
from icube_common.vlm.checkpoints.weights import load_weights
from icube_common.vlm.encoders.base import EncoderLike
from icube_common.vlm.encoders.builtin.models import BUILT_IN, build
from icube_common.vlm.encoders.sources import make_encoder

logger = logging.getLogger(__name__)

# what multiplies matrices: modules, and parameters that modules of other kinds multiply with
_MULTIPLY = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.MultiheadAttention)
_PROJECTIONS = {"proj", "text_projection", "in_proj_weight"}


def load_vlm(
    name: str,
    pretrained: str | Path | None = None,
    *,
    weights_of: str | None = None,
    tokenizer: str | Path | None = None,
    precision: str = "fp32",
    device: str | torch.device = "cpu",
    seed: int = 0,
    only_text: bool = False,
    assume_preprocessing: bool = True,
    encoder: EncoderLike | None = None,
    encoder_weights: str | Path | None = None,
    encoder_size: int | None = None,
    warn: bool = True,
) -> FrozenVLM:
    """Load a vision-language model, frozen and in eval mode.

    Activation and image preprocessing are those that the weights were trained with: by open_clip's table for a tag,
    and for a weight file by ``weights_of`` or by the ``open_clip_config.json`` beside it.

    Args:
        name: an open_clip architecture (``"ViT-B-32"``), ``"hf-hub:organisation/name"``, a folder with
            ``open_clip_config.json`` (``"local-dir:..."`` or its path), or a built-in: ``"icube-lite"`` (an ImageNet
            classifier and a sentence encoder, aligned by class names), ``"icube-minilm"`` (the sentence encoder with an
            untrained image tower), ``"icube-tiny"`` (small and untrained, for tests).
        pretrained: an open_clip tag, a weight file, or a folder that holds one; None: random weights from ``seed``,
            which every output then names. Hub names and folders bring their own weights. Files may be of
            `torch.save`, TorchScript or safetensors; `icube_common.vlm.checkpoints.weights` lists the layouts.
        weights_of: the tag that a weight file is of, or was fine-tuned from.
        tokenizer: folder of a Hugging Face tokenizer, for towers whose own tokenizer lies on a hub.
        precision: ``fp32``, ``bf16``, ``fp16`` (not on a CPU): of the weights of linear layers and convolutions, and
            of the computation by autocast.
        device: where to put it.
        seed: of random weights; torch's global generator is left as it was.
        only_text: no image will be encoded, so that an untrained image encoder needs no warning, and preprocessing
            does not matter.
        assume_preprocessing: for a weight file without ``weights_of`` or configuration: take open_clip's default
            preprocessing and the activation of ``name``, with a warning; False: refuse it.
        encoder: an encoder in place of the image tower, for learned heads: a name, class or instance of
            `icube_common.vlm.encoders.sources.make_encoder`. Text tower and prompts stay those of ``name``.
        encoder_weights: its weight file.
        encoder_size: voxels of a side of its volumes.
        warn: log the warning of weights that were not trained on pairs of image and text.

    Raises:
        InputError: an unknown name or tag (the nearest is named); a file that does not fit the architecture, or holds
            values that are not finite; a download that fails (the message names the file to place where); fp16 on a
            CPU.
    """
    open_clip = require("open_clip", package="icube-common", extra="vlm")
    if precision == "fp16" and torch.device(device).type == "cpu":
        raise InputError("precision=fp16: not on a CPU, which has no fast half precision; use bf16 or fp32")
    if precision not in PRECISIONS:
        raise unknown("precision", precision, PRECISIONS)
    if precision != "fp32" and not torch.amp.is_autocast_available(torch.device(device).type):
        raise InputError(f"precision={precision}: not on the device {device}, which has no autocast; use fp32")
    if name in BUILT_IN:
        for key, value in (("pretrained", pretrained), ("weights_of", weights_of)):
            if value is not None:
                raise InputError(f"{key}={value}: {name} brings its own weights; leave {key} away")
        model, origin = build(name, seed=seed)
        source, length, config = name, BUILT_IN[name].context_length, BUILT_IN[name].config
        preprocess = preprocess_config(config, BUILT_IN[name].preprocess)
    else:
        result = resolve_pretrained(name, pretrained, weights_of)
        if result.assumed:
            _assume(result, name, only_text=only_text or encoder is not None, allowed=assume_preprocessing)
        file = download_weights(name, result.tag) if result.tag else result.weights
        model = _build(open_clip, result, seed=seed)
        if file is not None:
            base = None if result.weights_of is None else functools.partial(download_weights, name, result.weights_of)
            load_weights(model, file, name=name, published=result.tag is not None, fine_tuned_from=base)
        origin = ModelSource(
            name=name,
            pretrained=result.tag or (None if file is None else str(file)),
            image_trained=result.trained,
            text_trained=result.trained,
            seed=seed,
            weights_of=result.weights_of,
            preprocessing_assumed=result.assumed,
        )
        source, config, preprocess = result.source, result.model, result.preprocess
        length = _context_length(open_clip, model, config)
    described, transform = describe_model(config, model), None
    if encoder is not None:
        made = make_encoder(encoder, weights=encoder_weights, size=encoder_size, seed=seed)
        # the image tower of the name goes: nothing would call it
        model.visual = made
        origin = dataclasses.replace(origin, image_trained=made.trained, encoder=str(made))
        described = {**describe_text(described), "vision_cfg.encoder": made.config}
        preprocess, transform = made.preprocess_config, made.preprocess
    vlm = FrozenVLM(
        _cast(model, precision).to(device),
        preprocess=transform or _make_preprocess(preprocess, name),
        make_tokenizer=lambda: _make_tokenizer(open_clip, name, source, tokenizer, length),
        context_length=length,
        origin=origin,
        config=described,
        preprocess_config=preprocess,
        precision=precision,
        versions=library_versions(),
    )
    if warn and vlm.weights_warning and not (only_text and origin.text_trained):
        logger.warning("%s", vlm.weights_warning)
    return vlm


def _assume(result: PretrainedConfig, name: str, *, only_text: bool, allowed: bool) -> None:
    """Warn of, or refuse, a weight file whose activation and preprocessing are unknown.

    A text tower needs no preprocessing: there, only an activation that is in doubt is.
    """
    import open_clip

    if only_text and not result.doubtful_activation:
        return
    assert result.weights is not None
    tags = open_clip.list_pretrained_tags_by_model(name)
    listed = ", ".join(tags[:6]) + (", ..." if len(tags) > 6 else "")
    key = "text.weights_of=TAG or --weights-of TAG" if only_text else "vlm.weights_of=TAG"
    key = "weights_of=TAG" if allowed else key
    remedy = f"give {key}, the tag that they are of or were fine-tuned from ({listed or f'{name} has none'})"
    remedy += f", or place their {CONFIG} in {result.weights.parent}"
    what = "activation" if only_text else "activation and image preprocessing"
    if not allowed:
        raise InputError(f"{result.weights}: a weight file does not hold the {what} it was trained with; {remedy}")
    activation = "QuickGELU" if result.model.get("quick_gelu") else "GELU"
    took = activation if only_text else f"{activation} and open_clip's default preprocessing"
    logger.warning("%s: %s assumed, a weight file does not hold the %s; %s", result.weights, took, what, remedy)


def _build(open_clip: Any, result: PretrainedConfig, *, seed: int) -> Any:
    """The model with random weights."""
    try:
        with _quiet(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return open_clip.create_model(
                result.build_from,
                load_weights=False,
                pretrained_text=False,
                quick_gelu=bool(result.model.get("quick_gelu", False)),
            )
    except Exception as error:  # a dozen kinds, from socket errors to unknown keys: all are the user's to mend
        raise InputError(
            f"{result.source}: cannot be built ({one_line(error)}); a text tower of Hugging Face needs its "
            f"configuration from the hub, or a folder whose {CONFIG} names a local one"
        ) from error


def _cast(model: Any, precision: str) -> Any:
    """Weights of linear layers, convolutions and attention in the wanted precision; all else stays fp32.

    Autocast brings what they meet to the same precision, so that this only saves memory, in towers of any kind.
    """
    if precision != "fp32":
        for module in model.modules():
            cast = isinstance(module, _MULTIPLY)
            for name, parameter in module.named_parameters(recurse=False):
                if cast or name in _PROJECTIONS:
                    parameter.data = parameter.data.to(PRECISIONS[precision])
    return model


def _context_length(open_clip: Any, model: Any, config: Any) -> int:
    """Token ids that the text tower takes: of a Hugging Face tower what it was given, not the most it could."""
    text = getattr(model, "text", model)
    length = int(text.context_length)
    if not hasattr(getattr(text, "transformer", None), "get_input_embeddings"):
        return length
    return min(length, int(config["text_cfg"].get("context_length", open_clip.tokenizer.DEFAULT_CONTEXT_LENGTH)))


def _make_preprocess(config: dict[str, Any], name: str) -> Any:
    from open_clip.transform import PreprocessCfg, image_transform_v2

    try:
        return image_transform_v2(PreprocessCfg(**config), is_train=False)
    except (AssertionError, TypeError, ValueError) as error:
        raise InputError(f"{name}: preprocess_cfg {config} is none of open_clip ({one_line(error)})") from error


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
        raise InputError(
            f"{name}: its tokenizer could not be loaded ({one_line(error)}); place its files (tokenizer.json, "
            f"tokenizer_config.json) in a folder and give that as tokenizer"
        ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence other libraries' logs: errors end in one line of this library.

    open_clip logs to the root logger (random weights too, which `load_vlm` reports itself), the hub's client prints
    each of its attempts.
    """
    loggers = [logging.getLogger(), logging.getLogger("huggingface_hub.utils._http")]
    before = [result.disabled for result in loggers]
    for result in loggers:
        result.disabled = True
    try:
        yield
    finally:
        for result, disabled in zip(loggers, before, strict=True):
            result.disabled = disabled
