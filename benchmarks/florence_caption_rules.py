"""The caption rules of actprompt alone, without a model and without training, on Florence 3D Actions.

Usage: python benchmarks/florence_caption_rules.py DATA, with DATA from actprompt prepare --format florence3d; with
--poses, the parameters are measured from the poses of the videos (after actprompt pose --data DATA)

`actprompt.skeleton.captions` turns the named parameters of a clip into sentences by fixed rules, which were written
with the nine classes and actors 1 to 6 of this set in view. Here nothing else is used: the text features of a clip's
sentences against those of the class descriptions (all that `configs/florence3d.yaml` uses), both by the text tower
icube-minilm, which is also that of icube-lite; the answer is the class with the largest mean cosine. No label, no
image, no trajectory of the skeleton, no regression, no learned vector.

The clip's feature in three forms:

- "plain": the mean feature of its sentences; nothing comes from other clips;
- "centred": the same minus the mean of the clips of the other actors, without their labels: what is left of the model
  with visual.enabled=false, skeleton.trajectory=false, ridge_init.enabled=false, skeleton.fusion_mode=captions, whose
  other maps are zero, and no step of training;
- "centred by sentence": each sentence's feature minus that mean, normalised, then their mean.

And one form without any text tower:

- "lookup": the class for which a rule was evidently written (`WRITTEN_FOR`, read off the rules by hand), the sentence
  about the legs before those about the arms. Of three new classes, a clip whose class is none of them counts as chance,
  a third.

Rows: nine classes, share of clips named right with a 95 % interval over actors; and three new classes of nine, for the
ten draws of `actprompt evaluate --protocol base-to-new --draws 10 --new-classes 3`, where the answer is one of the
three, mean and t-interval over draws.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from actprompt.config import ActConfig
from actprompt.data.manifest import Manifest
from actprompt.data.pose.sources import SkeletonSource
from actprompt.evaluation.protocols import ProtocolOptions, base_to_new_folds
from actprompt.models.class_texts import class_texts
from actprompt.skeleton.captions import Captioner
from icube_common.config import load_config
from icube_common.evaluation.intervals import group_interval, mean_interval
from icube_common.evaluation.metrics import find_metric
from icube_common.vlm import load_vlm

CONFIGS = Path(__file__).resolve().parents[1] / "libs" / "actprompt" / "configs"
DRAWS, NEW_CLASSES = 10, 3
# words of a sentence -> the class that it was written for, in the order in which they decide
WRITTEN_FOR = (
    ("crouches low", "tight lace"),
    ("down to the feet", "tight lace"),
    ("as onto a seat", "sit down"),
    ("until the person stands", "stand up"),
    ("The trunk leans forward", "bow"),
    ("hands come together", "clap"),
    ("raised high", "wave"),
    ("in front of the face", "drink from a bottle"),
    ("beside the head", "answer phone"),
    ("held level", "read watch"),
)


def look_up(sentences: list[str]) -> str | None:
    """The class of the first rule in `WRITTEN_FOR` that is among a clip's sentences; None where no rule speaks."""
    text = " ".join(sentences)
    return next((name for words, name in WRITTEN_FOR if words in text), None)


def look_up_figures(told: list[list[str]], labels: np.ndarray, actors: np.ndarray, names: list[str], draws: Any) -> Any:
    """The figures of the form "lookup"."""
    answers = [look_up(sentences) for sentences in told]
    # no answer is a wrong one: the next class's
    chosen = [
        names.index(answer) if answer else (label + 1) % len(names)
        for answer, label in zip(answers, labels, strict=True)
    ]
    scores = np.eye(len(names))[chosen]
    truth = [names[label] for label in labels]
    shares = []
    for new in draws.values():
        right = [
            float(answer == name) if answer in new else 1 / NEW_CLASSES
            for answer, name in zip(answers, truth, strict=True)
            if name in new
        ]
        shares.append(float(np.mean(right)))
    return {
        "nine_classes": group_interval(find_metric("top1"), labels, scores, actors).to_dict(),
        "three_new_classes": mean_interval(shares).to_dict(),
        "draws": [round(share, 3) for share in shares],
    }


def clip_features(sentences: list[Tensor], actors: np.ndarray) -> dict[str, Tensor]:
    """Form -> the clips' features (N, D) from those of their sentences (K, D) each; 0 for a clip without any.

    Args:
        sentences: of each clip, normalised.
        actors: (N,) of each clip.
    """
    means = torch.stack([rows.mean(0) if len(rows) else rows.new_zeros(rows.shape[1]) for rows in sentences])
    has = np.array([len(rows) > 0 for rows in sentences])
    found: dict[str, list[Tensor]] = {"plain": list(means), "centred": [], "centred by sentence": []}
    for place, rows in enumerate(sentences):
        center = means[torch.from_numpy((actors != actors[place]) & has)].mean(0)
        found["centred"].append((means[place] - center) * float(has[place]))
        apart = F.normalize(rows - center, dim=-1)
        found["centred by sentence"].append(apart.mean(0) if len(rows) else center * 0)
    return {form: F.normalize(torch.stack(rows), dim=-1) for form, rows in found.items()}


def run(data: str, *, poses: bool = False) -> dict[str, Any]:
    """All figures."""
    manifest = Manifest.load(data)
    config = load_config(ActConfig, file=CONFIGS / ("florence3d_video.yaml" if poses else "florence3d.yaml"))
    samples, vlm = manifest.samples(), load_vlm("icube-minilm")
    actors, labels = np.asarray(samples.group_array), np.asarray(samples.labels)
    table = SkeletonSource.choose(manifest, config.skeleton.source).parameters()
    captioner = Captioner.fit(table.names, table.values)
    told = [captioner.sentences(row) for row in table.values]
    with torch.no_grad():
        empty = torch.zeros(0, vlm.embed_dim)
        sentences = [vlm.encode_text(texts) if texts else empty for texts in told]
        classes = class_texts(manifest, config).prompts(vlm, samples.class_names, config.prompt)()
    options = ProtocolOptions(draws=DRAWS, new_classes=NEW_CLASSES)
    draws = {draw: new for draw, new, _ in base_to_new_folds(samples, config, options)}
    names = list(samples.class_names)
    found: dict[str, Any] = {"clips": len(labels), "without_sentences": sum(not texts for texts in told)}
    found["lookup"] = look_up_figures(told, labels, actors, names, draws)
    for form, features in clip_features(sentences, actors).items():
        cosines = (features @ classes.T).double()
        nine = group_interval(find_metric("top1"), labels, cosines.softmax(-1).numpy(), actors)
        shares = []
        for new in draws.values():
            places = np.array([names.index(name) for name in new])
            rows = np.isin(labels, places)
            answers = places[cosines.numpy()[rows][:, places].argmax(1)]
            shares.append(float((answers == labels[rows]).mean()))
        found[form] = {
            "nine_classes": nine.to_dict(),
            "three_new_classes": mean_interval(shares).to_dict(),
            "draws": [round(share, 3) for share in shares],
        }
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--poses", action="store_true", help="poses of the videos in place of the recorded skeletons")
    args = parser.parse_args()
    print(json.dumps(run(args.data, poses=args.poses), indent=2))
