"""Training: inputs, one fold's training, and a run."""
