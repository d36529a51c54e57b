"""Fine-tuning of a part of the image tower: low-rank adapters, or its last blocks."""
