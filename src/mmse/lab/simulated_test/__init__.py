"""A test online, simulated: the shoppers of a simulated shop meet the real server."""
