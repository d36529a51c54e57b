"""Encoders in place of the image tower: names, weight files, fingerprints, features, refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision
import user_encoders
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from icube_common.errors import InputError
from icube_common.vlm import VLMConfig, encode_items, feature_fingerprint, load_vlm, make_encoder
from icube_common.vlm.encoders.base import CubePreprocess

# a small model of each library, with its kind and width
NAMES = {
    "timm:test_vit": ("image", 64),
    "timm:test_efficientnet": ("image", 256),
    "torchvision:resnet18": ("image", 512),
    "torchvision:r3d_18": ("clip", 512),
    "open_clip:icube-tiny": ("image", 64),
}


def picture(seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 50, 3), dtype=np.uint8))


@pytest.mark.parametrize("name", NAMES)
def test_networks_of_the_libraries(name: str) -> None:
    kind, width = NAMES[name]
    encoder = make_encoder(name, seed=3)
    assert (encoder.kind, encoder.width, encoder.name) == (kind, width, name)
    assert str(encoder) == f"{name} (untrained encoder: random weights of seed 3)"
    assert not any(value.requires_grad for value in encoder.parameters()) and not encoder.module.training
    pixels = encoder.preprocess(picture())
    assert pixels.shape[0] == 3
    # the same seed gives the same network, another one another
    assert make_encoder(name, seed=3).fingerprint == encoder.fingerprint
    assert make_encoder(name, seed=4).fingerprint != encoder.fingerprint


def test_a_network_of_monai() -> None:
    pytest.importorskip("monai", reason="the extra icube-common[monai] is not installed")
    encoder = make_encoder("monai:DenseNet121", size=32)
    assert (encoder.kind, encoder.width) == ("volume", 1024)
    assert encoder.preprocess(np.zeros((20, 31, 25), np.float32)).shape == (1, 32, 32, 32)
    with pytest.raises(InputError, match=r"monai:UNet: cannot be built with .* missing .*channels"):
        make_encoder("monai:UNet")


def test_the_features_are_those_of_the_library() -> None:
    """Pooled features before the classifier of a network with weights in a file."""
    reference = timm.create_model("test_vit", num_classes=10).eval()
    encoder = make_encoder("timm:test_vit")
    encoder.module.load_state_dict({k: v for k, v in reference.state_dict().items() if not k.startswith("head.")})
    pixels = torch.stack([encoder.preprocess(picture(seed)) for seed in range(2)])
    with torch.no_grad():
        expected = reference.forward_head(reference.forward_features(pixels), pre_logits=True)
    torch.testing.assert_close(encoder(pixels), expected, atol=0, rtol=0)
    assert encoder.tokens(pixels).shape[::2] == (2, 64)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_weight_files(suffix: str, tmp_path: Path) -> None:
    reference = torchvision.models.resnet18(num_classes=7)
    path = tmp_path / f"resnet{suffix}"
    state = reference.state_dict()
    if suffix == ".pth":
        # as a wrapper for several devices writes it
        torch.save({"state_dict": {f"module.{key}": value for key, value in state.items()}}, path)
    else:
        save_file(state, path)
    encoder = make_encoder("torchvision:resnet18", weights=path)
    assert encoder.trained and str(encoder) == f"torchvision:resnet18 ({path})"
    reference.fc = nn.Identity()
    pixels = encoder.preprocess(picture())[None]
    with torch.no_grad():
        torch.testing.assert_close(encoder(pixels), reference.eval()(pixels), atol=0, rtol=0)


def save(path: Path, state: dict[str, Tensor]) -> Path:
    torch.save(state, path)
    return path


def test_a_weight_file_that_does_not_fit(tmp_path: Path) -> None:
    state = user_encoders.SmallNet().state_dict()
    path = tmp_path / "w.pth"

    def refusal(changed: dict[str, Tensor]) -> str:
        with pytest.raises(InputError) as error:
            make_encoder(user_encoders.SmallNet, weights=save(path, changed))
        return str(error.value)

    wrong = f"{path}: does not fit encoder SmallNet: "
    assert (
        refusal({k: v for k, v in state.items() if k != "norm.bias"}) == wrong + "norm.bias (5,) is missing in the file"
    )
    assert refusal({**state, "conv.weight": torch.zeros(4, 3, 3, 3)}) == (
        wrong + "conv.weight is (4, 3, 3, 3) in the file, (5, 3, 3, 3) in the model"
    )
    assert refusal({**state, "fc.weight": torch.zeros(2, 5)}) == wrong + "fc.weight (2, 5) is unknown to the model"
    assert "conv.bias is torch.float32 with values that are no finite" in refusal(
        {**state, "conv.bias": torch.full((5,), torch.nan)}
    )
    with pytest.raises(InputError, match="no such file"):
        make_encoder(user_encoders.SmallNet, weights=tmp_path / "absent.pth")


def test_a_class_an_instance_and_a_function(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    of_class = make_encoder(user_encoders.SmallNet, seed=1)
    assert str(of_class) == "SmallNet (untrained encoder: random weights of seed 1)" and of_class.width == 5
    assert make_encoder("user_encoders:make", seed=1).fingerprint == of_class.fingerprint
    assert str(make_encoder("user_encoders:make_encoder")) == "mine (my data)"
    instance = user_encoders.SmallNet().train()
    made = make_encoder(instance)
    # a frozen copy: the user's own may be trained further
    assert made.module is not instance and instance.training and instance.conv.weight.requires_grad
    file = tmp_path / "net.py"
    file.write_text("import user_encoders\n\n\ndef make():\n    return user_encoders.SmallNet()\n")
    assert make_encoder(f"{file}:make", seed=1).fingerprint == of_class.fingerprint
    monkeypatch.chdir(tmp_path)
    (tmp_path / "made_here.py").write_text(file.read_text())
    assert make_encoder("made_here:make", seed=1).fingerprint == of_class.fingerprint


def test_the_fingerprint_holds_weights_code_and_preprocessing(tmp_path: Path) -> None:
    source = (
        "import torch\n\n\nclass Net(torch.nn.Module):\n    image_size = {size}\n\n    def forward(self, pixels):\n"
        "        return pixels.mean((2, 3)) {change}\n"
    )

    def fingerprint(name: str, **values: Any) -> str:
        file = tmp_path / f"{name}.py"
        file.write_text(source.format(**values))
        return make_encoder(f"{file}:Net").fingerprint

    first = fingerprint("first", size=24, change="")
    assert fingerprint("same", size=24, change="") == first
    assert len({first, fingerprint("size", size=32, change=""), fingerprint("code", size=24, change="* 2")}) == 3


REFUSED: dict[Any, str] = {
    "resnet18": r"must be LIBRARY:NAME with one of timm, torchvision, transformers, monai, open_clip, or MODULE:FUNCT",
    "timm:resnet88": "unknown model of timm 'resnet88': did you mean",
    "torchvision:resnet88": "unknown classification or video network of torchvision",
    "torchvision:squeezenet1_1": "its classifier is no linear layer",
    "nowhere:make": "nowhere cannot be imported",
    "user_encoders:absent": "user_encoders has no function or class absent",
    "user_encoders:make_broken": "RuntimeError in it .no such layer",
    "user_encoders:make_text": "gives a str, need a torch.nn.Module",
    "absent.py:make": "absent.py: no such file",
    user_encoders.WrongWidth: "states width 9, its features have 5",
    user_encoders.NoFeature: r"returns \(2, 5, 11, 11\) for images \(2, 3, 24, 24\), need \(2, D\)",
}


@pytest.mark.parametrize("source", REFUSED, ids=str)
def test_refusals(source: Any) -> None:
    with pytest.raises(InputError, match=REFUSED[source]) as error:
        make_encoder(source)
    assert "\n" not in str(error.value)


def test_a_cube_of_a_volume() -> None:
    volume = np.zeros((4, 8, 6), np.float32)
    volume[:, :, :] = 1
    volume[0, 0, 0] = -1
    cube = CubePreprocess(8)(volume)
    assert cube.shape == (1, 8, 8, 8)
    # padded with the smallest value to both sides of the shorter axes, the volume in the middle unchanged
    assert (cube[0, :2] == -1).all() and (cube[0, 6:] == -1).all() and (cube[0, :, :, 0] == -1).all()
    assert torch.equal(cube[0, 2:6, :, 1:7], torch.from_numpy(volume))


def test_a_backbone_with_an_encoder(caplog: pytest.LogCaptureFixture) -> None:
    plain = load_vlm("icube-tiny")
    caplog.clear()
    vlm = load_vlm("icube-tiny", encoder=user_encoders.SmallNet)
    words = (
        "SmallNet (untrained encoder: random weights of seed 0), without a joint space with the untrained text tower "
        "of icube-tiny"
    )
    assert caplog.messages == [words] and vlm.weights_warning == words
    assert (vlm.feature_dim, vlm.embed_dim, vlm.kind) == (5, 64, "image")
    # texts, and with them learned prompts, are those of the name; the image tower is gone
    assert vlm.text_fingerprint == plain.text_fingerprint and vlm.fingerprint != plain.fingerprint
    assert torch.equal(vlm.encode_text("a cat"), plain.encode_text("a cat"))
    assert not any(key.startswith("visual.transformer") for key in vlm.model.state_dict())
    assert feature_fingerprint(vlm) == vlm.encoder.fingerprint  # type: ignore[union-attr]
    pixels = torch.stack([vlm.preprocess(picture(seed)) for seed in range(3)])
    assert pixels.shape == (3, 3, 24, 24)
    features = vlm.encode_image(pixels, output="features")
    assert torch.equal(features, make_encoder(user_encoders.SmallNet)(pixels))
    with pytest.raises(InputError, match="SmallNet has no joint space with the texts of icube-tiny") as error:
        vlm.encode_image(pixels)
    assert "\n" not in str(error.value)
    described = vlm.describe()
    assert described["encoder"] == str(vlm.encoder) and json.dumps(described)
    # features do not depend on what else is in a batch, so one encoder serves any text tower
    other = load_vlm("icube-tiny", seed=0, encoder=make_encoder(user_encoders.SmallNet))
    assert feature_fingerprint(other) == feature_fingerprint(vlm)


def test_batches_of_clips_and_volumes() -> None:
    """A batch of 8 holds two clips of four frames; a volume counts its slices."""
    sizes: list[int] = []
    for network, item in (
        (user_encoders.ClipNet, torch.rand(4, 3, 24, 24)),
        (user_encoders.VolumeNet, torch.rand(1, 16, 16, 16)),
    ):
        vlm = load_vlm("icube-tiny", encoder=network)
        handle = vlm.encoder.module.register_forward_hook(  # type: ignore[union-attr]
            lambda module, inputs, output: sizes.append(len(inputs[0]))
        )
        results = list(encode_items(vlm, [(number, [item + number]) for number in range(3)], batch_size=8))
        handle.remove()
        assert [one.features.shape for one in results] == [(1, vlm.feature_dim)] * 3  # type: ignore[union-attr]
        for number, one in enumerate(results):
            expected = vlm.encode_image((item + number)[None], output="features")
            torch.testing.assert_close(one.features, expected)
    assert sizes == [2, 1, 1, 1, 1]


def test_the_keys_of_a_configuration(tmp_path: Path) -> None:
    torch.save(user_encoders.SmallNet().state_dict(), tmp_path / "w.pth")
    config = VLMConfig(name="icube-tiny", encoder="user_encoders:make", encoder_weights=str(tmp_path / "w.pth"))
    vlm = config.load("cpu")
    assert vlm.origin.image_trained and str(tmp_path / "w.pth") in str(vlm.origin)
    with pytest.raises(InputError, match=r"vlm.encoder_weights=w.pth: is of vlm.encoder, which is not set"):
        VLMConfig(encoder_weights="w.pth")
    with pytest.raises(InputError, match="another one was given as encoder="):
        config.load("cpu", encoder=user_encoders.SmallNet)
    with pytest.raises(InputError, match="only of monai: networks"):
        VLMConfig(encoder="timm:test_vit", encoder_size=64).load("cpu")


def hugging_face(folder: Path, *, weights: bool, video: bool = False) -> Path:
    """A small vision model of transformers with its image processor."""
    import transformers

    torch.manual_seed(0)
    if video:
        config: Any = transformers.VideoMAEConfig(
            image_size=32, patch_size=16, num_frames=4, hidden_size=24, num_hidden_layers=1, num_attention_heads=2,
            intermediate_size=32,
        )  # fmt: skip
        model: Any = transformers.VideoMAEModel(config)
    else:
        config = transformers.ViTConfig(
            image_size=32, patch_size=16, hidden_size=24, num_hidden_layers=2, num_attention_heads=2,
            intermediate_size=32,
        )  # fmt: skip
        model = transformers.ViTModel(config, add_pooling_layer=False)
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    if weights:
        model.save_pretrained(folder)
    else:
        config.save_pretrained(folder)
    return folder


def test_a_folder_of_transformers(tmp_path: Path) -> None:
    from transformers import ViTModel

    folder = hugging_face(tmp_path / "vit", weights=True)
    encoder = make_encoder(f"transformers:{folder}")
    assert encoder.trained and encoder.width == 24 and str(folder) in str(encoder)
    pixels = encoder.preprocess(picture())[None]
    reference = ViTModel.from_pretrained(folder, add_pooling_layer=False).eval()
    with torch.no_grad():
        tokens = reference(pixels).last_hidden_state
    # the file has no pooler: the class token, not the output of a random layer
    assert torch.equal(encoder(pixels), tokens[:, 0]) and torch.equal(encoder.tokens(pixels), tokens)
    random = make_encoder(f"transformers:{hugging_face(tmp_path / 'random', weights=False)}")
    assert not random.trained and "untrained" in str(random) and random.width == 24


def test_a_video_model_of_transformers(tmp_path: Path) -> None:
    encoder = make_encoder(f"transformers:{hugging_face(tmp_path / 'video', weights=True, video=True)}")
    assert (encoder.kind, encoder.frames, encoder.width) == ("clip", 4, 24)
    encoder.check_frames(4)
    with pytest.raises(InputError, match=r"video.frames=8: encoder .* takes clips of 4 frames; set video.frames=4"):
        encoder.check_frames(8)


def test_a_transformers_folder_without_its_files(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="cannot be loaded") as error:
        make_encoder(f"transformers:{tmp_path / 'empty'}")
    assert "\n" not in str(error.value)
