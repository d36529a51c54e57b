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

from debian_mri import RESEARCH_ONLY
from debian_mri.biomarkers.head import BiomarkerHead
from debian_mri.config import MriConfig
from debian_mri.data.clinical_variables import Column
from debian_mri.models.clinical_fusion import VariableScaler
from debian_mri.models.image_branch import ImageBranch
from debian_mri.models.mri_model import MriModel
from debian_mri.models.selective_prediction import Abstention
from debian_mri.models.slice_pooling import CustomPooling, Pooling
from icube_common.errors import InputError
from icube_common.io.model_card import ModelCard
from icube_common.io.pretrained import ModelFormat
from icube_common.prompts import PromptLearner
from icube_common.tabular import TabularBranch
from icube_common.training import custom_encoder, load_saved_backbone
from icube_common.training.calibration import Calibration
from icube_common.vlm import EncoderLike, FrozenVLM

FORMAT = ModelFormat(
    version=3,
    command="debian-mri train",
    keys=(
        "data",
        "trained_on",
        "warnings",
        "disclaimers",
        "labels",
        "biomarkers",
        "variables",
        "columns",
        "image_branch",
    ),
)
PROMPTS = "prompts"


def save_model(folder: str | Path, model: MriModel, *, overwrite: bool = False) -> None:
    """Write a model's folder.

    Raises:
        InputError: the folder exists and ``overwrite`` is False.
    """
    branch, biomarkers, variables = model.image_branch, model.biomarkers, model.variables
    head = None if biomarkers is None else {"names": list(biomarkers.names), "covariates": len(biomarkers.slope)}
    description = {
        "notice": RESEARCH_ONLY,
        **model.description,
        "labels": list(model.labels),
        "biomarkers": head,
        "variables": None if variables is None else list(variables.names),
        "columns": [asdict(column) for column in model.columns],
        "image_branch": None
        if branch is None
        else {
            "slices": branch.pooling.slices,
            "pooling": pooling_name(model),
            "branch": None if branch.branch is None else branch.branch.to_dict(),
            "encoder": custom_encoder(branch.vlm, model.config.vlm),
            "backbone": branch.vlm.describe(),
        },
        "calibration": model.calibration.to_dict(),
        "abstention": model.abstention.to_dict(),
    }
    FORMAT.save(
        folder,
        config=model.config,
        description=description,
        tensors=model.learned(),
        card=_card(model, description),
        save_parts=lambda temporary: branch and branch.prompts.save_pretrained(temporary / PROMPTS),
        overwrite=overwrite,
    )


def load_model(
    source: str | Path,
    *,
    pooling: Pooling | None = None,
    encoder: EncoderLike | None = None,
    vlm: FrozenVLM | None = None,
) -> MriModel:
    """Read a trained model, in eval mode on the backbone's device.

    Args:
        source: a run folder, its ``model``, or a repository of the Hugging Face hub (``owner/name``).
        pooling: the custom slice pooling that it was trained with.
        encoder: the image encoder that it was trained with, where that was a class or an instance.
        vlm: the backbone, where it is loaded already; by default that of the configuration, loaded for an image branch
            only, on a GPU where there is one and the training was not set to ``device=cpu``.

    Raises:
        InputError: no such folder or repository, a damaged file, a model of an earlier version, a custom pooling that
            is not given, or another backbone or encoder than it was trained on.
    """
    folder, config, description = FORMAT.read(source, MriConfig)
    custom = (description["image_branch"] or {}).get("pooling")
    if custom and pooling is None:
        raise InputError(f"{folder}: was trained with the custom pooling {custom}; load it with pooling={custom}")
    if pooling is not None and not custom:
        raise InputError(
            f"{folder}: was trained with visual.pooling={config.visual.pooling}, not with a custom pooling"
        )
    if description["image_branch"] is not None:
        recorded = description["image_branch"].get("encoder")
        vlm = load_saved_backbone(folder, config.vlm, config.train, recorded=recorded, encoder=encoder, vlm=vlm)
    with FORMAT.guard(folder):
        model = _untrained(folder, config, description, pooling, vlm)
        model.calibration = Calibration.from_dict(description["calibration"])
        model.abstention = Abstention(**description["abstention"])
        model.columns = tuple(
            Column(**{**record, "values": tuple(record["values"])}) for record in description["columns"]
        )
    FORMAT.load_weights(folder, model, model.learned())
    model.description = description
    if model.image_branch is not None:
        model.to(model.image_branch.vlm.device)
    return model.eval()


def pooling_name(model: MriModel) -> str | None:
    """The class name of a custom pooling, None for one of the configuration."""
    pooling = None if model.image_branch is None else model.image_branch.pooling
    return pooling.name if isinstance(pooling, CustomPooling) else None


def _untrained(
    folder: Path, config: MriConfig, description: Mapping[str, Any], pooling: Pooling | None, vlm: FrozenVLM | None
) -> MriModel:
    """The model of a folder in its shapes, without its weights."""
    labels, head, branch = description["labels"], description["biomarkers"], description["image_branch"]
    variables = None if description["variables"] is None else VariableScaler(description["variables"])
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
        assert vlm is not None, "an image branch needs a backbone"
        film = config.demographics.mode == "film" and variables is not None
        image_branch = ImageBranch(
            PromptLearner.from_pretrained(folder / PROMPTS, vlm),
            config,
            slices=branch["slices"],
            covariates=variables.width if film and variables is not None else 0,
            branch=None if branch["branch"] is None else TabularBranch.from_dict(vlm, branch["branch"]),
            pooling=pooling,
        )
    return MriModel(config, labels, biomarkers=biomarkers, image_branch=image_branch, variables=variables)


def _card(model: MriModel, description: Mapping[str, Any]) -> str:
    trained, used = description["trained_on"], []
    if model.image_branch is not None:
        used.append(f"slice images ({model.image_branch.source})")
    if model.biomarkers is not None:
        used.append(f"biomarkers ({', '.join(model.biomarkers.names)})")
    if model.variables is not None:
        used.append(f"clinical variables ({', '.join(model.variables.names)})")
    simulated = " Trained on simulated scans, not on scans of people." if description["data"]["simulated"] else ""
    return ModelCard(
        title=f"Brain MRI: {description['data']['title']}",
        library="debian_mri",
        pipeline_tag="image-classification",
        tags=("medical-imaging", "brain-mri", "explainability"),
        notice=f"**{RESEARCH_ONLY}**{simulated}",
        details=(
            f"Classifies {', '.join(model.labels)} by a sum of named contributions from {'; '.join(used)}.\n\n"
            f"Probabilities: temperature {model.calibration.temperature:.3f}, fitted on {model.calibration.rows} scans "
            f"of people outside the training folds. Abstains below a confidence of {model.abstention.threshold:.3f}."
        ),
        intended="Research on groups of people whose scans were made and prepared as those of the training.",
        excluded="clinical use: diagnosis, prognosis or treatment of any person.",
        data=f"{len(trained['ids'])} scans of {len(trained['subjects'])} people.",
        limits=(
            *description["disclaimers"],
            *description["warnings"],
            "Other scanners, sequences, ages and mixtures of diseases than those of the training are untested.",
        ),
        command="debian-mri evaluate RUN --data OTHER --out EVAL",
        config=model.config,
    ).to_markdown()
