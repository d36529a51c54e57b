"""Trained models on disk: configuration, weights, prompts and the record of the training.

``config.yaml`` all settings; ``model.json`` labels, names, calibration, confidence threshold, training scans;
``model.safetensors`` weights, scaling, percentiles of the controls' scores; ``prompts/`` the class prompts of an image
branch; ``README.md`` a model card. No value of a single person is in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
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
from debian_mri.models.clinical_fusion import VariableScaler
from debian_mri.models.image_branch import ImageBranch
from debian_mri.models.mri_model import MriModel
from debian_mri.models.selective_prediction import Abstention
from debian_mri.models.slice_pooling import CustomPooling, Pooling
from icube_common.config import config_to_yaml, load_saved_config
from icube_common.errors import InputError
from icube_common.io.runs import atomic_folder, read_json, write_json
from icube_common.prompts import PromptLearner
from icube_common.tabular import NumericBranch
from icube_common.training import load_backbone
from icube_common.vlm import FrozenVLM

CONFIG, ABOUT, WEIGHTS, PROMPTS, CARD = "config.yaml", "model.json", "model.safetensors", "prompts", "README.md"
FORMAT = 2


def save_model(folder: str | Path, model: MriModel, *, overwrite: bool = False) -> None:
    """Write a model's folder.

    Raises:
        InputError: the folder exists and ``overwrite`` is False.
    """
    branch, biomarkers, variables = model.image_branch, model.biomarkers, model.variables
    with atomic_folder(folder, overwrite=overwrite) as temporary:
        (temporary / CONFIG).write_text(config_to_yaml(model.config))
        tensors = {name: value.detach().cpu().contiguous() for name, value in model.learned().items()}
        save_file(tensors, temporary / WEIGHTS, {"format": "pt"})
        if branch is not None:
            branch.prompts.save_pretrained(temporary / PROMPTS)
        about = {
            "format": FORMAT,
            "notice": RESEARCH_ONLY,
            **model.about,
            "labels": list(model.labels),
            "biomarkers": None
            if biomarkers is None
            else {"names": list(biomarkers.names), "covariates": len(biomarkers.slope)},
            "variables": None if variables is None else list(variables.names),
            "columns": [asdict(column) for column in model.columns],
            "image_branch": None
            if branch is None
            else {
                "slices": branch.pooling.slices,
                "pooling": pooling_name(model),
                "branch": None if branch.branch is None else branch.branch.to_dict(),
                "backbone": branch.vlm.describe(),
            },
            "calibration": model.calibration.to_dict(),
            "abstention": model.abstention.to_dict(),
        }
        write_json(temporary / ABOUT, about)
        (temporary / CARD).write_text(_card(model, about))


def load_model(source: str | Path, *, pooling: Pooling | None = None, vlm: FrozenVLM | None = None) -> MriModel:
    """Read a trained model, in eval mode on the backbone's device.

    Args:
        source: a run folder, its ``model``, or a repository of the Hugging Face hub (``owner/name``).
        pooling: the custom slice pooling that it was trained with.
        vlm: the backbone, where it is loaded already; by default that of the configuration, loaded for an image branch
            only, on a GPU where there is one and the training was not set to ``device=cpu``.

    Raises:
        InputError: no such folder or repository, a damaged file, a model of an earlier version, a custom pooling that
            is not given, or another backbone than it was trained on.
    """
    folder = find_model(source)
    about = read_json(folder / ABOUT)
    if about.get("format") != FORMAT:
        raise InputError(
            f"{folder / ABOUT}: a model of an earlier version of debian_mri; train it again: "
            "debian-mri train --data DATA --out RUN"
        )
    config = load_saved_config(MriConfig, folder / CONFIG)
    custom = (about.get("image_branch") or {}).get("pooling")
    if custom and pooling is None:
        raise InputError(f"{folder}: was trained with the custom pooling {custom}; load it with pooling={custom}")
    if pooling is not None and not custom:
        raise InputError(
            f"{folder}: was trained with visual.pooling={config.visual.pooling}, not with a custom pooling"
        )
    try:
        if absent := sorted({"data", "trained_on", "notes", "disclaimers"} - set(about)):
            raise KeyError(absent[0])
        model = _untrained(folder, config, about, pooling, vlm)
        tensors = load_file(folder / WEIGHTS)
        if missing := model.learned().keys() ^ tensors.keys():
            raise InputError(f"{folder / WEIGHTS}: missing or unknown tensors {sorted(missing)[:4]}")
        model.load_state_dict(tensors, strict=False)
        model.calibration = Calibration.from_dict(about["calibration"])
        model.abstention = Abstention(**about["abstention"])
        model.columns = tuple(Column(**{**record, "values": tuple(record["values"])}) for record in about["columns"])
    except (KeyError, TypeError, OSError, RuntimeError, SafetensorError) as error:
        raise InputError(f"{folder}: a damaged model folder ({error}); train again") from error
    model.about = about
    if model.image_branch is not None:
        model.to(model.image_branch.vlm.device)
    return model.eval()


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
    raise InputError(f"{folder}: no trained model in it (no {ABOUT}); give a folder that debian-mri train has made")


def _download(repository: str) -> Path:
    """A snapshot of a repository of the Hugging Face hub."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(repository))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise InputError(f"{repository}: no such folder, nor a repository of the hub ({error})") from error


def pooling_name(model: MriModel) -> str | None:
    """The class name of a custom pooling, None for one of the configuration."""
    pooling = None if model.image_branch is None else model.image_branch.pooling
    return pooling.name if isinstance(pooling, CustomPooling) else None


def _untrained(
    folder: Path, config: MriConfig, about: Mapping[str, Any], pooling: Pooling | None, vlm: FrozenVLM | None
) -> MriModel:
    """The model of a folder in its shapes, without its weights."""
    labels, head, branch = about["labels"], about["biomarkers"], about["image_branch"]
    variables = None if about["variables"] is None else VariableScaler(about["variables"])
    biomarkers = image_branch = None
    if head is not None:
        biomarkers = BiomarkerHead(
            head["names"],
            torch.zeros(len(labels), len(head["names"])),
            prior_weight=config.concepts.prior_weight,
            learn_prior_weight=config.concepts.learn_prior_weight,
            covariates=head["covariates"],
        )
    if branch is not None:
        vlm = vlm or load_backbone(config.vlm, config.train, predict=True)
        film = config.demographics.mode == "film" and variables is not None
        image_branch = ImageBranch(
            PromptLearner.from_pretrained(folder / PROMPTS, vlm),
            config,
            slices=branch["slices"],
            covariates=variables.width if film and variables is not None else 0,
            branch=None if branch["branch"] is None else NumericBranch.from_dict(vlm, branch["branch"]),
            pooling=pooling,
        )
    return MriModel(config, labels, biomarkers=biomarkers, image_branch=image_branch, variables=variables)


def _card(model: MriModel, about: Mapping[str, Any]) -> str:
    trained, used = about["trained_on"], []
    if model.image_branch is not None:
        used.append(f"slice images ({model.image_branch.vlm.origin})")
    if model.biomarkers is not None:
        used.append(f"biomarkers ({', '.join(model.biomarkers.names)})")
    if model.variables is not None:
        used.append(f"clinical variables ({', '.join(model.variables.names)})")
    notes = "".join(f"- {note}\n" for note in (*about["disclaimers"], *about["notes"])) or "- none\n"
    simulated = "Trained on simulated scans, not on scans of people.\n\n" if about["data"]["simulated"] else ""
    return (
        f"# Brain MRI: {about['data']['title']}\n\n{RESEARCH_ONLY}\n\n{simulated}"
        f"Made by debian_mri. Classifies {', '.join(model.labels)} by a sum of named contributions from "
        f"{'; '.join(used)}. Trained on {len(trained['ids'])} scans of {len(trained['subjects'])} people.\n\n"
        f"Probabilities: temperature {model.calibration.temperature:.3f}, fitted on {model.calibration.rows} scans of "
        f"people outside the training folds. Abstains below a confidence of {model.abstention.threshold:.3f}.\n\n"
        f"Warnings:\n\n{notes}\n```yaml\n{config_to_yaml(model.config)}```\n"
    )
