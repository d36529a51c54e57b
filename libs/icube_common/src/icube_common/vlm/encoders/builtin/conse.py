"""Alignment of an image classifier with a sentence encoder by the names of its classes, without pairs.

ConSE (Norouzi et al., "Zero-Shot Learning by Convex Combination of Semantic Embeddings", ICLR 2014, eq. 3): an image's
embedding is the mean of the embeddings of its most probable classes, weighted by their renormalised probabilities.

Shapes: N images or texts, C classes, W width of the classifier's pooled features, D width of the texts, L token ids.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

TOP_CLASSES = 10


def conse(
    probabilities: Float[Tensor, "n c"], embeddings: Float[Tensor, "c d"], *, top: int = TOP_CLASSES
) -> Float[Tensor, "n d"]:
    """Convex combination of class embeddings (eq. 3): ``sum_t p_t s_t / sum_t p_t`` over the ``top`` classes."""
    values, index = probabilities.topk(min(top, probabilities.shape[1]), dim=-1)
    weights = values / values.sum(-1, keepdim=True)
    return (weights[..., None] * embeddings[index]).sum(1)


def class_embeddings(
    class_texts: Sequence[Sequence[str]], encode: Callable[[list[str]], Float[Tensor, "n d"]], *, batch_size: int = 64
) -> Float[Tensor, "c d"]:
    """Mean embedding of each class's texts, not centred.

    Args:
        class_texts: of each class.
        encode: normalised embeddings of texts.
        batch_size: texts in a call; they are sorted by length, which needs the least padding.
    """
    texts = sorted({text for group in class_texts for text in group}, key=lambda text: (len(text), text))
    parts = [encode(texts[start : start + batch_size]) for start in range(0, len(texts), batch_size)]
    result = dict(zip(texts, torch.cat(parts), strict=True))
    return torch.stack([torch.stack([result[text] for text in group]).mean(0) for group in class_texts])


class ClassifierTower(nn.Module):
    """An image classifier of timm as the image tower: pooled features, and ConSE embeddings of its probabilities.

    Args:
        classifier: a timm model with ``forward_features`` and ``forward_head``.
        embeddings: of its classes, centred; part of no state dict, since they follow from weights and texts.
        top: classes that an embedding combines.
    """

    embeddings: Tensor

    def __init__(self, classifier: nn.Module, embeddings: Float[Tensor, "c d"], *, top: int = TOP_CLASSES) -> None:
        super().__init__()
        self.classifier = classifier
        self.top = top
        self.register_buffer("embeddings", embeddings, persistent=False)

    def features(self, pixels: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n w"]:
        """Pooled features before the last layer."""
        model: Any = self.classifier
        result: Tensor = model.forward_head(model.forward_features(pixels), pre_logits=True)
        return result

    def align(self, features: Float[Tensor, "n w"]) -> Float[Tensor, "n d"]:
        """ConSE embeddings of pooled features, in float32."""
        model: Any = self.classifier
        return conse(model.get_classifier()(features).float().softmax(-1), self.embeddings, top=self.top)

    def forward(self, pixels: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n d"]:
        """ConSE embeddings of images."""
        return self.align(self.features(pixels))


class ConSEModel(nn.Module):
    """A classifier and a sentence encoder in one space, with the methods of an open_clip model.

    The mean of the class embeddings is subtracted from texts, as it is from the class embeddings.

    Args:
        visual: image tower, with centred class embeddings.
        text: text tower: token ids (N, L) -> embeddings (N, D).
        text_mean: (D,) mean of the class embeddings.
        feature_dim: W.
    """

    text_mean: Tensor

    def __init__(
        self, visual: ClassifierTower, text: nn.Module, *, text_mean: Float[Tensor, " d"], feature_dim: int
    ) -> None:
        super().__init__()
        self.visual, self.text, self.feature_dim = visual, text, feature_dim
        self.register_buffer("text_mean", text_mean, persistent=False)
        # the temperature with which open_clip starts a training
        self.logit_scale = nn.Parameter(torch.tensor(1 / 0.07).log())

    def encode_image_features(self, pixels: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n w"]:
        """Image features for learned heads."""
        return self.visual.features(pixels)

    def align_image_features(self, features: Float[Tensor, "n w"]) -> Float[Tensor, "n d"]:
        """Embeddings in the space of the texts, of `encode_image_features`; not normalised."""
        return self.visual.align(features)

    def encode_image(self, pixels: Float[Tensor, "n 3 h w"], normalize: bool = False) -> Float[Tensor, "n d"]:
        """ConSE embeddings of images."""
        result: Tensor = self.visual(pixels)
        return F.normalize(result, dim=-1) if normalize else result

    def encode_text(self, ids: Int[Tensor, "n l"], normalize: bool = False) -> Float[Tensor, "n d"]:
        """Centred embeddings of texts."""
        result = F.normalize(self.text(ids).float(), dim=-1) - self.text_mean
        return F.normalize(result, dim=-1) if normalize else result
