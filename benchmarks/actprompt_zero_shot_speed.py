"""Zero-shot over 10,000 cached clips: the time of the comparison beside that of reading the clips' features.

    OMP_NUM_THREADS=1 python benchmarks/actprompt_zero_shot_speed.py

Features are random: one view of 8 frames in half precision, one file a clip, as ``actprompt extract``
stores them. Reading is `FeatureCache.get` of each clip; the comparison is that of ``actprompt zero-shot``
(`actprompt.evaluation.zero_shot.predict`) with 400 classes. It encodes the prompts once, whatever the number of clips;
that part is timed by itself and taken off. Seconds of the processor, best of the rounds; files lie in the system's
cache.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tempfile
import time
from pathlib import Path

import torch

from actprompt.evaluation.zero_shot import predict
from icube_common.prompts import ClassTexts, PromptConfig
from icube_common.vlm import FeatureCache, load_vlm


def main() -> None:
    """Print seconds and their ratio as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=10_000)
    parser.add_argument("--classes", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    vlm = load_vlm("icube-tiny")
    names = {f"c{number}": f"class {number}" for number in range(args.classes)}
    texts = ClassTexts(names, {label: f"a person does {name}" for label, name in names.items()}, {})
    learner = texts.prompts(vlm, list(names), PromptConfig(init="descriptions")).eval()
    generator = torch.Generator().manual_seed(0)
    reading, comparing, encoding = [], [], []
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        cache = FeatureCache(Path(folder), half=True)
        keys = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(args.clips)]
        for key in keys:
            cache.put(key, {"features": torch.randn(1, 8, vlm.embed_dim, generator=generator).half()})
        learner.logits(torch.zeros(1, vlm.embed_dim))
        for _ in range(args.rounds):
            begun = time.process_time()
            stored = [cache.get(key) for key in keys]
            features = [clip["features"].float() for clip in stored if clip is not None]
            read = time.process_time()
            predict(learner, features)
            compared = time.process_time()
            learner()
            encoding.append(time.process_time() - compared)
            comparing.append(compared - read)
            reading.append(read - begun)
    result = {"clips": args.clips, "classes": args.classes, "width": vlm.embed_dim}
    read, encode = min(reading), min(encoding)
    compare = min(comparing) - encode
    result |= {"read_s": round(read, 3), "encode_s": round(encode, 3), "compare_s": round(compare, 3)}
    print(json.dumps({**result, "compare_over_read": round(compare / read, 4)}))


if __name__ == "__main__":
    main()
