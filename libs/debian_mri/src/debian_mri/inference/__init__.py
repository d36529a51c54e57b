"""Inference: the pipeline for one scan, and predictions of many."""
