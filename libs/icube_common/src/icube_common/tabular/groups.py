"""Groups of numbers for a sentence: those of low correlation."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from icube_common.evaluation.folds import Fold
from icube_common.tabular.table import TabularData, training_values


def group_features(
    table: TabularData, fold: Fold, *, max_correlation: float = 0.5, size: int = 6
) -> tuple[tuple[int, ...], ...]:
    """Part the columns into groups of low mutual correlation, on the training rows only.

    Numbers that follow one another fill a sentence with one statement; those that do not give the text tower several.
    Greedy and deterministic: columns are taken in the order of their mean |correlation| with the others, largest first,
    and join the first group that has room and no member they correlate with by more than ``max_correlation``.

    Args:
        table: all samples.
        fold: the only source of training rows.
        max_correlation: largest |Spearman's rho| between two members of a group.
        size: most members of a group.

    Returns:
        Column numbers, each in one group, ascending within a group; groups by their first member.

    Raises:
        InputError: the fold has no training row in the table.
    """
    correlation = spearman(training_values(table, fold))
    np.fill_diagonal(correlation, 0.0)
    groups: list[list[int]] = []
    # rounded, so that the order does not hang on the last digits of a sum
    for column in sorted(range(len(correlation)), key=lambda j: (-round(float(correlation[j].mean()), 9), j)):
        for group in groups:
            if len(group) < size and correlation[column, group].max() <= max_correlation:
                group.append(column)
                break
        else:
            groups.append([column])
    return tuple(sorted(tuple(sorted(group)) for group in groups))


def spearman(values: Float[np.ndarray, "n p"]) -> Float[np.ndarray, "p p"]:
    """|Spearman's rho| between columns, over the rows that have both values; ties get their mean rank.

    Where it is not defined (fewer than three common rows, or a constant column) it counts as 1: nothing shows that the
    two of them are weakly correlated.
    """
    from scipy.stats import rankdata

    columns = values.shape[1]
    rho = np.ones((columns, columns))
    for first in range(columns):
        for second in range(first):
            both = values[:, [first, second]]
            both = both[~np.isnan(both).any(axis=1)]
            if len(both) < 3 or (both == both[0]).all(axis=0).any():
                continue
            ranks = rankdata(both, axis=0)
            rho[first, second] = rho[second, first] = abs(np.corrcoef(ranks, rowvar=False)[0, 1])
    return rho
