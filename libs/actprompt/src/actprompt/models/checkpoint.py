"""Trained models on disk: configuration, weights, prompts and the record of the training.

Files of `icube_common.io.pretrained`: ``model.json`` has labels, names, the records of encoder, captioner and tabular
branch, the calibration, and the training clips; ``model.safetensors`` projections, heads and visual prompts;
``prompts/`` the prompts.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from actprompt.config import ActConfig
from actprompt.models.action_model import ActionModel
from actprompt.models.visual_branch import Head
from actprompt.skeleton.captions import Captioner
from actprompt.skeleton.trajectory import TrajectoryEncoder
from icube_common.errors import InputError
from icube_common.io.model_card import ModelCard
from icube_common.io.pretrained import ModelFormat
from icube_common.prompts import PromptLearner
from icube_common.tabular import TabularBranch
from icube_common.training import custom_encoder, load_saved_backbone
from icube_common.training.calibration import Calibration, Rejection
from icube_common.vlm import EncoderLike, FrozenVLM

PROMPTS = "prompts"
FORMAT = ModelFormat(
    version=3,
    command="actprompt train",
    keys=("labels", "parameters", "encoder", "captioner", "branch", "data", "trained_on", "warnings"),
)


def save_model(folder: str | Path, model: ActionModel, *, overwrite: bool = False) -> None:
    """Write a model's folder.

    Raises:
        InputError: the folder exists and ``overwrite`` is False.
    """
    description = {
        **model.description,
        "labels": list(model.labels),
        "parameters": list(model.parameter_names),
        "encoder": None if model.encoder is None else model.encoder.to_dict(),
        "captioner": None if model.captioner is None else model.captioner.to_dict(),
        "branch": None if model.branch is None else model.branch.to_dict(),
        "head": head_name(model),
        "image_encoder": custom_encoder(model.vlm, model.config.vlm),
        "calibration": model.calibration.to_dict(),
        "rejection": None if model.rejection is None else model.rejection.to_dict(),
        "backbone": model.vlm.describe(),
    }
    FORMAT.save(
        folder,
        overwrite=overwrite,
        save_parts=lambda target: model.prompts.save_pretrained(target / PROMPTS),
        card=_card(model, description),
        tensors=model.learned(),
        description=description,
        config=model.config,
    )


def load_model(
    source: str | Path,
    *,
    head: Head | None = None,
    encoder: EncoderLike | None = None,
    vlm: FrozenVLM | None = None,
) -> ActionModel:
    """Read a trained model, in eval mode on the backbone's device.

    Args:
        source: a run folder, its ``model``, or a repository of the Hugging Face hub (``owner/name``).
        head: the custom temporal head that it was trained with.
        encoder: the image encoder that it was trained with, where that was a class or an instance.
        vlm: the backbone, where it is loaded already; by default that of the configuration, on a GPU where there is one
            and the training was not set to ``device=cpu``.

    Raises:
        InputError: no such folder or repository, a damaged file, a model of an earlier version, a custom head that is
            not given, or another backbone or encoder than it was trained on.
    """
    folder, config, description = FORMAT.read(source, ActConfig)
    name = description.get("head")
    if name and head is None:
        raise InputError(f"{folder}: was trained with the custom head {name}; load it with head={name}")
    if head is not None and not name:
        raise InputError(f"{folder}: was trained with visual.head={config.visual.head}, not with a custom head")
    vlm = load_saved_backbone(
        folder, config.vlm, config.train, recorded=description.get("image_encoder"), encoder=encoder, vlm=vlm
    )
    prompts = PromptLearner.from_pretrained(folder / PROMPTS, vlm)
    with FORMAT.guard(folder):
        encoder = None if description["encoder"] is None else TrajectoryEncoder.from_dict(description["encoder"])
        model = ActionModel(
            prompts,
            config,
            description["labels"],
            joint_names=() if encoder is None else encoder.joint_names,
            parameters=description["parameters"],
            head=head,
            branch=None if description["branch"] is None else TabularBranch.from_dict(vlm, description["branch"]),
        )
        model.encoder = encoder
        model.captioner = None if description["captioner"] is None else Captioner.from_dict(description["captioner"])
        if description.get("calibration"):
            model.calibration = Calibration.from_dict(description["calibration"])
        if description.get("rejection"):
            model.rejection = Rejection(**description["rejection"])
    FORMAT.load_weights(folder, model, model.learned())
    model.description = description
    return model.to(vlm.device).eval()


def head_name(model: ActionModel) -> str | None:
    """The class of a model's custom temporal head; None without one."""
    return type(model.visual.head).__name__ if model.visual is not None and model.visual.custom else None


def _card(model: ActionModel, description: Mapping[str, Any]) -> str:
    trained = description["trained_on"]
    used = [name for name, part in (("frames", model.visual), ("skeleton trajectory", model.trajectory)) if part]
    if model.parameter_names:
        used.append("named parameters")
    probabilities = "not calibrated"
    if model.calibration.rows:
        temperature, rows = model.calibration.temperature, model.calibration.rows
        probabilities = f"temperature {temperature:.3f}, fitted on {rows} held-out clips"
    data = description["data"]
    return ModelCard(
        title=f"Action recognition: {data['title']}",
        library="actprompt",
        pipeline_tag="video-classification",
        tags=("action-recognition", "prompt-learning"),
        details=(
            f"Classifies {len(model.labels)} actions by cosines with class prompts, from {', '.join(used)}. Backbone, "
            f"frozen and not part of the model: {model.vlm.origin}. Probabilities: {probabilities}.\n\n"
            f"Actions: {', '.join(model.labels)}"
        ),
        intended="Research: recognition of these actions in short videos of one person, for assistive robots.",
        excluded="surveillance, identification of people, and decisions about a person without another person's check.",
        data=f"{trained['clips']} clips of {len(trained['subjects'])} people or groups.",
        limits=(
            *description["warnings"],
            "Other people, rooms and cameras than those of the training may be recognised less well.",
            "An action outside the list gets one of its names, unless its probability is below the threshold.",
        ),
        command="actprompt evaluate RUN --data OTHER --out EVAL",
        config=model.config,
    ).to_markdown()
