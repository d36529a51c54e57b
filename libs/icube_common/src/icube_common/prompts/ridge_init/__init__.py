"""Linear projections of measurements into the text space, with ridge initialisation.

A sample's feature is a sum of such projections, each of numbers standardised by the training rows, so that all of them
can be initialised together, in closed form, by ridge regression to the class texts. The prior of the regression is what
needs no training (sentences about numbers, a trained image tower): with few samples the projections stay near it.

Shapes: N samples, F numbers of a sample, D width of the text space, C classes.
"""

from icube_common.prompts.ridge_init.projections import CaptionTerm, LinearProjection, Projection, mean_and_std
from icube_common.prompts.ridge_init.regression import (
    RidgeBlock,
    RidgeSetting,
    class_targets,
    initialise_late_fusion,
    initialise_ridge,
    leave_groups_out,
    solve_ridge,
)
from icube_common.prompts.ridge_init.selection import (
    RIDGE_GRID,
    LateFusion,
    select_by_group_cv,
    select_late_fusion,
    stacking_weights,
)

__all__ = [
    "RIDGE_GRID",
    "CaptionTerm",
    "LateFusion",
    "LinearProjection",
    "Projection",
    "RidgeBlock",
    "RidgeSetting",
    "class_targets",
    "initialise_late_fusion",
    "initialise_ridge",
    "leave_groups_out",
    "mean_and_std",
    "select_by_group_cv",
    "select_late_fusion",
    "solve_ridge",
    "stacking_weights",
]
