"""Golden values of the shared library: a prompt training, starts, losses, folds, intervals and small studies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import golden_values
import numpy as np
import torch
import torch.nn.functional as F
from experiment_job import SPACE, quadratic
from tabular_data import FOLD, LABELS, make_table
from test_knowledge_score import encode, knowledge
from torch import Tensor

from icube_common.evaluation import Samples
from icube_common.evaluation.intervals import group_interval
from icube_common.evaluation.metrics import find_metric
from icube_common.evaluation.predictions import make_predictions
from icube_common.evaluation.protocols import (
    base_to_new,
    few_shot,
    grouped_k_fold,
    leave_one_group_out,
    predefined_split,
)
from icube_common.evaluation.significance import paired_mean_test, paired_test
from icube_common.experiments import Grid, Search
from icube_common.experiments.ablation import ablate
from icube_common.experiments.tuning import tune
from icube_common.io.runs import RunFolder
from icube_common.knowledge import score_sentences
from icube_common.losses.classification import class_balanced_weights, cross_entropy, focal, focal_ordinal
from icube_common.losses.contrastive import info_nce, kgcoop, supervised_contrastive
from icube_common.prompts import PromptConfig, PromptLearner
from icube_common.prompts.ridge_init import (
    CaptionTerm,
    LinearProjection,
    RidgeBlock,
    initialise_ridge,
    select_by_group_cv,
)
from icube_common.tabular import TabularBranch, TabularConfig
from icube_common.training import SampleRef, TrainConfig, fit, open_run
from icube_common.vlm import load_vlm

GOLDEN = Path(__file__).with_name("golden.json")
CLASSES = ["standing still", "slow walking", "walking with a stick", "running", "falling"]
DESCRIPTIONS = {
    name: [f"a person {name}.", f"someone seen {name} from the side, with small steps."] for name in CLASSES
}


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def loop_config(**changes: Any) -> TrainConfig:
    """A configuration of the training loop, every key of a schedule in use."""
    return TrainConfig(
        max_steps=8,
        batch_size=8,
        gradient_accumulation_steps=2,
        learning_rate=5e-3,
        warmup_steps=2,
        lr_scheduler="cosine",
        max_grad_norm=0.5,
        ema_decay=0.9,
        device="cpu",
        seed=5,
        checkpointing_steps=4,
        checkpoints_total_limit=2,
        logging_steps=1,
        eval_steps=4,
        report_to="none",
        **changes,
    )


class Features:
    """Simulated features of five classes, with noise of each sample's own seed."""

    def __init__(self, width: int) -> None:
        self.centers = F.normalize(normal(len(CLASSES), width, seed=1), dim=-1)

    def __len__(self) -> int:
        return 30

    def __getitem__(self, draw: SampleRef) -> tuple[Tensor, Tensor]:
        label = torch.tensor(draw.index % len(CLASSES))
        return F.normalize(self.centers[label] + 0.05 * normal(self.centers.shape[1], seed=draw.seed), dim=-1), label


class Classifier(torch.nn.Module):
    """Logits of features against learned prompts."""

    def __init__(self, prompts: PromptLearner) -> None:
        super().__init__()
        self.prompts = prompts

    def forward(self, features: Tensor) -> Tensor:
        return self.prompts.logits(features)


def train_prompts(folder: Path, prompts: PromptLearner) -> dict[str, Any]:
    """Weights and logged losses of a short training on the loop."""
    model = Classifier(prompts)
    config = loop_config()
    data = Features(prompts.vlm.embed_dim)

    def step(wrapped: Any, batch: tuple[Tensor, Tensor], random: Any) -> dict[str, Tensor]:
        features, labels = batch
        return {"loss": F.cross_entropy(wrapped(features + 0.01 * random.normal(features.shape[1])), labels)}

    def validate(module: Any) -> dict[str, float]:
        return {"loss": float(F.cross_entropy(module(data.centers), torch.arange(len(CLASSES))))}

    run = open_run(folder, config=config, config_yaml="")
    result = fit(model, step, data, config=config, run=run, validate=validate)
    logged = [
        {key: value for key, value in line.items() if "loss" in key or key == "grad_norm"}
        for line in RunFolder(folder).read_metrics()
    ]
    weights = [value for value in result.model.parameters() if value.requires_grad]
    with torch.no_grad():
        return {"steps": result.steps, "weights": weights, "logged": logged, "logits": result.model(data.centers)}


def test_training_of_prompts(tmp_path: Path) -> None:
    vlm = load_vlm("icube-tiny")
    settings = {
        "random": PromptConfig(init="random", num_context="4", class_specific=True),
        "template": PromptConfig(init="template"),
        "descriptions": PromptConfig(init="descriptions"),
        "knowledge": PromptConfig(init="knowledge"),
    }
    values = {
        name: train_prompts(tmp_path / name, PromptLearner.from_config(vlm, CLASSES, config, knowledge=DESCRIPTIONS))
        for name, config in settings.items()
    }
    golden_values.check(GOLDEN, "prompts", values)


def test_ridge_start() -> None:
    maps = [LinearProjection(width, 6) for width in (4, 40)]
    values = [normal(24, width, seed=width) for width in (4, 40)]
    for made, rows in zip(maps, values, strict=True):
        made.fit_scale(rows)
    stated = CaptionTerm(6, weight=0.5)
    captions = normal(24, 6, seed=2)
    stated.fit_mean(captions)
    blocks = [RidgeBlock(made.standardise(rows), 0.5, made) for made, rows in zip(maps, values, strict=True)]
    classes = F.normalize(normal(3, 6, seed=4), dim=-1)
    labels = torch.arange(24) % 3
    groups = [f"s{row // 6}" for row in range(24)]
    chosen = select_by_group_cv(blocks, classes[labels], stated(captions), labels, groups, classes, copies=1)
    initialise_ridge(blocks, classes[labels], stated(captions), setting=chosen)
    with torch.no_grad():
        outputs = [made(rows) for made, rows in zip(maps, values, strict=True)]
    chosen_values = list(vars(chosen).values())
    golden_values.check(GOLDEN, "ridge", {"chosen": chosen_values, "outputs": outputs, "stated": stated(captions)})


def test_numbers_as_text() -> None:
    vlm = load_vlm("icube-tiny")
    table = make_table()
    sample = F.normalize(normal(12, vlm.embed_dim, seed=7), dim=-1)
    classes = F.normalize(normal(3, vlm.embed_dim, seed=8), dim=-1)
    values: dict[str, Any] = {}
    for way in ("contrastive", "memory", "fusion"):
        for kind in ("sinusoidal", "mlp"):
            config = TabularConfig(enabled=True, group_size=2, fusion_mode=way, kind=kind)
            branch = TabularBranch.fit(vlm, config, table, FOLD, generator=torch.Generator().manual_seed(0))
            optimizer = torch.optim.AdamW(branch.parameters(), lr=1e-2)
            losses = []
            for _ in range(3):
                out = branch(sample, classes, torch.from_numpy(table.values).float(), labels=torch.tensor(LABELS))
                loss = F.cross_entropy(20 * out.sample @ out.classes.T, torch.tensor(LABELS))
                loss = loss if out.loss is None else loss + out.loss
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                losses.append(loss.item())
            values[f"{way} {kind}"] = {"losses": losses, "weights": list(branch.state_dict().values())}
    golden_values.check(GOLDEN, "numbers", values)


def test_losses() -> None:
    left, right = normal(16, 8), normal(16, 8, seed=1)
    logits, labels = normal(16, 4, seed=2), torch.arange(16) % 4
    weights = class_balanced_weights([8, 4, 2, 2], 0.99)
    values = {
        "info_nce": info_nce(left, right, scale=10.0),
        "label_aware": info_nce(left, right, scale=10.0, labels=labels),
        "supervised": supervised_contrastive(left, labels),
        "kgcoop": kgcoop(left, right),
        "cross_entropy": cross_entropy(logits, labels, label_smoothing=0.1, class_weights=weights),
        "focal": focal(logits, labels, gamma=1.5, class_weights=weights),
        "focal_ordinal": focal_ordinal(logits, labels, class_weights=weights),
    }
    golden_values.check(GOLDEN, "losses", values)


def samples() -> Samples:
    """60 samples of ten people and three classes at two sites."""
    rng = np.random.default_rng(3)
    people = [f"p{row // 6}" for row in range(60)]
    return Samples(
        ids=[f"x{row}" for row in range(60)],
        labels=rng.integers(0, 4, 60),
        class_names=("a", "b", "c", "d"),
        groups=people,
        sites=[f"site {int(name[1:]) % 2}" for name in people],
    )


def test_folds_intervals_and_comparisons() -> None:
    table = samples()
    folds = {
        "k-fold": grouped_k_fold(table, folds=3, repeats=2, seed=1),
        "loso": leave_one_group_out(table),
        "few": few_shot(table, shots=(1, 2), seeds=(0, 1)),
        "new": [fold for pair in base_to_new(table, draws=2) for fold in (pair.base, pair.new)],
        "split": [predefined_split(table, [f"x{row}" for row in range(12)])],
    }
    values: dict[str, Any] = {
        name: [[fold.seed, fold.train, fold.validation, fold.test] for fold in found] for name, found in folds.items()
    }
    rng = np.random.default_rng(4)
    for sharpness in (1.0, 2.0):
        parts = []
        for fold in grouped_k_fold(table, folds=3, repeats=2, seed=1):
            logits = rng.normal(size=(len(fold.test), 4)) + sharpness * np.eye(4)[table.labels[fold.test]]
            parts.append(make_predictions(table, fold, np.exp(logits) / np.exp(logits).sum(1, keepdims=True)))
        values[f"metrics {sharpness}"] = [
            {name: find_metric(name)(part.labels, part.probabilities) for name in ("top1", "macro_f1", "auc", "ece")}
            for part in parts
        ]
    probabilities = [rng.dirichlet(np.ones(4), 60) * 0.5 + 0.5 * np.eye(4)[table.labels] for _ in range(2)]
    for name in ("top1", "macro_f1", "auc"):
        metric = find_metric(name)
        values[f"interval {name}"] = group_interval(metric, table.labels, probabilities[0], table.groups).to_dict()
        paired = paired_test(metric, table.labels, probabilities[0], probabilities[1], table.groups)
        values[f"paired {name}"] = [
            paired.difference.mean,
            paired.difference.low,
            paired.difference.high,
            paired.p_value,
        ]
    means = paired_mean_test([0.7, 0.8, 0.75], [0.6, 0.75, 0.72])
    values["paired means"] = [means.difference.low, means.difference.high, means.p_value]
    golden_values.check(GOLDEN, "evaluation", values)


def test_studies(tmp_path: Path) -> None:
    grid = Grid.from_mapping({"grid": {"x": [0.3, 0.5, 0.9]}, "seeds": [0, 1, 2], "metric": "top1"})
    study = ablate(quadratic, grid, tmp_path / "ablation")
    result = tune(quadratic, Search.from_mapping(SPACE), tmp_path / "search", trials=8)
    values = {
        "ablate": [
            [variant.interval.to_dict() if variant.interval else None, variant.difference and variant.difference.p_holm]
            for variant in study.variants
        ],
        "tune": [[dict(trial.params), trial.value] for trial in result.trials],
        "importance": dict(result.importance),
    }
    golden_values.check(GOLDEN, "studies", values)


def test_knowledge_scores() -> None:
    images = torch.from_numpy(encode(["A person walks.", "Walking legs.", "A person runs.", "It strides."]))
    scores = score_sentences(knowledge(), encode, image_features=images, labels=["walk", "walk", "run", "run"])
    golden_values.check(
        GOLDEN,
        "knowledge",
        {"scores": [[s.margin, s.accuracy, s.gain] for s in scores.sentences], "baseline": scores.baseline},
    )
