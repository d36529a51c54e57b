"""A trained model on disk: what was learned beside the frozen backbone, and what is needed to use it again.

``config.yaml`` all settings; ``model.json`` labels, names, the course's and the numeric branch's records, who was
trained on; ``model.safetensors`` maps, heads, visual prompts; ``prompts/`` the class prompts; ``README.md`` a card.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from actprompt.captions import Captioner
from actprompt.config import ActConfig
from actprompt.courses import Course
from actprompt.model import ActionModel
from icube_common.config import config_to_yaml, load_saved_config
from icube_common.errors import InputError
from icube_common.io.runs import atomic_folder, read_json, write_json
from icube_common.prompts import PromptLearner
from icube_common.tabular import NumericBranch
from icube_common.training import load_backbone
from icube_common.vlm import FrozenVLM

CONFIG, ABOUT, WEIGHTS, PROMPTS, CARD = "config.yaml", "model.json", "model.safetensors", "prompts", "README.md"


@dataclass(frozen=True, eq=False)
class SavedModel:
    """A model with what belongs to it.

    Attributes:
        model: in eval mode, on the backbone's device.
        course: what turns skeletons into its vectors; None where they do not enter.
        captioner: what turns parameters into sentences; None where these do not enter.
        about: ``data`` (format, title, classes in words), ``trained_on`` (subjects, clips, ids), ``notes``,
            ``knowledge`` (provenance of the sentences).
    """

    model: ActionModel
    course: Course | None
    captioner: Captioner | None
    about: Mapping[str, Any]


def save_model(folder: str | Path, saved: SavedModel, *, overwrite: bool = False) -> None:
    """Write a model's folder.

    Raises:
        InputError: the folder exists and ``overwrite`` is False.
    """
    model = saved.model
    with atomic_folder(folder, overwrite=overwrite) as temporary:
        (temporary / CONFIG).write_text(config_to_yaml(model.config))
        tensors = {name: value.detach().cpu().contiguous() for name, value in model.learned().items()}
        save_file(tensors, temporary / WEIGHTS, {"format": "pt"})
        model.prompts.save_pretrained(temporary / PROMPTS)
        about = {
            **saved.about,
            "labels": list(model.labels),
            "parameters": list(model.parameter_names),
            "course_features": 0 if model.course is None else len(model.course.center),
            "course": None if saved.course is None else saved.course.to_dict(),
            "captioner": None if saved.captioner is None else saved.captioner.to_dict(),
            "branch": None if model.branch is None else model.branch.to_dict(),
            "backbone": model.vlm.describe(),
        }
        write_json(temporary / ABOUT, about)
        (temporary / CARD).write_text(_card(model, about))


def load_model(folder: str | Path, *, vlm: FrozenVLM | None = None) -> SavedModel:
    """Read a model's folder, or that of the run it is in.

    Args:
        folder: a run folder, or its ``model``.
        vlm: the backbone, where it is loaded already; by default the one that the configuration names, on a GPU where
            there is one and the training was not set to ``device=cpu``.

    Raises:
        InputError: no such folder, a damaged file, or another backbone than it was trained on.
    """
    folder = Path(folder)
    if not (folder / ABOUT).is_file() and (folder / "model" / ABOUT).is_file():
        folder = folder / "model"
    if not (folder / ABOUT).is_file():
        raise InputError(f"{folder}: no trained model in it (no {ABOUT}); give a folder that actprompt train has made")
    config = load_saved_config(ActConfig, folder / CONFIG)
    about = read_json(folder / ABOUT)
    vlm = vlm or load_backbone(config.vlm, config.train, predict=True)
    prompts = PromptLearner.from_pretrained(folder / PROMPTS, vlm)
    try:
        if absent := sorted({"data", "trained_on", "notes", "branch"} - set(about)):
            raise KeyError(absent[0])
        branch = None if about["branch"] is None else NumericBranch.from_dict(vlm, about["branch"])
        model = ActionModel(
            prompts,
            config,
            about["labels"],
            course_features=about["course_features"],
            parameters=tuple(about["parameters"]),
            branch=branch,
        )
        tensors = load_file(folder / WEIGHTS)
        if missing := model.learned().keys() ^ tensors.keys():
            raise InputError(f"{folder / WEIGHTS}: missing or unknown tensors {sorted(missing)[:4]}")
        model.load_state_dict(tensors, strict=False)
        course = None if about["course"] is None else Course.from_dict(about["course"])
        captioner = None if about["captioner"] is None else Captioner.from_dict(about["captioner"])
    except (KeyError, TypeError, OSError, RuntimeError, SafetensorError) as error:
        raise InputError(f"{folder}: a damaged model folder ({error}); train again") from error
    return SavedModel(model.to(vlm.device).eval(), course, captioner, about)


def _card(model: ActionModel, about: Mapping[str, Any]) -> str:
    trained = about["trained_on"]
    used = [name for name, part in (("picture", model.visual), ("course of the skeleton", model.course)) if part]
    if model.parameter_names:
        used.append("named numbers")
    notes = "".join(f"- {note}\n" for note in about["notes"]) or "- none\n"
    return (
        f"# Action recognition: {about['data']['title']}\n\n"
        f"Made by actprompt. Tells {len(model.labels)} actions apart by cosines with class prompts, from "
        f"{', '.join(used)}.\n\n"
        f"Backbone: {model.vlm.origin}. Trained on {trained['clips']} clips of {len(trained['subjects'])} people or "
        f"groups.\n\nTo know:\n\n{notes}\n"
        f"Actions: {', '.join(model.labels)}\n\n```yaml\n{config_to_yaml(model.config)}```\n"
    )
