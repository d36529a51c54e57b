"""Are prompts, before training, the sentences that they start as, on open_clip's text towers of full size?

    python benchmarks/prompt_parity.py

For each tower, with random weights of a seed: the largest difference between the features of prompts whose vectors are
a sentence's token embeddings and open_clip's own ``encode_text`` of that sentence, with the class name at the end, in
the middle and in front. Tokenizers that lie on a hub (SigLIP, Hugging Face towers) are not needed: random ids are laid
out by the tower's rules. Last, on the causal towers, in alternation: seconds of forward and backward for 50 classes of
24 tokens with all of the padding, with it cut, and with the start and 16 shared vectors computed once as well
(``compact``), best of several, and the largest difference of their features.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from icube_common.prompts.layout import PromptParts, Slots, lay_out
from icube_common.vlm import FrozenVLM, TextTokens, load_vlm
from icube_common.vlm.text_encoder import trim_padding

TOWERS = (
    "ViT-B-32",
    "ViT-B-16",
    "EVA02-B-16",
    "PE-Core-T-16-384",
    "MobileCLIP-S1",
    "ViT-B-16-SigLIP",
    "coca_ViT-B-32",
)


def hugging_face_folder(folder: Path) -> str:
    """A BERT text tower of BiomedCLIP's kind, from a configuration written here."""
    from transformers import BertConfig

    BertConfig(vocab_size=1000, hidden_size=256, num_hidden_layers=4, num_attention_heads=4).save_pretrained(folder)
    text = {"hf_model_name": str(folder), "hf_proj_type": "mlp", "hf_pooler_type": "cls_last_hidden_state_pooler"}
    vision = {"image_size": 32, "patch_size": 16, "layers": 1, "width": 64, "head_width": 32}
    config = {"embed_dim": 128, "vision_cfg": vision, "text_cfg": {**text, "context_length": 64}}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    return str(folder)


def rules(name: str, vlm: FrozenVLM) -> TextTokens:
    """The tower's layout of ids; spelt out where its tokenizer is on a hub."""
    if name == "HF (BERT)":
        return TextTokens((101,), (102,), 0, vlm.context_length, lambda text: [7] * len(text.split()), str)
    if "SigLIP" in name:
        return TextTokens((), (1,), 1, vlm.context_length, lambda text: [7] * len(text.split()), str)
    return vlm.tokens


def parity(vlm: FrozenVLM, tokens: TextTokens, *, count: int = 4) -> dict[str, float]:
    """Largest difference for each place of the class name."""
    generator = torch.Generator().manual_seed(0)
    table, differences = vlm.token_embedding.weight, {}
    for place in ("end", "middle", "front"):
        words = torch.randint(110, 900, (6,), generator=generator)
        prompts = []
        for number in range(count):
            name = tuple(torch.randint(110, 900, (1 + number,), generator=generator).tolist())
            parts = {
                "end": (Slots(0, 6), name),
                "middle": (Slots(0, 3), name, Slots(3, 3)),
                "front": (name, Slots(0, 6)),
            }[place]
            prompts.append(PromptParts(number, f"class {number}", parts))
        layout = lay_out(prompts, tokens)
        with torch.no_grad():
            encode: Any = vlm.model.encode_text
            want = F.normalize(encode(layout.filled(words), normalize=False), dim=-1)
            put_in = table[words][layout.slots.clamp(min=0)]
            got = F.normalize(vlm.encode_ids(layout.ids, put_in, layout.where), dim=-1)
            # the same places with other vectors must not give the same: the vectors are really put in
            other = F.normalize(vlm.encode_ids(layout.ids, put_in.flip(2), layout.where), dim=-1)
        assert float((other - want).abs().max()) > 1e-4
        differences[place] = float((got - want).abs().max())
    return differences


def cutting(vlm: FrozenVLM, *, classes: int, length: int, repeats: int) -> dict[str, float]:
    """Seconds of forward and backward: whole, padding cut, shared columns once; largest difference of the features."""
    name = tuple([320] * (length - 2 - 16))
    layout = lay_out([PromptParts(0, "class", (Slots(0, 16), name))] * classes, vlm.tokens)
    short = trim_padding(layout.ids).shape[1]
    columns = {"whole": (layout.ids.shape[1], 0), "cut": (short, 0), "shared": (short, 17)}
    vectors = torch.randn(16, vlm.token_width, generator=torch.Generator().manual_seed(0)) * 0.02
    vectors.requires_grad_(True)
    seconds: dict[str, list[float]] = {kind: [] for kind in columns}
    features = {}
    for _ in range(repeats + 1):
        for kind, (upto, shared) in columns.items():
            start = time.perf_counter()
            put_in = vectors[layout.slots[:, :upto].clamp(min=0)]
            ids, where = layout.ids[:, :upto], layout.where[:, :upto]
            found = F.normalize(vlm.encode_ids(ids, put_in, where, shared=shared), dim=-1)
            found[:, 0].sum().backward()
            seconds[kind].append(time.perf_counter() - start)
            features[kind] = found.detach()
    best = {kind: min(values[1:]) for kind, values in seconds.items()}
    differences = [float((features["whole"] - features[kind]).abs().max()) for kind in ("cut", "shared")]
    return {**best, "difference": max(differences)}


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    print(f"{'tower':<20}{'end':>10}{'middle':>10}{'front':>10}")
    timings = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in (*TOWERS, "HF (BERT)", "icube-minilm"):
            vlm = load_vlm(hugging_face_folder(Path(folder)) if name == "HF (BERT)" else name)
            found = parity(vlm, rules(name, vlm))
            print(f"{name:<20}" + "".join(f"{value:>10.1e}" for value in found.values()), flush=True)
            if name in ("ViT-B-32", "EVA02-B-16"):
                timings[name] = cutting(vlm, classes=50, length=24, repeats=arguments.repeats)
    print("\ncut padding, 50 classes of 24 tokens, forward + backward")
    for name, row in timings.items():
        print(
            f"{name:<20}whole {row['whole']:.2f} s, cut {row['cut']:.2f} s: {row['whole'] / row['cut']:.2f}x, "
            f"shared context once {row['shared']:.2f} s: {row['cut'] / row['shared']:.2f}x, "
            f"features differ by {row['difference']:.1e}"
        )


if __name__ == "__main__":
    main()
