"""Time of an epoch of prompt training on 1,000 subjects with cached slice features and with the image encoder.

    OMP_NUM_THREADS=1 python benchmarks/debian_mri_features.py

Slices are noise, three a subject, preprocessed in memory. The encoder is an image encoder of ViT-B-32's size with
random weights. One epoch trains attention pooling, a linear projection and 16 context vectors for five
diagnoses: batches of 32, forward, backward, optimiser step. In each step features are read from their folder, for
all subjects, or computed by the encoder, for ``--recomputed`` of them, with the time scaled to all. Both start from the
same weights, and the logits of the first step are compared over the shared subjects (the cache stores float16). Reading
and preprocessing of images, which the cache saves too, are not counted.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from PIL import Image
from torch import Tensor

from debian_mri.models.slice_pooling import SlicePooling
from icube_common.prompts import Projection, PromptLearner
from icube_common.vlm import FeatureCache, FrozenVLM, VLMConfig, feature_key

DIAGNOSES = ("CN", "MCI", "AD", "DLB", "PD")
SLICES, BATCH = 3, 32
Batch = tuple[Tensor, Tensor]


def epoch(vlm: FrozenVLM, batches: Iterator[Batch]) -> tuple[float, Tensor]:
    """Seconds of an epoch, and the logits of its first step, from the same weights each time."""
    learner = PromptLearner(vlm, list(DIAGNOSES), "random", num_context=16)
    pooling = SlicePooling("attention", vlm.embed_dim, slices=SLICES)
    torch.manual_seed(0)
    projection = Projection(vlm.embed_dim, vlm.embed_dim)
    optimiser = torch.optim.AdamW([learner.context, *pooling.parameters(), *projection.parameters()], lr=1e-3)
    first = None
    start = time.perf_counter()
    for features, labels in batches:
        logits = learner.logits(projection(pooling(features)))
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(logits, labels).backward()
        optimiser.step()
        first = logits.detach() if first is None else first
    seconds = time.perf_counter() - start
    assert first is not None
    return seconds, first


def pixels_of(vlm: FrozenVLM, subject: int) -> Tensor:
    """Preprocessed noise images as a subject's slices."""
    noise = np.random.default_rng(subject).integers(0, 255, (SLICES, 176, 208), dtype=np.uint8)
    return torch.stack([vlm.preprocess(Image.fromarray(image).convert("RGB")) for image in noise])


def encode(vlm: FrozenVLM, pixels: Tensor) -> Tensor:
    """Features (B, S, D) of pixels (B, S, 3, H, W)."""
    with torch.no_grad():
        features = vlm.encode_image(rearrange(pixels, "b s c h w -> (b s) c h w"))
    return rearrange(features, "(b s) d -> b s d", s=SLICES)


def computed(vlm: FrozenVLM, pixels: list[Tensor], labels: Tensor) -> Iterator[Batch]:
    """Batches of features, computed by the encoder on demand."""
    for start in range(0, len(pixels), BATCH):
        yield encode(vlm, torch.stack(pixels[start : start + BATCH])), labels[start : start + BATCH]


def read(cache: FeatureCache, keys: list[str], labels: Tensor) -> Iterator[Batch]:
    """Batches of features from their folder."""
    for start in range(0, len(keys), BATCH):
        entries = [cache.get(key) for key in keys[start : start + BATCH]]
        yield torch.stack([item["slices"].float() for item in entries if item]), labels[start : start + BATCH]


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="ViT-B-32", help="name of a backbone of load_vlm")
    parser.add_argument("--subjects", type=int, default=1000)
    parser.add_argument(
        "--recomputed", type=int, default=128, help="number of subjects with features computed by the encoder"
    )
    args = parser.parse_args()
    vlm = VLMConfig(name=args.backbone).load()
    print(f"{vlm.origin}; torch {torch.__version__}, {torch.get_num_threads()} threads, {os.cpu_count()} processors")
    labels = torch.arange(args.subjects) % len(DIAGNOSES)
    pixels = [pixels_of(vlm, subject) for subject in range(args.recomputed)]
    with tempfile.TemporaryDirectory() as folder:
        cache = FeatureCache(Path(folder), half=True)
        keys = [feature_key(vlm.fingerprint, f"subject {subject}", {}) for subject in range(args.subjects)]
        for start in range(0, args.recomputed, BATCH):
            for key, item in zip(
                keys[start : start + BATCH], encode(vlm, torch.stack(pixels[start : start + BATCH])), strict=False
            ):
                cache.put(key, {"slices": item})
        for subject in range(args.recomputed, args.subjects):  # other values do not change the time
            stored = cache.get(keys[subject % args.recomputed])
            assert stored is not None
            cache.put(keys[subject], {name: value.float() for name, value in stored.items()})
        fast = min(epoch(vlm, read(cache, keys, labels))[0] for _ in range(3))
        slow, by_encoder = epoch(vlm, computed(vlm, pixels, labels[: args.recomputed]))
        _, by_cache = epoch(vlm, read(cache, keys[: args.recomputed], labels[: args.recomputed]))
    scaled = slow * args.subjects / args.recomputed
    print(f"one epoch, {args.subjects} subjects of {SLICES} slices, batches of {BATCH}")
    print(f"  encoder in each step {scaled:9.2f} s (measured on {args.recomputed}: {slow:.2f} s)")
    print(f"  features read        {fast:9.2f} s")
    print(f"  ratio                {scaled / fast:9.1f}")
    print(f"  logits of the first step differ by at most {float((by_encoder - by_cache).abs().max()):.1e}")


if __name__ == "__main__":
    main()
