"""How often the 95 % intervals of `icube_common.evaluation` hold the truth, on simulated subjects.

    OMP_NUM_THREADS=1 python benchmarks/interval_coverage.py --repeats 1000

Each repeat draws new subjects with 5 to 15 rows each. A subject has its own difficulty and its own leaning towards
classes, so that rows of one subject are alike. The truth is the metric over 60,000 other subjects of the same kind.
`patients` has one label per subject (a diagnosis), the other cases all labels within each subject (actions). Beside
our interval (`ours`) stands the plain percentile bootstrap of groups (`pct`); `width` is the median of ours. A repeat
in which a class is missing, or held by one subject only, has no AUC interval and is counted in `none`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from icube_common.evaluation.intervals import group_interval, over_groups, sample_groups
from icube_common.evaluation.metrics import Array, Metric, find_metric

METRICS = ("top1", "mean_class_accuracy", "macro_f1", "mcc", "auc", "brier", "ece")


@dataclass(frozen=True)
class Case:
    """One kind of data: number of classes, how well they can be told apart, one label per subject or all."""

    name: str
    classes: int
    gain: float
    one_label: bool = False


CASES = (
    Case("actions, moderate", 3, 1.5),
    Case("actions, good", 3, 3.0),
    Case("actions, near perfect", 3, 4.0),
    Case("patients", 2, 1.5, one_label=True),
)


def simulate(generator: np.random.Generator, case: Case, subjects: int) -> tuple[Array, Array, Array]:
    """Labels (N,), probabilities (N, C) and subjects (N,)."""
    subject = np.repeat(np.arange(subjects), generator.integers(5, 16, subjects))
    labels = generator.integers(0, case.classes, subjects if case.one_label else len(subject))
    labels = labels[subject] if case.one_label else labels
    strength = case.gain + 0.7 * generator.normal(size=subjects)[subject]
    logits = generator.normal(size=(len(subject), case.classes))
    logits += 0.7 * generator.normal(size=(subjects, case.classes))[subject]
    logits += strength[:, None] * np.eye(case.classes)[labels]
    values = np.exp(logits)
    return labels, values / values.sum(axis=1, keepdims=True), subject


def percentile(metric: Metric, y: Array, p: Array, groups: Array, resamples: int, seed: int) -> tuple[float, float]:
    """The plain percentile bootstrap of groups, for comparison."""
    statistic, names = over_groups(metric, y, p, groups)
    drawn = statistic(sample_groups(np.random.default_rng(seed), resamples, len(names)))
    low, high = np.nanquantile(drawn, [0.025, 0.975]) if np.isfinite(drawn).any() else (np.nan, np.nan)
    return float(low), float(high)


def measure(case: Case, subjects: int, repeats: int, resamples: int, names: Sequence[str]) -> None:
    """Print one line for each metric."""
    large = simulate(np.random.default_rng(2**20), case, 60_000)
    truth = {name: find_metric(name)(*large[:2]) for name in names}
    generator = np.random.default_rng(subjects)
    ours: dict[str, list[float]] = {name: [] for name in names}
    widths: dict[str, list[float]] = {name: [] for name in names}
    plain: dict[str, list[float]] = {name: [] for name in names}
    for repeat in range(repeats):
        y, p, groups = simulate(generator, case, subjects)
        for name in names:
            metric = find_metric(name)
            found = group_interval(metric, y, p, groups, resamples=resamples, seed=repeat)
            if not np.isfinite(found.low):
                continue
            ours[name].append(found.low <= truth[name] <= found.high)
            widths[name].append(found.high - found.low)
            low, high = percentile(metric, y, p, groups, min(resamples, 400), repeat)
            plain[name].append(low <= truth[name] <= high)
    for name in names:
        shares = [f"{100 * np.mean(part[name]):6.1f}" for part in (ours, plain)]
        print(
            f"{case.name:<22} {subjects:>4} {found.method:<10} {name:<20} {truth[name]:7.3f} "
            f"{'   '.join(shares)}   {np.median(widths[name]):7.3f} {repeats - len(ours[name]):>6}",
            flush=True,
        )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=1000, help="simulated data sets for each line")
    parser.add_argument("--resamples", type=int, default=1000, help="draws of each bootstrap")
    parser.add_argument("--subjects", type=int, nargs="+", default=[6, 12, 30, 100])
    parser.add_argument("--metrics", nargs="+", default=METRICS)
    options = parser.parse_args()
    print(f"coverage of 95 % intervals in per cent, {options.repeats} simulated repeats")
    print(
        f"{'case':<22} {'subj':>4} {'method':<10} {'metric':<20} {'truth':>7} {'ours':>6}   {'pct':>6}   "
        f"{'width':>7} {'none':>6}"
    )
    for case in CASES:
        for subjects in options.subjects:
            measure(case, subjects, options.repeats, options.resamples, options.metrics)


if __name__ == "__main__":
    main()
