"""Alternatives to the alignment of ``icube-lite``, on held-out ImageNet classes and on the stamps of zero_shot_objects.

    python benchmarks/zero_shot_alignments.py STAMPS

Held-out classes need no images: the alignment is formed from 750 of the 1,000 classes, and the mean features of class c
are those of linear discriminant analysis, ``mu + k S w_c / |S w_c|`` with its weight vector w_c. Mean mu and covariance
S of the features follow from the batch normalisation and the weights of the last convolution; noise of covariance
``n^2 S`` is added. Three settings (k, n) times twelve draws; 157 names (first lemmas), 66 of them of held-out classes.

The alternatives: T and temperature of ConSE (Norouzi et al. 2014); other texts of classes and names; a ridge map from
weight vectors to class texts, and the regularised inverse covariance of the class texts, which together are ESZSL
(Romera-Paredes and Torr, ICML 2015); CSLS (Conneau et al., ICLR 2018) and the inverted softmax (Smith et al., ICLR
2017) over the class texts, which need the candidate names and are no cosine between an image and a text.
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from zero_shot_objects import TABLE, read_stamp

from icube_common.vlm import FrozenVLM, encode_frames, load_vlm
from icube_common.vlm.encoders.builtin import imagenet
from icube_common.vlm.encoders.builtin.conse import class_embeddings, conse

SETTINGS = ((5.0, 1.0), (5.0, 1.8), (6.0, 2.0))
DRAWS, HELD_OUT, SEEN_NAMES, UNSEEN_NAMES = 12, 250, 91, 66
PHOTO = "a photo of a {}."
TEMPLATES = (PHOTO, "a drawing of a {}.", "a picture of a {}.", "{}")


def feature_statistics(classifier: torch.nn.Module) -> tuple[Tensor, Tensor]:
    """Mean (W,) and covariance (W, W) of the features before pooling, from the classifier's weights alone.

    A channel is a normal variable of the batch normalisation's mean and deviation, cut to [0, 6]; correlations are
    those of the last convolution's output if its inputs were independent, with the deviations of their normalisation.
    """
    weights = dict(classifier.named_parameters())
    mean, deviation = weights["bn2.bias"], weights["bn2.weight"].abs()
    normal = torch.randn(4000, 1, generator=torch.Generator().manual_seed(0)) * deviation + mean
    slope = ((normal > 0) & (normal < 6)).float().mean(0)
    mixed = weights["conv_head.weight"].flatten(1) * weights["blocks.6.0.bn3.weight"]
    scaled = F.normalize(mixed, dim=1) * (slope * deviation)[:, None]
    covariance = scaled @ scaled.T
    return normal.clamp(0, 6).mean(0), covariance + 0.05 * covariance.diagonal().diag()


def recalls(scores: Tensor, unseen: Tensor) -> list[float]:
    """Recall@1 in percent: all names, seen, unseen, and unseen among themselves; row i is of name i."""
    hit = scores.argmax(1) == torch.arange(len(scores))
    among = scores[unseen][:, unseen].argmax(1) == torch.arange(int(unseen.sum()))
    return [100 * float(part.float().mean()) for part in (hit, hit[~unseen], hit[unseen], among)]


def ridge(logits: Tensor, weights: Tensor, texts: Tensor, covariance: Tensor | None, penalty: float) -> Tensor:
    """Prediction of the ridge map from centred weight vectors to class texts; its kernel on an image is the logits."""
    weights = weights - weights.mean(0)
    gram = weights @ weights.T if covariance is None else weights @ covariance @ weights.T
    gram = gram + penalty * gram.diagonal().mean() * torch.eye(len(gram))
    return (logits - logits.mean(1, keepdim=True)) @ torch.linalg.solve(gram, texts)


def alternatives(
    logits: Tensor, weights: Tensor, covariance: Tensor, texts: dict[str, Tensor], queries: Tensor, ensemble: Tensor
) -> dict[str, Tensor]:
    """Scores (N, names) of each alternative; texts and queries are not centred."""

    def unit(x: Tensor) -> Tensor:
        return F.normalize(x, dim=-1)

    def of_texts(group: Tensor) -> Tensor:
        centre = group.mean(0)
        return unit(conse(logits.softmax(-1), group - centre)) @ unit(queries - centre).T

    both = texts["lemmas and gloss"]
    centre = both.mean(0)
    classes, names = both - centre, unit(queries - centre)

    def of_top(top: int, temperature: float = 1.0) -> Tensor:
        return unit(conse((logits / temperature).softmax(-1), classes, top=top))

    def regularised(penalty: float) -> Tensor:
        moment = classes.T @ classes / len(classes)
        return torch.linalg.inv(moment + penalty * moment.diagonal().mean() * torch.eye(len(moment)))

    released, twenty = of_top(10), of_top(20)
    mapped = unit(ridge(logits, weights, classes, covariance, 1))
    mixed = 0.7 * released + 0.3 * mapped
    inverse, plain = regularised(1), unit(ridge(logits, weights, classes, None, 3) @ regularised(1))
    hubs = unit(classes) @ names.T
    return {
        "ConSE, T = 10 (`icube-lite`)": released @ names.T,
        "T = 3": of_top(3) @ names.T,
        "T = 20": twenty @ names.T,
        "T = 50": of_top(50) @ names.T,
        "temperature 2": of_top(10, 2.0) @ names.T,
        "class texts: gloss alone": of_texts(texts["gloss"]),
        "class texts: also a photo of a": of_texts((2 * both + texts["photo"]) / 3),
        "names: mean of four templates": released @ unit(ensemble - centre).T,
        "names centred on their own mean": released @ unit(queries - queries.mean(0)).T,
        "ridge map alone": mapped @ names.T,
        "0.7 ConSE + 0.3 ridge map": mixed @ names.T,
        "T = 20, inverse covariance of the class texts": unit(twenty @ regularised(3)) @ names.T,
        "0.8 ConSE, T = 20, + 0.2 ridge map (ESZSL)": unit(0.8 * unit(twenty @ inverse) + 0.2 * plain) @ names.T,
        "CSLS, 5 neighbours": 2 * released @ names.T - hubs.topk(5, 0)[0].mean(0),
        "inverted softmax": 10 * released @ names.T - torch.logsumexp(10 * hubs, 0),
        "inverted softmax, with 0.3 ridge map": 10 * mixed @ names.T - torch.logsumexp(10 * hubs, 0),
    }


def encode(vlm: FrozenVLM, groups: list[list[str]]) -> Tensor:
    """Mean sentence embedding of each group of texts, not centred."""
    return class_embeddings(groups, vlm.encode_text)


@torch.no_grad()
def main() -> None:
    """Print recall@1 of each alternative on held-out classes and stamps, and of the texts and the classifier alone."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stamps", type=Path, help="folder of the unpacked package")
    args = parser.parse_args()
    with TABLE.open(newline="") as file:
        rows = list(csv.DictReader(file))
    (folder,) = {path.parent for path in args.stamps.rglob("animals") if path.parent.name == "stamps"}
    vlm, sentences = load_vlm("icube-lite"), load_vlm("icube-minilm", only_text=True)
    last = vlm.model.visual.classifier.get_classifier()
    weights = last.weight
    mean, covariance = feature_statistics(vlm.model.visual.classifier)
    lemmas = [group[0].split(", ") for group in imagenet.class_texts()]
    texts = {
        "lemmas and gloss": encode(sentences, imagenet.class_texts()),
        "gloss": encode(sentences, [group[1:] for group in imagenet.class_texts()]),
        "photo": encode(sentences, [[PHOTO.format(lemma) for lemma in group] for group in lemmas]),
    }
    first, names = [group[0] for group in lemmas], [row["name"] for row in rows]
    queries, own = (encode(sentences, [[PHOTO.format(name)] for name in group]) for group in (first, names))
    ensemble, own_ensemble = (
        encode(sentences, [[template.format(name) for template in TEMPLATES] for name in group])
        for group in (first, names)
    )
    found = defaultdict(list)
    directions = F.normalize((weights - weights.mean(0)) @ covariance, dim=1)
    root = torch.linalg.cholesky(covariance)
    for distance, noise in SETTINGS:
        for draw in range(DRAWS):
            generator = torch.Generator().manual_seed(draw)
            order = torch.randperm(1000, generator=generator)
            seen, subset = order[HELD_OUT:], torch.cat([order[:UNSEEN_NAMES], order[HELD_OUT:][:SEEN_NAMES]])
            features = mean + distance * directions + noise * torch.randn(1000, len(mean), generator=generator) @ root.T
            logits = last(features.clamp(min=0))[subset][:, seen]
            known = {key: value[seen] for key, value in texts.items()}
            unseen = torch.arange(len(subset)) < UNSEEN_NAMES
            scores = alternatives(logits, weights[seen], covariance, known, queries[subset], ensemble[subset])
            for name, value in scores.items():
                found[name].append(recalls(value, unseen))
    images = (vlm.preprocess(read_stamp(folder / row["stamp"])) for row in rows)
    outside = torch.tensor([not row["imagenet"] for row in rows])
    logits = last(encode_frames(vlm, images, output="features"))
    stamps = alternatives(logits, weights, covariance, texts, own, own_ensemble)
    print("| alignment | held out: all | unseen | among unseen | stamps: all | outside | among outside |")
    print("|---|" + 6 * "---|")
    tensors = {name: torch.tensor(value).reshape(len(SETTINGS), DRAWS, 4).mean(0) for name, value in found.items()}
    released = next(iter(tensors.values()))
    for name, value in tensors.items():
        change, error = (value - released).mean(0), (value - released).std(0) / DRAWS**0.5
        held = [f"{value.mean(0)[k]:.1f} ({change[k]:+.1f} ± {error[k]:.1f})" for k in (0, 2, 3)]
        figures = recalls(stamps[name], outside)
        print("| " + " | ".join([name, *held, *(f"{figures[k]:.1f}" for k in (0, 2, 3))]) + " |")
    number = {lemma: index for index, group in enumerate(lemmas) for lemma in group}
    inside = [index for index, row in enumerate(rows) if row["imagenet"]]
    classes = torch.tensor([number[rows[index]["imagenet"]] for index in inside])
    centre = texts["lemmas and gloss"].mean(0)
    scores = (texts["lemmas and gloss"][classes] - centre) @ F.normalize(own - centre, dim=-1).T
    first_name = float((scores.argmax(1) == torch.tensor(inside)).float().mean())
    ranks = logits[inside].topk(10)[1] == classes[:, None]
    print(f"names in ImageNet: first by the mapped class's text embedding {first_name:.1%}")
    top, ten = (float(hit.float().mean()) for hit in (ranks[:, 0], ranks.any(1)))
    print(f"classifier: mapped class first {top:.1%}, among ten {ten:.1%}")


if __name__ == "__main__":
    main()
