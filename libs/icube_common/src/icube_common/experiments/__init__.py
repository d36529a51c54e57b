"""Studies over any training: a grid with seeds (`ablate`), a search (`tune`), comparisons (`compare` and more).

Studies are independent of the task. A library passes ``run(overrides, seed, folder)``, which trains and evaluates once.
`compare` sets finished runs side by side; `compare_methods` fits published methods on the same folds.

>>> from icube_common.experiments import Grid, ablate, compare, tune
"""

from icube_common import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "Grid": "grid",
        "Outcome": "runner.trial_run",
        "Search": "search",
        "Table": "results.tables",
        "ablate": "ablation",
        "ablate_command": "commands",
        "compare": "comparison",
        "compare_command": "commands",
        "compare_methods": "comparison",
        "compare_methods_command": "commands",
        "open_comparison": "comparison",
        "override_texts": "overrides",
        "trial_config": "overrides",
        "tune": "tuning",
        "tune_command": "commands",
    },
)
