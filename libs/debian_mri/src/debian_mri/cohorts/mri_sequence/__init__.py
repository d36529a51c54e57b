"""MRI sequence of an image, from descriptions, headers, sidecars and file names."""
