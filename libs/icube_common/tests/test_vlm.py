"""Loading frozen backbones: names, files, folders, messages when something is missing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from vlm_encoders import write_hf_folder, write_small, write_tokenizer

from icube_common.errors import InputError
from icube_common.prompts import Projection
from icube_common.vlm import VLMConfig, load_vlm
from icube_common.vlm.text_encoder import trim_padding

NAME = "ViT-S-32-alt"  # the smallest text tower that open_clip knows by name


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def picture(seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (50, 70, 3), dtype=np.uint8))


def test_random_weights_come_from_the_seed_and_nothing_else() -> None:
    torch.manual_seed(7)
    state = torch.random.get_rng_state()
    first, again, other = (load_vlm("icube-tiny", seed=seed) for seed in (3, 3, 4))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert first.fingerprint == again.fingerprint != other.fingerprint


def test_untrained_backbone_gives_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    vlm = load_vlm("icube-tiny")
    assert "untrained backbone" in caplog.text
    assert "untrained backbone" in vlm.weights_warning and "untrained backbone" in vlm.describe()["description"]


def test_features_are_normalised_and_of_one_width() -> None:
    vlm = load_vlm("icube-tiny")
    pixels = torch.stack([vlm.preprocess(picture(seed)) for seed in range(3)])
    found = [vlm.encode_image(pixels), vlm.encode_text(["a photo of a cat", "a dog"])]
    for features, count in zip(found, (3, 2), strict=True):
        assert features.shape == (count, vlm.embed_dim)
        torch.testing.assert_close(features.norm(dim=1), torch.ones(count))
    torch.testing.assert_close(vlm.encode_image(pixels[1:2])[0], found[0][1], atol=1e-5, rtol=0)
    assert sum(p.numel() for p in vlm.model.visual.parameters()) <= 5_000_000
    assert pixels.shape[-1] == 96


def test_a_text_alone_is_the_text_in_a_batch_with_a_longer_one() -> None:
    vlm = load_vlm("icube-tiny")
    texts = ["cat", "a very long sentence about a cat that never ends " * 20]
    torch.testing.assert_close(vlm.encode_text(texts)[0], vlm.encode_text(texts[0])[0], atol=1e-5, rtol=0)


def test_trimming_keeps_every_token() -> None:
    ids = torch.tensor([[5, 6, 7, 0, 0, 0, 0], [5, 6, 0, 7, 9, 0, 0]])
    assert trim_padding(ids).tolist() == [[5, 6, 7, 0, 0, 0], [5, 6, 0, 7, 9, 0]]
    full = torch.tensor([[5, 6, 7], [5, 7, 0]])
    assert torch.equal(trim_padding(full), full)
    assert trim_padding(torch.zeros(2, 4, dtype=torch.long)).shape == (2, 1)


def test_a_weight_file_and_a_folder_give_the_models_features(tmp_path: Path) -> None:
    random = load_vlm(NAME, seed=5)
    file = tmp_path / "weights.safetensors"
    save_file({k: v.contiguous() for k, v in random.model.state_dict().items()}, file)
    for pretrained in (file, tmp_path):
        loaded = load_vlm(NAME, pretrained)
        assert loaded.weights_warning == ""
        assert loaded.origin.pretrained == str(file) and loaded.origin.preprocessing_assumed
        assert loaded.fingerprint != random.fingerprint and loaded.text_fingerprint == random.text_fingerprint
    torch.testing.assert_close(loaded.encode_text(["a cat"]), random.encode_text(["a cat"]))


def test_a_folder_of_open_clip(tmp_path: Path) -> None:
    folder = write_small(tmp_path / "model", "PE-Core-T-16-384")
    untrained = load_vlm(str(folder))
    assert "untrained backbone" in untrained.weights_warning
    state = {k: v.contiguous() for k, v in load_vlm(str(folder), seed=9).model.state_dict().items()}
    save_file(state, folder / "open_clip_model.safetensors")
    for name in (str(folder), f"local-dir:{folder}"):
        trained = load_vlm(name)
        assert trained.weights_warning == ""
        assert torch.equal(trained.token_embedding.weight, state["text.token_embedding.weight"])


def test_fingerprint_depends_on_weights_and_preprocessing() -> None:
    vlm = load_vlm("icube-tiny")
    before = vlm.fingerprint
    del vlm.__dict__["fingerprint"]
    vlm.model.ln_final.bias.data[0] += 1e-6
    changed = vlm.fingerprint
    del vlm.__dict__["fingerprint"]
    vlm.model.ln_final.bias.data[0] = 0
    assert vlm.fingerprint == before != changed
    del vlm.__dict__["fingerprint"]
    vlm.preprocess = open_clip.image_transform(64, is_train=False)
    assert vlm.fingerprint != before


def test_fingerprint_depends_on_the_architecture_and_no_versions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same weights under GELU, under QuickGELU, and with heads of another width are three models."""
    folder = write_small(tmp_path / "model", "ViT-B-32")
    file = folder / "open_clip_config.json"
    config = json.loads(file.read_text())
    vlm = load_vlm(str(folder))
    save_file({k: v.contiguous() for k, v in vlm.model.state_dict().items()}, folder / "w.safetensors")
    found = [load_vlm(str(folder))]
    assert found[0].fingerprint == vlm.fingerprint and found[0].text_fingerprint == vlm.text_fingerprint
    for change in ({"quick_gelu": True}, {"text_cfg": config["model_cfg"]["text_cfg"] | {"heads": 2}}):
        file.write_text(json.dumps({"model_cfg": config["model_cfg"] | change}))
        found.append(load_vlm(str(folder)))
    assert len({one.fingerprint for one in found}) == len({one.text_fingerprint for one in found}) == 3
    vision = config["model_cfg"]["vision_cfg"] | {"head_width": 8}
    file.write_text(json.dumps({"model_cfg": config["model_cfg"] | {"vision_cfg": vision}}))
    other = load_vlm(str(folder))
    assert other.fingerprint != vlm.fingerprint and other.text_fingerprint == vlm.text_fingerprint
    monkeypatch.setattr("importlib.metadata.version", lambda name: "99.0")
    file.write_text(json.dumps(config))
    upgraded = load_vlm(str(folder))
    assert upgraded.fingerprint == vlm.fingerprint
    assert upgraded.describe()["versions"]["torch"] == "99.0" != vlm.describe()["versions"]["torch"]


def test_a_folder_that_has_moved_is_the_same_model(tmp_path: Path) -> None:
    """Paths of the tokenizer and the text tower's configuration are no part of the model."""
    first = load_vlm(str(write_hf_folder(tmp_path / "a")))
    assert load_vlm(str(write_hf_folder(tmp_path / "b"))).fingerprint == first.fingerprint


def test_sentence_encoder_similarity() -> None:
    vlm = load_vlm("icube-minilm")
    assert not vlm.origin.image_trained and vlm.origin.text_trained and "untrained image tower" in vlm.weights_warning
    sip, tie = (vlm.encode_text(["drinks from a bottle", other]) for other in ("takes a sip of water", "ties a shoe"))
    assert float(sip[0] @ sip[1]) > 0.5 > 0.3 > float(tie[0] @ tie[1])


def test_siglip_without_its_tokenizer_still_takes_ids(tmp_path: Path) -> None:
    folder = write_small(tmp_path / "a", "ViT-B-16-SigLIP")
    for file in folder.glob("token*"):
        file.unlink()
    vlm = load_vlm(str(folder))
    assert vlm.encode_text(torch.ones(2, 64, dtype=torch.long)).shape == (2, 24)
    with pytest.raises(InputError, match=r"tokenizer could not be loaded.*give that as tokenizer"):
        vlm.encode_text(["a cat"])
    again = load_vlm(str(folder), tokenizer=write_tokenizer(tmp_path / "b", siglip=True))
    assert again.tokenize(["a photo"]).shape == (1, 64)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "ViT-B-33"}, "unknown vision-language model 'ViT-B-33': did you mean 'ViT-B-32'"),
        ({"name": NAME, "pretrained": "nowhere.pt"}, "unknown tag, file or folder"),
        ({"name": "ViT-B-32", "pretrained": "opnai"}, "did you mean 'openai'"),
        (
            {"name": "ViT-B-32", "pretrained": "openai"},
            r"fetch https://huggingface.co/timm/.*as pretrained",
        ),
        ({"name": "hf-hub:someone/something"}, "open_clip_config.json, the weights and the tokenizer"),
        ({"name": "hf-hub:someone/something", "pretrained": "x"}, "brings its own weights"),
        ({"name": "icube-tiny", "pretrained": "x"}, "brings its own weights"),
        ({"name": "icube-tiny", "precision": "fp16"}, "fp16: not on a CPU"),
        ({"name": "icube-tiny", "precision": "int8"}, "unknown precision 'int8'"),
        ({"name": "roberta-ViT-B-32"}, "text tower of Hugging Face needs its configuration"),
    ],
)
def test_wrong_input(arguments: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        load_vlm(**arguments)
    assert len(str(caught.value).splitlines()) == 1


def test_wrong_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no open_clip_config.json"):
        load_vlm(str(tmp_path))
    with pytest.raises(InputError, match="holds 0 weight files"):
        load_vlm(NAME, tmp_path)
    file = tmp_path / "weights.pt"
    file.write_bytes(b"nothing of the kind")
    with pytest.raises(InputError, match="does not load as weights of"):
        load_vlm(NAME, file)
    with pytest.raises(InputError, match=r"tokenizer=.*: no such folder"):
        load_vlm("icube-tiny", tokenizer=tmp_path / "x").tokenize("a")


def test_section_loads_the_named_backbone() -> None:
    assert VLMConfig(name="icube-tiny", seed=2).load().origin.seed == 2


def test_a_projection_brings_features_into_the_space() -> None:
    torch.manual_seed(0)
    projection = Projection(10, 6, hidden=8)
    out = projection(torch.randn(2, 5, 10))
    torch.testing.assert_close(out.norm(dim=-1), torch.ones(2, 5))
    (out * torch.randn_like(out)).sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in projection.parameters())
