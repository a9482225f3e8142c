"""What every package stands on: errors, config, artifact folders, locks."""
