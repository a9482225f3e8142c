"""The dataset folder that mining writes and training reads."""
