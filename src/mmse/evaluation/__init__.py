"""Metrics, the offline comparison of systems, the report."""
