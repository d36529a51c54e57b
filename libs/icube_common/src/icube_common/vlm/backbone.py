"""A frozen open_clip model with its tokenizer, its preprocessing, and a fingerprint of all three."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from icube_common.vlm import tokens
from icube_common.vlm.towers import TextTower

# letters, digits, punctuation and a rare word: tokenizers that differ cut it differently
_PROBE = "A person sits down, slowly; then (after 3.5 s) rises & shrugs nonchalantly."


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where the weights come from, so that every output can say it.

    Attributes:
        name: the architecture as the user named it.
        pretrained: tag, file or folder; None for random weights.
        image_trained: whether the image tower has been trained.
        text_trained: whether the text tower has been trained.
        seed: of the random weights.
    """

    name: str
    pretrained: str | None
    image_trained: bool
    text_trained: bool
    seed: int

    def __str__(self) -> str:
        if self.image_trained and self.text_trained:
            return f"{self.name} ({self.pretrained})"
        if self.text_trained:
            return f"{self.name} (trained text tower, untrained image tower of seed {self.seed})"
        return f"{self.name} (untrained backbone: random weights of seed {self.seed})"


class FrozenVLM(nn.Module):
    """A vision-language model that is used and never trained. `icube_common.vlm.load.load_vlm` makes one.

    Args:
        model: an open_clip model.
        preprocess: PIL image -> pixels ``(3, H, W)``.
        make_tokenizer: makes open_clip's tokenizer for it; called when the first text arrives, since the tokenizers of
            some towers lie on a hub.
        context_length: token ids that its text tower takes.
        origin: where the weights come from.
        versions: of the libraries that run and preprocess, for the fingerprint.

    Attributes:
        batch_size: images in a forward pass, for `icube_common.vlm.encode.encode_items`.
        mixed_precision: autocast of image features there, ``"no"``, ``"bf16"`` or ``"fp16"``.
    """

    batch_size: int = 64
    mixed_precision: str = "no"

    def __init__(
        self,
        model: nn.Module,
        *,
        preprocess: Callable[[Any], Tensor],
        make_tokenizer: Callable[[], Any],
        context_length: int,
        origin: Origin,
        versions: str,
    ) -> None:
        super().__init__()
        self.model = model.eval().requires_grad_(False)
        self.preprocess = preprocess
        self.origin = origin
        self.context_length = context_length
        self._make_tokenizer = make_tokenizer
        self._versions = versions
        self._tower = TextTower(model, context_length)

    def train(self, mode: bool = True) -> FrozenVLM:
        """Stays in eval mode, whatever the module that holds it does: frozen means without dropout too."""
        return super().train(False)

    def __deepcopy__(self, memo: dict[int, Any]) -> FrozenVLM:
        # frozen: a copy of a model that holds it (an average of weights) may share it
        return self

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.token_embedding.weight.device

    @property
    def token_embedding(self) -> nn.Embedding:
        """The text tower's table of token embeddings, ``(vocabulary, token_width)``."""
        return self._tower.embedding

    @property
    def token_width(self) -> int:
        """Width of a token embedding."""
        return self.token_embedding.embedding_dim

    @functools.cached_property
    def embed_dim(self) -> int:
        """Width D of the space that images and texts share."""
        with torch.no_grad():
            ids = torch.full((1, self.context_length), 1, device=self.device)
            return self._tower(ids).shape[-1]

    @property
    def padding_cuttable(self) -> bool:
        """Whether trailing padding can be left away without changing a text's feature."""
        return self._tower.cuttable

    @property
    def untrained_note(self) -> str:
        """One line for every output that rests on untrained weights, empty where all are trained."""
        if self.origin.image_trained and self.origin.text_trained:
            return ""
        return str(self.origin)

    @property
    def logit_scale(self) -> Float[Tensor, ""]:
        """The factor on cosine similarities that the model was trained with."""
        scale: Tensor = self.model.logit_scale  # type: ignore[assignment]
        return scale.detach().exp().float().reshape(())

    @property
    def logit_bias(self) -> Float[Tensor, ""]:
        """What SigLIP adds to its logits, 0 for the others."""
        bias: Tensor | None = getattr(self.model, "logit_bias", None)
        return torch.zeros((), device=self.device) if bias is None else bias.detach().float().reshape(())

    @functools.cached_property
    def tokenizer(self) -> Any:
        """open_clip's tokenizer for this model.

        Raises:
            InputError: it has to come from a hub that cannot be reached, and no local folder was given.
        """
        return self._make_tokenizer()

    @functools.cached_property
    def tokens(self) -> tokens.TextTokens:
        """How token ids are laid out for this model's text tower; raises as `tokenizer` does."""
        return tokens.read_tokens(self.tokenizer, self.context_length)

    @property
    def text_budget(self) -> int:
        """Tokens that a text may have, start and end not counted."""
        return self.tokens.budget

    def count_tokens(self, text: str) -> int:
        """Tokens of a text, start and end not counted, before any cutting."""
        return len(self.tokens.words(text))

    def tokenize(self, texts: str | Sequence[str]) -> Int[Tensor, "n l"]:
        """Token ids of whole texts, special tokens and padding included; raises as `tokenizer` does."""
        return tokens.tokenize(self.tokenizer, [texts] if isinstance(texts, str) else texts, self.context_length)

    def encode_text(self, texts: str | Sequence[str] | Int[Tensor, "n l"]) -> Float[Tensor, "n d"]:
        """Features of texts, or of their token ids, normalised; float32 on the model's device."""
        ids = texts if isinstance(texts, Tensor) else self.tokenize(texts)
        if self.padding_cuttable:
            ids = tokens.trim_padding(ids)
        return F.normalize(self.encode_ids(ids.to(self.device)), dim=-1)

    def encode_image(self, pixels: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n d"]:
        """Features of preprocessed images, normalised; float32 on the model's device."""
        encode: Callable[..., Tensor] = self.model.encode_image  # type: ignore[assignment]
        dtype = next(self.model.visual.parameters()).dtype  # type: ignore[union-attr]
        return F.normalize(encode(pixels.to(self.device, dtype), normalize=False).float(), dim=-1)

    def encode_ids(
        self,
        ids: Int[Tensor, "n l"],
        embeddings: Float[Tensor, "n l w"] | None = None,
        where: Bool[Tensor, "n l"] | None = None,
    ) -> Float[Tensor, "n d"]:
        """Features of token ids, not normalised, float32, with the embeddings at ``where`` replaced.

        Differentiable in ``embeddings``. Mask, positions and the end token are those of ``ids``, the final layout.
        Columns of padding that no text needs are cut where that changes nothing (`padding_cuttable`).

        Raises:
            ValueError: there are fewer columns than the tower takes, and it attends to padding; or more.
        """
        return self._tower(ids, embeddings, where).float()

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 over weights, preprocessing and library versions: what every cache of features is keyed by."""
        digest = hashlib.sha256(self._versions.encode())
        digest.update(_describe_preprocess(self.preprocess).encode())
        _digest_tensors(digest, self.model.state_dict())
        return digest.hexdigest()

    @functools.cached_property
    def text_fingerprint(self) -> str:
        """SHA-256 over the text tower's weights and what its tokenizer makes of a sentence.

        Library versions are not in it: a model that was trained on the embeddings knows its encoder by this, on other
        machines too.
        """
        digest = hashlib.sha256(f"{self.context_length} {self.tokenize(_PROBE).tolist()}".encode())
        weights = {
            name: value
            for name, value in self.model.state_dict().items()
            if value.is_floating_point() and not name.startswith("visual.")
        }
        _digest_tensors(digest, weights)
        return digest.hexdigest()

    def describe(self) -> dict[str, Any]:
        """For the record of a run: name, weights, whether they are trained, fingerprint."""
        return {**asdict(self.origin), "description": str(self.origin), "fingerprint": self.fingerprint}


def _digest_tensors(digest: Any, tensors: Mapping[str, Tensor]) -> None:
    """Add names, shapes, types and values of tensors to a digest."""
    for name, value in sorted(tensors.items()):
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)


def _describe_preprocess(preprocess: Any) -> str:
    """A text that differs where two preprocessings differ."""
    if is_dataclass(preprocess) and not isinstance(preprocess, type):
        return json.dumps(asdict(preprocess), sort_keys=True, default=str)
    return repr(preprocess)
