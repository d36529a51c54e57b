"""Temporal heads: pooling of the frame features of a clip into one feature.

Shapes: B clips, T frames, D width of a frame feature.

`MeanHead`, `MeanStdHead` and `SegmentDifferenceHead` have no weights. A trainable head returns the mean over the frames
plus a correction that is initialised at zero: before the first step it equals `MeanHead`, and so keeps the zero-shot
ability of the frozen tower.

Frames are placed by their share of the clip, not by their number, since samplers spread T frames over a whole video:
a clip of 16 frames passes through the positions of one of 8. Only unmasked frames count, so that a
masked clip has the feature of the shorter clip alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from einops import einsum, rearrange, reduce
from jaxtyping import Bool, Float
from torch import Tensor, nn

from icube_common.errors import InputError, unknown

# radians that the slowest and the fastest sinusoid turn through in the course of a clip; any faster, and 4 frames could
# not follow it: what a head has learned with few frames would then be lost with more
_SLOWEST, _FASTEST = math.pi / 2, 4 * math.pi


class MeanHead(nn.Module):
    """The mean over the frames; nothing is learned, and their order is of no account."""

    def forward(
        self, features: Float[Tensor, "b t d"], mask: Bool[Tensor, "b t"] | None = None
    ) -> Float[Tensor, "b d"]:
        """Features of clips, float32, not normalised.

        Args:
            features: of frames.
            mask: True where a frame is a real one; all are without it.

        Raises:
            ValueError: a clip without any real frame.
        """
        return _masked_mean(*_real(features, mask))


class MeanStdHead(nn.Module):
    """Mean and deviation over the frames, side by side; nothing is learned, and their order is of no account.

    The statistics pooling of Snyder et al., "X-vectors: Robust DNN Embeddings for Speaker Recognition" (ICASSP 2018).
    What stays the same in a clip (person, room, light) is in the mean alone; the deviation holds what moves.
    """

    def forward(
        self, features: Float[Tensor, "b t d"], mask: Bool[Tensor, "b t"] | None = None
    ) -> Float[Tensor, "b two_d"]:
        """Features of clips, float32, not normalised; arguments and errors as those of `MeanHead`."""
        features, real = _real(features, mask)
        mean = _masked_mean(features, real)
        squares = _masked_mean((features - rearrange(mean, "b d -> b 1 d")) ** 2, real)
        # the slope of a root is infinite at 0, which a clip of one frame has everywhere
        return torch.cat([mean, (squares + 1e-12).sqrt()], dim=-1)


class SegmentDifferenceHead(nn.Module):
    """Means of the frame features over the thirds of a clip, each minus the mean over the clip, side by side.

    The segments of Wang et al., "Temporal Segment Networks: Towards Good Practices for Deep Action Recognition" (ECCV
    2016). The difference removes what stays the same in a clip (person, room, light) and keeps the order of its
    changes. A third without frames, as in a clip of one or two, is zero.
    """

    segments = 3

    def forward(
        self, features: Float[Tensor, "b t d"], mask: Bool[Tensor, "b t"] | None = None
    ) -> Float[Tensor, "b three_d"]:
        """Features of clips, float32, not normalised; arguments and errors as those of `MeanHead`."""
        features, real = _real(features, mask)
        mean = rearrange(_masked_mean(features, real), "b d -> b 1 d")
        segment = (_shares(real) * self.segments).long()
        parts = []
        for number in range(self.segments):
            members = real & (segment == number)
            count = rearrange(members.sum(1), "b -> b 1")
            difference = (features - mean).masked_fill(rearrange(~members, "b t -> b t 1"), 0.0)
            parts.append(difference.sum(1) / count.clamp(min=1))
        return torch.cat(parts, dim=-1)


class TransformerHead(nn.Module):
    """A transformer over the frames beside their mean.

    After Wang et al., "ActionCLIP: a new paradigm for video action recognition" (arXiv 2109.08472), the post-network
    prompt ``Transf``: frames with positions, encoder layers, a residual, the mean over the frames. There the output of
    the untrained layers is added to the frames from the start; here a map that starts at zero stands between.

    Args:
        dim: width D.
        layers: encoder layers.
        heads: of attention; by default one for each 64 of the width.
        dropout: probability inside the encoder layers.
        seed: of the weights.

    Raises:
        InputError: fewer than one layer, heads that do not divide the width, a dropout outside [0, 1).
    """

    def __init__(
        self, dim: int, *, layers: int = 1, heads: int | None = None, dropout: float = 0.0, seed: int = 0
    ) -> None:
        super().__init__()
        heads = _check(dim, layers, heads, dropout)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.norm = nn.LayerNorm(dim)
            self._make_parts(dim, heads, dropout)
            self.integrate = _Integration(dim, layers, heads, dropout)

    def _make_parts(self, dim: int, heads: int, dropout: float) -> None:
        """Further parts of a derived head."""

    def forward(
        self, features: Float[Tensor, "b t d"], mask: Bool[Tensor, "b t"] | None = None
    ) -> Float[Tensor, "b d"]:
        """Features of clips, float32, not normalised; arguments and errors as those of `MeanHead`."""
        features, real = _real(features, mask)
        return _masked_mean(features, real) + self.integrate(self._frames(self.norm(features), real), real)

    def _frames(self, frames: Float[Tensor, "b t d"], real: Bool[Tensor, "b t"]) -> Float[Tensor, "b t d"]:
        """Normalised frames as the transformer takes them."""
        return frames


class CrossFrameHead(TransformerHead):
    """Messages between the frames, then a transformer over the frames, beside their mean.

    After Ni et al., "Expanding Language-Image Pretrained Models for General Video Recognition" (X-CLIP, ECCV 2022). A
    message is a linear map of a frame's feature; attention among the messages of a clip, pre-normalised and residual,
    is their cross-frame fusion attention, and their multi-frame integration transformer follows. In X-CLIP each layer
    of the tower exchanges messages, which join the frame's patches in its attention; on features that are cached there
    is one exchange and one token for each frame, so that the message is added to it.

    Arguments and errors as those of `TransformerHead`; ``heads`` and ``dropout`` are of both attentions.
    """

    def _make_parts(self, dim: int, heads: int, dropout: float) -> None:
        self.message = nn.Linear(dim, dim)
        self.message_norm = nn.LayerNorm(dim)
        self.exchange = nn.MultiheadAttention(dim, heads, dropout=dropout, batch_first=True)

    def _frames(self, frames: Float[Tensor, "b t d"], real: Bool[Tensor, "b t"]) -> Float[Tensor, "b t d"]:
        messages = self.message(frames)
        sent = self.message_norm(messages)
        messages = messages + self.exchange(sent, sent, sent, key_padding_mask=~real, need_weights=False)[0]
        return frames + messages


HEADS: dict[str, Callable[..., nn.Module]] = {
    "mean": lambda dim, **options: MeanHead(),
    "mean_std": lambda dim, **options: MeanStdHead(),
    "segment_difference": lambda dim, **options: SegmentDifferenceHead(),
    "transformer": TransformerHead,
    "cross_frame": CrossFrameHead,
}
"""Kind -> what makes the head, for `make_head`."""


def make_head(
    kind: str, dim: int, *, layers: int = 1, heads: int | None = None, dropout: float = 0.0, seed: int = 0
) -> nn.Module:
    """A head of a kind.

    Args:
        kind: ``mean``, ``mean_std`` (twice as wide) or ``segment_difference`` (three times), which have no options;
            ``transformer`` or ``cross_frame``.
        dim: width D of the frame features.
        layers: of the transformer.
        heads: of attention; by default one for each 64 of the width.
        dropout: probability inside the transformer.
        seed: of the weights; the global generator is left as it is.

    Raises:
        InputError: an unknown kind, or options that its class refuses.
    """
    if kind not in HEADS:
        raise unknown("temporal head", kind, HEADS)
    return HEADS[kind](dim, layers=layers, heads=heads, dropout=dropout, seed=seed)


class _Integration(nn.Module):
    """The correction to the mean: positions, encoder layers, the mean over the frames, and a map that starts at zero.

    That map alone has a gradient at the first step, everything else from the second on.
    """

    def __init__(self, dim: int, layers: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.position_gain = nn.Parameter(torch.ones(dim))
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                dim, heads, 4 * dim, dropout, activation="gelu", batch_first=True, norm_first=True
            )
            for _ in range(layers)
        )
        self.norm = nn.LayerNorm(dim)
        self.out = nn.Linear(dim, dim, bias=False)
        nn.init.zeros_(self.out.weight)

    def forward(self, frames: Float[Tensor, "b t d"], real: Bool[Tensor, "b t"]) -> Float[Tensor, "b d"]:
        frames = frames + self.position_gain * _positions(real, frames.shape[-1])
        for layer in self.layers:
            frames = layer(frames, src_key_padding_mask=~real)
        return self.out(_masked_mean(self.norm(frames), real))


def _positions(real: Bool[Tensor, "b t"], dim: int) -> Float[Tensor, "b t d"]:
    """Sinusoids (Vaswani et al., "Attention is all you need", section 3.5) of each real frame's share of its clip."""
    half = (dim + 1) // 2
    speeds = torch.logspace(math.log10(_SLOWEST), math.log10(_FASTEST), half, device=real.device)
    angles = einsum(_shares(real), speeds, "b t, k -> b t k")
    return torch.cat([angles.sin(), angles.cos()], dim=-1)[..., :dim]


def _shares(real: Bool[Tensor, "b t"]) -> Float[Tensor, "b t"]:
    """Position of each real frame as a share of its clip, between 0 and 1."""
    return (real.cumsum(1) - 0.5) / real.sum(1, keepdim=True)


def _real(
    features: Float[Tensor, "b t d"], mask: Bool[Tensor, "b t"] | None
) -> tuple[Float[Tensor, "b t d"], Bool[Tensor, "b t"]]:
    """Float32 features, zero where no real frame is (whatever stood there, NaN too), and the mask."""
    features = features.float()
    if mask is None:
        return features, torch.ones(features.shape[:2], dtype=torch.bool, device=features.device)
    empty = torch.nonzero(~mask.any(1)).flatten().tolist()
    if empty:
        raise ValueError(f"clips {empty} of the batch: the mask leaves no frame of them; each needs at least one")
    return features.masked_fill(rearrange(~mask, "b t -> b t 1"), 0.0), mask


def _masked_mean(features: Float[Tensor, "b t d"], real: Bool[Tensor, "b t"]) -> Float[Tensor, "b d"]:
    weights = real / real.sum(1, keepdim=True)
    return reduce(features * rearrange(weights, "b t -> b t 1"), "b t d -> b d", "sum")


def _check(dim: int, layers: int, heads: int | None, dropout: float) -> int:
    """The number of heads, after a check of what the user chose."""
    if layers < 1:
        raise InputError(f"layers {layers}: a temporal transformer needs at least 1; the head without one is 'mean'")
    if not 0.0 <= dropout < 1.0:
        raise InputError(f"dropout {dropout}: has to lie in [0, 1)")
    if heads is None:
        return next(number for number in range(max(1, dim // 64), 0, -1) if dim % number == 0)
    if heads < 1 or dim % heads:
        raise InputError(f"heads {heads}: has to divide the width {dim} of the frame features")
    return heads
