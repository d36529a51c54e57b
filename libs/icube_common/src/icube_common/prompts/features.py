"""Class features from the features of several prompts of a class.

Descriptions: the mean of their features, not normalised, so that the product with an image is the mean of its cosines
with them (Menon and Vondrick, "Visual Classification via Description from Large Language Models", ICLR 2023) and a
class does not gain by descriptions that differ much. Templates of an ensemble are one text in several wordings: their
mean is normalised again (Radford et al., ICML 2021, section 3.1.4).

Shapes: N prompts, C classes, D width.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor


def class_means(features: Float[Tensor, "n d"], owner: Int[Tensor, " n"], classes: int) -> Float[Tensor, "c d"]:
    """The mean feature of each class, not normalised.

    Args:
        features: of all prompts, normalised.
        owner: the class of each prompt.
        classes: how many there are; each has a prompt.
    """
    sums = features.new_zeros(classes, features.shape[1]).index_add(0, owner, features)
    return sums / torch.bincount(owner, minlength=classes).unsqueeze(1)


def unit_means(features: Float[Tensor, "n d"], owner: Int[Tensor, " n"], classes: int) -> Float[Tensor, "n d"]:
    """The features scaled so that the mean of each class has length 1; the arguments are those of `class_means`."""
    length = class_means(features, owner, classes).norm(dim=-1, keepdim=True)
    return features / length.clamp(min=1e-12)[owner]
