"""Evaluation protocols: folds of people, with each person either in training or in test.

``group-kfold`` draws folds of people, stratified by diagnosis (and site where known); ``leave-one-site-out`` tests each
site on the others; ``given`` reads folds from a table. The controls of labels that are permuted are made here too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from debian_mri.data.manifest import UNKNOWN_SITE
from icube_common.errors import InputError, unknown
from icube_common.evaluation import Fold, Samples, grouped_k_fold, predefined_split
from icube_common.evaluation.folds import make_fold
from icube_common.io.csv import read_table

PROTOCOLS = ("group-kfold", "leave-one-site-out", "given")


@dataclass(frozen=True, kw_only=True)
class ProtocolOptions:
    """Settings of a protocol.

    Attributes:
        folds: of group-kfold.
        repeats: of group-kfold.
        seed: of all draws.
        split: of given: a table with the columns id, fold, and repeat where there are several.

    Raises:
        InputError: a number that means nothing.
    """

    folds: int = 5
    repeats: int = 1
    seed: int = 0
    split: str | None = None

    def __post_init__(self) -> None:
        for name, least in (("folds", 2), ("repeats", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise InputError(f"--{name} {getattr(self, name)}: must be at least {least}")


def folds_of(samples: Samples, protocol: str, options: ProtocolOptions, *, validation: float = 0.0) -> list[Fold]:
    """All folds of a protocol.

    Args:
        samples: the table; its groups are people.
        protocol: one of `PROTOCOLS`.
        options: what it is drawn with.
        validation: share of the training people that each fold keeps for selection.

    Raises:
        InputError: no such protocol, unknown or single site, a split that does not fit.
    """
    if protocol not in PROTOCOLS:
        raise unknown("protocol", protocol, PROTOCOLS)
    if (options.split is not None) != (protocol == "given"):
        raise InputError(
            f"--protocol {protocol} with --split {options.split}: --protocol given and --split go together"
        )
    if protocol == "group-kfold":
        drawn = grouped_k_fold(
            samples, folds=options.folds, repeats=options.repeats, seed=options.seed, validation=validation
        )
    elif protocol == "leave-one-site-out":
        drawn = leave_one_site_out(samples, seed=options.seed, validation=validation)
    else:
        assert options.split is not None
        drawn = folds_from_table(samples, Path(options.split), seed=options.seed, validation=validation)
    return list(drawn)


def leave_one_site_out(samples: Samples, *, seed: int, validation: float) -> Iterator[Fold]:
    """Each site is tested on models of the others, in the order of their names.

    A person who was scanned at the tested site is not trained on, wherever else they were scanned.

    Raises:
        InputError: the sites are not all known, or there is one only.
    """
    if samples.sites is None or any(site.startswith(UNKNOWN_SITE) for site in samples.sites):
        raise InputError("leave-one-site-out: the sites of some scans are not known (column site of manifest.csv)")
    sites = np.asarray(samples.sites, dtype=str)
    names = np.unique(sites)
    if len(names) < 2:
        raise InputError(f"leave-one-site-out: {str(names[0])!r} is the only site; take --protocol group-kfold")
    for number, site in enumerate(names):
        test = np.flatnonzero(sites == site)
        elsewhere = np.flatnonzero(sites != site)
        both = np.isin(samples.group_array[elsewhere], samples.group_array[test])
        fold = predefined_split(
            samples,
            [samples.ids[row] for row in test],
            train_ids=[samples.ids[row] for row in elsewhere[~both]],
            name=f"without site {site}",
            number=number,
            seed=seed,
            validation=validation,
        )
        warnings = list(fold.warnings)
        if both.any():
            warnings.append(f"site {site}: {int(both.sum())} scans of its people at other sites are not trained on")
        if len(set(samples.labels[test].tolist())) == 1:
            label = samples.class_names[int(samples.labels[test[0]])]
            warnings.append(f"site {site}: all of its scans are {label!r}")
        yield replace(fold, warnings=tuple(warnings))


def folds_from_table(samples: Samples, path: Path, *, seed: int, validation: float) -> Iterator[Fold]:
    """Folds that a table gives: columns id and fold, and repeat where there are several.

    Raises:
        InputError: an unknown id, one without a fold or with two, a person in two folds, one fold only.
    """
    parts: dict[str, dict[str, str]] = {}
    owner: dict[tuple[str, str], tuple[str, int]] = {}
    group_of = dict(zip(samples.ids, samples.group_array.tolist(), strict=True))
    for line, row in read_table(path, ("id", "fold")):
        where, repeat = f"{path}: line {line}", row.get("repeat", "0")
        if row["id"] not in group_of:
            raise InputError(f"{where}: {unknown('scan', row['id'], samples.ids)}")
        if not row["fold"]:
            raise InputError(f"{where}: {row['id']!r} has an empty fold")
        taken = parts.setdefault(repeat, {})
        if row["id"] in taken:
            raise InputError(f"{where}: {row['id']!r} is there twice in repeat {repeat}")
        taken[row["id"]] = row["fold"]
        person = group_of[row["id"]]
        first, first_line = owner.setdefault((repeat, person), (row["fold"], line))
        if first != row["fold"]:
            raise InputError(
                f"{where}: subject {person!r} is in fold {row['fold']} and, by line {first_line}, in fold {first}: the "
                "model would be tested on people it was trained on; give all scans of a subject one fold"
            )
    if not parts:
        raise InputError(f"{path}: no row")
    for repeat_number, (repeat, taken) in enumerate(parts.items()):
        if missing := [name for name in samples.ids if name not in taken]:
            raise InputError(f"{path}: repeat {repeat}: {missing[0]!r} has no fold ({len(missing)} scans have none)")
        names = list(dict.fromkeys(taken.values()))
        if len(names) < 2:
            raise InputError(f"{path}: repeat {repeat}: all scans are in fold {names[0]}, at least two are needed")
        for number, name in enumerate(names):
            fold = predefined_split(
                samples,
                [scan for scan, part in taken.items() if part == name],
                name=f"fold {name}",
                number=number,
                seed=seed + repeat_number,
                validation=validation,
            )
            yield replace(fold, repeat=repeat_number)


def permute_labels(samples: Samples, folds: Sequence[Fold], *, seed: int) -> Iterator[tuple[Samples, Fold]]:
    """The same folds with labels that mean nothing: exchanged among the people of each test part, in each repeat.

    Training and test labels are permuted alike, so that prior knowledge (the direction of a biomarker) cannot help;
    only a leak from test labels to training can. Inside the test parts every fold keeps its share of each class:
    otherwise the training part would have fewer of what its test part has more of, and the AUC would fall below 0.5.

    Yields:
        For each fold the table with that repeat's labels, and the fold with them. Ids carry the number of the repeat,
        since each repeat has labels of its own.
    """
    by_repeat: dict[int, list[Fold]] = {}
    for fold in folds:
        by_repeat.setdefault(fold.repeat, []).append(fold)
    for repeat, parts in by_repeat.items():
        generator = np.random.default_rng([seed, repeat])
        labels = np.array(samples.labels)
        for fold in parts:
            labels[fold.test] = _exchanged(samples.group_array[fold.test], labels[fold.test], generator)
        drawn = replace(samples, labels=labels)
        for fold in parts:
            yield drawn, _with_labels(drawn, fold)


def permute_training_labels(samples: Samples, fold: Fold, *, seed: int) -> Fold:
    """The same fold, whose training and validation labels are exchanged among its training people.

    It is tested on the true ones: performance above chance then comes from prior knowledge, not from labels.
    """
    generator = np.random.default_rng([seed, fold.repeat, fold.number])
    labels = np.array(samples.labels)
    for rows in (fold.train, fold.validation):
        if len(rows):
            labels[rows] = _exchanged(samples.group_array[rows], labels[rows], generator)
    return _with_labels(replace(samples, labels=labels), fold)


def _exchanged(
    groups: npt.NDArray[np.str_], labels: npt.NDArray[np.int64], generator: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Each person gets the (first) label of a person drawn without replacement, on all of their rows."""
    names, first, place = np.unique(groups, return_index=True, return_inverse=True)
    exchanged: npt.NDArray[np.int64] = labels[first][generator.permutation(len(names))][place]
    return exchanged


def _with_labels(samples: Samples, fold: Fold) -> Fold:
    return make_fold(
        samples,
        name=fold.name,
        train=np.array(fold.train),
        validation=np.array(fold.validation),
        test=np.array(fold.test),
        repeat=fold.repeat,
        number=fold.number,
        seed=fold.seed,
        warnings=fold.warnings,
    )
