"""What the cache of features saves: reading the features of a frozen image tower against computing them, in one run.

    OMP_NUM_THREADS=1 python benchmarks/feature_cache.py --backbone icube-tiny

Each source is a scan of 32 slices, simulated noise at the backbone's own image size. Decoding and preprocessing, which
the cache saves as well, are not counted. Rounds of computing without a cache, writing and reading follow one another;
the best round of each counts. Reading is from files that were just written, so from memory where there is enough.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from icube_common.vlm import FeatureCache, encode_frames, feature_key, file_key, load_vlm


def seconds(job: Callable[[], object]) -> float:
    """Wall time of one call."""
    begun = time.perf_counter()
    job()
    return time.perf_counter() - begun


def main() -> None:
    """Print one line per way, in milliseconds per source, and the rate of hashing files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="icube-tiny", help="any name that load_vlm takes")
    parser.add_argument("--pretrained", default=None, help="open_clip tag, weight file or folder")
    parser.add_argument("--size", type=int, default=96, help="pixels of an image's side, the backbone's own")
    parser.add_argument("--sources", type=int, default=20)
    parser.add_argument("--slices", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    vlm = load_vlm(args.backbone, args.pretrained)
    print(vlm.origin)
    generator = torch.Generator().manual_seed(0)
    shape = (args.slices, 3, args.size, args.size)
    scans: list[Tensor] = [torch.randn(shape, generator=generator) for _ in range(args.sources)]
    keys = [feature_key(vlm.fingerprint, str(number), {"slices": args.slices}) for number in range(args.sources)]
    times: dict[str, list[float]] = {"computed, no cache": [], "computed and stored": [], "read": []}
    for _ in range(args.rounds):
        with tempfile.TemporaryDirectory() as folder:
            cache = FeatureCache(folder, half=True)

            def cached(cache: FeatureCache = cache) -> list[Tensor]:
                pairs = zip(scans, keys, strict=True)
                return [encode_frames(vlm, scan, batch_size=args.slices, cache=cache, key=key) for scan, key in pairs]

            times["computed, no cache"].append(seconds(lambda: [encode_frames(vlm, scan) for scan in scans]))
            times["computed and stored"].append(seconds(cached))
            times["read"].append(seconds(cached))
            stats = cache.stats()
            assert (stats.hits, stats.misses) == (args.sources, args.sources)
    best = {way: min(values) / args.sources for way, values in times.items()}
    for way, value in best.items():
        print(f"{way:<22} {value * 1e3:9.3f} ms per source of {args.slices} slices")
    print(f"reading is {best['computed, no cache'] / best['read']:.0f} times as fast as computing")
    print(f"{stats.bytes / stats.files / 1024:.1f} KiB per source in float16")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "scan"
        file.write_bytes(bytes(1 << 26))
        print(f"hashing a file: {(1 << 26) / seconds(lambda: file_key(file)) / 1e6:.0f} MB/s")


if __name__ == "__main__":
    main()
