"""Built-in backbones, which need no hub."""
