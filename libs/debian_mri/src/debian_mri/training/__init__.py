"""Training: model inputs, the training of one fold, and a run."""
