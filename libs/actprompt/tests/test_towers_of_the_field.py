"""BiomedCLIP's, SigLIP 2's and PE-Core's architectures with random weights: features, prompts, a step, adapters.

No weights of these models are on this machine: what is tested is that their configurations load and run.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from act_world import settings, write_knowledge, write_set
from vlm_encoders import write_hf_folder, write_tokenizer

from actprompt import ActConfig, ActionModel, ActionPipeline, VideoDataset, train
from actprompt.data.extract import video_features
from icube_common.vlm import FinetuneConfig, VLMConfig, load_vlm

SMALL_TEXT = {"width": 32, "heads": 2, "layers": 1}


def biomedclip(folder: Path) -> Path:
    """A timm ViT with the class token's linear projection, and a BERT with a local configuration and tokenizer."""
    write_hf_folder(folder)
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"]["vision_cfg"] = {
        "timm_model_name": "test_vit", "timm_model_pretrained": False, "timm_pool": "", "timm_proj": "linear",
        "image_size": 160,
    }  # fmt: skip
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    return folder


def open_clip_model(folder: Path, name: str, vision: dict[str, Any], width: int, **text: Any) -> Path:
    """The configuration of an open_clip model, with an image tower of its kind and a text tower that are small."""
    import open_clip

    config = open_clip.get_model_config(name)
    config["embed_dim"] = width
    config["vision_cfg"] |= vision
    config["text_cfg"] |= SMALL_TEXT | text
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    return folder


def siglip2(folder: Path) -> Path:
    write_tokenizer(folder, siglip=True)
    width = timm.create_model("test_vit3").num_features
    vision = {"timm_model_name": "test_vit3", "image_size": 160}
    return open_clip_model(folder, "ViT-B-16-SigLIP2", vision, width, heads=2, vocab_size=64)


def pe_core(folder: Path) -> Path:
    # its smallest image tower as it is
    return open_clip_model(folder, "PE-Core-T-16-384", {}, 512)


TOWERS = {"BiomedCLIP": biomedclip, "SigLIP 2": siglip2, "PE-Core": pe_core}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("towers")
    write_set(folder / "data", takes=1, people=("p1", "p2"), labels=("bow", "wave"))
    write_knowledge(folder / "knowledge.yaml", ("bow", "wave"))
    return folder


def config(place: Path, folder: Path, mode: str) -> ActConfig:
    made = settings(
        knowledge=str(place / "knowledge.yaml"),
        skeleton={"enabled": False},
        video={"frames": 2},
        train={"max_steps": 1, "batch_size": 2},
        prompt={"init": "template", "template": "a photo of {}", "learn": True},
    )
    finetune = FinetuneConfig(mode=mode, rank=2)
    return replace(made, vlm=VLMConfig(name=str(folder)), finetune=finetune)


@pytest.mark.parametrize("name", TOWERS)
def test_features_prompts_and_a_step(name: str, place: Path, tmp_path: Path) -> None:
    pytest.importorskip("peft", reason="the extra icube-common[finetune] is not installed")
    (tmp_path / "tower").mkdir()
    folder = TOWERS[name](tmp_path / "tower")
    data, chosen = VideoDataset(place / "data"), config(place, folder, "none")
    model = ActionModel.for_dataset(data, chosen)
    assert "untrained" in model.vlm.weights_warning
    features = video_features(data.manifest, data.manifest.clips, model.vlm, chosen.video.sampling)
    assert {tuple(value.shape) for value in features.values()} == {(1, 2, model.vlm.feature_dim)}
    assert torch.isfinite(torch.stack(list(features.values()))).all()
    frozen = train(model, data, out=tmp_path / "frozen")
    assert frozen.fit.steps == 1

    tuned = ActionModel.for_dataset(data, config(place, folder, "lora"), vlm=model.vlm)
    assert tuned.visual is not None and tuned.visual.tower is not None
    before = {key: value.clone() for key, value in tuned.visual.tower.state_dict().items()}
    # adapters of the attention and the MLP of every block
    assert any("attn" in key for key in before) and any("mlp" in key for key in before)
    context = tuned.prompts.context.detach().clone()
    train(tuned, data, out=tmp_path / "tuned")
    after = tuned.visual.tower.state_dict()
    assert any(not torch.equal(value, before[key]) for key, value in after.items())
    assert not torch.equal(tuned.prompts.context, context)
    tuned.visual.tower.check_frozen()  # type: ignore[operator]
    video = place / "data" / "videos" / "p1-wave-0.avi"
    loaded, mine = ActionPipeline.from_pretrained(tmp_path / "tuned"), ActionPipeline(tuned)
    np.testing.assert_array_equal(loaded(video).probabilities, mine(video).probabilities)


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("ICUBE_FULL_SIZE"), reason="builds full-size towers: set ICUBE_FULL_SIZE=1")
@pytest.mark.parametrize("name", ["BiomedCLIP", "ViT-B-16-SigLIP2", "PE-Core-B-16"])
def test_full_size(name: str, tmp_path: Path) -> None:
    """ViT-B/16 with BERT-base (BiomedCLIP), and two configurations of open_clip: features of images and token ids."""
    from transformers import BertConfig

    if name == "BiomedCLIP":
        write_hf_folder(tmp_path)
        BertConfig(vocab_size=30522, max_position_embeddings=512).save_pretrained(tmp_path)
        config = json.loads((tmp_path / "open_clip_config.json").read_text())
        config["model_cfg"] |= {"embed_dim": 512}
        config["model_cfg"]["vision_cfg"] = {
            "timm_model_name": "vit_base_patch16_224", "timm_model_pretrained": False, "timm_pool": "",
            "timm_proj": "linear", "image_size": 224,
        }  # fmt: skip
        (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    vlm = load_vlm(str(tmp_path) if name == "BiomedCLIP" else name)
    size = vlm.preprocess_config["size"]
    with torch.no_grad():
        images = vlm.encode_image(torch.randn(2, 3, *size))
        ids = torch.ones(2, vlm.context_length, dtype=torch.long)
        texts = vlm.encode_text(ids)
    assert images.shape == texts.shape == (2, vlm.embed_dim) and bool(torch.isfinite(images).all())
