"""Skeletons of a prepared set: estimated from its videos, or recorded with it."""
