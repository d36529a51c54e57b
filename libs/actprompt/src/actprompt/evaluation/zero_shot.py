"""Zero-shot recognition: untrained class prompts against the features of the frames.

The starting point of a training, and the result of a pre-trained backbone without one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from einops import reduce
from jaxtyping import Float
from torch import Tensor

from actprompt.config import ZeroShotConfig
from actprompt.data.dataset import VideoDataset
from actprompt.data.extract import check_deterministic, video_features
from actprompt.data.manifest import Manifest
from actprompt.knowledge import load_knowledge
from icube_common.config import config_to_dict, config_to_yaml
from icube_common.errors import InputError
from icube_common.evaluation import EvaluationResult, make_predictions, per_class_recall, zero_shot
from icube_common.evaluation.report import evaluation_report
from icube_common.io.reports import Report
from icube_common.io.runs import atomic_folder, check_output_path, describe_environment, write_json
from icube_common.knowledge import ClassKnowledge
from icube_common.prompts import PromptConfig, PromptLearner
from icube_common.prompts.texts import check_class_names
from icube_common.vlm import FrozenVLM, check_joint_space

METRICS = ("top1", "top5", "mean_class_accuracy", "macro_f1")
INITIALISATIONS = ("template", "descriptions")
CHUNK = 256
"""Clips whose probabilities are computed at a time."""


def evaluate_zero_shot(
    data: VideoDataset | str | Path,
    out: str | Path,
    config: ZeroShotConfig,
    *,
    features: str | Path | None = None,
    knowledge: str | Path | None = None,
    protocol: str | None = None,
    device: str | None = None,
    overwrite: bool = False,
) -> EvaluationResult:
    """Recognise the action of each clip by the nearest class prompt, without training.

    Writes ``predictions.csv``, ``metrics.json``, ``report.html``, ``config.yaml`` and ``environment.json``.

    Args:
        data: data set or prepared folder.
        out: the folder to make.
        config: backbone, prompts, frames.
        features: a folder of features to read from and to store missing ones in; None: computed, not stored.
        knowledge: class descriptions for ``prompt.init=descriptions``: a file or a shipped name, keyed by label; by
            default the data set's own that come with the library.
        protocol: of the set: only its test clips are predicted; without one, all clips.
        device: of the backbone; by default accelerate's device, a GPU where there is one.
        overwrite: replace an existing ``out``.

    Raises:
        InputError: ``out`` exists; an encoder without joint space with the texts; an initialisation without meaning
            before training; descriptions without knowledge, or a class without any; an unknown protocol; a clip that
            cannot be used; features as `actprompt.data.extract.video_features`.
    """
    check_output_path(out, overwrite=overwrite)
    sampling = check_deterministic(config.video.sampling)
    check_untrained(config.prompt)
    manifest = VideoDataset.open(data).manifest
    manifest.check_classes()
    check_class_names(manifest.class_texts)
    samples = manifest.samples()
    fold = zero_shot(samples, test_ids=_test_ids(manifest, protocol))
    uses_knowledge = knowledge is not None or config.prompt.init == "descriptions"
    bank = load_knowledge(str(knowledge or ""), format=str(manifest.description["format"])) if uses_knowledge else None
    descriptions = class_descriptions(manifest, bank, config.prompt)
    vlm = config.vlm.load(device)
    check_joint_space(vlm, "zero-shot recognition")
    learner = class_prompts(manifest, vlm, config.prompt, descriptions)
    clips = [manifest.clips[row] for row in fold.test]
    frame_features = video_features(manifest, clips, vlm, sampling, folder=features, output="joint")
    probabilities = predict(learner, [frame_features[clip.id] for clip in clips])
    predictions = make_predictions(samples, fold, probabilities)

    warnings = [warning for warning in (vlm.weights_warning, *learner.warnings) if warning]
    if manifest.description.get("simulated"):
        warnings.append("simulated videos, not recordings of people")
    if bank is not None:
        used = descriptions is not None
        warning = bank.review_warning() if used else f"{knowledge}: not used, as prompt.init={config.prompt.init}"
        warnings += [warning] if warning else []
    names = [name for name in METRICS if name != "top5" or len(manifest.class_names) > 5]
    if len(names) < len(METRICS):
        warnings.append(f"top5 has no meaning with {len(manifest.class_names)} classes")
    result = EvaluationResult(
        predictions=predictions,
        metrics=predictions.metrics(names),
        facts={
            "classes": len(manifest.class_names),
            "protocol": protocol,
            "backbone": str(vlm.origin),
            "prompts": config.prompt.init,
        },
        warnings=warnings,
        out=Path(out),
        sample="clips",
    )
    environment = {
        "data": str(manifest.folder),
        "data_fingerprint": manifest.fingerprint,
        "protocol": protocol,
        "backbone": vlm.describe(),
        "knowledge": bank.provenance() if bank is not None and descriptions is not None else None,
        "warnings": warnings,
        **describe_environment(("torch", "open_clip_torch", "numpy", "av")),
    }
    with atomic_folder(out, overwrite=overwrite) as folder:
        predictions.write_csv(folder / "predictions.csv")
        write_json(folder / "metrics.json", result.to_dict())
        report_page(result, manifest, config, learner, environment).save(folder / "report.html")
        (folder / "config.yaml").write_text(config_to_yaml(config))
        write_json(folder / "environment.json", environment)
    return result


def check_untrained(prompt: PromptConfig) -> None:
    """Refuse prompts without meaning before training.

    Raises:
        InputError: such an initialisation, or a meta-net.
    """
    if prompt.init not in INITIALISATIONS:
        raise InputError(
            f"prompt.init={prompt.init}: has no meaning before training; zero-shot takes {' or '.join(INITIALISATIONS)}"
        )
    if prompt.conditional:
        raise InputError("prompt.conditional=true: its network has no meaning before training; leave it false")


def class_descriptions(
    manifest: Manifest, knowledge: ClassKnowledge | None, prompt: PromptConfig
) -> dict[str, Sequence[str]] | None:
    """Class in words -> its sentences, for prompts of descriptions; None for others.

    Raises:
        InputError: no knowledge for them, or it lacks a class.
    """
    if prompt.init != "descriptions":
        return None
    if knowledge is None:
        raise InputError("prompt.init=descriptions: needs class descriptions; give --knowledge FILE")
    sentences = knowledge.descriptions(manifest.class_names)
    return {manifest.class_texts[label]: texts for label, texts in sentences.items()}


def class_prompts(
    manifest: Manifest,
    vlm: FrozenVLM,
    prompt: PromptConfig,
    descriptions: Mapping[str, Sequence[str]] | None,
) -> PromptLearner:
    """The prompts of a set's classes, in their order, by their names in words."""
    names = [manifest.class_texts[label] for label in manifest.class_names]
    return PromptLearner.from_config(vlm, names, prompt, knowledge=descriptions)


@torch.no_grad()
def predict(learner: PromptLearner, features: Sequence[Float[Tensor, "views t d"]]) -> npt.NDArray[np.float64]:
    """Probabilities (clips, classes): the mean over a view's frames against the prompts, logits averaged over views."""
    device = learner.context.device
    # normalised means, then their mean over views: cosine logits are linear in them; clips of one shape together
    by_shape: dict[torch.Size, list[int]] = {}
    for row, clip in enumerate(features):
        by_shape.setdefault(clip.shape, []).append(row)
    videos = torch.empty(len(features), features[0].shape[-1])
    for rows in by_shape.values():
        clips = torch.stack([features[row] for row in rows])
        views = F.normalize(reduce(clips, "n views t d -> n views d", "mean"), dim=-1)
        videos[rows] = reduce(views, "n views d -> n d", "mean")
    logits = learner.logits(videos.to(device)).cpu()
    probabilities = torch.empty(logits.shape, dtype=torch.float64)
    # some rows at a time stay in the processor's cache
    for some, result in zip(logits.split(CHUNK), probabilities.split(CHUNK), strict=True):
        torch.softmax(some.double(), dim=1, out=result)
    return np.asarray(probabilities.numpy())


def report_page(
    result: EvaluationResult,
    manifest: Manifest,
    config: ZeroShotConfig,
    learner: PromptLearner,
    environment: Mapping[str, Any],
) -> Report:
    """Report page: metrics with intervals, classes, prompts, settings."""
    predictions = result.predictions
    groups = "subjects" if any(clip.subject for clip in manifest.clips) else "clips"
    subtitle = f"Zero-shot recognition: {manifest.title}, {len(predictions)} clips"
    report = evaluation_report(result, subtitle=subtitle, groups=groups)
    report.paragraph(f"Intervals are over {groups}; by chance top1 would be {1 / len(manifest.class_names):.3f}")
    report.section("Classes")
    recalls = per_class_recall(predictions.labels, predictions.probabilities)
    texts: dict[int, list[str]] = {}
    for owner, text in zip(learner.owner.tolist(), learner.texts, strict=True):
        texts.setdefault(owner, []).append(text)
    counts = np.bincount(predictions.labels, minlength=len(manifest.class_names)).tolist()
    report.table(
        ["class", "clips", "recall", "prompts"],
        [
            [label, counts[number], float(recalls[number]) if counts[number] else None, " | ".join(texts[number])]
            for number, label in enumerate(manifest.class_names)
        ],
    )
    report.section("Data and backbone")
    report.facts(
        {
            "data": manifest.folder,
            "fingerprint of the data": manifest.fingerprint,
            "protocol": environment["protocol"] or "all clips",
            "backbone": environment["backbone"]["description"],
            "fingerprint of the backbone": environment["backbone"]["fingerprint"],
            "knowledge": environment["knowledge"]["hash"] if environment["knowledge"] else None,
        }
    )
    for name, values in config_to_dict(config).items():
        report.section(f"Settings: {name}")
        report.facts(values)
    return report


def _test_ids(manifest: Manifest, protocol: str | None) -> list[str] | None:
    """Ids of a protocol's test clips; None for all, as where each group is left out in turn."""
    if protocol is None:
        return None
    if manifest.protocol(protocol).kind != "split":
        manifest.groups(protocol)
        return None
    ids = [manifest.clips[row].id for row in manifest.split(protocol)["test"]]
    if not ids:
        raise InputError(f"{manifest.folder}: protocol {protocol!r} has no test clip")
    return ids
