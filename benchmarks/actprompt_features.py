"""What cached features save a training of prompts, and whether decoding keeps up with the tower, in one run.

    OMP_NUM_THREADS=1 python benchmarks/actprompt_features.py
    OMP_NUM_THREADS=1 python benchmarks/actprompt_features.py --data DATA    # of actprompt prepare

Without DATA: videos of white noise, 320x240, 20 frames at 20 fps, MPEG-4 at 2 Mbit/s. The tower is an image tower of
ViT-B-32's size with random weights.

1. Seconds of one epoch: a prompt learner (16 context vectors, 9 classes) and a linear projection of the videos'
   features, batches of 32, 8 frames a video, forward, backward and optimiser step. The frames' features are computed
   by the tower in each step, from decoded and preprocessed frames in memory (decoding, which the cache saves as well,
   is not counted), or read from the folder of features in each step. The two ways take turns; the best epoch of each
   counts. Both start from the same weights; the logits of each step are compared (the cache keeps float16). A third
   row is CoOp's own epoch (`icube_common.CoOp`, 16 vectors, no projection) with the features read once before it,
   reading and the encoding of the final class features counted.
2. Frames a second of decoding and preprocessing (`read_pixels`), in one thread and in the threads of ``actprompt
   extract``, and of the tower, each alone on the machine, and of ``actprompt extract`` as a whole. The rate of decoding
   counts frames that the tower gets: all frames in between are decoded as well.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import av
import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from actprompt.config import VideoConfig
from actprompt.data.extract import extract
from actprompt.data.feature_store import FeatureFolder
from actprompt.data.manifest import Clip, Manifest
from actprompt.data.prepare import prepare
from actprompt.data.video.pixels import read_pixels
from actprompt.data.video.prefetch import decoding_threads, prefetched
from icube_common.experiments.methods import CoOp, FeatureProblem
from icube_common.prompts import Projection, PromptLearner
from icube_common.vlm import FrozenVLM, VLMConfig
from icube_common.vlm.encode import select_output

CLASSES = 9
Batch = tuple[Tensor, Tensor]


def make_noise(folder: Path, videos: int, *, frames: int = 20, seed: int = 0) -> None:
    """Videos of white noise in class folders."""
    generator = np.random.default_rng(seed)
    for number in range(videos):
        path = folder / f"action {number % CLASSES}" / f"{number:04d}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        with av.open(str(path), "w") as container:
            stream = container.add_stream("mpeg4", rate=20)
            stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 320, 240, "yuv420p", 2_000_000
            for _ in range(frames):
                picture = generator.integers(0, 255, (240, 320, 3), dtype=np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode(None))


def epoch(vlm: FrozenVLM, batches: Iterator[Batch]) -> tuple[float, list[Tensor]]:
    """Seconds and the logits of each step, from the same weights each time."""
    torch.manual_seed(0)
    learner = PromptLearner(vlm, [f"action {number}" for number in range(CLASSES)], "random", num_context=16)
    projection = Projection(vlm.embed_dim, vlm.embed_dim)
    learned = [learner.context, *projection.parameters()]
    optimiser = torch.optim.AdamW(learned, lr=1e-3)
    logits = []
    start = time.perf_counter()
    for features, labels in batches:
        found = learner.logits(projection(features.mean((1, 2))))
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(found, labels).backward()
        optimiser.step()
        logits.append(found.detach())
    return time.perf_counter() - start, logits


def computed(vlm: FrozenVLM, pixels: Sequence[Tensor], labels: Tensor, size: int) -> Iterator[Batch]:
    """Batches of features that the tower computes as they are asked for."""
    for start in range(0, len(pixels), size):
        stacked = torch.stack(list(pixels[start : start + size]))
        with torch.no_grad():
            encoded = vlm.encode_image(rearrange(stacked, "b v t c h w -> (b v t) c h w"))
        yield encoded.reshape(*stacked.shape[:3], -1), labels[start : start + size]


class Features:
    """Features of clips in a folder, read one by one: (views, frames, D), float32."""

    def __init__(self, folder: Path, manifest: Manifest, vlm: FrozenVLM, video: VideoConfig) -> None:
        store = FeatureFolder(folder, vlm=vlm, sampling=video.sampling)
        self.cache = store.cache
        self.keys = {name: record.key for name, record in store.records(manifest).items()}

    def get(self, name: str) -> Tensor:
        """Features of a clip."""
        stored = self.cache.get(self.keys[name])
        assert stored is not None
        return select_output(stored, "joint").float()


def read(features: Features, ids: Sequence[str], labels: Tensor, size: int) -> Iterator[Batch]:
    """Batches of features from their folder."""
    for start in range(0, len(ids), size):
        yield torch.stack([features.get(name) for name in ids[start : start + size]]), labels[start : start + size]


def coop_epoch(vlm: FrozenVLM, features: Features, ids: Sequence[str], labels: Tensor, size: int) -> float:
    """Seconds of an epoch of CoOp on features that are read once."""
    start = time.perf_counter()
    joint = torch.stack([features.get(name) for name in ids]).mean((1, 2))
    names = [f"action {number}" for number in range(CLASSES)]
    problem = FeatureProblem(features=joint, joint=joint, labels=labels, class_names=names, vlm=vlm)
    fitted = CoOp(epochs=1, batch_size=size).fit(problem, {"context": 16, "lr": 0.002})
    assert fitted.steps == -(-len(ids) // size)
    return time.perf_counter() - start


def rate(count: int, job: Callable[[], object], rounds: int) -> float:
    """Things a second in the best round."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        job()
        times.append(time.perf_counter() - start)
    return count / min(times)


def compare_epochs(
    vlm: FrozenVLM, manifest: Manifest, clips: Sequence[Clip], features: Features, sampling: VideoConfig, rounds: int
) -> None:
    """Print the first part."""
    labels = torch.from_numpy(manifest.targets())[: len(clips)] % CLASSES
    pixels = [read_pixels(manifest.video(clip), clip, sampling.sampling, vlm) for clip in clips]
    ids, size = [clip.id for clip in clips], 32
    times: dict[str, list[float]] = {"computed": [], "read": [], "CoOp": []}
    for _ in range(rounds):
        seconds, by_tower = epoch(vlm, computed(vlm, pixels, labels, size))
        times["computed"].append(seconds)
        for _ in range(3):
            seconds, by_cache = epoch(vlm, read(features, ids, labels, size))
            times["read"].append(seconds)
        times["CoOp"].append(coop_epoch(vlm, features, ids, labels, size))
    slow, fast, coop = (min(times[way]) for way in times)
    start = time.perf_counter()
    for _ in read(features, ids, labels, size):
        pass
    reading = time.perf_counter() - start
    first = float((by_tower[0] - by_cache[0]).abs().max())
    last = max(float((a - b).abs().max()) for a, b in zip(by_tower, by_cache, strict=True))
    spread = float(by_tower[0].max() - by_tower[0].min())
    print(f"\none epoch, {len(clips)} videos of {sampling.frames} frames, {len(by_tower)} steps of {size}")
    print(f"  tower in each step   {slow:9.3f} s")
    print(f"  features read        {fast:9.3f} s, {reading:.3f} s of it reading")
    print(f"  ratio                {slow / fast:9.1f}")
    print(f"  CoOp, read once      {coop:9.3f} s, ratio {slow / coop:.1f}")
    print(f"  logits differ by at most {first:.1e} in the first step, {last:.1e} in any (they range over {spread:.2f})")


def compare_rates(vlm: FrozenVLM, manifest: Manifest, clips: Sequence[Clip], video: VideoConfig, rounds: int) -> None:
    """Print the second part."""
    sampling = video.sampling
    frames = len(clips) * sampling.views * sampling.frames
    threads = decoding_threads()
    one = rate(frames, lambda: [read_pixels(manifest.video(clip), clip, sampling, vlm) for clip in clips], rounds)
    pooled = rate(
        frames, lambda: [item.seconds for item in prefetched(manifest, clips, vlm, sampling, cache=None)], rounds
    )
    few = clips[: max(1, 256 // sampling.frames)]
    batch = torch.cat([read_pixels(manifest.video(c), c, sampling, vlm).flatten(0, 1) for c in few])
    size = sampling.views * sampling.frames
    with torch.no_grad():
        tower = rate(len(batch), lambda: [vlm.encode_image(part) for part in batch.split(size)], rounds)
    print(f"\nframes a second ({sum(clip.n_frames for clip in clips) / len(clips):.0f} frames in a video)")
    print(f"  decoding and preprocessing, one thread  {one:9.1f}")
    print(f"  decoding and preprocessing, {threads:2d} threads  {pooled:9.1f}")
    print(f"  tower, {size} frames at once                {tower:9.1f}")
    print(f"  decoding / tower                        {pooled / tower:9.1f}")


def main() -> None:
    """Print both parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="a prepared set, in place of noise")
    parser.add_argument("--backbone", default="ViT-B-32", help="any name that load_vlm takes")
    parser.add_argument("--videos", type=int, default=96, help="of noise; of DATA, at most")
    parser.add_argument("--rounds", type=int, default=2)
    args = parser.parse_args()
    name, video = VLMConfig(name=args.backbone), VideoConfig(frames=8)
    vlm = name.load()
    print(f"{vlm.origin}; torch {torch.__version__}, {torch.get_num_threads()} threads, {os.cpu_count()} processors")
    with tempfile.TemporaryDirectory() as folder:
        if args.data is None:
            make_noise(Path(folder) / "videos", args.videos)
            manifest = prepare("folder", Path(folder) / "videos", Path(folder) / "data")
        else:
            manifest = Manifest.load(args.data)
        clips = manifest.clips[: args.videos]
        result = extract(manifest.folder, Path(folder) / "features", vlm=name, sampling=video.sampling)
        features = Features(Path(folder) / "features", manifest, vlm, video)
        compare_epochs(vlm, manifest, clips, features, video, args.rounds)
        compare_rates(vlm, manifest, clips, video, args.rounds)
        print(f"  actprompt extract, all of it            {8 * result['clips_per_second']:9.1f}")


if __name__ == "__main__":
    main()
