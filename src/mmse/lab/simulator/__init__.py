"""A simulated shop: its items, its shoppers, its log, and the truth behind the log."""
