"""Metrics, the offline comparison of systems, and its report."""
