"""A simulated image problem with words for it: one coloured shape on a grey ground, the class is colour and shape.

    python libs/icube_common/tests/toy_images.py

A projection learned on the images of some classes has to name images of classes that it has never seen, by their texts
alone. With the texts exchanged between classes it cannot.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw

from icube_common.prompts import Projection, PromptLearner
from icube_common.vlm import FrozenVLM, load_vlm

COLOURS = {"red": (220, 40, 40), "green": (40, 180, 60), "blue": (40, 70, 220), "yellow": (235, 215, 50)}
SHAPES = ("circle", "square", "triangle", "cross")
CLASSES = [f"{colour} {shape}" for colour in COLOURS for shape in SHAPES]


def draw(name: str, rng: np.random.Generator, size: int = 96) -> Image.Image:
    """One simulated image: place, size, shade and noise vary."""
    colour, shape = name.split()
    image = Image.new("RGB", (size, size), tuple(int(v) for v in rng.integers(110, 150, 1).repeat(3)))
    pen = ImageDraw.Draw(image)
    radius = int(rng.integers(20, 34))
    x, y = (int(v) for v in rng.integers(radius + 4, size - radius - 4, 2))
    fill = tuple(int(np.clip(v + rng.integers(-25, 25), 0, 255)) for v in COLOURS[colour])
    box = (x - radius, y - radius, x + radius, y + radius)
    if shape == "circle":
        pen.ellipse(box, fill=fill)
    elif shape == "square":
        pen.rectangle(box, fill=fill)
    elif shape == "triangle":
        pen.polygon([(x, y - radius), (x - radius, y + radius), (x + radius, y + radius)], fill=fill)
    else:
        third = radius // 3
        pen.rectangle((x - third, y - radius, x + third, y + radius), fill=fill)
        pen.rectangle((x - radius, y - third, x + radius, y + third), fill=fill)
    noisy = np.asarray(image, dtype=np.float64) + rng.normal(0, 8, (size, size, 3))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def image_features(vlm: FrozenVLM, per_class: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Features ``(N, D)`` of the frozen image tower and labels ``(N,)``."""
    rng = np.random.default_rng(seed)
    pixels = [vlm.preprocess(draw(name, rng)) for name in CLASSES for _ in range(per_class)]
    with torch.no_grad():
        features = torch.cat([vlm.encode_image(torch.stack(pixels[i : i + 64])) for i in range(0, len(pixels), 64)])
    return features, torch.arange(len(CLASSES)).repeat_interleave(per_class)


def new_class_accuracy(
    texts: torch.Tensor, features: torch.Tensor, labels: torch.Tensor, *, seed: int, shuffled: bool, steps: int = 80
) -> float:
    """Class features ``texts`` (C, D), image features (N, D), labels (N,).

    Learn on the images of all classes but three that the seed draws; the share of their images named right."""
    rng = np.random.default_rng(seed)
    new = torch.tensor(rng.choice(len(CLASSES), 3, replace=False))
    classes = texts[torch.tensor(rng.permutation(len(CLASSES)))] if shuffled else texts
    base = ~torch.isin(labels, new)
    torch_state = torch.Generator().manual_seed(seed)
    projection = Projection(features.shape[1], texts.shape[1])
    for parameter in projection.linear.parameters():
        torch.nn.init.normal_(parameter, std=0.02, generator=torch_state)
    optimizer = torch.optim.AdamW(projection.parameters(), lr=5e-3, weight_decay=0.05)
    mean, deviation = features[base].mean(0), features[base].std(0)
    scaled = (features - mean) / deviation
    known = torch.tensor([i for i in range(len(CLASSES)) if i not in new.tolist()])
    place = torch.full((len(CLASSES),), -1).scatter(0, known, torch.arange(len(known)))
    for _ in range(steps):
        loss = F.cross_entropy(20 * projection(scaled[base]) @ classes[known].T, place[labels[base]])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        named = new[(projection(scaled[~base]) @ classes[new].T).argmax(1)]
    return float((named == labels[~base]).float().mean())


def table(draws: int) -> dict[str, list[float]]:
    """Accuracy on the new classes of each draw, with the right texts and with exchanged ones."""
    vlm = load_vlm("icube-minilm")
    features, labels = image_features(vlm, per_class=12)
    with torch.no_grad():
        texts = PromptLearner(vlm, CLASSES, template="a picture of a", learn=False)()
    return {
        name: [
            new_class_accuracy(texts, features, labels, seed=seed, shuffled=name == "shuffled") for seed in range(draws)
        ]
        for name in ("right", "shuffled")
    }


if __name__ == "__main__":
    for kind, values in table(12).items():
        print(kind, " ".join(f"{value:.2f}" for value in values), f"mean {np.mean(values):.3f}")
