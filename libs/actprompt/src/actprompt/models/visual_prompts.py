"""Learned prompt tokens in each layer of a frozen image tower over the frames of a clip.

Shapes: B clips, T frames, N tokens of a frame (its class token and its patches), P prompt tokens, W width of a token,
D width of a frame feature.

After Wasim et al., "Vita-CLIP: Video and Text Adaptive CLIP via Multimodal Prompting" (CVPR 2023), the vision side, in
the arrangement of their published model. Before layer l, with z_t the class token of frame t that comes into it and
p_t = Linear_l(z_t), each frame's tokens are joined by

- global prompts G_l: G vectors, the same for all frames and clips;
- local prompts l_{l,1} + p_1 ... l_{l,T} + p_T: one for each frame of the clip, all of them before every frame;
- a summary token s_t, row t of p + Attention(LayerNorm(p)) over the clip's frames, for its own frame alone.

The layer attends over all of them, and they are dropped behind it: class token and patches continue. The frames of
a clip interact in this way only. Theirs drops local prompts and summary between the
layer's attention and its perceptron; as the perceptron works on each token alone, that is the same.

Left out is their embedding of time, which is added to the tokens before the first layer: the local prompts and a
temporal head (`actprompt.models.temporal_heads`) use the order, and without any prompt the tower remains the frozen
one.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as recompute

from icube_common.errors import InputError
from icube_common.vlm import FrozenVLM


class PromptedTower(nn.Module):
    """The image tower of a frozen model with learned prompts in each of its layers.

    Features depend on the prompts, and on all frames of the clip: they can't be cached. Nothing but the prompts is
    learned. Class tokens are the same in all frames before they have seen any, so that in the first layer local prompts
    and summary are constants, and its attention among frames has nothing to learn (in theirs too).

    Args:
        vlm: whose image tower is an open_clip ``VisionTransformer`` that pools its class token. It stays in eval mode.
        frames: T of the training clips, which is the number of local prompts; with more or fewer frames they are
            interpolated linearly in time.
        prompts: global prompts in each layer, G.
        local: whether there are local prompts.
        summary: whether there is a summary token.
        checkpoint: keep no activations inside the layers for the backward pass and compute each layer twice.
        seed: of the prompts and of the small networks beside them; the global generator is left as it is.

    Raises:
        InputError: another kind of image tower; no frames, or fewer than no prompts.
    """

    def __init__(
        self,
        vlm: FrozenVLM,
        frames: int,
        *,
        prompts: int = 8,
        local: bool = True,
        summary: bool = True,
        checkpoint: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if frames < 1:
            raise InputError(f"frames {frames}: a clip has at least 1")
        if prompts < 0:
            raise InputError(f"prompts {prompts}: has to be 0 (no global prompts) or more")
        self.vlm = vlm
        self.checkpoint = checkpoint
        tower = _vision_transformer(vlm)
        blocks = tower.transformer.resblocks
        # the range that VPT (Jia et al., ECCV 2022) draws prompts from, and Vita-CLIP after it
        spread = math.sqrt(6 / (3 * math.prod(tower.patch_size) + tower.transformer.width))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.layers = nn.ModuleList(
                _LayerPrompts(
                    tower.transformer.width,
                    heads=block.attn.num_heads,
                    prompts=prompts,
                    locals_=frames if local else 0,
                    summary=summary,
                    spread=spread,
                )
                for block in blocks
            )
        self.layers.to(vlm.device)

    def forward(self, pixels: Float[Tensor, "b t 3 h w"]) -> Float[Tensor, "b t d"]:
        """Features of the frames, normalised; float32 on the model's device, differentiable in what is learned.

        Args:
            pixels: of preprocessed frames (``vlm.preprocess``), in their order in time.
        """
        tower: Any = self.vlm.model.visual
        frames = pixels.shape[1]
        images = rearrange(pixels, "b t c h w -> (b t) c h w").to(self.vlm.device, tower.conv1.weight.dtype)
        with self.vlm.autocast():
            tokens = tower._embeds(images)
            for block, prompts in zip(tower.transformer.resblocks, self.layers, strict=True):
                if self.checkpoint and torch.is_grad_enabled():
                    tokens = recompute(
                        _run_layer, block, prompts, tokens, frames, use_reentrant=False, preserve_rng_state=False
                    )
                else:
                    tokens = _run_layer(block, prompts, tokens, frames)
            pooled, _ = tower._pool(tokens)
            if tower.proj is not None:
                pooled = pooled @ tower.proj
        return F.normalize(rearrange(pooled.float(), "(b t) d -> b t d", t=frames), dim=-1)

    def learned(self) -> dict[str, Tensor]:
        """The trained tensors: prompts and the small networks beside them, without the frozen model."""
        return {name: value for name, value in self.state_dict().items() if not name.startswith("vlm.")}


class _LayerPrompts(nn.Module):
    """The prompt tokens of one layer, made from the class tokens that come into it."""

    def __init__(self, width: int, *, heads: int, prompts: int, locals_: int, summary: bool, spread: float) -> None:
        super().__init__()
        self.shared = nn.Parameter(torch.empty(prompts, width).uniform_(-spread, spread)) if prompts else None
        self.local = nn.Parameter(torch.empty(locals_, width).uniform_(-spread, spread)) if locals_ else None
        self.project = nn.Linear(width, width) if locals_ or summary else None
        self.norm = nn.LayerNorm(width) if summary else None
        self.attend = nn.MultiheadAttention(width, heads, batch_first=True) if summary else None

    def forward(self, class_tokens: Float[Tensor, "b t w"]) -> Float[Tensor, "b t p w"] | None:
        clips, frames, _ = class_tokens.shape
        prompts: list[Tensor] = []
        if self.shared is not None:
            prompts.append(repeat(self.shared, "p w -> b t p w", b=clips, t=frames))
        if self.project is not None:
            projected = self.project(class_tokens)
            if self.local is not None:
                prompts.append(repeat(_at_times(self.local, frames) + projected, "b p w -> b t p w", t=frames))
            if self.attend is not None and self.norm is not None:
                normed = self.norm(projected)
                attended = projected + self.attend(normed, normed, normed, need_weights=False)[0]
                prompts.append(rearrange(attended, "b t w -> b t 1 w"))
        return torch.cat(prompts, dim=2) if prompts else None


def _run_layer(
    block: nn.Module, prompts: nn.Module, tokens: Float[Tensor, "b*t n w"], frames: int
) -> Float[Tensor, "b*t n w"]:
    """One layer of the tower over tokens and prompts, of which the tokens come back."""
    made = prompts(rearrange(tokens[:, 0].float(), "(b t) w -> b t w", t=frames))
    if made is None:
        return block(tokens)
    joined = torch.cat([tokens, rearrange(made, "b t p w -> (b t) p w").to(tokens.dtype)], dim=1)
    return block(joined)[:, : tokens.shape[1]]


def _at_times(local: Float[Tensor, "p w"], frames: int) -> Float[Tensor, "t w"]:
    """Local prompts for another number of frames, both spread evenly over the clip."""
    if len(local) == frames:
        return local
    resized = F.interpolate(rearrange(local, "p w -> 1 w p"), size=frames, mode="linear")
    return rearrange(resized, "1 w t -> t w")


def _vision_transformer(vlm: FrozenVLM) -> Any:
    """The image tower, where it is one that prompts can be put into."""
    from open_clip.transformer import VisionTransformer

    tower = vlm.model.visual
    kind = type(tower).__name__
    if isinstance(tower, VisionTransformer):
        if tower.attn_pool is None and tower.pool_type == "tok":
            return tower
        kind += " with attention pooling" if tower.attn_pool is not None else f" with {tower.pool_type!r} pooling"
    raise InputError(
        f"{vlm.origin.name}: visual prompts can't go into its image tower, a {kind}; supported is open_clip's "
        "VisionTransformer that pools its class token (icube-tiny, icube-minilm, ViT-B-32, ViT-B-16, ViT-L-14)"
    )
