"""Baselines on the same folds: logistic regression, frozen features, CoOp, zero-shot and DAFT."""
