"""A trained model on disk: what was learned beside the frozen backbone, and what is needed to use it again.

``config.yaml`` all settings; ``model.json`` labels, names, calibration, threshold, who was trained on;
``model.safetensors`` weights, scaling, percentiles of the controls' scores; ``prompts/`` the class prompts, where the
picture enters; ``README.md`` a card. No value of a single person is in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from debian_mri import RESEARCH_ONLY
from debian_mri.biomarkers.head import BiomarkerHead
from debian_mri.config import MriConfig
from debian_mri.data.clinical_variables import Column
from debian_mri.models.calibration import Calibration
from debian_mri.models.clinical_fusion import Variables
from debian_mri.models.image_branch import Picture
from debian_mri.models.mri_model import MriModel
from debian_mri.models.selective_prediction import Abstention
from icube_common.config import config_to_yaml, load_saved_config
from icube_common.errors import InputError
from icube_common.numeric import NumericBranch
from icube_common.prompts import PromptLearner
from icube_common.runs import atomic_folder, read_json, write_json
from icube_common.training import load_backbone
from icube_common.vlm import FrozenVLM

CONFIG, ABOUT, WEIGHTS, PROMPTS, CARD = "config.yaml", "model.json", "model.safetensors", "prompts", "README.md"
_KEYS = (
    "data",
    "trained_on",
    "notes",
    "stamps",
    "labels",
    "signs",
    "variables",
    "calibration",
    "abstention",
    "picture",
)


@dataclass(frozen=True, eq=False)
class SavedModel:
    """A model with what belongs to it.

    Attributes:
        model: in eval mode, on the backbone's device.
        calibration: of its logits.
        abstention: the threshold of confidence.
        columns: of the variables that enter, with tier and unit.
        about: ``data`` (format, title, fingerprint, simulated, classes in words), ``training_scans`` (see
            `debian_mri.data.leakage`), ``notes``, ``stamps``, ``knowledge``.
    """

    model: MriModel
    calibration: Calibration
    abstention: Abstention
    columns: tuple[Column, ...]
    about: Mapping[str, Any]


def save_model(folder: str | Path, saved: SavedModel, *, overwrite: bool = False) -> None:
    """Write a model's folder.

    Raises:
        InputError: the folder exists and ``overwrite`` is False.
    """
    model = saved.model
    picture, signs, variables = model.picture, model.signs, model.variables
    with atomic_folder(folder, overwrite=overwrite) as temporary:
        (temporary / CONFIG).write_text(config_to_yaml(model.config))
        tensors = {name: value.detach().cpu().contiguous() for name, value in model.learned().items()}
        save_file(tensors, temporary / WEIGHTS, {"format": "pt"})
        if picture is not None:
            picture.prompts.save_pretrained(temporary / PROMPTS)
        about = {
            "notice": RESEARCH_ONLY,
            **saved.about,
            "labels": list(model.labels),
            "signs": None if signs is None else {"names": list(signs.names), "numbers": len(signs.slope)},
            "variables": None if variables is None else list(variables.names),
            "columns": [asdict(column) for column in saved.columns],
            "picture": None
            if picture is None
            else {
                "slices": picture.pooling.slices,
                "branch": None if picture.branch is None else picture.branch.record(),
                "backbone": picture.vlm.describe(),
            },
            "calibration": saved.calibration.record(),
            "abstention": saved.abstention.record(),
        }
        write_json(temporary / ABOUT, about)
        (temporary / CARD).write_text(_card(saved, about))


def load_model(folder: str | Path, *, vlm: FrozenVLM | None = None) -> SavedModel:
    """Read a model's folder, or that of the run it is in.

    Args:
        folder: a run folder, or its ``model``.
        vlm: the backbone, where it is loaded already; by default the one that the configuration names, loaded only
            where the picture enters, on a GPU where there is one and the training was not set to ``device=cpu``.

    Raises:
        InputError: no such folder, a damaged file, or another backbone than it was trained on.
    """
    folder = Path(folder)
    if not (folder / ABOUT).is_file() and (folder / "model" / ABOUT).is_file():
        folder = folder / "model"
    if not (folder / ABOUT).is_file():
        raise InputError(f"{folder}: no trained model in it (no {ABOUT}); give a folder that debian-mri train has made")
    config = load_saved_config(MriConfig, folder / CONFIG)
    about = read_json(folder / ABOUT)
    try:
        if absent := [key for key in _KEYS if key not in about]:
            raise KeyError(absent[0])
        model = _skeleton(folder, config, about, vlm)
        tensors = load_file(folder / WEIGHTS)
        if missing := model.learned().keys() ^ tensors.keys():
            raise InputError(f"{folder / WEIGHTS}: missing or unknown tensors {sorted(missing)[:4]}")
        model.load_state_dict(tensors, strict=False)
        calibration = Calibration.from_record(about["calibration"])
        abstention = Abstention.from_record(about["abstention"])
        columns = tuple(Column(**{**record, "values": tuple(record["values"])}) for record in about["columns"])
    except (KeyError, TypeError, OSError, RuntimeError, SafetensorError) as error:
        raise InputError(f"{folder}: a damaged model folder ({error}); train again") from error
    if model.picture is not None:
        model.to(model.picture.vlm.device)
    return SavedModel(model.eval(), calibration, abstention, columns, about)


def _skeleton(folder: Path, config: MriConfig, about: Mapping[str, Any], vlm: FrozenVLM | None) -> MriModel:
    """The model of a folder with the right shapes, without its weights."""
    labels = about["labels"]
    variables = None if about["variables"] is None else Variables(about["variables"])
    signs = None
    if about["signs"] is not None:
        names = about["signs"]["names"]
        signs = BiomarkerHead(
            names,
            torch.zeros(len(labels), len(names)),
            prior_weight=config.concepts.prior_weight,
            learn_prior_weight=config.concepts.learn_prior_weight,
            covariates=about["signs"]["numbers"],
        )
    picture = None
    if about["picture"] is not None:
        vlm = vlm or load_backbone(config.vlm, config.train, predict=True)
        prompts = PromptLearner.from_pretrained(folder / PROMPTS, vlm)
        record = about["picture"]["branch"]
        film = config.demographics.mode == "film" and variables is not None
        picture = Picture(
            prompts,
            config,
            slices=about["picture"]["slices"],
            numbers=variables.width if film and variables is not None else 0,
            branch=None if record is None else NumericBranch.from_record(vlm, record),
        )
    return MriModel(config, labels, signs=signs, picture=picture, variables=variables)


def _card(saved: SavedModel, about: Mapping[str, Any]) -> str:
    model, trained = saved.model, about["trained_on"]
    used = []
    if model.picture is not None:
        used.append(f"pictures of slices ({model.picture.vlm.origin})")
    if model.signs is not None:
        used.append(f"measured signs ({', '.join(model.signs.names)})")
    if model.variables is not None:
        used.append(f"variables ({', '.join(model.variables.names)})")
    notes = "".join(f"- {note}\n" for note in (*about["stamps"], *about["notes"])) or "- none\n"
    simulated = "Trained on simulated scans, of nobody.\n\n" if about["data"]["simulated"] else ""
    return (
        f"# Brain MRI: {about['data']['title']}\n\n{RESEARCH_ONLY}\n\n{simulated}"
        f"Made by debian_mri. Tells {', '.join(model.labels)} apart by a sum of named contributions from "
        f"{'; '.join(used)}. Trained on {len(trained['ids'])} scans of {len(trained['subjects'])} people.\n\n"
        f"Probabilities: temperature {saved.calibration.temperature:.3f}, fitted on {saved.calibration.rows} scans of "
        f"people left out. Answers from a confidence of {saved.abstention.threshold:.3f} on.\n\nTo know:\n\n{notes}\n"
        f"```yaml\n{config_to_yaml(model.config)}```\n"
    )
