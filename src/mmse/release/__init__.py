"""What must hold before another version is served: of the catalogue, of the newest days of the log, of the answers."""
