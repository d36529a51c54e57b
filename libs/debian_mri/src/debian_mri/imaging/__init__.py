"""Volumes: reading, preprocessing, registration, regions and slices."""
