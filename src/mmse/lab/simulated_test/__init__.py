"""A simulated online test: the shoppers of a simulated shop search on the real server."""
