"""What was shown and what shoppers did, written to disk as it happens."""
