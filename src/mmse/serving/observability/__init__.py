"""What a server tells its operators: logs, metrics, traces."""
