"""Data: videos, manifest, features and their readers."""
