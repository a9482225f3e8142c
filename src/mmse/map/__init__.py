"""A map of the catalogue for people to wander in."""
