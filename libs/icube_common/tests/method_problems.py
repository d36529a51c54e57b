"""Small problems of features, and a text tower of open_clip by hand, for the tests of methods."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from icube_common.experiments.methods import FeatureProblem
from icube_common.vlm import FrozenVLM

NAMES = ("cat", "red car", "sunflower")


def text_problem(
    vlm: FrozenVLM, *, rows: int = 6, seed: int = 0, names: Sequence[str] = NAMES, **keys: Any
) -> FeatureProblem:
    """Rows of the first three classes at random places of the sphere."""
    joint = torch.randn(rows, vlm.embed_dim, generator=torch.Generator().manual_seed(seed))
    return FeatureProblem(
        features=joint, joint=joint, labels=torch.arange(rows) % 3, class_names=names, vlm=vlm, **keys
    )


def class_features_by_hand(vlm: FrozenVLM, contexts: Tensor, names: Sequence[str] = NAMES) -> Tensor:
    """Normalised features of ``<start> v_1 .. v_M name . <end>`` through the parts of the tower, without its forward.

    Args:
        vlm: of open_clip's CLIP layout.
        contexts: (M, W) shared by the classes, or (C, M, W).
        names: of the classes.
    """
    model: Any = vlm.model
    contexts = contexts.expand(len(names), *contexts.shape[-2:])
    rows = []
    for name, context in zip(names, contexts, strict=True):
        words = vlm.tokenizer.encode(f"{name}.")
        table = model.token_embedding.weight
        end = 1 + len(context) + len(words)
        x = torch.cat([table[[49406]], context, table[words], table[[49407]], table[[0]].expand(77 - end - 1, -1)])
        x = (x + model.positional_embedding)[None]
        x = model.ln_final(model.transformer(x, attn_mask=model.attn_mask))
        rows.append(F.normalize(x[0, end] @ model.text_projection, dim=0))
    return torch.stack(rows)
