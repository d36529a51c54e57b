"""Small models of each kind of text tower, made on this machine: nothing is downloaded."""

from __future__ import annotations

import json
from pathlib import Path

from icube_common.vlm import FrozenVLM, load_vlm

_TEXT = """a photo of two people person drinks from the bottle walking sitting down answering phone waving hand slowly
takes sip water . drinking"""
WORDS = list(dict.fromkeys(_TEXT.split()))
VISION = {"image_size": 32, "patch_size": 16, "layers": 1, "width": 32, "head_width": 16}


def write_tokenizer(folder: Path, *, siglip: bool = False) -> Path:
    """A word-level Hugging Face tokenizer: BERT's special tokens, or SigLIP's end that is the padding too."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    specials = ["<unk>", "</s>"] if siglip else ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    vocabulary = {word: number for number, word in enumerate([*specials, *WORDS])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token=specials[0] if siglip else "[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    if siglip:
        inner.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=inner, unk_token="<unk>", eos_token="</s>", pad_token="</s>"
        )
    else:
        inner.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
        )
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=inner, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
        )
    tokenizer.save_pretrained(folder)
    return folder


def write_hf_folder(folder: Path) -> Path:
    """A folder as BiomedCLIP's, with a small BERT of random weights as its text tower."""
    from transformers import BertConfig

    write_tokenizer(folder)
    BertConfig(
        vocab_size=64,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        pad_token_id=0,
    ).save_pretrained(folder)
    text = {"hf_model_name": str(folder), "hf_tokenizer_name": str(folder), "context_length": 24}
    text |= {"hf_proj_type": "mlp", "hf_pooler_type": "cls_last_hidden_state_pooler"}
    config = {"model_cfg": {"embed_dim": 24, "vision_cfg": VISION, "text_cfg": text}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    return folder


def write_small(folder: Path, name: str) -> Path:
    """The architecture of an open_clip model with its text tower's every setting, but few and narrow layers."""
    import open_clip

    config = open_clip.get_model_config(name)
    config["embed_dim"] = 24
    config["vision_cfg"] = VISION
    config["text_cfg"] |= {"width": 64, "heads": 4, "layers": 2}
    if "multimodal_cfg" in config:
        config["multimodal_cfg"] |= {"width": 64, "heads": 4, "layers": 1}
        config["vision_cfg"] = {**VISION, "attentional_pool": True, "attn_pooler_heads": 2, "output_tokens": True}
    folder.mkdir(exist_ok=True)
    if "hf_tokenizer_name" in config["text_cfg"]:
        write_tokenizer(folder, siglip=True)
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    return folder


# small image towers of each kind: open_clip's own two, and timm's behind its adapter
IMAGE_TOWERS: dict[str, dict[str, object]] = {
    "ViT": VISION,
    "ModifiedResNet": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16, "head_width": 16, "patch_size": None},
    "attention pooling": {**VISION, "attentional_pool": True, "attn_pooler_heads": 2},
    "custom attention": {**VISION, "qk_norm": True, "scale_heads": True, "ls_init_value": 0.1},
    "SigLIP": {"timm_model_name": "test_vit3", "image_size": 160, "timm_pool": "map", "timm_proj": "none"},
    "EVA": {"timm_model_name": "eva02_tiny_patch14_224", "image_size": 224, "timm_pool": "token"},
    "PE-Core": {"timm_model_name": "vit_pe_core_tiny_patch16_384", "image_size": 384, "timm_proj": "none"},
    "ConvNeXt": {"timm_model_name": "test_convnext", "image_size": 160, "timm_pool": "", "timm_proj": "linear"},
    "MobileCLIP": {"timm_model_name": "fastvit_t8", "image_size": 256, "timm_pool": "avg", "timm_proj": None},
    "ViTamin": {"timm_model_name": "test_vit_relpos", "image_size": 160, "timm_pool": "avg", "timm_proj": "mlp"},
}


def write_image_tower(folder: Path, kind: str) -> Path:
    """A folder of a model with a small text tower and one of `IMAGE_TOWERS`."""
    width = 512 if kind == "PE-Core" else 64
    text = {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
    config = {"embed_dim": width, "vision_cfg": IMAGE_TOWERS[kind], "text_cfg": text, "custom_text": True}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    return folder


def load_tower(name: str, folder: Path) -> FrozenVLM:
    """A built-in, ``hf`` for a small BERT, or an open_clip name for a small model of that architecture."""
    if name.startswith("icube-"):
        return load_vlm(name)
    return load_vlm(str(write_hf_folder(folder) if name == "hf" else write_small(folder, name)))
