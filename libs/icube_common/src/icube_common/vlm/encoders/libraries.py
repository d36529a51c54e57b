"""Encoders of timm, torchvision, transformers, MONAI and open_clip, each without its classifier.

Shapes: N inputs, C channels, H and W pixels, L tokens, D width of a feature.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from icube_common.errors import InputError, require, unknown
from icube_common.vlm.checkpoints.pretrained import one_line, quiet_transformers
from icube_common.vlm.encoders.base import CLIP, VOLUME, VOLUME_SIZE, CubePreprocess, Encoder
from icube_common.vlm.encoders.weights import load_encoder_weights

Weights = str | Path | None
# classes of a classifier that is built to be removed: a width that no hidden layer has
_CLASSES = 17


def timm_encoder(name: str, weights: Weights, size: int | None, seed: int) -> Encoder:
    """Pooled features of a timm model; ``weights`` is a file, or one of timm's tags (downloaded)."""
    timm = require("timm", package="icube-common", extra="vlm")
    _no_size("timm", size)
    if not timm.is_model(name):
        raise unknown("model of timm", name, timm.list_models())
    tag = None if weights is None or Path(weights).exists() else str(weights)
    if tag is not None and (tags := _timm_tags(timm, name)) and tag not in tags:
        raise unknown(f"weight file or tag of timm:{name}", tag, tags)
    if tag is not None:
        model = _download(lambda: timm.create_model(f"{name}.{tag}", pretrained=True, num_classes=0), f"timm:{name}")
    else:
        model = timm.create_model(name, pretrained=False, num_classes=0)
    if weights is not None and tag is None:
        head = model.default_cfg.get("classifier") or ()
        head = (head,) if isinstance(head, str) else tuple(head)
        load_encoder_weights(model, weights, name=f"timm:{name}", head=(*head, "head", "head_drop"))
    data = timm.data.resolve_model_data_config(model)

    def tokens(pixels: Tensor) -> Tensor:
        result: Tensor = model.forward_features(pixels)
        return result.flatten(2).transpose(1, 2) if result.ndim == 4 else result

    return Encoder(
        model,
        name=f"timm:{name}",
        preprocess=timm.data.create_transform(**data, is_training=False),
        trained_on=None if weights is None else str(weights),
        config={"library": "timm", "model": name},
        preprocess_config={"timm": {key: _plain(value) for key, value in data.items()}},
        tokens=tokens,
        seed=seed,
    )


def torchvision_encoder(name: str, weights: Weights, size: int | None, seed: int) -> Encoder:
    """Features before the classifier of a torchvision network of images or clips.

    ``weights`` is a file, or an entry of the network's table (``DEFAULT``, ``IMAGENET1K_V1``; downloaded).
    """
    torchvision = require("torchvision", package="icube-common", extra="vlm")
    _no_size("torchvision", size)
    models = torchvision.models
    video, listed = models.list_models(module=models.video), models.list_models(module=models)
    if name not in (*listed, *video):
        raise unknown("classification or video network of torchvision", name, [*listed, *video])
    table = models.get_model_weights(name)
    entry = None
    if weights is not None and not Path(weights).exists():
        if str(weights) not in table.__members__:
            raise unknown(f"weight file or entry of torchvision:{name}", str(weights), table.__members__)
        entry = table[str(weights)]
    if entry is not None:
        model = _download(lambda: models.get_model(name, weights=entry), f"torchvision:{name}", entry.url)
        head = _remove_classifier(model, len(entry.meta["categories"]), f"torchvision:{name}")
    else:
        model = models.get_model(name, weights=None, num_classes=_CLASSES)
        head = _remove_classifier(model, _CLASSES, f"torchvision:{name}")
    if weights is not None and entry is None:
        load_encoder_weights(model, weights, name=f"torchvision:{name}", head=(head,))
    # of a file the preprocessing of the network's default weights: sizes, mean and deviation
    preset = (entry or table["DEFAULT"]).transforms()
    clip = name in video
    sides = [int(side) for side in preset.crop_size]
    mean, std = list(preset.mean), list(preset.std)
    resize = list(preset.resize_size)
    transforms = torchvision.transforms
    steps = transforms.Compose(
        [
            transforms.Resize(resize if len(resize) > 1 else resize[0], interpolation=preset.interpolation),
            transforms.CenterCrop(sides if len(sides) > 1 else sides[0]),
            transforms.ToTensor(),
            transforms.Normalize(mean, std),
        ]
    )
    return Encoder(
        _ChannelsFirst(model) if clip else model,
        name=f"torchvision:{name}",
        kind=CLIP if clip else None,
        frames=16 if name.startswith("mvit") else None,
        preprocess=steps,
        trained_on=None if weights is None else str(weights),
        config={"library": "torchvision", "model": name},
        preprocess_config={
            "resize": resize,
            "crop": sides,
            "mean": mean,
            "std": std,
            "mode": str(preset.interpolation),
        },
        seed=seed,
    )


class _ChannelsFirst(nn.Module):
    """A video network for clips (N, T, 3, H, W), which itself takes (N, 3, T, H, W)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> Tensor:
        result: Tensor = self.network(pixels.transpose(1, 2))
        return result


def transformers_encoder(name: str, weights: Weights, size: int | None, seed: int) -> Encoder:
    """Vision model of transformers from a local folder or the hub, with its image processor.

    The feature is the pooled output of the model, the class token where its pooler has no weights in the file, or the
    mean token of video models without pooler. A folder without weights gives random ones. Models with ``num_frames``
    in their configuration are clip encoders.
    """
    transformers = require("transformers", package="icube-common", extra="vlm")
    _no_size("transformers", size)
    folder = Path(name)
    local = folder.is_dir()

    def load(part: Any, **options: Any) -> Any:
        with quiet_transformers():
            place = f"transformers:{name}"
            return _download(lambda: part.from_pretrained(name, local_files_only=local, **options), place)

    config = load(transformers.AutoConfig)
    if local and weights is None and not any(path.suffix in (".safetensors", ".bin") for path in folder.iterdir()):
        model, missing, trained = transformers.AutoModel.from_config(config), set(), None
    elif weights is None:
        model, info = load(transformers.AutoModel, output_loading_info=True)
        missing, trained = set(info["missing_keys"]), name
    else:
        model, missing, trained = transformers.AutoModel.from_config(config), set(), str(weights)
        load_encoder_weights(model, weights, name=f"transformers:{name}", head=("classifier", "lm_head"))
    vision = getattr(model, "vision_model", model)
    prefix = "vision_model." if vision is not model else ""
    parts = {key.removeprefix(prefix) for key in missing if key.startswith(prefix)}
    if lacking := sorted(key for key in parts if "pooler" not in key):
        raise InputError(f"transformers:{name}: {lacking[0]} is missing in its weights; give the folder of this model")
    vision_config = getattr(config, "vision_config", config)
    frames = getattr(vision_config, "num_frames", getattr(vision_config, "frames_per_clip", None))
    processor = load(transformers.AutoImageProcessor)
    network = _Pooled(vision, pooler=not parts)

    def preprocess(image: Any) -> Tensor:
        pixels: Tensor = processor(image, return_tensors="pt")["pixel_values"]
        return pixels.reshape(pixels.shape[-3:])

    return Encoder(
        network,
        name=f"transformers:{name}",
        kind=CLIP if frames else None,
        frames=frames,
        preprocess=preprocess,
        trained_on=trained,
        config={"library": "transformers", "model": _configuration(vision_config), "pooler": not parts},
        preprocess_config={"processor": _configuration(processor)},
        tokens=lambda pixels: vision(pixels).last_hidden_state,
        seed=seed,
    )


class _Pooled(nn.Module):
    """One feature (N, D) of each input of a transformers model.

    Args:
        network: with ``last_hidden_state`` (N, L, D) or (N, D, H, W), and perhaps ``pooler_output``.
        pooler: its pooled output has trained weights, or needs none.
    """

    def __init__(self, network: nn.Module, *, pooler: bool) -> None:
        super().__init__()
        self.network, self.pooler = network, pooler

    def forward(self, pixels: Tensor) -> Tensor:
        output: Any = self.network(pixels)
        pooled = getattr(output, "pooler_output", None)
        if self.pooler and pooled is not None:
            result: Tensor = pooled.flatten(1)
            return result
        tokens: Tensor = output.last_hidden_state
        if tokens.ndim == 4:
            return tokens.mean((2, 3))
        return tokens.mean(1) if pixels.ndim == 5 else tokens[:, 0]


def _configuration(part: Any) -> dict[str, Any]:
    """Configuration of a part of transformers without paths and versions."""
    left_out = ("_name_or_path", "transformers_version", "torch_dtype", "dtype", "architectures")
    return {key: value for key, value in part.to_dict().items() if key not in left_out}


def monai_encoder(name: str, weights: Weights, size: int | None, seed: int) -> Encoder:
    """Features before the classifier of a 3-D network of MONAI, for volumes with one channel."""
    nets = require("monai.networks.nets", package="icube-common", extra="monai")
    size = size or VOLUME_SIZE
    build = getattr(nets, name, None)
    if not callable(build):
        raise unknown("network of MONAI", name, [entry for entry in dir(nets) if entry[0] != "_"])
    options: dict[str, Any] = {"spatial_dims": 3, "in_channels": 1, "pretrained": False}
    options |= {"out_channels": _CLASSES, "num_classes": _CLASSES, "img_size": (size,) * 3, "classification": True}
    options |= {"patch_size": (16,) * 3}
    accepted = set(inspect.signature(build).parameters)
    # networks that pass keywords on to a base class
    for prefix, base in (("resnet", nets.ResNet), ("SE", nets.SENet)):
        if name.startswith(prefix):
            accepted |= set(inspect.signature(base).parameters)
    if name.startswith("resnet"):
        options["n_input_channels"] = 1
    options = {key: value for key, value in options.items() if key in accepted}
    try:
        model = build(**options)
    except Exception as error:  # of a network that needs more than these
        raise InputError(
            f"vlm.encoder=monai:{name}: cannot be built with {', '.join(options)} alone ({one_line(error)}); give a "
            "function that makes it, as MODULE:FUNCTION"
        ) from error
    head = _remove_classifier(model, _CLASSES, f"monai:{name}")
    if weights is not None:
        load_encoder_weights(model, weights, name=f"monai:{name}", head=(head,))
    return Encoder(
        _First(model),
        name=f"monai:{name}",
        kind=VOLUME,
        preprocess=CubePreprocess(size),
        trained_on=None if weights is None else str(weights),
        config={"library": "monai", "model": name, "options": {key: _plain(value) for key, value in options.items()}},
        seed=seed,
    )


class _First(nn.Module):
    """The first of several outputs of a network."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> Tensor:
        output: Any = self.network(pixels)
        result: Tensor = output[0] if isinstance(output, tuple) else output
        return result


def open_clip_encoder(name: str, weights: Weights, size: int | None, seed: int) -> Encoder:
    """Image tower of an open_clip model alone; ``weights`` is a tag, a file or a folder."""
    from icube_common.vlm.load import load_vlm

    _no_size("open_clip", size)
    vlm = load_vlm(name, weights, seed=seed, assume_preprocessing=False, warn=False)
    trained = vlm.origin.image_trained
    return Encoder(
        vlm.model.visual,  # type: ignore[arg-type]  # a module in every model of open_clip
        name=f"open_clip:{name}",
        preprocess=vlm.preprocess,
        trained_on=str(vlm.origin.pretrained or name) if trained else None,
        config={"library": "open_clip", "model": vlm.config},
        preprocess_config=vlm.preprocess_config,
        seed=seed,
    )


LIBRARIES: Mapping[str, Callable[[str, Weights, int | None, int], Encoder]] = {
    "timm": timm_encoder,
    "torchvision": torchvision_encoder,
    "transformers": transformers_encoder,
    "monai": monai_encoder,
    "open_clip": open_clip_encoder,
}


def _no_size(library: str, size: int | None) -> None:
    if size is not None:
        raise InputError(f"vlm.encoder_size={size}: only of monai: networks; {library}: brings its own size")


def _timm_tags(timm: Any, name: str) -> list[str]:
    return [entry.partition(".")[2] for entry in timm.list_pretrained(f"{name}.*")]


def _remove_classifier(model: nn.Module, classes: int, name: str) -> str:
    """Replace the last linear layer with as many outputs as classes by the identity; returns its name.

    Raises:
        InputError: there is none.
    """
    layers = [
        key for key, part in model.named_modules() if isinstance(part, nn.Linear) and part.out_features == classes
    ]
    if not layers:
        raise InputError(
            f"vlm.encoder={name}: its classifier is no linear layer that can be removed; give a function that makes "
            "the network, as MODULE:FUNCTION"
        )
    parent, _, child = layers[-1].rpartition(".")
    setattr(model.get_submodule(parent), child, nn.Identity())
    return layers[-1]


def _download(load: Callable[[], Any], name: str, url: str = "") -> Any:
    """Result of a loading by a library, from its cache, a folder or the net."""
    try:
        return load()
    except Exception as error:  # socket errors, missing or damaged files: a dozen kinds
        place = f"; fetch {url} where there is access and give the file as vlm.encoder_weights" if url else ""
        raise InputError(f"vlm.encoder={name}: cannot be loaded ({one_line(error)}){place}") from error


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
