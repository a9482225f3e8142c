"""The research rig: simulated shops, comparisons of systems, simulated online tests."""
