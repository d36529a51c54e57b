"""Florence 3D Actions with its coloured joint dots painted over, as a control of models that see the pixels.

    python benchmarks/florence_painted_dots.py FLORENCE OUT
    actprompt prepare --format florence3d OUT --out PAINTED
    actprompt pose --data PAINTED
    actprompt evaluate --config libs/actprompt/configs/florence3d_video.yaml --data PAINTED --out EVAL

The videos of the set show the joints of the Kinect as red or yellow dots of about five pixels. Small blobs of these
colours are masked, with a margin of three pixels, and each masked pixel takes the colour of the nearest one outside,
smoothed inside the mask. Large red or yellow areas (clothes, furniture) stay. OUT is a folder like FLORENCE; it holds
people and belongs in no repository.
"""

from __future__ import annotations

import argparse
import csv
import shutil
from pathlib import Path

import av
import numpy as np
from scipy import ndimage
from tqdm import tqdm

from actprompt.data.video import iterate_frames

FPS = 20
MAX_PIXELS, MARGIN = 70, 3
"""Pixels of the largest blob that is a dot, and the margin around it."""


def dots(frame: np.ndarray) -> np.ndarray:
    """Mask (H, W) of the dots of a frame (H, W, 3), with their margin."""
    red, green, blue = (frame[..., channel].astype(int) for channel in range(3))
    coloured = (red > 150) & (blue < 100) & ((green < 90) | (green > 150)) & (red - blue > 100)
    labels, count = ndimage.label(coloured, structure=np.ones((3, 3)))
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    small = sizes <= MAX_PIXELS
    small[0] = False
    return ndimage.binary_dilation(small[labels], iterations=MARGIN)


def painted(frame: np.ndarray) -> np.ndarray:
    """The frame without dots."""
    mask = dots(frame)
    nearest = ndimage.distance_transform_edt(mask, return_distances=False, return_indices=True)
    filled = frame[tuple(nearest)].astype(np.float64)
    smooth = ndimage.gaussian_filter(filled, (1.5, 1.5, 0))
    return np.where(mask[..., None], smooth, frame).round().astype(np.uint8)


def write_video(path: Path, frames: list[np.ndarray]) -> None:
    """Write frames as H.264 of high quality."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"crf": "12"})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("florence", type=Path, metavar="FLORENCE")
    parser.add_argument("out", type=Path, metavar="OUT")
    args = parser.parse_args()
    (args.out / "clips").mkdir(parents=True)
    for name in ("index.csv", "features.txt"):
        shutil.copy(args.florence / name, args.out / name)
    with (args.florence / "index.csv").open(encoding="utf-8") as handle:
        names = [row["clip"] for row in csv.DictReader(handle)]
    covered = []
    for name in tqdm(names, unit="clip"):
        frames = list(iterate_frames(args.florence / "clips" / name))
        covered += [ndimage.label(dots(frame))[1] for frame in frames]
        write_video(args.out / "clips" / name, [painted(frame) for frame in frames])
    print(f"{len(names)} clips; dots painted over in a frame: mean {np.mean(covered):.1f}, least {min(covered)}")


if __name__ == "__main__":
    main()
