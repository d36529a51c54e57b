"""Activation and preprocessing of weights: by tag, by ``weights_of``, or by the configuration beside a file."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from open_clip.transform import PreprocessCfg, merge_preprocess_dict
from safetensors.torch import save_file
from torchvision.transforms import InterpolationMode, Normalize, Resize
from vlm_encoders import write_small

from icube_common.errors import InputError
from icube_common.vlm import VLMConfig, load_vlm
from icube_common.vlm.checkpoints.pretrained import resolve_pretrained

PAIRS = open_clip.list_pretrained()
PINNED = ("roberta-ViT-B-32", "laion2b_s12b_b32k")
SMALL = "ViT-S-32-alt"


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def in_the_table(name: str, tag: str) -> tuple[bool, dict[str, Any]]:
    """Activation and preprocessing that open_clip's own table has for a pair."""
    entry, model = open_clip.get_pretrained_cfg(name, tag), open_clip.get_model_config(name)
    preprocess = merge_preprocess_dict(PreprocessCfg(), entry)
    size = model["vision_cfg"].get("image_size", 224)
    preprocess["size"] = (size, size) if isinstance(size, int) else size
    return (name, tag) == PINNED or entry.get("quick_gelu", False), preprocess


def as_tuples(config: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in config.items()}


def test_every_pair_of_open_clip_by_tag_and_by_file(tmp_path: Path) -> None:
    file = tmp_path / "weights.pt"
    file.touch()
    assert len(PAIRS) >= 196
    other_activation = other_preprocessing = 0
    for name, tag in PAIRS:
        quick, preprocess = in_the_table(name, tag)
        of_tag, of_file = resolve_pretrained(name, tag), resolve_pretrained(name, file, weights_of=tag)
        for found in (of_tag, of_file):
            assert (found.model["quick_gelu"], as_tuples(found.preprocess)) == (quick, preprocess), (name, tag)
            assert not found.assumed
        without = resolve_pretrained(name, file)
        assert without.assumed
        other_activation += without.model.get("quick_gelu", False) != quick
        other_preprocessing += as_tuples(without.preprocess) != preprocess
    # what a file alone would be given wrongly; open_clip 3.3
    assert other_activation >= 27 and other_preprocessing >= 58


def write_weights(name: str, file: Path, seed: int = 3) -> Path:
    state = load_vlm(name, seed=seed).model.state_dict()
    save_file({key: value.contiguous() for key, value in state.items()}, file)
    return file


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_weights("ViT-B-32", tmp_path_factory.mktemp("vit") / "ViT-B-32.safetensors")


def activations(vlm: Any) -> set[str]:
    return {type(module).__name__ for module in vlm.model.modules() if "GELU" in type(module).__name__}


def test_file_matches_its_tag(vit: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "icube_common")
    openai = load_vlm("ViT-B-32", vit, weights_of="openai")
    assert activations(openai) == {"QuickGELU"} and "QuickGELU" in caplog.text
    laion = load_vlm("ViT-B-32", vit, weights_of="laion2B-s34B-b79K")  # as their repository is written
    assert activations(laion) == {"GELU"} and "assumed" not in caplog.text
    named = load_vlm("ViT-B-32-quickgelu", vit, weights_of="openai")
    assert named.fingerprint == openai.fingerprint != laion.fingerprint
    assert openai.text_fingerprint != laion.text_fingerprint
    assert "weights of openai" in str(openai.origin) and openai.describe()["model"]["quick_gelu"] is True


def test_a_siglip_file_is_squashed_and_normalised_as_siglip(tmp_path: Path) -> None:
    name = "PE-Core-T-16-384"
    vlm = load_vlm(name, write_weights(name, tmp_path / "pe.safetensors"), weights_of="meta")
    resize, normalize = (next(t for t in vlm.preprocess.transforms if isinstance(t, k)) for k in (Resize, Normalize))
    assert tuple(resize.size) == (384, 384) and resize.interpolation == InterpolationMode.BILINEAR
    assert tuple(normalize.mean) == tuple(normalize.std) == (0.5, 0.5, 0.5)


def test_file_without_tag_is_assumed_with_a_warning(vit: Path, caplog: pytest.LogCaptureFixture) -> None:
    vlm = load_vlm("ViT-B-32", vit)
    [warning] = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert "weights_of=TAG" in warning and f"open_clip_config.json in {vit.parent}" in warning and "openai" in warning
    assert "preprocessing assumed" in str(vlm.origin) and vlm.describe()["preprocessing_assumed"] is True
    stated = load_vlm("ViT-B-32", vit, weights_of="laion2b_e16")
    assert vlm.preprocess_config == stated.preprocess_config and activations(vlm) == activations(stated)
    assert vlm.fingerprint != stated.fingerprint and vlm.text_fingerprint == stated.text_fingerprint


def test_commands_refuse_a_file_alone(vit: Path) -> None:
    with pytest.raises(InputError, match=rf"{vit}: .*vlm.weights_of=TAG.*or place their open_clip_config.json in"):
        VLMConfig(name="ViT-B-32", pretrained=str(vit)).load()
    assert activations(VLMConfig(name="ViT-B-32", pretrained=str(vit), weights_of="openai").load()) == {"QuickGELU"}


def test_a_text_tower_needs_only_the_activation(vit: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    strict = {"only_text": True, "assume_preprocessing": False}
    with pytest.raises(InputError, match=r"does not hold the activation it was trained with; give text.weights_of=TAG"):
        load_vlm("ViT-B-32", vit, **strict)
    assert activations(load_vlm("ViT-B-32-quickgelu", vit, **strict)) == {"QuickGELU"}
    file = write_weights(SMALL, tmp_path / "small.safetensors")
    caplog.clear()
    assert load_vlm(SMALL, file, **strict).origin.text_trained and not caplog.records


def write_config(folder: Path, name: str, **changes: Any) -> None:
    preprocess = {"mean": [0, 0, 0], "std": [1, 1, 1], "interpolation": "bilinear", "resize_mode": "squash"}
    config = {"model_cfg": {**open_clip.get_model_config(name), **changes}, "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(config))


def test_a_configuration_beside_the_file(tmp_path: Path) -> None:
    file = write_weights(SMALL, tmp_path / "weights.safetensors")
    write_config(tmp_path, SMALL, quick_gelu=True)
    for name, pretrained in ((SMALL, file), (SMALL, tmp_path), (str(tmp_path), None), (f"local-dir:{tmp_path}", None)):
        vlm = VLMConfig(name=name, pretrained=None if pretrained is None else str(pretrained)).load()
        assert activations(vlm) == {"QuickGELU"} and not vlm.origin.preprocessing_assumed
        assert vlm.preprocess_config["resize_mode"] == "squash" and vlm.preprocess_config["std"] == [1, 1, 1]
        assert vlm.origin.pretrained == str(file)
    write_config(tmp_path, "ViT-M-32-alt")
    with pytest.raises(InputError, match=rf"open_clip_config.json: is no {SMALL}: embed_dim is 384 there and 256 in"):
        load_vlm(SMALL, file)


def test_a_tag_and_a_configuration_that_disagree(vit: Path, tmp_path: Path) -> None:
    file = tmp_path / "w.safetensors"
    file.symlink_to(vit)
    write_config(tmp_path, "ViT-B-32")
    with pytest.raises(InputError, match=r"weights_of=openai: quick_gelu of the tag is True, in .* it is the default"):
        load_vlm("ViT-B-32", file, weights_of="openai")
    write_config(tmp_path, "ViT-B-32", quick_gelu=True)
    with pytest.raises(InputError, match=r"weights_of=laion2b_e16: quick_gelu of the tag is the default, in .* True"):
        load_vlm("ViT-B-32", file, weights_of="laion2b_e16")
    with pytest.raises(InputError, match=r"weights_of=openai: interpolation of the tag is bicubic, in .* is bilinear"):
        load_vlm("ViT-B-32", file, weights_of="openai")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"name": "ViT-B-32", "weights_of": "opnai"},
            "unknown tag weights_of of ViT-B-32 'opnai': did you mean 'openai",
        ),
        ({"name": "ViT-B-16", "weights_of": "laion2b_s34b_b79k"}, "did you mean 'laion2b_s34b_b88k'"),
        ({"name": SMALL, "weights_of": "openai"}, "known: none"),
        ({"name": "ViT-B-32", "pretrained": "openai", "weights_of": "openai"}, "is the tag of a weight file"),
        ({"name": "ViT-B-32", "pretrained": None, "weights_of": "openai"}, "is the tag of a weight file"),
        ({"name": "ViT-B-32", "pretrained": "nowhere.pt", "weights_of": "openai"}, "unknown tag, file or folder"),
        ({"name": "icube-tiny", "pretrained": None, "weights_of": "openai"}, "brings its own weights"),
        ({"name": "hf-hub:a/b", "pretrained": None, "weights_of": "openai"}, "brings its own weights"),
    ],
)
def test_wrong_tags(arguments: dict[str, Any], message: str, vit: Path) -> None:
    with pytest.raises(InputError, match=message) as caught:
        load_vlm(**({"pretrained": vit} | arguments))
    assert len(str(caught.value).splitlines()) == 1


def test_the_offline_message_names_the_key() -> None:
    with pytest.raises(InputError, match=r"give the file as pretrained, with weights_of=dfn2b"):
        load_vlm("ViT-B-16", "dfn2b")


def test_a_tag_that_is_in_the_cache(vit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The README's example: OpenAI's weights under the plain name run with QuickGELU."""
    monkeypatch.setattr("open_clip.factory.download_pretrained", lambda entry: str(vit))
    by_tag = load_vlm("ViT-B-32", "openai")
    assert activations(by_tag) == {"QuickGELU"} and str(by_tag.origin) == "ViT-B-32 (openai)"
    assert by_tag.fingerprint == load_vlm("ViT-B-32-quickgelu", "openai").fingerprint
    assert by_tag.fingerprint == load_vlm("ViT-B-32", vit, weights_of="openai").fingerprint


def test_a_hub_name_has_its_own_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_weights(SMALL, tmp_path / "open_clip_model.safetensors")
    write_config(tmp_path, SMALL, quick_gelu=True)

    def download(repository: str, filename: str | None = None) -> str:
        if repository == "someone/config-only" and filename is None:
            raise FileNotFoundError("no weights")
        return str(tmp_path / (filename or file.name))

    monkeypatch.setattr("open_clip.factory.download_pretrained_from_hf", download)
    vlm = VLMConfig(name="hf-hub:someone/model").load()
    assert activations(vlm) == {"QuickGELU"} and vlm.preprocess_config["mean"] == [0, 0, 0]
    # open_clip goes on with random weights here
    with pytest.raises(InputError, match="could not be downloaded"):
        load_vlm("hf-hub:someone/config-only")


@pytest.mark.parametrize("name", ["model.pt", "pytorch_model.bin", "weights.pth", "w.safetensors"])
def test_the_weights_of_a_folder_are_loaded_whatever_their_name(name: str, tmp_path: Path) -> None:
    """open_clip looks for some of these names, and continues with random weights where it finds none."""
    folder = write_small(tmp_path, "PE-Core-T-16-384")
    state = load_vlm(str(folder), seed=9).model.state_dict()
    if name.endswith("safetensors"):
        save_file({key: value.contiguous() for key, value in state.items()}, folder / name)
    else:
        torch.save(state, folder / name)
    vlm = load_vlm(str(folder))
    assert torch.equal(vlm.token_embedding.weight, state["text.token_embedding.weight"]) and not vlm.weights_warning


def test_folders_that_are_not_clear(tmp_path: Path) -> None:
    folder = write_small(tmp_path, "PE-Core-T-16-384")
    for name in ("a.pt", "b.pt"):
        (folder / name).touch()
    with pytest.raises(InputError, match="holds 2 weight files, exactly one"):
        load_vlm(str(folder))
    (folder / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(InputError, match="weights in several files are not read"):
        load_vlm(str(folder))
    (folder / "model.safetensors.index.json").unlink()
    (folder / "b.pt").unlink()
    (folder / "open_clip_config.json").write_text("[]")
    with pytest.raises(InputError, match="no model_cfg with vision_cfg"):
        load_vlm(str(folder))
    write_config(folder, SMALL)
    content = json.loads((folder / "open_clip_config.json").read_text())
    content["preprocess_cfg"]["resize_mode"] = "stretch"
    (folder / "open_clip_config.json").write_text(json.dumps(content))
    (folder / "a.pt").unlink()
    with pytest.raises(InputError, match=r"preprocess_cfg .* is none of open_clip"):
        load_vlm(str(folder))
