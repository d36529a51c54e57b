"""The keys that choose a backbone; imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from icube_common.config import Config, option
from icube_common.errors import InputError

if TYPE_CHECKING:
    import torch

    from icube_common.vlm.backbone import FrozenVLM
    from icube_common.vlm.encoders.base import EncoderLike


@dataclass(frozen=True, kw_only=True)
class VLMConfig(Config):
    """Frozen vision-language model."""

    name: str = option(
        "icube-lite", "open_clip name, hf-hub:org/name, a folder, or a built-in (icube-lite, icube-minilm, icube-tiny)"
    )
    pretrained: str | None = option(None, "open_clip tag, weight file or folder; none: random weights, with a warning")
    weights_of: str | None = option(
        None, "open_clip tag that a weight file is of: its activation and image preprocessing are taken"
    )
    tokenizer: str | None = option(None, "folder of a Hugging Face tokenizer, for towers whose own one is on a hub")
    precision: str = option("fp32", "precision of the frozen weights", choices=("fp32", "bf16", "fp16"))
    seed: int = option(0, "seed of random weights", ge=0)
    batch_size: int = option(64, "frames or slices in a forward pass of the frozen image tower", ge=1)
    encoder: str | None = option(
        None,
        "image encoder in place of the tower of vlm.name, for learned heads: timm:NAME, torchvision:NAME, "
        "transformers:FOLDER, monai:NAME (volumes), open_clip:NAME, MODULE:FUNCTION or FILE.py:FUNCTION",
    )
    encoder_weights: str | None = option(None, "weight file of vlm.encoder; none: random weights, with a warning")
    encoder_size: int | None = option(None, "voxels of a side of the volumes of a monai: encoder (none: 96)", ge=32)

    def __post_init__(self) -> None:
        super().__post_init__()
        for key in ("encoder_weights", "encoder_size"):
            if self.encoder is None and getattr(self, key) is not None:
                raise InputError(f"vlm.{key}={getattr(self, key)}: is of vlm.encoder, which is not set")

    def load(
        self,
        device: str | torch.device | None = None,
        *,
        mixed_precision: str | None = None,
        encoder: EncoderLike | None = None,
    ) -> FrozenVLM:
        """The backbone that these keys name; see `icube_common.vlm.load.load_vlm` for the errors.

        A weight file is refused where the activation and preprocessing that it was trained with are unknown.

        Args:
            device: where to put it; by default accelerate's device (`icube_common.vlm.device.default_device`).
            mixed_precision: in which it computes image features on a GPU; by default accelerate's.
            encoder: an encoder in place of the image tower: a class or an instance; by default that of these keys.

        Raises:
            InputError: two encoders, no such device, or as `icube_common.vlm.load.load_vlm`.
        """
        from icube_common.vlm.device import default_device, encoder_precision, named_device
        from icube_common.vlm.load import load_vlm

        if encoder is not None and self.encoder is not None:
            raise InputError(f"vlm.encoder={self.encoder}: another one was given as encoder=; leave one away")
        place = default_device() if device is None else named_device(device)
        vlm = load_vlm(
            self.name,
            pretrained=self.pretrained,
            weights_of=self.weights_of,
            tokenizer=self.tokenizer,
            precision=self.precision,
            seed=self.seed,
            device=place,
            assume_preprocessing=False,
            encoder=self.encoder if encoder is None else encoder,
            encoder_weights=self.encoder_weights,
            encoder_size=self.encoder_size,
        )
        vlm.batch_size = self.batch_size
        vlm.mixed_precision = encoder_precision(place, mixed_precision)
        return vlm
