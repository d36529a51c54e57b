"""Inference: the pipeline, explanations and the prediction page."""
