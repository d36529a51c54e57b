"""Protocols: generators of folds, the same for the same seed.

Where a split is drawn here, groups (subjects) stay whole. Each fold's validation rows come from its training side by
`inner_split`; a fold without any has the reason in its warnings.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from icube_common.errors import InputError, unknown
from icube_common.evaluation.folds import Fold, make_fold
from icube_common.evaluation.metrics import Array
from icube_common.evaluation.samples import Samples, held_out, inner_split, stratified_groups

VALIDATION = 0.2
# as many validation rows of a class as shots, at most four (Zhou et al. 2022, CoOp)
VALIDATION_SHOTS = 4


@dataclass(frozen=True, eq=False, kw_only=True)
class BaseToNew:
    """Two folds with the same training: ``base`` tests on the classes trained, ``new`` on those never seen.

    `icube_common.evaluation.metrics.harmonic_mean` joins their accuracies.
    """

    base: Fold
    new: Fold


def _seed(*parts: int | str) -> int:
    """A seed from the protocol's seed and where in it a draw stands: neighbours are unrelated."""
    text = ",".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=4).digest(), "big")


def grouped_k_fold(
    samples: Samples, *, folds: int = 5, repeats: int = 1, seed: int = 0, validation: float = VALIDATION
) -> Iterator[Fold]:
    """K-fold by group, stratified by label (and site), sampled again in each repeat; every id is tested once a repeat.

    Raises:
        InputError: more folds than groups, or no class with as many rows as folds.
    """
    for repeat in range(repeats):
        drawn = stratified_groups(samples, np.arange(len(samples)), folds, _seed(seed, repeat, "outer"))
        for number, (rest, test) in enumerate(drawn):
            name = f"{folds}-fold {number + 1}/{folds}"
            yield _with_validation(samples, rest, test, validation, name, repeat, number, _seed(seed, repeat, number))


def leave_one_group_out(samples: Samples, *, seed: int = 0, validation: float = VALIDATION) -> Iterator[Fold]:
    """One fold for each group, in the order of their names.

    Raises:
        InputError: there is one group only.
    """
    from sklearn.model_selection import LeaveOneGroupOut

    groups = samples.group_array
    if len(np.unique(groups)) < 2:
        raise InputError(f"leave one group out: {str(groups[0])!r} is the only group, need at least two")
    divided = LeaveOneGroupOut().split(np.zeros(len(samples)), samples.labels, groups)
    for number, (rest, test) in enumerate(divided):
        name = f"without {groups[test[0]]}"
        yield _with_validation(samples, rest, test, validation, name, 0, number, _seed(seed, 0, number))


def predefined_split(
    samples: Samples,
    test_ids: Iterable[str],
    *,
    train_ids: Iterable[str] | None = None,
    name: str = "official",
    number: int = 0,
    shared_groups: bool = False,
    seed: int = 0,
    validation: float = VALIDATION,
) -> Fold:
    """A published split.

    Args:
        samples: the table.
        test_ids: the test side.
        train_ids: the training side; all other samples where not given.
        name: the split's name.
        number: the split's number.
        shared_groups: whether a group may be on both sides, as in some published splits.
        seed: of the validation split.
        validation: share of the training groups.

    Raises:
        InputError: an unknown id, one on both sides, or a group on both sides without ``shared_groups``.
    """
    train, test = _sides(samples, test_ids, train_ids, shared_groups)
    return _with_validation(samples, train, test, validation, name, 0, number, _seed(seed, 0, number))


def zero_shot(samples: Samples, *, test_ids: Iterable[str] | None = None, seed: int = 0) -> Fold:
    """Zero-shot fold without training rows: every sample, or those named, is predicted."""
    test = np.arange(len(samples)) if test_ids is None else samples.rows_of(test_ids)
    none = np.array([], dtype=np.int64)
    return make_fold(
        samples, name="zero-shot", train=none, validation=none, test=test, seed=seed, warnings=["no training rows"]
    )


def train_on_all(samples: Samples, *, seed: int = 0, validation: float = 0.0) -> Fold:
    """Train on all samples, test on none: for a model that is tested on other people, elsewhere.

    Args:
        samples: the table.
        seed: of the validation split.
        validation: share of the groups kept for early stopping.
    """
    train, chosen, warnings = inner_split(samples, np.arange(len(samples)), validation, _seed(seed, "everything"))
    none = np.array([], dtype=np.int64)
    return make_fold(
        samples,
        name="all samples",
        train=train,
        validation=chosen,
        test=none,
        seed=_seed(seed, "everything"),
        warnings=warnings if validation else (),
        tested=False,
    )


def few_shot(
    samples: Samples,
    *,
    shots: Sequence[int] = (1, 2, 4, 8, 16),
    seeds: Sequence[int] = (0, 1, 2),
    test_ids: Iterable[str] | None = None,
    validation: float = VALIDATION,
) -> Iterator[Fold]:
    """K training rows of each class, for each K and seed; the test rows are the same for all.

    With one seed the rows of a smaller K are among those of a larger one. Validation rows, as many of each class as
    shots but at most four (Zhou et al. 2022, CoOp), come from other groups of the training side. `Fold.repeat` is the
    seed's place in ``seeds``, `Fold.number` the place of K.

    Args:
        samples: the table.
        shots: the values of K.
        seeds: one draw of rows for each.
        test_ids: the test side; without it `held_out` takes a fixed quarter of the groups.
        validation: share of the pool's groups that validation rows may come from; 0 leaves the whole pool to the
            shots.

    Raises:
        InputError: a class has fewer than K rows in the pool; ids: `predefined_split`.
    """
    pool, test = _sides(samples, held_out(samples) if test_ids is None else test_ids)
    for repeat, seed in enumerate(seeds):
        order, spare, warnings = _shuffled_sides(samples, pool, validation, seed)
        for number, count in enumerate(shots):
            train, short = _first_of_each(samples, order, count)
            if short:
                raise InputError(f"{count} shots: {_too_few(samples, order, short[0])}; take no more shots than these")
            chosen, _ = _first_of_each(samples, spare, min(count, VALIDATION_SHOTS))
            yield make_fold(
                samples,
                name=f"{count} shot{'s' if count > 1 else ''}",
                train=train,
                validation=chosen,
                test=test,
                repeat=repeat,
                number=number,
                seed=_seed(seed, "few shots", count),
                warnings=warnings,
            )


def base_to_new(
    samples: Samples,
    *,
    new_classes: Sequence[str] | None = None,
    draws: int = 1,
    shots: int | None = None,
    seed: int = 0,
    test_ids: Iterable[str] | None = None,
    validation: float = VALIDATION,
) -> Iterator[BaseToNew]:
    """Train on some classes, test on them and on the others; each test chooses among its own classes only.

    Args:
        samples: the table.
        new_classes: the classes never trained; without it half of them (rounded down) is drawn for each of ``draws``.
        draws: how many random divisions of the classes.
        shots: training rows of each base class; all where not given.
        seed: of the divisions, the shots and the validation split.
        test_ids: the test side; without it `held_out` takes a fixed quarter of the groups.
        validation: share of the base classes' training groups.

    Raises:
        InputError: fewer than two classes on either side, an unknown class, a class without test rows on its side, or
            fewer rows than shots; ids as in `predefined_split`.
    """
    pool, test = _sides(samples, held_out(samples) if test_ids is None else test_ids)
    count = len(samples.class_names)
    for draw in range(draws if new_classes is None else 1):
        if new_classes is None:
            generator = np.random.default_rng(_seed(seed, "classes", draw))
            new = sorted(generator.permutation(count)[: count // 2].tolist())
        else:
            new = sorted({_class_number(samples, name) for name in new_classes})
        base = sorted(set(range(count)) - set(new))
        if min(len(base), len(new)) < 2:
            raise InputError(f"base to new: {len(base)} base and {len(new)} new classes, need at least two of each")
        base_rows = pool[np.isin(samples.labels[pool], base)]
        order, spare, warnings = _shuffled_sides(samples, base_rows, validation, _seed(seed, "rows", draw))
        if shots is not None:
            order, short = _first_of_each(samples, order, shots, base)
            if short:
                raise InputError(f"{shots} shots: {_too_few(samples, order, short[0])}")
            spare, _ = _first_of_each(samples, spare, min(shots, VALIDATION_SHOTS))
        base_fold, new_fold = (
            make_fold(
                samples,
                name=f"base to new: {side}",
                train=order,
                validation=spare,
                test=test[np.isin(samples.labels[test], classes)],
                repeat=draw,
                number=number,
                seed=_seed(seed, "base to new", draw),
                train_classes=base,
                test_classes=classes,
                warnings=warnings,
            )
            for number, (side, classes) in enumerate((("base", base), ("new", new)))
        )
        yield BaseToNew(base=base_fold, new=new_fold)


def _with_validation(
    samples: Samples, rest: Array, test: Array, validation: float, name: str, repeat: int, number: int, seed: int
) -> Fold:
    train, chosen, warnings = inner_split(samples, rest, validation, seed)
    return make_fold(
        samples,
        name=name,
        train=train,
        validation=chosen,
        test=test,
        repeat=repeat,
        number=number,
        seed=seed,
        warnings=warnings,
    )


def _sides(
    samples: Samples, test_ids: Iterable[str], train_ids: Iterable[str] | None = None, shared_groups: bool = False
) -> tuple[Array, Array]:
    """Rows of the training and of the test side."""
    test = samples.rows_of(test_ids)
    train = np.setdiff1d(np.arange(len(samples)), test) if train_ids is None else samples.rows_of(train_ids)
    both = np.intersect1d(train, test)
    if len(both):
        raise InputError(f"split: {samples.ids[both[0]]!r} is on both sides")
    if not len(train) or not len(test):
        raise InputError(f"split: {len(train)} training and {len(test)} test rows, need both")
    groups = samples.group_array
    common = np.intersect1d(groups[train], groups[test])
    if len(common) and not shared_groups:
        raise InputError(
            f"split: group {str(common[0])!r} has training and test rows ({len(common)} groups have): keep "
            "each group on one side of the split, or prepare the set without groups (column subject)"
        )
    return train, test


def _shuffled_sides(
    samples: Samples, pool: Array, validation: float, seed: int
) -> tuple[Array, Array, tuple[str, ...]]:
    """Training and validation rows of a pool, each in a random order, and the warnings of the split."""
    train, spare, warnings = inner_split(samples, pool, validation, _seed(seed, "validation"))
    generator = np.random.default_rng(_seed(seed, "rows"))
    return generator.permutation(train), generator.permutation(spare), warnings


def _first_of_each(
    samples: Samples, order: Array, count: int, classes: Sequence[int] | None = None
) -> tuple[Array, list[int]]:
    """The first ``count`` rows of each class, and the classes that have fewer."""
    if count < 1:
        raise InputError(f"{count} shots: need at least 1")
    labels = samples.labels[order]
    numbers = range(len(samples.class_names)) if classes is None else classes
    picked = {number: order[labels == number][:count] for number in numbers}
    return np.concatenate(list(picked.values())), [number for number in numbers if len(picked[number]) < count]


def _too_few(samples: Samples, order: Array, label: int) -> str:
    return f"class {samples.class_names[label]!r} has {int((samples.labels[order] == label).sum())} training rows"


def _class_number(samples: Samples, name: str) -> int:
    if name not in samples.class_names:
        raise unknown("class", name, samples.class_names)
    return list(samples.class_names).index(name)
