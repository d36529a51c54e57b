"""The configuration that weights were trained with: activation and image preprocessing, by tag, file or folder.

A weight file holds tensors only. Whether its activation is GELU or QuickGELU, and how its images were resized and
normalised, is written in open_clip's table of tags or in the ``open_clip_config.json`` beside it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from icube_common.errors import InputError, require, unknown
from icube_common.io.runs import read_json

logger = logging.getLogger(__name__)

HUB = "hf-hub:"
FOLDER = "local-dir:"
CONFIG = "open_clip_config.json"
_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".npz")
# the names that open_clip looks for first in a folder
_PREFERRED = (
    *(f"{name}.safetensors" for name in ("open_clip_model", "open_clip_pytorch_model")),
    *(f"open_clip_pytorch_model.{suffix}" for suffix in ("bin", "pth")),
    *("model.safetensors", "pytorch_model.bin", "pytorch_model.pth", "model.pth"),
)
# QuickGELU of pairs where open_clip's model configuration and tag disagree and the tag is the one that is wrong.
# roberta-ViT-B-32: the configuration has had quick_gelu since 2022-11-07 (open_clip #93), the weights were trained with
# it and released on 2022-11-13 (#221, 61.7 % on ImageNet); open_clip's table of results measures 61.71 % by this very
# configuration. Tags got their mark of QuickGELU in 2024-10 (84f7d2f), where this one was left out.
_QUICK_GELU = {("roberta-ViT-B-32", "laion2b_s12b_b32k"): True}
# keys of a model configuration that choose no computation: paths, tokenizers, first values that weights replace
_NO_ARCHITECTURE = (
    *("custom_text", "init_logit_scale", "init_logit_bias", "nonscalar_logit_scale", "output_dict"),
    *("hf_model_name", "hf_tokenizer_name", "hf_model_pretrained", "timm_model_pretrained"),
    *("tokenizer_mode", "tokenizer_kwargs", "patch_dropout", "timm_drop", "timm_drop_path"),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PretrainedConfig:
    """A model configuration with the activation and preprocessing of its weights.

    Attributes:
        source: open_clip's name of the architecture and its tokenizer, with ``hf-hub:`` or ``local-dir:``.
        build_from: the same for building, where the configuration lies on this machine.
        model: the model configuration; ``quick_gelu`` is that of the weights.
        preprocess: size, mean, std, interpolation, resize_mode and fill_color of images.
        tag: open_clip's tag of the weights, where they have to be looked for in its cache or on the hub.
        weights: their file, where it lies on this machine.
        weights_of: the tag whose entry a weight file was given.
        assumed: activation and preprocessing are defaults, not known from a tag or a configuration.
        doubtful_activation: `assumed`, and open_clip's tags of this architecture include the other activation.
    """

    source: str
    build_from: str
    model: dict[str, Any]
    preprocess: dict[str, Any]
    tag: str | None = None
    weights: Path | None = None
    weights_of: str | None = None
    assumed: bool = False
    doubtful_activation: bool = False

    @property
    def trained(self) -> bool:
        """True where there are weights to load."""
        return self.weights is not None or self.tag is not None


def resolve_pretrained(
    name: str, pretrained: str | Path | None = None, weights_of: str | None = None
) -> PretrainedConfig:
    """The configuration of a model and its weights. Only a hub name downloads anything.

    Args:
        name: as `icube_common.vlm.load.load_vlm`, built-ins excepted.
        pretrained: tag, weight file or folder.
        weights_of: the tag that a weight file is of.

    Raises:
        InputError: an unknown name or tag; a file or folder that is not there or does not fit the name.
    """
    open_clip = require("open_clip", package="icube-common", extra="vlm")
    folder = Path(name.removeprefix(FOLDER))
    is_folder = name.startswith(FOLDER) or (folder.is_dir() and name not in open_clip.list_models())
    if name.startswith(HUB) or is_folder:
        for key, value in (("pretrained", pretrained), ("weights_of", weights_of)):
            if value is not None:
                raise InputError(f"{key}={value}: {name} brings its own weights; leave {key} away")
        return _of_folder(folder, name) if is_folder else _of_hub(name)
    if name not in open_clip.list_models():
        from icube_common.vlm.encoders.builtin.models import BUILT_IN

        raise unknown("vision-language model", name, [*BUILT_IN, *open_clip.list_models()])
    tags = open_clip.list_pretrained_tags_by_model(name)
    tag = None if pretrained is None else _clean(str(pretrained))
    path = None if pretrained is None else Path(pretrained)
    if weights_of is not None:
        if path is None or (tag in tags and not path.exists()):
            raise InputError(f"weights_of={weights_of}: is the tag of a weight file; give that file as pretrained")
        if _clean(weights_of) not in tags:
            raise unknown(f"tag weights_of of {name}", weights_of, tags)
    if path is not None and path.exists():
        return _of_file(name, path, None if weights_of is None else _clean(weights_of))
    if tag is not None and tag not in tags:
        raise unknown(f"tag, file or folder for the weights of {name}", str(pretrained), tags)
    model = open_clip.get_model_config(name)
    if tag is None:
        return PretrainedConfig(source=name, build_from=name, model=model, preprocess=default_preprocess(model))
    return PretrainedConfig(source=name, build_from=name, tag=tag, **_of_tag(name, tag))


def _of_tag(name: str, tag: str) -> dict[str, Any]:
    """Model configuration and preprocessing by open_clip's table."""
    import open_clip

    model, entry = open_clip.get_model_config(name), open_clip.get_pretrained_cfg(name, tag)
    configured = bool(model.get("quick_gelu", False))
    quick = _QUICK_GELU.get((name, tag), configured or bool(entry.get("quick_gelu", False)))
    if quick != configured:
        logger.info("%s with the weights %s: activation QuickGELU, which they were trained with", name, tag)
    return {"model": {**model, "quick_gelu": quick}, "preprocess": preprocess_config(model, entry)}


def _of_file(name: str, path: Path, weights_of: str | None) -> PretrainedConfig:
    import open_clip

    file = find_weights(path) if path.is_dir() else path
    folder = path if path.is_dir() else path.parent
    if file is None and not (folder / CONFIG).is_file():
        raise InputError(f"{path}: holds 0 weight files, exactly one is needed; name the file itself")
    if (folder / CONFIG).is_file():
        result = _of_folder(folder, name)
        _check_architecture(name, open_clip.get_model_config(name), result.model, folder / CONFIG)
        if weights_of is not None:
            _check_tag(weights_of, _of_tag(name, weights_of), result, folder / CONFIG)
        # without a weight file the configuration's model is random, as under its folder's own name
        return dataclasses.replace(result, weights=file, weights_of=weights_of)
    common: dict[str, Any] = {"source": name, "build_from": name, "weights": file}
    if weights_of is not None:
        return PretrainedConfig(**common, weights_of=weights_of, **_of_tag(name, weights_of))
    model = open_clip.get_model_config(name)
    entries = [open_clip.get_pretrained_cfg(name, tag) for tag in open_clip.list_pretrained_tags_by_model(name)]
    doubtful = not model.get("quick_gelu", False) and any(entry.get("quick_gelu", False) for entry in entries)
    return PretrainedConfig(
        **common, model=model, preprocess=default_preprocess(model), assumed=True, doubtful_activation=doubtful
    )


def _of_folder(folder: Path, name: str) -> PretrainedConfig:
    if not (folder / CONFIG).is_file():
        raise InputError(f"{folder}: no {CONFIG} there; give a folder that open_clip has written")
    model, preprocess = _read_config(folder / CONFIG)
    source = f"{FOLDER}{folder}"
    weights = find_weights(folder)
    return PretrainedConfig(source=source, build_from=source, model=model, preprocess=preprocess, weights=weights)


def _of_hub(name: str) -> PretrainedConfig:
    from open_clip.factory import download_pretrained_from_hf

    repository = name.removeprefix(HUB)
    try:
        config = Path(download_pretrained_from_hf(repository, filename=CONFIG))
        weights = Path(download_pretrained_from_hf(repository))
    except Exception as error:  # socket errors, missing files, refused access: a dozen kinds
        raise InputError(
            f"{name}: could not be downloaded ({one_line(error)}); fetch {CONFIG}, the weights and the tokenizer files "
            f"of https://huggingface.co/{repository} where there is access and give their folder as the name"
        ) from error
    model, preprocess = _read_config(config)
    build_from = f"{FOLDER}{config.parent}"
    return PretrainedConfig(source=name, build_from=build_from, model=model, preprocess=preprocess, weights=weights)


def _read_config(file: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Model configuration and preprocessing of an ``open_clip_config.json``."""
    content = read_json(file)
    model = content.get("model_cfg") if isinstance(content, dict) else None
    if not isinstance(model, dict) or not all(isinstance(model.get(k), dict) for k in ("vision_cfg", "text_cfg")):
        raise InputError(f"{file}: no model_cfg with vision_cfg and text_cfg in it; give a file that open_clip wrote")
    model = {**model, "quick_gelu": bool(model.get("quick_gelu", False))}
    preprocess = content.get("preprocess_cfg")
    if preprocess is None:
        logger.info("%s: no preprocess_cfg, which means open_clip's default preprocessing", file)
    elif not isinstance(preprocess, dict):
        raise InputError(
            f"{file}: preprocess_cfg is {preprocess!r}, it has to map mean, std, interpolation and the like"
        )
    return model, preprocess_config(model, preprocess or {})


def _check_architecture(name: str, expected: Mapping[str, Any], result: Mapping[str, Any], file: Path) -> None:
    """Check that the configuration beside a file differs from the named one in its activation at most."""
    expected, result = ({**describe_config(config), "quick_gelu": None} for config in (expected, result))
    if different := [key for key in sorted({*expected, *result}) if expected.get(key) != result.get(key)]:
        key = different[0]
        raise InputError(
            f"{file}: is no {name}: {key} is {result.get(key, 'the default')} there and "
            f"{expected.get(key, 'the default')} in {name}; give the folder as the name, or keep the "
            "weights apart from that configuration"
        )


def _check_tag(weights_of: str, entry: Mapping[str, Any], result: PretrainedConfig, file: Path) -> None:
    """Check that tag and configuration of a weight file agree on activation and preprocessing."""
    for one, other in ((entry["model"], result.model), (entry["preprocess"], result.preprocess)):
        one, other = describe_config(one), describe_config(other)
        for key in sorted({*one, *other}):
            tag, beside = (config.get(key, "the default") for config in (one, other))
            if tag != beside:
                raise InputError(
                    f"weights_of={weights_of}: {key} of the tag is {tag}, in {file} it is {beside}; leave weights_of "
                    "or that file away"
                )


def find_weights(folder: Path) -> Path | None:
    """The weight file of a folder, None where it holds none.

    Raises:
        InputError: it holds several, of which none bears one of open_clip's names, or weights in parts.
    """
    if shards := sorted(folder.glob("*.index.json")):
        check_no_shards(shards[0])
    result = sorted(path for path in folder.iterdir() if path.suffix in _SUFFIXES)
    for name in _PREFERRED:
        if folder / name in result:
            return folder / name
    if len(result) > 1:
        raise InputError(f"{folder}: holds {len(result)} weight files, exactly one is needed; name the file itself")
    return result[0] if result else None


def check_no_shards(index: Path) -> None:
    """Weights that are split over several files are not read."""
    raise InputError(
        f"{index}: weights in several files are not read; save them as one .safetensors file and give that"
    )


def default_preprocess(model: Mapping[str, Any]) -> dict[str, Any]:
    """open_clip's preprocessing where nothing else is known."""
    return preprocess_config(model, {})


def preprocess_config(model: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """open_clip's preprocessing by a table entry or configuration, at the size of the model's image tower."""
    from open_clip.transform import PreprocessCfg, merge_preprocess_dict

    merged: dict[str, Any] = merge_preprocess_dict(PreprocessCfg(), dict(settings))
    size = model["vision_cfg"].get("image_size", 224)
    merged["size"] = [size, size] if isinstance(size, int) else list(size)
    return {key: list(value) if isinstance(value, tuple) else value for key, value in merged.items()}


def describe_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """A flat configuration without what is default or chooses no computation: equal where two compute the same.

    Defaults are left out so that a later open_clip with more of them gives the same.
    """
    from open_clip.model import CLIPTextCfg, CLIPVisionCfg

    flat: dict[str, tuple[Any, Any]] = {}
    defaults: dict[str, Any] = {"vision_cfg": CLIPVisionCfg, "text_cfg": CLIPTextCfg}
    for key, value in config.items():
        if not isinstance(value, Mapping):
            flat[key] = (value, False if key == "quick_gelu" else None)
            continue
        fields = dataclasses.fields(defaults[key]) if key in defaults else ()
        default = {field.name: field.default for field in fields}
        flat |= {f"{key}.{name}": (item, default.get(name)) for name, item in value.items()}
    plain = {key: (_plain(value), _plain(default)) for key, (value, default) in flat.items()}
    return {
        key: value
        for key, (value, default) in sorted(plain.items())
        if value is not None and value != default and key.rpartition(".")[2] not in _NO_ARCHITECTURE
    }


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, (tuple, list)) else value


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """No reports and progress bars of transformers while it loads."""
    from transformers.utils import logging as transformers_logging

    verbosity, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()


def _clean(tag: str) -> str:
    """A tag as open_clip writes it."""
    return tag.lower().replace("-", "_")


def download_weights(name: str, tag: str) -> Path:
    """The file of a tag's weights, from open_clip's cache or the hub.

    Raises:
        InputError: it can't be downloaded; the message names what to place where.
    """
    from open_clip import factory

    try:
        return Path(factory.download_pretrained(factory.get_pretrained_cfg(name, tag)))
    except Exception as error:  # socket errors, missing files, refused access: a dozen kinds
        raise InputError(
            f"{name}, tag {tag}: the weights could not be downloaded ({one_line(error)}); fetch {_address(name, tag)} "
            f"where there is access and give the file as pretrained, with weights_of={tag}"
        ) from error


def _address(name: str, tag: str) -> str:
    """Address of a tag's weights: the repository on the hub and the file, or the address."""
    import open_clip

    entry = open_clip.get_pretrained_cfg(name, tag)
    if hub := entry.get("hf_hub"):
        repository, _, file = hub.rpartition("/")
        return f"https://huggingface.co/{repository} ({file or 'open_clip_model.safetensors'})"
    return str(entry.get("url", "its weights"))


def one_line(error: object, length: int = 200) -> str:
    """A message without line breaks and terminal escape codes."""
    plain = re.sub(r"\x1b\[[0-9;?]*[ -/]*[@-~]", "", str(error))
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in plain).split())[:length]
    return line or type(error).__name__
