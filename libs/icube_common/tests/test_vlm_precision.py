"""Towers in bf16 give the features of fp32, and gradients, whatever their kind."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from vlm_encoders import IMAGE_TOWERS, write_hf_folder, write_image_tower, write_small

from icube_common.prompts import PromptLearner
from icube_common.vlm import FrozenVLM, load_vlm

TEXT_TOWERS = [
    *("icube-tiny", "icube-minilm", "hf", "EVA02-B-16", "PE-Core-T-16-384", "MobileCLIP-S1", "ViT-B-16-SigLIP"),
    *("ViT-B-16-SigLIP2", "coca_ViT-B-32"),
]


def pair(name: str) -> tuple[FrozenVLM, FrozenVLM]:
    return load_vlm(name, precision="bf16"), load_vlm(name)


def folder_of(name: str, folder: Path) -> str:
    if name.startswith("icube-"):
        return name
    return str(write_hf_folder(folder) if name == "hf" else write_small(folder, name))


def cosine(one: Tensor, other: Tensor) -> float:
    return float(F.cosine_similarity(one, other, dim=-1).min())


def noise(vlm: FrozenVLM) -> Tensor:
    return torch.randn(3, 3, *vlm.preprocess_config["size"], generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kind", IMAGE_TOWERS)
def test_images_in_bf16(kind: str, tmp_path: Path) -> None:
    half, full = pair(str(write_image_tower(tmp_path, kind)))
    found = half.encode_image(noise(full))
    assert found.dtype == torch.float32 and half.fingerprint != full.fingerprint
    assert torch.bfloat16 in {value.dtype for value in half.model.visual.parameters()}
    assert cosine(found, full.encode_image(noise(full))) > 0.99


@pytest.mark.parametrize("name", TEXT_TOWERS)
def test_texts_and_prompts_in_bf16(name: str, tmp_path: Path) -> None:
    half, full = pair(folder_of(name, tmp_path))
    names = ["walking", "sitting down", "drinking"]
    assert cosine(half.encode_image(noise(full)), full.encode_image(noise(full))) > 0.99
    assert cosine(half.encode_text(names), full.encode_text(names)) > 0.99
    made = []
    for vlm in (half, full):
        learner = PromptLearner(vlm, names, init="template")
        (learner() * torch.linspace(-1, 1, vlm.embed_dim)).sum().backward()
        made.append((learner().detach(), learner.context.grad))
    assert cosine(made[0][0], made[1][0]) > 0.99
    assert made[0][1].dtype == torch.float32 and made[0][1].abs().max() > 0
    assert cosine(made[0][1].flatten(), made[1][1].flatten()) > 0.9


@pytest.mark.parametrize("name", ["ViT-B-32", "RN50", "PE-Core-T-16-384"])
def test_models_of_full_size_in_bf16(name: str) -> None:
    half, full = pair(name)
    ids = torch.randint(1, 1000, (2, full.context_length), generator=torch.Generator().manual_seed(1))
    assert cosine(half.encode_image(noise(full)), full.encode_image(noise(full))) > 0.99
    with torch.no_grad():
        assert cosine(half.encode_text(ids), full.encode_text(ids)) > 0.99


def test_weights_of_a_file_in_bf16(tmp_path: Path) -> None:
    """Read in fp32, then cast: a file of half precision too."""
    folder = write_small(tmp_path, "ViT-B-16-SigLIP")
    state = load_vlm(str(folder), seed=4).model.state_dict()
    torch.save({key: value.half() for key, value in state.items()}, folder / "weights.pt")
    half, full = pair(str(folder))
    assert full.token_embedding.weight.dtype == torch.float32
    ids = torch.ones(1, 64, dtype=torch.long)
    assert cosine(half.encode_text(ids), full.encode_text(ids)) > 0.99


def test_no_precision_leaves_the_context_of_autocast_alone() -> None:
    vlm = load_vlm("icube-tiny")
    kinds = set()
    handle = vlm.model.visual.conv1.register_forward_hook(lambda module, inputs, output: kinds.add(output.dtype))
    pixels = torch.zeros(1, 3, 96, 96)
    vlm.encode_image(pixels)
    with torch.autocast("cpu", torch.bfloat16):
        assert vlm.encode_image(pixels).dtype == torch.float32
    handle.remove()
    assert kinds == {torch.float32, torch.bfloat16}
