"""The daily loop of a shop: new data in, checks, training, checks against what is served, and a new version out."""
