"""Models: the action model, its temporal heads, visual prompts and checkpoints."""
