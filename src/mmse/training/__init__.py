"""Training: batches, losses, the loop, checkpoints, several processes."""
