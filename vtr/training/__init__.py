"""The training loop, checkpoints, and the stages train, mine and embed."""
