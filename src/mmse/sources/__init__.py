"""From a shop's files to checked rows of the two tables."""
