"""What other projects released: features and checkpoints, read without running their code."""
