"""From the two tables to the dataset: validation, stages, examination, history, split."""
