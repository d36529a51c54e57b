"""Studies over any training: a grid with seeds (`ablate`), a search (`tune`), finished runs side by side (`compare`).

Nothing here knows a task. A library passes ``run(overrides, seed, folder)``, which trains and evaluates once.

>>> from icube_common.experiments import Grid
>>> from icube_common.experiments.ablate import ablate
>>> from icube_common.experiments.tune import tune
>>> from icube_common.experiments.compare import compare
"""

from icube_common.lazy import lazy_exports

# the three functions are named as their modules and can be no names of the package
__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "Grid": "grid",
        "Outcome": "cells",
        "Search": "search",
        "Table": "tables",
        "ablate_command": "commands",
        "compare_command": "commands",
        "open_executor": "executors",
        "override_texts": "overrides",
        "trial_config": "overrides",
        "tune_command": "commands",
    },
)
