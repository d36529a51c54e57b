"""A frozen open_clip model with its tokenizer, its preprocessing, and a fingerprint of all three."""

from __future__ import annotations

import contextlib
import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from icube_common.errors import InputError
from icube_common.vlm.checkpoints.fingerprint import as_json, describe_text, describe_transform, digest_tensors
from icube_common.vlm.encoders.base import IMAGE, Encoder
from icube_common.vlm.text_encoder import CAUSAL, TextEncoder, TextTokens, read_tokens, tokenize, trim_padding

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

# letters, digits, punctuation and a rare word: tokenizers that differ cut it differently
_PROBE = "A person sits down, slowly; then (after 3.5 s) rises & shrugs nonchalantly."


ImageOutput: TypeAlias = Literal["joint", "features"]


class ImageOutputs(NamedTuple):
    """Features of N images.

    Attributes:
        joint: (N, D) in the space of the texts, normalised.
        features: (N, W) for learned heads; ``joint`` itself where the image tower has no others.
    """

    joint: Float[Tensor, "n d"]
    features: Float[Tensor, "n w"]


@dataclass(frozen=True, kw_only=True)
class ModelSource:
    """Source of the weights, which every output names.

    Attributes:
        name: the architecture as the user named it.
        pretrained: tag, file or folder; None for random weights.
        image_trained: whether the image tower has been trained.
        text_trained: whether the text tower has been trained.
        seed: of the random weights.
        weights_of: the tag that a weight file is of, by the user.
        preprocessing_assumed: preprocessing and activation of a weight file are defaults, not known.
        alignment: alignment of two towers that were not trained together on pairs of image and text, for every output;
            None for a model that was.
        encoder: the encoder in place of the image tower, with its weights; None for the image tower itself.
    """

    name: str
    pretrained: str | None
    image_trained: bool
    text_trained: bool
    seed: int
    weights_of: str | None = None
    preprocessing_assumed: bool = False
    alignment: str | None = None
    encoder: str | None = None

    @property
    def trained_on_pairs(self) -> bool:
        """True where image features lie in the space of the texts by a training on pairs, as CLIP's do."""
        return self.image_trained and self.text_trained and self.alignment is None and self.encoder is None

    def __str__(self) -> str:
        if self.encoder is not None:
            untrained = "" if self.text_trained else "untrained "
            return f"{self.encoder}, without a joint space with the {untrained}text tower of {self.name}"
        if self.alignment is not None:
            return f"{self.name} ({self.alignment})"
        if self.image_trained and self.text_trained:
            details = f", weights of {self.weights_of}" if self.weights_of else ""
            details += ", preprocessing assumed" if self.preprocessing_assumed else ""
            return f"{self.name} ({self.pretrained}{details})"
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
        config: its model configuration, as `icube_common.vlm.checkpoints.fingerprint.describe_model` gives it.
        preprocess_config: what ``preprocess`` was made from.
        precision: of the weights, and of the matrix products: ``fp32``, ``bf16``, ``fp16``.
        versions: of the libraries that run and preprocess; recorded, and no part of the fingerprint.

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
        origin: ModelSource,
        config: Mapping[str, Any],
        preprocess_config: Mapping[str, Any],
        precision: str,
        versions: Mapping[str, str],
    ) -> None:
        super().__init__()
        self.model = model.eval().requires_grad_(False)
        self.preprocess = preprocess
        self.origin = origin
        self.config = dict(config)
        self.precision = precision
        self.versions = dict(versions)
        self.context_length = context_length
        self._make_tokenizer = make_tokenizer
        self._preprocess_config = (preprocess, dict(preprocess_config))
        self._tower = TextEncoder(model, context_length)

    def train(self, mode: bool = True) -> FrozenVLM:
        """Stays in eval mode, whatever the module that holds it does: frozen means without dropout too."""
        return super().train(False)

    def __deepcopy__(self, memo: dict[int, Any]) -> FrozenVLM:
        # frozen: a copy of a model that holds it (an average of weights) may share it
        return self

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
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
            return self.encode_ids(ids).shape[-1]

    @property
    def encoder(self) -> Encoder | None:
        """The encoder in place of the image tower; None for the image tower itself."""
        visual = getattr(self.model, "visual", None)
        return visual if isinstance(visual, Encoder) else None

    @property
    def kind(self) -> str:
        """Input of the image tower: ``"image"``, or ``"clip"`` or ``"volume"`` of an encoder."""
        return IMAGE if self.encoder is None else self.encoder.kind

    @property
    def separate_features(self) -> bool:
        """True where learned heads have image features of their own, apart from those in the space of the texts."""
        return self.encoder is None and hasattr(self.model, "encode_image_features")

    @property
    def feature_dim(self) -> int:
        """Width W of the image features for learned heads; D where these are the ones in the space of the texts."""
        if self.encoder is not None:
            return self.encoder.width
        return int(self.model.feature_dim) if self.separate_features else self.embed_dim  # type: ignore[arg-type]

    @property
    def preprocess_config(self) -> dict[str, Any]:
        """Size, mean, std, interpolation and resize mode of `preprocess`; its text, where it was replaced."""
        made, config = self._preprocess_config
        return config if self.preprocess is made else {"transform": describe_transform(self.preprocess)}

    def autocast(self) -> contextlib.AbstractContextManager[None]:
        """The context in which the towers run.

        Below fp32, matrix products and convolutions are computed in that precision, and the rest in what autocast
        chooses, so that a tower of any kind may mix parameters of both precisions.
        """
        if self.precision == "fp32":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, PRECISIONS[self.precision])

    @property
    def padding_cuttable(self) -> bool:
        """True where trailing padding can be left away without changing a text's feature."""
        return self._tower.cuttable

    @property
    def causal(self) -> bool:
        """True where no position of a text depends on what follows it."""
        return self._tower.padding == CAUSAL

    @property
    def weights_warning(self) -> str:
        """One line for every output of weights that were not trained on pairs of image and text, empty for others."""
        return "" if self.origin.trained_on_pairs else str(self.origin)

    @property
    def logit_scale(self) -> Float[Tensor, ""]:
        """The factor on cosine similarities that the model was trained with."""
        scale: Tensor = self.model.logit_scale  # type: ignore[assignment]
        return scale.detach().exp().float().reshape(())

    @functools.cached_property
    def tokenizer(self) -> Any:
        """open_clip's tokenizer for this model.

        Raises:
            InputError: it has to come from a hub that cannot be reached, and no local folder was given.
        """
        return self._make_tokenizer()

    @functools.cached_property
    def tokens(self) -> TextTokens:
        """Layout of token ids of this model's text encoder; raises as `tokenizer` does."""
        return read_tokens(self.tokenizer, self.context_length)

    @property
    def text_budget(self) -> int:
        """Tokens that a text may have, start and end not counted."""
        return self.tokens.budget

    def count_tokens(self, text: str) -> int:
        """Tokens of a text, start and end not counted, before any cutting."""
        return len(self.tokens.words(text))

    def tokenize(self, texts: str | Sequence[str]) -> Int[Tensor, "n l"]:
        """Token ids of whole texts, special tokens and padding included; raises as `tokenizer` does."""
        return tokenize(self.tokenizer, [texts] if isinstance(texts, str) else texts, self.context_length)

    def encode_text(self, texts: str | Sequence[str] | Int[Tensor, "n l"]) -> Float[Tensor, "n d"]:
        """Features of texts, or of their token ids, normalised; float32 on the model's device."""
        ids = texts if isinstance(texts, Tensor) else self.tokenize(texts)
        if self.padding_cuttable:
            ids = trim_padding(ids)
        return F.normalize(self.encode_ids(ids.to(self.device)), dim=-1)

    def encode_image(
        self, pixels: Float[Tensor, "n 3 h w"], *, output: ImageOutput = "joint"
    ) -> Float[Tensor, "n d"] | Float[Tensor, "n w"]:
        """Features of preprocessed images; float32 on the model's device.

        Args:
            pixels: of `preprocess`.
            output: ``"joint"``: normalised, in the space of the texts; ``"features"``: for learned heads, as the image
                tower has them, where they are separate (`separate_features`), else the joint ones.

        Raises:
            InputError: ``"joint"`` features of an encoder that has none.
        """
        if self.encoder is not None:
            if output == "joint":
                check_joint_space(self)
            with self.autocast():
                return self.encoder(pixels.to(self.device, torch.float32)).float()
        outputs = self.encode_image_outputs(pixels)
        return outputs.joint if output == "joint" else outputs.features

    def encode_image_outputs(self, pixels: Float[Tensor, "n 3 h w"]) -> ImageOutputs:
        """Both features of preprocessed images, in one pass; float32 on the model's device."""
        pixels = pixels.to(self.device, torch.float32)
        model: Any = self.model
        with self.autocast():
            if self.separate_features:
                features = model.encode_image_features(pixels)
                joint = model.align_image_features(features)
            else:
                features = joint = model.encode_image(pixels, normalize=False)
        joint = F.normalize(joint.float(), dim=-1)
        return ImageOutputs(joint, features.float() if self.separate_features else joint)

    def encode_ids(
        self,
        ids: Int[Tensor, "n l"],
        embeddings: Float[Tensor, "n l w"] | None = None,
        where: Bool[Tensor, "n l"] | None = None,
        *,
        shared: int = 0,
    ) -> Float[Tensor, "n d"]:
        """Features of token ids, not normalised, float32, with the embeddings at ``where`` replaced.

        Differentiable in ``embeddings``. Mask, positions and the end token are those of ``ids``, the final layout.
        Columns of padding that no text needs are cut where that changes nothing (`padding_cuttable`). ``shared``
        leading columns, the same in all rows, are computed once (`causal` towers).

        Raises:
            ValueError: there are fewer columns than the tower takes, and it attends to padding; or more.
        """
        with self.autocast():
            return self._tower(ids, embeddings, where, shared=shared).float()

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 over weights, model configuration and preprocessing: what every cache of features is keyed by.

        Library versions are not in it: `describe` records them, and who finds others warns.
        """
        assumed = {"preprocessing_assumed": True} if self.origin.preprocessing_assumed else {}
        digest = hashlib.sha256(as_json({"model": self.config, "preprocess": self.preprocess_config, **assumed}))
        digest_tensors(digest, self.model.state_dict())
        return digest.hexdigest()

    @functools.cached_property
    def text_fingerprint(self) -> str:
        """SHA-256 over the text tower's weights and configuration, and what its tokenizer makes of a sentence.

        Library versions are not in it: a model that was trained on the embeddings identifies its encoder by
        this, on other machines too.
        """
        digest = hashlib.sha256(f"{self.context_length} {self.tokenize(_PROBE).tolist()}".encode())
        digest.update(as_json(describe_text(self.config)))
        weights = {
            name: value
            for name, value in self.model.state_dict().items()
            if value.is_floating_point() and not name.startswith("visual.")
        }
        digest_tensors(digest, weights)
        return digest.hexdigest()

    def describe(self) -> dict[str, Any]:
        """For the record of a run: name, weights, whether they are trained, configuration, versions, fingerprint."""
        encoder = {} if self.encoder is None else {"encoder_fingerprint": self.encoder.fingerprint}
        return {
            **asdict(self.origin),
            **encoder,
            "description": str(self.origin),
            "fingerprint": self.fingerprint,
            "model": self.config,
            "preprocess": self.preprocess_config,
            "precision": self.precision,
            "versions": self.versions,
        }


def check_joint_space(vlm: FrozenVLM, what: str = "features in the space of the texts") -> None:
    """Check that image features can be compared with texts.

    Args:
        vlm: the backbone.
        what: use of the comparison, for the message.

    Raises:
        InputError: the features are of an encoder that was not trained with the texts.
    """
    if vlm.encoder is not None:
        raise InputError(
            f"{what}: {vlm.encoder.name} has no joint space with the texts of {vlm.origin.name}; it takes a tower "
            "trained on pairs of image and text (vlm.name without vlm.encoder)"
        )
