"""A simulated shop whose truth is known."""
