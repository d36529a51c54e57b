"""Training folds: all clips of a set, all but some subjects, or the training side of a published split."""

from __future__ import annotations

from collections.abc import Sequence

from actprompt.config import ActConfig
from actprompt.data.manifest import Manifest
from icube_common.errors import InputError
from icube_common.evaluation import Fold, Samples, predefined_split, select_groups, train_on_all

VALIDATION = 0.2
# words of a published protocol by camera or place: the same people are on both sides by design
_SHARED_SUBJECTS = ("view", "setup", "camera")


def validation_share(config: ActConfig) -> float:
    """Share of the training groups reserved for early stopping; 0 without validation."""
    return VALIDATION if config.train.eval_steps else 0.0


def official_fold(manifest: Manifest, samples: Samples, protocol: str, config: ActConfig, *, number: int = 0) -> Fold:
    """The fold of a published split of a set.

    Raises:
        InputError: no such protocol, or a subject on both sides of a protocol by subject.
    """
    parts = manifest.split(protocol)
    ids = {part: [samples.ids[row] for row in rows] for part, rows in parts.items()}
    return predefined_split(
        samples,
        ids["test"],
        train_ids=[*ids["train"], *ids["validation"]],
        name=protocol,
        number=number,
        shared_groups=any(word in protocol for word in _SHARED_SUBJECTS),
        seed=config.train.seed,
        validation=validation_share(config),
    )


def training_fold(
    manifest: Manifest, config: ActConfig, *, protocol: str | None, exclude_subjects: Sequence[str]
) -> Fold:
    """The fold of a training run.

    Raises:
        InputError: no such protocol, no such subject, or no subject left.
    """
    samples = manifest.samples()
    if protocol is not None:
        if exclude_subjects:
            raise InputError(f"--exclude-subjects {','.join(exclude_subjects)}: does not go with --protocol {protocol}")
        return official_fold(manifest, samples, protocol, config)
    if exclude_subjects:
        samples = samples.subset(select_groups(samples, exclude_subjects, option="--exclude-subjects", exclude=True))
    return train_on_all(samples, seed=config.train.seed, validation=validation_share(config))
