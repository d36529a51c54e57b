"""Training data for action recognition from a trained generator: balanced, filtered, and whether they help."""
