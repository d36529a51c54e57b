"""Plain classifiers on the same folds: the figures that a model has to beat."""
