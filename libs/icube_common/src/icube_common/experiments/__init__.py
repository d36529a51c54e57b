"""Studies over any training: a grid with seeds (`ablate`), a search (`tune`), finished runs side by side (`compare`).

Studies are independent of the task. A library passes ``run(overrides, seed, folder)``, which trains and evaluates once.

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
        "open_executor": "runner.executors",
        "override_texts": "overrides",
        "trial_config": "overrides",
        "tune": "tuning",
        "tune_command": "commands",
    },
)
