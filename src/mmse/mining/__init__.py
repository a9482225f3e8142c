"""From two tables to training groups: validation, stages, examination, history, split."""
