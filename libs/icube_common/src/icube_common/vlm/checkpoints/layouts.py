"""State dicts of other libraries in open_clip's names: CLIP of Hugging Face's transformers, Apple's MobileCLIP."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

# tensors by which a layout is known
_TRANSFORMERS = "text_model.embeddings.token_embedding.weight"
_APPLE = (
    "image_encoder.model.patch_embed.0.rbr_conv.0.conv.weight",
    "image_encoder.model.patch_emb.0.block.conv.weight",
)
# transformers' CLIPModel -> open_clip's CLIP, in this order
_NAMES = [
    (r"^text_model\.embeddings\.token_embedding\.weight$", "token_embedding.weight"),
    (r"^text_model\.embeddings\.position_embedding\.weight$", "positional_embedding"),
    (r"^text_model\.encoder\.layers\.", "transformer.resblocks."),
    (r"^text_model\.final_layer_norm\.", "ln_final."),
    (r"^vision_model\.embeddings\.class_embedding$", "visual.class_embedding"),
    (r"^vision_model\.embeddings\.position_embedding\.weight$", "visual.positional_embedding"),
    (r"^vision_model\.embeddings\.patch_embedding\.", "visual.conv1."),
    (r"^vision_model\.pre_layrnorm\.", "visual.ln_pre."),
    (r"^vision_model\.post_layernorm\.", "visual.ln_post."),
    (r"^vision_model\.encoder\.layers\.", "visual.transformer.resblocks."),
    (r"\.layer_norm([12])\.", r".ln_\1."),
    (r"\.mlp\.fc1\.", ".mlp.c_fc."),
    (r"\.mlp\.fc2\.", ".mlp.c_proj."),
    (r"\.self_attn\.out_proj\.", ".attn.out_proj."),
]
_THIRD = re.compile(r"^(.*)\.self_attn\.([qkv])_proj\.(weight|bias)$")


def convert_layout(state: Mapping[str, Tensor], model: nn.Module) -> Mapping[str, Tensor]:
    """A state dict in open_clip's names where it is in one of these layouts, else as it is."""
    for suffix in (_TRANSFORMERS, *_APPLE):
        for key in state:
            if key.endswith(suffix):
                prefix = key.removesuffix(suffix)
                bare = {name.removeprefix(prefix): value for name, value in state.items()}
                return _from_transformers(bare) if suffix == _TRANSFORMERS else _from_apple(bare, model)
    return state


def _from_apple(state: Mapping[str, Tensor], model: nn.Module) -> Mapping[str, Tensor]:
    from open_clip.convert import convert_state_dict

    if not hasattr(getattr(model, "visual", None), "trunk"):
        return state
    converted: Mapping[str, Tensor] = convert_state_dict(model, dict(state))
    return converted


def _from_transformers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    made: dict[str, Tensor] = {}
    thirds: dict[str, dict[str, Tensor]] = {}
    for name, value in state.items():
        if name in ("visual_projection.weight", "text_projection.weight"):
            made["visual.proj" if name.startswith("visual") else "text_projection"] = value.T.contiguous()
            continue
        third = _THIRD.match(name)
        renamed = f"{third[1]}.attn.in_proj_{third[3]}" if third else name
        for pattern, replacement in _NAMES:
            renamed = re.sub(pattern, replacement, renamed)
        if third:
            thirds.setdefault(renamed, {})[third[2]] = value
        else:
            made[renamed] = value
    # where one of the three is absent the tensor is, and is named as missing
    return made | {name: torch.cat([parts[k] for k in "qkv"]) for name, parts in thirds.items() if len(parts) == 3}
