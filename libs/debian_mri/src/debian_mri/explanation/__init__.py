"""Explanation: contributions to a prediction, attribution to slices, report text and its verification."""
