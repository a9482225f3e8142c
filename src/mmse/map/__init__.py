"""A map of the catalogue for people to explore."""
