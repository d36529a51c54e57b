"""`MotionDenoiser`: a transformer encoder that predicts the clean motion from a noisy one.

Shapes: B batch, T frames, D features per frame, J joints, N tokens of a row, M tokens of a batch without most of its
padding, W width, H heads.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from diffusers.models.modeling_utils import ModelMixin
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from icube_common.errors import InputError
from icube_common.training.sampler import GlobalDropout
from motiondiff.config import PRECONDITIONINGS
from motiondiff.models.conditioning import NULL, ConditionEmbedding, Conditions
from motiondiff.models.spectrum import BANDS, GATES, Components, Preconditioning, noise_deviation

if TYPE_CHECKING:
    from typing import Self

    from motiondiff.data.dataset import MotionDataset
    from motiondiff.models.text_encoder import TextEncoder

# packed tokens come in multiples of this
PACKING_STEP = 256


class MotionDenoiser(ModelMixin, ConfigMixin):
    """Predicts x0: after Tevet et al., "Human Motion Diffusion Model", ICLR 2023, section 3.

    Unlike MDM's single summed token, the timestep and every condition have a token of their own in front of the frames.

    Args:
        feature_size: D.
        shape_size: J, numbers of the body-shape condition.
        actions: vocabulary of the action condition, in index order.
        styles: vocabulary of the style or subject condition, in index order.
        width: W, features per token.
        num_layers: transformer layers.
        num_heads: H, must divide the width.
        feedforward: hidden features of the feed-forward parts.
        dropout: dropout inside the layers.
        max_frames: longest motion, frames.
        inpainting_input: an input for conditioned parts of the motion (`motiondiff.models.inpainting`); the prediction
            then starts from the interpolation between them.
        text_size: S, numbers of a text's embedding; 0: no text condition.
        text_encoder: what the texts were embedded with: `motiondiff.models.text_encoder.TextEncoder.facts`.
        preconditioning: ``spectral``: the network corrects a Wiener filter of the training motions' spectrum
            (`motiondiff.models.spectrum`), of each action; ``spectral_shared``: of all actions; ``edm``: with the same
            standard deviation for all frequencies; ``none``: it predicts the clean motion itself, as MDM's does.
        gates: outputs of the network for the noisy motion itself, by part of the spectrum
            (`motiondiff.models.spectrum.Preconditioning.clean`).
        convolution: frames of a depthwise convolution along time in every layer, an odd number; 0: none.
        num_train_timesteps: length of the noise schedule.

    Raises:
        ValueError: the width is odd or not a multiple of the number of heads; an even convolution; an unknown
            preconditioning.
    """

    guided_share: ClassVar[float | None] = None
    """Share of the sampling steps that guidance is applied in; None: `motiondiff.pipelines.guidance.GUIDED_SHARE`."""

    @register_to_config
    def __init__(
        self,
        feature_size: int,
        shape_size: int,
        actions: Sequence[str] = (),
        styles: Sequence[str] = (),
        width: int = 256,
        num_layers: int = 6,
        num_heads: int = 4,
        feedforward: int = 1024,
        dropout: float = 0.1,
        max_frames: int = 160,
        inpainting_input: bool = False,
        text_size: int = 0,
        text_encoder: dict[str, Any] | None = None,
        preconditioning: str = "spectral",
        convolution: int = 7,
        gates: bool = True,
        num_train_timesteps: int = 1000,
    ) -> None:
        super().__init__()
        if width % num_heads or width % 2:
            raise ValueError(f"model.width={width}: must be even and a multiple of model.num_heads={num_heads}")
        if convolution and not convolution % 2:
            raise ValueError(f"model.convolution={convolution}: must be odd, or 0")
        if preconditioning not in PRECONDITIONINGS:
            raise ValueError(f"model.preconditioning={preconditioning}: must be one of {', '.join(PRECONDITIONINGS)}")
        self.spectral = preconditioning != "none"
        if self.spectral:
            # of the training motions and of the noise schedule: `set_preconditioning`; until then white motions
            self.register_buffer("spectrum", torch.ones(1 + len(actions), BANDS + 1, feature_size))
            self.register_buffer("cumulative", torch.linspace(0.9999, 1e-4, num_train_timesteps))
        self.embed_frames = nn.Linear(2 * feature_size if self.spectral else feature_size, width)
        # without a bias: where nothing is held, nothing is added
        self.embed_inpainting = nn.Linear(2 * feature_size, width, bias=False) if inpainting_input else None
        self.timestep_features = Timesteps(width, flip_sin_to_cos=True, downscale_freq_shift=0)
        self.embed_timestep = TimestepEmbedding(width, width)
        self.embed_conditions = ConditionEmbedding(len(actions), len(styles), shape_size, width, text_size)
        # tells the tokens in front apart: timestep, action, style, shape, and text where there is one
        self.token_kind = nn.Parameter(torch.randn(5 if text_size else 4, width) * 0.02)
        # (A, S) mean embedding of each action's captions; zeros for an action without any
        self.register_buffer("action_texts", torch.zeros(len(actions), text_size), persistent=text_size > 0)
        self.register_buffer("frame_position", sinusoidal_positions(max_frames, width), persistent=False)
        self.layers = nn.ModuleList(
            [TransformerLayer(width, num_heads, feedforward, dropout, convolution) for _ in range(num_layers)]
        )
        self.norm = nn.LayerNorm(width)
        self.predict = nn.Linear(width, feature_size * (1 + len(GATES) if self.spectral and gates else 1))
        nn.init.zeros_(self.predict.weight)
        nn.init.zeros_(self.predict.bias)

    @classmethod
    def for_dataset(
        cls, data: MotionDataset, *, text_encoder: TextEncoder | None = None, seed: int | None = None, **settings: Any
    ) -> Self:
        """A denoiser for the features, labels and bodies of a data set.

        Args:
            data: the data set.
            text_encoder: encoder of texts, for a text condition.
            seed: random seed of the initial weights; None: torch's global generator.
            settings: any other argument of the class, such as ``num_layers``.

        Raises:
            InputError: a shape that cannot be, such as a width that the heads do not divide.
        """
        text = {"text_size": text_encoder.size, "text_encoder": text_encoder.facts} if text_encoder else {}
        labels = {"actions": data.store.actions, "styles": data.store.styles}
        sizes = {"feature_size": data.feature_size, "shape_size": len(data.store.joint_names)}
        with torch.random.fork_rng(devices=[], enabled=seed is not None):
            if seed is not None:
                torch.manual_seed(seed)
            try:
                return cls(**{"max_frames": data.config.max_frames, **sizes, **labels, **text, **settings})
            except ValueError as error:
                raise InputError(str(error)) from error

    def set_preconditioning(self, spectrum: Float[Tensor, "A+1 K+1 D"], cumulative: Float[Tensor, " N"]) -> None:
        """Fix the spectra of the training motions, of all and of each action, and the noise schedule's alphas.

        Without effect where ``preconditioning`` is ``none``.
        """
        if self.spectral:
            self.spectrum.copy_(spectrum)
            self.cumulative.copy_(cumulative)

    @classmethod
    def from_pretrained(cls, *args: Any, **options: Any) -> MotionDenoiser:
        """Load weights into aligned memory: in a memory map last bits depend on the length of its header."""
        model = super().from_pretrained(*args, **options)
        for tensor in (*model.parameters(), *model.buffers()):
            tensor.data = tensor.data.clone()
        return model

    def forward(
        self,
        sample: Float[Tensor, "B T D"],
        timestep: Tensor,
        conditions: Conditions,
        mask: Bool[Tensor, "B T"] | None = None,
        inpainting: Float[Tensor, "B T 2*D"] | None = None,
        components: Components | None = None,
    ) -> Float[Tensor, "B T D"]:
        """Predict the clean features.

        Args:
            sample: noisy normalised features.
            timestep: () or (B,) diffusion timestep.
            conditions: B rows of conditions.
            mask: True where a frame belongs to the clip, False where it is padding; None when none is padded. Padding
                neither receives nor gives attention that counts: each clip gets what it would get alone.
            inpainting: the conditioned parts, by `motiondiff.models.inpainting.inpainting_input`.
            components: the cosine components for these actions and this mask, where the caller has them.
        """
        valid = mask if mask is not None else sample.new_ones(sample.shape[:2], dtype=torch.bool)
        sample = sample.masked_fill(~valid[..., None], 0.0)  # NaN times an attention weight of 0 would still be NaN
        timestep = timestep.expand(len(sample))
        if not self.spectral:
            predicted = self.network(sample, timestep, conditions, valid, inpainting)
            return predicted if inpainting is None else predicted + inpainting[..., : predicted.shape[-1]]
        noise = noise_deviation(self.cumulative, timestep)
        # in float32: the rounding of half precision is noise, too
        with torch.autocast(sample.device.type, enabled=False):
            if components is None:
                components = Components.of(self.spectrum.float()[conditions.action - NULL], valid)
            scalings = Preconditioning(components, noise.float())
            noisy = sample.float() * (1 + scalings.noise**2).sqrt()
            if inpainting is not None:  # the filter's motions lie around the interpolation between conditioned parts
                expected = inpainting[..., : sample.shape[-1]].float().masked_fill(~valid[..., None], 0.0)
                noisy = noisy - expected
            noisy_components = components.dct(noisy)
            inputs = scalings.network_input(noisy, noisy_components)
        output = self.network(inputs.to(sample.dtype), timestep, conditions, valid, inpainting)
        with torch.autocast(sample.device.type, enabled=False):
            clean = scalings.clean(noisy_components, output.float())
            return clean if inpainting is None else clean + expected

    def network(
        self,
        inputs: Float[Tensor, "B T *D"],
        timestep: Tensor,
        conditions: Conditions,
        valid: Bool[Tensor, "B T"],
        inpainting: Float[Tensor, "B T 2*D"] | None = None,
    ) -> Float[Tensor, "B T *D"]:
        """The transformer without its preconditioning.

        Args:
            inputs: D features, or 2 D of `motiondiff.models.spectrum.Preconditioning.network_input`.
            timestep: (B,) diffusion timestep.
            conditions: B rows of conditions.
            valid: True on a motion's own frames.
            inpainting: the conditioned parts.
        """
        batch, frames, _ = inputs.shape
        time = self.timestep_features(timestep).to(self.token_kind.dtype)
        front = torch.cat([self.embed_timestep(time)[:, None], self.embed_conditions(conditions)], dim=1)
        front = front + self.token_kind
        embedded = self.embed_frames(inputs) + self.frame_position[:frames]
        if inpainting is not None:
            assert self.embed_inpainting is not None, "this denoiser was trained without held parts"
            embedded = embedded + self.embed_inpainting(inpainting.masked_fill(~valid[..., None], 0.0))
        tokens = torch.cat([front, embedded], dim=1)
        packing = Packing(torch.cat([valid.new_ones(batch, front.shape[1]), valid], dim=1), front.shape[1])
        packed = packing.pack(tokens)
        with GlobalDropout.rows(*packing.rows_of_all_processes()):
            for layer in self.layers:
                packed = layer(packed, packing)
        # in float32: what half precision rounds here stands in the sampled motion as jerk
        with torch.autocast(inputs.device.type, enabled=False):
            normalised = self.norm(packed.to(self.norm.weight.dtype))
            return packing.unpack(self.predict(normalised))[:, front.shape[1] :]


class Packing:
    """Rows of tokens with (almost) none of their padding, end to end, and back.

    Only attention needs the padded form. Everything else in a layer works on single tokens, and half of a batch of
    clips of mixed lengths is padding. Some padding stays, up to `PACKING_STEP` tokens: a library that compiles kernels
    by size (oneDNN on CPUs) then meets a few sizes again and again instead of a new one at every step.

    On a GPU nothing is packed: to count the tokens the host would have to wait for the device.

    Args:
        mask: (B, N) True on tokens that count.
        front: tokens of a row before its frames.
    """

    def __init__(self, mask: Bool[Tensor, "B N"], front: int = 0) -> None:
        self.batch, self.tokens = mask.shape
        self.front = front
        self.mask = mask
        self.attention_mask: Tensor | None = rearrange(mask, "b keys -> b 1 1 keys")
        self.full = mask.device.type != "cpu"
        if self.full:
            return
        count = int(mask.sum())
        packed = min(-(-count // PACKING_STEP) * PACKING_STEP, mask.numel())
        self.full = packed == mask.numel()
        # stable: the tokens that count keep their order, then padding
        self.places = mask.flatten().to(torch.uint8).argsort(descending=True, stable=True)[:packed]
        if count == mask.numel():
            self.attention_mask = None

    def rows_of_all_processes(self) -> tuple[Tensor | None, int]:
        """Index (M,) of the packed tokens among those of the whole batch of a distributed training, and their number.

        (None, 0) in one process. Padding that is packed here and not in the whole batch has any index.
        """
        whole = GlobalDropout.whole_mask(self.mask)
        if whole is None:
            return None, 0
        mask, first = whole
        packing = Packing(mask)
        places = torch.arange(mask.numel()) if packing.full else packing.places
        index = torch.zeros(mask.numel(), dtype=torch.int64)
        index[places] = torch.arange(len(places))
        tokens = torch.arange(self.mask.numel()) if self.full else self.places
        row, token = tokens // self.tokens, tokens % self.tokens
        return index[(first + row) * mask.shape[1] + token], len(places)

    def pack(self, padded: Float[Tensor, "B N F"]) -> Float[Tensor, "M F"]:
        """The M tokens that are kept: all that count, and some padding."""
        flat = rearrange(padded, "b n f -> (b n) f")
        return flat if self.full else flat.index_select(0, self.places)

    def unpack(self, packed: Float[Tensor, "M F"]) -> Float[Tensor, "B N F"]:
        """Back in rows; what stands at padding means nothing."""
        if not self.full:
            empty = packed.new_zeros(self.batch * self.tokens, packed.shape[1])
            packed = empty.index_copy(0, self.places, packed)
        return rearrange(packed, "(b n) f -> b n f", b=self.batch)


class TransformerLayer(nn.Module):
    """Pre-norm self-attention and feed-forward, with a convolution along time before them where asked for.

    The convolution is depthwise, as in Gulati et al., "Conformer", Interspeech 2020, section 2.2: what a frame has in
    common with its neighbours need not be learned as attention by position.
    """

    def __init__(self, width: int, num_heads: int, feedforward: int, dropout: float, convolution: int = 0) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.dropout = dropout
        self.convolution = TimeConvolution(width, convolution) if convolution else None
        self.norm_attention = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.attention_out = nn.Linear(width, width)
        self.norm_feedforward = nn.LayerNorm(width)
        self.feedforward = nn.Sequential(
            nn.Linear(width, feedforward), nn.GELU(), nn.Dropout(dropout), nn.Linear(feedforward, width)
        )

    def forward(self, packed: Float[Tensor, "M W"], packing: Packing) -> Float[Tensor, "M W"]:
        """One layer on the tokens that count."""
        if self.convolution is not None:
            packed = packed + F.dropout(self.convolution(packed, packing), self.dropout, self.training)
        query, key, value = rearrange(
            packing.unpack(self.query_key_value(self.norm_attention(packed))),
            "b n (three heads size) -> three b heads n size",
            three=3,
            heads=self.num_heads,
        )
        attended = attention(query, key, value, packing.attention_mask)
        attended = self.attention_out(packing.pack(rearrange(attended, "b heads n size -> b n (heads size)")))
        packed = packed + F.dropout(attended, self.dropout, self.training)
        return packed + F.dropout(self.feedforward(self.norm_feedforward(packed)), self.dropout, self.training)


class TimeConvolution(nn.Module):
    """Depthwise convolution over the frames, gated, without effect at first.

    Args:
        width: W.
        frames: odd number of frames.
    """

    def __init__(self, width: int, frames: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.weight = nn.Parameter(torch.randn(frames, width) / math.sqrt(frames))
        self.out = nn.Linear(width, width)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, packed: Float[Tensor, "M W"], packing: Packing) -> Float[Tensor, "M W"]:
        """The addition to the tokens, zero for those in front of the frames."""
        rows = packing.unpack(self.norm(packed)) * packing.mask[..., None]
        frames = rows[:, packing.front :]
        half = len(self.weight) // 2
        padded = F.pad(frames, (0, 0, half, half))
        # as a sum of shifted frames: in bfloat16 on a CPU half the time of the depthwise kernel, in float32 the same
        mixed = sum(padded[:, n : n + frames.shape[1]] * weight for n, weight in enumerate(self.weight.to(rows)))
        front = rows.new_zeros(len(rows), packing.front, rows.shape[2])
        return self.out(packing.pack(torch.cat([front, F.gelu(mixed)], dim=1)))


def attention(
    query: Float[Tensor, "B H N size"],
    key: Float[Tensor, "B H N size"],
    value: Float[Tensor, "B H N size"],
    mask: Bool[Tensor, "B 1 1 N"] | None,
) -> Float[Tensor, "B H N size"]:
    """Scaled dot-product attention (Vaswani et al., NeurIPS 2017, eq. 1).

    In training on a CPU as two products: with a mask and in bfloat16 torch's fused kernel and its gradient take three
    times as long there (in float32 a fifth less).
    """
    if not (query.requires_grad and query.device.type == "cpu"):
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    scores = (query * query.shape[-1] ** -0.5) @ key.mT
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    return scores.softmax(-1).to(value.dtype) @ value


def sinusoidal_positions(count: int, width: int) -> Float[Tensor, "N W"]:
    """Sine and cosine position code (Vaswani et al., NeurIPS 2017, section 3.5)."""
    position = torch.arange(count, dtype=torch.float32)[:, None]
    frequency = torch.exp(torch.arange(0, width, 2, dtype=torch.float32) * (-math.log(10000.0) / width))
    return rearrange(
        torch.stack([torch.sin(position * frequency), torch.cos(position * frequency)], dim=-1), "n f two -> n (f two)"
    )
