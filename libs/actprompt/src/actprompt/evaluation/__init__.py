"""Evaluation: protocols, baselines, zero-shot recognition and reports."""
