"""Training from scratch: the recipe, the augmentation, the training loop, checkpoints."""
