"""Evaluation: protocols, comparisons, reports, and a test of explanations."""
