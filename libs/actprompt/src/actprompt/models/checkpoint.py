"""Trained models on disk: configuration, weights, prompts and the record of the training.

``config.yaml`` all settings; ``model.json`` labels, names, the records of encoder, captioner and numeric branch, who
was trained on; ``model.safetensors`` projections, heads, visual prompts; ``prompts/`` the class prompts; ``README.md``
a model card.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from actprompt.config import ActConfig
from actprompt.models.action_model import ActionModel
from actprompt.models.visual_branch import Head
from actprompt.skeleton.captions import Captioner
from actprompt.skeleton.trajectory import TrajectoryEncoder
from icube_common.config import config_to_yaml, load_saved_config
from icube_common.errors import InputError
from icube_common.io.runs import atomic_folder, read_json, write_json
from icube_common.prompts import PromptLearner
from icube_common.tabular import NumericBranch
from icube_common.training import load_backbone
from icube_common.vlm import FrozenVLM

CONFIG, ABOUT, WEIGHTS, PROMPTS, CARD = "config.yaml", "model.json", "model.safetensors", "prompts", "README.md"
FORMAT = 2


def save_model(folder: str | Path, model: ActionModel, *, overwrite: bool = False) -> None:
    """Write a model's folder.

    Raises:
        InputError: the folder exists and ``overwrite`` is False.
    """
    with atomic_folder(folder, overwrite=overwrite) as temporary:
        (temporary / CONFIG).write_text(config_to_yaml(model.config))
        tensors = {name: value.detach().cpu().contiguous() for name, value in model.learned().items()}
        save_file(tensors, temporary / WEIGHTS, {"format": "pt"})
        model.prompts.save_pretrained(temporary / PROMPTS)
        about = {
            "format": FORMAT,
            **model.about,
            "labels": list(model.labels),
            "parameters": list(model.parameter_names),
            "encoder": None if model.encoder is None else model.encoder.to_dict(),
            "captioner": None if model.captioner is None else model.captioner.to_dict(),
            "branch": None if model.branch is None else model.branch.to_dict(),
            "head": head_name(model),
            "backbone": model.vlm.describe(),
        }
        write_json(temporary / ABOUT, about)
        (temporary / CARD).write_text(_card(model, about))


def load_model(source: str | Path, *, head: Head | None = None, vlm: FrozenVLM | None = None) -> ActionModel:
    """Read a trained model, in eval mode on the backbone's device.

    Args:
        source: a run folder, its ``model``, or a repository of the Hugging Face hub (``owner/name``).
        head: the custom temporal head that it was trained with.
        vlm: the backbone, where it is loaded already; by default that of the configuration, on a GPU where there is one
            and the training was not set to ``device=cpu``.

    Raises:
        InputError: no such folder or repository, a damaged file, a model of an earlier version, a custom head that is
            not given, or another backbone than it was trained on.
    """
    folder = find_model(source)
    about = read_json(folder / ABOUT)
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise InputError(
            f"{folder / ABOUT}: a model of an earlier version of actprompt; train it again: "
            "actprompt train --data DATA --out RUN"
        )
    config = load_saved_config(ActConfig, folder / CONFIG)
    if about.get("head") and head is None:
        raise InputError(
            f"{folder}: was trained with the custom head {about['head']}; load it with head={about['head']}"
        )
    if head is not None and not about.get("head"):
        raise InputError(f"{folder}: was trained with visual.head={config.visual.head}, not with a custom head")
    vlm = vlm or load_backbone(config.vlm, config.train, predict=True)
    prompts = PromptLearner.from_pretrained(folder / PROMPTS, vlm)
    try:
        if absent := sorted({"data", "trained_on", "notes", "branch"} - set(about)):
            raise KeyError(absent[0])
        encoder = None if about["encoder"] is None else TrajectoryEncoder.from_dict(about["encoder"])
        model = ActionModel(
            prompts,
            config,
            about["labels"],
            joint_names=() if encoder is None else encoder.joint_names,
            parameters=about["parameters"],
            head=head,
            branch=None if about["branch"] is None else NumericBranch.from_dict(vlm, about["branch"]),
        )
        tensors = load_file(folder / WEIGHTS)
        if missing := model.learned().keys() ^ tensors.keys():
            raise InputError(f"{folder / WEIGHTS}: missing or unknown tensors {sorted(missing)[:4]}")
        model.load_state_dict(tensors, strict=False)
        model.encoder = encoder
        model.captioner = None if about["captioner"] is None else Captioner.from_dict(about["captioner"])
    except (KeyError, TypeError, OSError, RuntimeError, SafetensorError) as error:
        raise InputError(f"{folder}: a damaged model folder ({error}); train again") from error
    model.about = about
    return model.to(vlm.device).eval()


def find_model(source: str | Path) -> Path:
    """The folder of a trained model: a run, its ``model``, or a repository of the hub, which is downloaded.

    Raises:
        InputError: there is none.
    """
    folder = Path(source)
    if not folder.exists() and isinstance(source, str) and source.count("/") == 1 and not source.startswith((".", "/")):
        folder = _download(source)
    for candidate in (folder, folder / "model"):
        if (candidate / ABOUT).is_file():
            return candidate
    raise InputError(f"{folder}: no trained model in it (no {ABOUT}); give a folder that actprompt train has made")


def _download(repository: str) -> Path:
    """A snapshot of a repository of the Hugging Face hub."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(repository))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise InputError(f"{repository}: no such folder, nor a repository of the hub ({error})") from error


def head_name(model: ActionModel) -> str | None:
    """The class of a model's custom temporal head; None without one."""
    return type(model.visual.head).__name__ if model.visual is not None and model.visual.custom else None


def _card(model: ActionModel, about: Mapping[str, Any]) -> str:
    trained = about["trained_on"]
    used = [name for name, part in (("frames", model.visual), ("skeleton trajectory", model.trajectory)) if part]
    if model.parameter_names:
        used.append("named parameters")
    notes = "".join(f"- {note}\n" for note in about["notes"]) or "- none\n"
    return (
        f"# Action recognition: {about['data']['title']}\n\n"
        f"Made by actprompt. Classifies {len(model.labels)} actions by cosines with class prompts, from "
        f"{', '.join(used)}.\n\n"
        f"Backbone: {model.vlm.origin}. Trained on {trained['clips']} clips of {len(trained['subjects'])} people or "
        f"groups.\n\nWarnings:\n\n{notes}\n"
        f"Actions: {', '.join(model.labels)}\n\n```yaml\n{config_to_yaml(model.config)}```\n"
    )
