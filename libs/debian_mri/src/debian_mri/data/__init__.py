"""Prepared data sets: manifest, clinical variables, duplicates, leakage checks and quality control."""
