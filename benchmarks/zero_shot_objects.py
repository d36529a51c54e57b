"""Zero-shot naming of single objects: the stamps of Debian's package tuxpaint-stamps-default against 157 names.

    apt-get download tuxpaint-stamps-default && dpkg-deb -x tuxpaint-stamps-default_*.deb STAMPS
    python benchmarks/zero_shot_objects.py STAMPS --out FILE.json

The stamps (GPL) are read from the unpacked package and copied nowhere. ``zero_shot_objects.csv`` lists them with their
names, by a rule that looks at no image: stamps whose English line is "A(n) <one word>.", outside the folders cartoon,
people, symbols and military; the first stamp of a name in alphabetical order; without nine names of a sex, of a young
one, or synonymous with another (drake, bull, ram, doe, dromedary, bunny, chick, headstone, tombstone). The column
``imagenet`` holds a lemma of the ImageNet class of that name, of a kind of it, or of the kind that it is of; none for
names outside ImageNet. PNG are read by Pillow, SVG drawn by CairoSVG (pip install cairosvg).

An object is centred on a white square, with a margin of a tenth of its longer side. Text features are those of the
library's default prompt ("a photo of a <name>."). Recall@1 is the share of stamps whose own name has the highest cosine
of all names. Names permuted: the mean over 100 random permutations of the names among the stamps.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from icube_common.errors import require
from icube_common.prompts import PromptLearner
from icube_common.vlm import encode_frames, load_vlm

TABLE = Path(__file__).with_suffix(".csv")
MARGIN = 0.1
SIZE = 512


def read_stamp(path: Path) -> Image.Image:
    """A stamp, centred on a white square."""
    if path.suffix == ".svg":
        drawn = require("cairosvg", package="cairosvg").svg2png(url=str(path), output_width=SIZE)
        image = Image.open(io.BytesIO(drawn)).convert("RGBA")
    else:
        image = Image.open(path).convert("RGBA")
    box = image.getchannel("A").getbbox()
    image = image.crop(box) if box else image
    side = round(max(image.size) * (1 + 2 * MARGIN))
    square = Image.new("RGBA", (side, side), "white")
    square.alpha_composite(image, ((side - image.width) // 2, (side - image.height) // 2))
    return square.convert("RGB")


def recall(ranked: npt.NDArray[np.int64], truth: npt.NDArray[np.int64]) -> float:
    """Share of rows whose first column is the true name."""
    return float((ranked[:, 0] == truth).mean())


def main() -> None:
    """Print recall@1 of all names, of those outside ImageNet, and with the names permuted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stamps", type=Path, help="folder of the unpacked package")
    parser.add_argument("--backbone", default="icube-lite", help="any name that load_vlm takes")
    parser.add_argument("--pretrained", default=None, help="open_clip tag, weight file or folder")
    parser.add_argument("--out", type=Path, help="JSON with the figures and the answer to each stamp")
    args = parser.parse_args()
    with TABLE.open(newline="") as file:
        rows = list(csv.DictReader(file))
    (folder,) = {path.parent for path in args.stamps.rglob("animals") if path.parent.name == "stamps"}
    names = [row["name"] for row in rows]
    outside = np.array([not row["imagenet"] for row in rows])
    vlm = load_vlm(args.backbone, args.pretrained)
    with torch.no_grad():
        images = encode_frames(vlm, (vlm.preprocess(read_stamp(folder / row["stamp"])) for row in rows))
        texts = PromptLearner(vlm, names, init="template")()
        ranked = (-images @ texts.cpu().T).argsort(dim=-1).numpy()
    truth = np.arange(len(rows))
    generator = np.random.default_rng(0)
    permuted = [recall(ranked, generator.permutation(truth)) for _ in range(100)]
    among = ranked[outside][np.isin(ranked[outside], truth[outside])].reshape(outside.sum(), outside.sum())
    figures = {
        "backbone": str(vlm.origin),
        "names": len(names),
        "names outside ImageNet": int(outside.sum()),
        "recall@1, all": recall(ranked, truth),
        "recall@1, inside ImageNet": recall(ranked[~outside], truth[~outside]),
        "recall@1, outside ImageNet": recall(ranked[outside], truth[outside]),
        "recall@1, outside ImageNet, among these names alone": recall(among, truth[outside]),
        "recall@5, all": float((ranked[:, :5] == truth[:, None]).any(1).mean()),
        "recall@1, names permuted": float(np.mean(permuted)),
    }
    for name, value in figures.items():
        print(f"{name}: {value:.1%}" if isinstance(value, float) else f"{name}: {value}")
    if args.out:
        answers = [{"stamp": row["stamp"], "name": row["name"]} for row in rows]
        for answer, row in zip(answers, ranked, strict=True):
            answer["answers"] = ", ".join(names[number] for number in row[:3])
        args.out.write_text(json.dumps({**figures, "stamps": answers}, indent=2) + "\n")


if __name__ == "__main__":
    main()
